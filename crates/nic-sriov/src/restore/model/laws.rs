//! What holds on every machine.

mod bonds;
mod disturbed;
mod planned;

use nic_netlink::Setting;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{TestCaseResult, TestRunner};

use super::kernel::{Faults, Kernel};
use super::scheduler::Fate;
use super::states::{Kind, Names, any_kind, any_machine};
use super::told::{Told, restore};
use crate::plan::obstacles;
use crate::restore::StepFailure;
use crate::{Attribute, Component, Difference, Gravity, NicState, PciAddress, VfNetdev, VfState};

/// A restore that nobody kills.
fn run(machine: &mut Kernel, saved: &NicState, seed: u64) -> Told {
    assert_eq!(obstacles(saved, &machine.state), []);
    let told = restore(machine, saved, Fate { seed, life: None }).unwrap();
    machine.settle();
    told
}

/// The restore leads to what was saved, tries nothing that is forbidden, and then has nothing left to do.
fn converges(machine: &mut Kernel, saved: &NicState, seed: u64) -> TestCaseResult {
    let from = format!("{machine:?}");
    machine.changes.clear();
    let told = run(machine, saved, seed);
    let course = || {
        let failures = told.outcome.failures.iter().map(|failure| format!("{failure:?}")).collect::<Vec<_>>();
        format!("from {from}\nby {:#?}\nfailures {failures:#?}", machine.changes)
    };
    prop_assert!(machine.violations.is_empty(), "{:?}\n{}", machine.violations, course());
    if !told.wrong().is_empty() && told.wrong().iter().all(|wrong| is_held_by_away(wrong, saved, &told)) {
        return Ok(());
    }
    prop_assert!(told.wrong().is_empty(), "{}\n{}", texts(&told.wrong()), course());
    let refused = |attribute| attribute == Attribute::AdminLinkState && machine.rules.link_state_refused;
    let unexcused: Vec<_> = told
        .outcome
        .differences
        .iter()
        .filter(|difference| difference.gravity == Gravity::Unsupported && !refused(difference.attribute))
        .collect();
    prop_assert!(unexcused.is_empty(), "{}\n{}", texts(&unexcused), course());
    machine.changes.clear();
    let again = run(machine, saved, seed);
    prop_assert!(again.wrong().is_empty(), "{}", texts(&again.wrong()));
    prop_assert!(machine.changes.is_empty(), "done once more: {:?}", machine.changes);
    Ok(())
}

/// An attribute for legacy mode, which a VF that works in another namespace keeps the eswitch from; the failure names it.
fn is_held_by_away(wrong: &Difference, saved: &NicState, told: &Told) -> bool {
    let Component::Vf { pf, .. } = &wrong.component else { return false };
    let away = saved.pf(pf).here().unwrap().vfs.iter().any(|vf| vf.netdev.is_elsewhere());
    let named = |failure: &StepFailure| {
        failure.component == wrong.component
            && !failure.unsupported
            && failure.attributes.contains(&wrong.attribute)
    };
    away && told.outcome.failures.iter().any(named)
}

fn texts(differences: &[&Difference]) -> String {
    differences.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn saved_machine(names: Names) -> impl Strategy<Value = Kernel> {
    (any_kind(), 1..3usize).prop_flat_map(move |(kind, pfs)| any_machine(kind, pfs, names))
}

/// Two machines that differ in all that can be set.
fn two_machines(kind: impl Strategy<Value = Kind>) -> impl Strategy<Value = (Kernel, Kernel)> {
    (kind, 1..3usize)
        .prop_flat_map(|(kind, pfs)| (any_machine(kind, pfs, Names::Any), any_machine(kind, pfs, Names::Any)))
}

/// The VFs that have a driver.
fn bound_vfs(state: &NicState) -> Vec<(Component, PciAddress)> {
    let vfs = state.pfs.iter().flat_map(|pf| pf.vfs.iter().map(move |vf| (pf, vf)));
    let bound = vfs.filter(|(_, vf)| vf.driver.is_some());
    bound.filter_map(|(pf, vf)| Some((Component::of_vf(pf, vf), vf.address?))).collect()
}

/// How a VF can be lost.
#[derive(Debug, Clone, Copy)]
enum Loss {
    ProbesFail,
    NoNetdev,
    NothingCanBeSet,
}

impl Loss {
    fn strike(self, faults: &mut Faults, vf: PciAddress, times: usize) {
        match self {
            Self::ProbesFail => drop(faults.probes.insert(vf, times)),
            Self::NoNetdev => drop(faults.silent.insert(vf, times)),
            Self::NothingCanBeSet => drop(faults.stubborn.insert(vf)),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_reloaded_machine_becomes_what_it_was(machine in saved_machine(Names::Any), seed: u64) {
        let (saved, mut machine) = (machine.state.clone(), machine);
        machine.reload();
        converges(&mut machine, &saved, seed)?;
    }

    #[test]
    fn whatever_a_killed_restore_left_behind_the_next_one_finishes(
        machine in saved_machine(Names::Any),
        lives in prop::collection::vec((0..300usize, any::<bool>(), any::<u64>()), 1..4),
        seed: u64,
    ) {
        let (saved, mut machine) = (machine.state.clone(), machine);
        machine.reload();
        for (life, settles, seed) in lives {
            let told = restore(&mut machine, &saved, Fate { seed, life: Some(life) });
            if settles {
                machine.settle();
            }
            prop_assert!(told.is_none_or(|told| told.wrong().is_empty()));
        }
        converges(&mut machine, &saved, seed)?;
    }

    #[test]
    fn what_somebody_else_has_set_up_meanwhile_becomes_what_was_saved(
        (saved, mut machine) in two_machines(any_kind()),
        seed: u64,
    ) {
        converges(&mut machine, &saved.state, seed)?;
    }

    #[test]
    fn steps_that_fail_once_are_made_good_by_the_next_restore(
        machine in saved_machine(Names::Any),
        attempts in prop::collection::btree_set(1..60usize, 1..4),
        seed: u64,
    ) {
        let (saved, mut machine) = (machine.state.clone(), machine);
        machine.reload();
        machine.faults.attempts = attempts;
        run(&mut machine, &saved, seed);
        prop_assert!(machine.violations.is_empty(), "{:?}", machine.violations);
        machine.faults.attempts.clear();
        converges(&mut machine, &saved, seed)?;
    }

    #[test]
    fn one_vf_that_is_lost_is_named_and_takes_no_other_with_it(
        machine in saved_machine(Names::Udevs),
        loss in prop_oneof![Just(Loss::ProbesFail), Just(Loss::NoNetdev), Just(Loss::NothingCanBeSet)],
        which: prop::sample::Index,
        seed: u64,
    ) {
        let (saved, mut machine) = (machine.state.clone(), machine);
        let vfs = bound_vfs(&saved);
        prop_assume!(!vfs.is_empty());
        let (component, address) = which.get(&vfs);
        // A kernel that binds VFs as they are made binds this one too, and an eswitch that wants it unbound stays as it is.
        machine.rules.mode_needs_unbound = false;
        machine.reload();
        loss.strike(&mut machine.faults, *address, usize::MAX);
        let told = run(&mut machine, &saved, seed);
        prop_assert!(machine.violations.is_empty(), "{:?}", machine.violations);
        let wrong = told.wrong();
        prop_assert!(wrong.iter().all(|difference| difference.component == *component), "{}", texts(&wrong));
        // Not every loss hurts: of a VF that was in another namespace no netdev is asked for.
        let of_vf = |failure: &StepFailure| failure.component == *component;
        prop_assert!(wrong.is_empty() || told.outcome.failures.iter().any(of_vf), "{}", texts(&wrong));
        if matches!(loss, Loss::ProbesFail) {
            prop_assert!(wrong.iter().any(|difference| difference.attribute == Attribute::Driver), "{}", texts(&wrong));
        }

        machine.faults = Faults::default();
        converges(&mut machine, &saved, seed)?;
    }

    #[test]
    fn a_pf_that_cannot_be_restored_is_left_alone_and_takes_no_other_with_it(
        machine in any_kind().prop_flat_map(|kind| any_machine(kind, 2, Names::Udevs)),
        which in 0..2usize,
        is_gone: bool,
        seed: u64,
    ) {
        let (saved, mut machine) = (machine.state.clone(), machine);
        // The model makes VFs' addresses from their PF's place, which is to stay what it is.
        let which = if is_gone { saved.pfs.len() - 1 } else { which };
        machine.reload();
        let back = machine.state.pfs[which].clone();
        if is_gone {
            machine.state.pfs.remove(which);
        } else {
            machine.state.pfs[which].driver = Some("vfio-pci".to_owned());
            machine.state.pfs[which].rdma = Setting::NotThere;
        }
        let json = |machine: &Kernel| serde_json::to_value(machine.state.pf(&back.address).here()).unwrap();
        let blocked = json(&machine);
        let told = restore(&mut machine, &saved, Fate { seed, life: None }).unwrap();
        machine.settle();
        prop_assert!(machine.violations.is_empty(), "{:?}", machine.violations);
        prop_assert_eq!(json(&machine), blocked, "it was not left alone");
        let is_of_blocked = |component: &Component| match component {
            Component::Pf(pf) | Component::Vf { pf, .. } | Component::Representor { pf, .. } => *pf == back.address,
        };
        let wrong = told.wrong();
        prop_assert!(wrong.iter().any(|wrong| is_of_blocked(&wrong.component)), "it is not named");
        prop_assert!(wrong.iter().all(|wrong| is_of_blocked(&wrong.component)), "{}", texts(&wrong));

        // When it is there again, the next restore goes on from there.
        machine.state.pfs.retain(|pf| pf.address != back.address);
        let rdma = machine.new_rdma(which);
        machine.state.pfs.insert(which, crate::PfState { rdma, ..back });
        converges(&mut machine, &saved, seed)?;
    }

    #[test]
    fn a_vf_lost_at_its_first_probe_is_back_after_the_second(
        machine in saved_machine(Names::Any),
        loss in prop_oneof![Just(Loss::ProbesFail), Just(Loss::NoNetdev)],
        which: prop::sample::Index,
        seed: u64,
    ) {
        let (saved, mut machine) = (machine.state.clone(), machine);
        let vfs = bound_vfs(&saved);
        prop_assume!(!vfs.is_empty());
        let (component, address) = which.get(&vfs);
        machine.reload();
        loss.strike(&mut machine.faults, *address, 1);
        let told = run(&mut machine, &saved, seed);
        prop_assert!(told.wrong().is_empty(), "{}", texts(&told.wrong()));
        prop_assert!(told.retried().all(|retried| retried == component));
        converges(&mut machine, &saved, seed)?;
    }

    #[test]
    fn a_vf_in_use_is_left_alone_and_the_others_are_restored(
        (mut saved, mut machine) in two_machines(any_kind()),
        seed: u64,
    ) {
        for (pf, now) in saved.state.pfs.iter_mut().zip(&mut machine.state.pfs) {
            // With another number of VFs the one in use would be an obstacle.
            let count = pf.vfs.len().min(now.vfs.len());
            for pf in [pf, now] {
                pf.vfs.truncate(count);
                pf.num_vfs = u32::try_from(count).unwrap();
                pf.representors.clear();
                pf.eswitch = Setting::NotThere;
                pf.rdma = Setting::NotThere;
                pf.vfs.iter_mut().for_each(|vf| vf.rdma = Setting::NotThere);
            }
        }
        // Names that the VFs had who went here are free, and in the saved state nobody has them.
        machine.rules.udev_altnames = false;
        let saved = saved.state;
        let in_user_space = machine.state.pfs.iter().flat_map(|pf| &pf.vfs);
        machine.in_use = in_user_space
            .filter(|vf| matches!(vf.netdev, VfNetdev::OtherDriver))
            .filter_map(|vf| vf.address)
            .collect();
        let given_away: Vec<VfState> = machine
            .state
            .pfs
            .iter_mut()
            .flat_map(|pf| &mut pf.vfs)
            .filter(|vf| matches!(vf.netdev, VfNetdev::NotVisible))
            .map(|vf| {
                vf.netdev = VfNetdev::InNamespace;
                vf.clone()
            })
            .collect();
        let told = run(&mut machine, &saved, seed);
        prop_assert!(machine.violations.is_empty(), "{:?}", machine.violations);
        for given_away in &given_away {
            let now = machine.state.pfs.iter().flat_map(|pf| &pf.vfs).find(|vf| vf.address == given_away.address);
            let json = |vf: Option<&VfState>| serde_json::to_value(vf).unwrap();
            prop_assert_eq!(json(now), json(Some(given_away)));
        }
        for difference in told.wrong() {
            let Component::Vf { address: Some(address), .. } = &difference.component else {
                return Err(TestCaseError::fail(difference.to_string()));
            };
            prop_assert!(machine.in_use.contains(address), "{difference}");
        }
    }
}

/// Every place at which a restore can be killed, on a few machines.
#[test]
fn killed_before_any_of_its_steps_a_restore_is_finished_by_the_next() {
    let mut runner = TestRunner::deterministic();
    let mut points = 0;
    for seed in 0..12 {
        let machine = saved_machine(Names::Any).new_tree(&mut runner).unwrap().current();
        let (saved, mut reloaded) = (machine.state.clone(), machine);
        reloaded.reload();
        for life in 0.. {
            let mut machine = reloaded.clone();
            let finished = restore(&mut machine, &saved, Fate { seed, life: Some(life) }).is_some();
            converges(&mut machine, &saved, seed + u64::try_from(life).unwrap()).unwrap();
            if finished {
                break;
            }
            points += 1;
        }
    }
    assert!(points > 300, "only {points} points");
}

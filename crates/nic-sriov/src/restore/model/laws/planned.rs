//! What is planned is what is done: on a machine that nobody disturbs.

use std::collections::{BTreeMap, BTreeSet};

use nic_netlink::{Setting, VfAttributes, VfChange};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{TestCaseResult, TestRunner};

use super::run;
use crate::plan::{AdminStep, DeviceUsers, PfStep, PlannedStep, RestoreStep, plan_restore};
use crate::restore::model::kernel::{Kernel, Rules, Tried};
use crate::restore::model::states::{Kind, Names, any_kind, any_machine};
use crate::{Component, DeviceAddress, NicState, Stage, VfNetdev};

/// Kinds of machines on which nothing but the plan decides: without autoprobe VFs probe as they are made, and without udev they come under
/// one another's names.
fn any_quiet_kind() -> impl Strategy<Value = Kind> {
    any_kind().prop_map(|kind| Kind {
        rules: Rules { udev: true, udev_altnames: false, ..kind.rules },
        has_autoprobe: true,
        ..kind
    })
}

fn any_quiet_machines() -> impl Strategy<Value = (Kernel, Kernel)> {
    (any_quiet_kind(), 1..3usize).prop_flat_map(|(kind, pfs)| {
        (
            any_machine(kind, pfs, Names::Udevs),
            any_machine(kind, pfs, Names::Udevs).prop_map(without_altnames),
        )
    })
}

/// A name that another interface holds is tried again by whoever is next.
fn without_altnames(mut machine: Kernel) -> Kernel {
    for pf in &mut machine.state.pfs {
        let own = pf.netdev.as_set_mut().into_iter();
        let of_vfs = pf.vfs.iter_mut().filter_map(|vf| match &mut vf.netdev {
            VfNetdev::Here(netdev) => Some(netdev),
            _ => None,
        });
        let of_ports = pf.representors.iter_mut().map(|port| &mut port.netdev);
        own.chain(of_vfs).chain(of_ports).for_each(|netdev| netdev.altnames.clear());
    }
    machine
}

/// What was tried, each step in the stage that its PF was in.
fn tried_in_stages(machine: &Kernel) -> Vec<PlannedStep> {
    let mut stages: BTreeMap<&DeviceAddress, Stage> = BTreeMap::new();
    let mut steps = Vec::new();
    for tried in &machine.tried {
        match tried {
            Tried::Began(pf, stage) => drop(stages.insert(pf, *stage)),
            Tried::Ended(pf) => drop(stages.remove(pf)),
            Tried::Step(component, step) => {
                let stage = stages.get(component.pf()).copied().unwrap_or(Stage::Names);
                steps.push(PlannedStep { stage, component: component.clone(), step: step.clone() });
            }
        }
    }
    steps
}

/// Whether a VF that has just been made has that already, which nobody can tell beforehand.
fn is_of_new_vf(fresh: &VfAttributes, change: VfChange) -> bool {
    let is = |setting: &Setting<bool>, value: bool| setting.as_set() == Some(&value);
    match change {
        VfChange::SpoofCheck(on) => is(&fresh.spoof_check, on),
        VfChange::Trust(on) => is(&fresh.trust, on),
        VfChange::QueryRss(on) => is(&fresh.query_rss, on),
        _ => false,
    }
}

/// Without the second time that something is set of a VF, since whether the driver refuses it nobody can tell beforehand: a rate that it refuses at
/// first is tried once more at the end, and what is refused of several things at once is tried with the others one by one.
fn once(steps: Vec<PlannedStep>) -> Vec<PlannedStep> {
    let mut set = BTreeSet::new();
    let mut is_first = |step: &PlannedStep| match &step.step {
        RestoreStep::Admin(AdminStep::Netlink(VfChange::Rate { .. })) => {
            set.insert((step.component.clone(), None, String::new()))
        }
        RestoreStep::Admin(AdminStep::Netlink(change)) => {
            set.insert((step.component.clone(), Some(step.stage), change.to_string()))
        }
        _ => true,
    };
    steps.into_iter().filter(|step| is_first(step)).collect()
}

/// The steps in the order that is promised: VFs are told of, bound and set up beside one another, PFs likewise.
fn in_order(steps: impl Iterator<Item = PlannedStep>) -> Vec<PlannedStep> {
    let mut steps: Vec<PlannedStep> = steps.filter(|step| step.stage != Stage::Names).collect();
    steps.sort_by_key(|step| {
        let beside = matches!(step.stage, Stage::Admin | Stage::Vfs | Stage::Finish);
        let own_order = Some(step.component.clone()).filter(|component| {
            step.stage == Stage::Vfs || (beside && matches!(component, Component::Vf { .. }))
        });
        (step.component.pf().clone(), step.stage, own_order)
    });
    steps
}

/// Restores the machine, and compares what was planned of it. How many steps that were.
fn is_done_as_planned(saved: &NicState, machine: &mut Kernel, seed: u64) -> Result<usize, TestCaseError> {
    let from = format!("{machine:?}");
    let plan = plan_restore(saved, &machine.state, &DeviceUsers::new());
    machine.tried.clear();
    run(machine, saved, seed);
    let makes_vfs =
        |step: &&PlannedStep| matches!(step.step, RestoreStep::Pf(PfStep::NumVfs(count)) if count > 0);
    let with_new_vfs: BTreeSet<&DeviceAddress> =
        plan.steps.iter().filter(makes_vfs).map(|step| step.component.pf()).collect();
    let promised: BTreeSet<(Stage, &Component)> = plan
        .steps
        .iter()
        .filter(|step| matches!(step.step, RestoreStep::NetdevOnceThere(_)))
        .map(|step| (step.stage, &step.component))
        .collect();
    let planned = plan.steps.iter().filter(|planned| match &planned.step {
        RestoreStep::NetdevOnceThere(_) => false,
        RestoreStep::Admin(AdminStep::Netlink(change)) if with_new_vfs.contains(planned.component.pf()) => {
            !is_of_new_vf(&machine.fresh[0], *change)
        }
        _ => true,
    });
    let tried = tried_in_stages(machine).into_iter().filter(|tried| {
        !matches!(tried.step, RestoreStep::Netdev(_)) || !promised.contains(&(tried.stage, &tried.component))
    });
    let (planned, tried) = (once(in_order(planned.cloned())), once(in_order(tried)));
    let text = |steps: &[PlannedStep]| {
        let line = |step: &PlannedStep| format!("{:?}: {}: {}", step.stage, step.component, step.step);
        steps.iter().map(line).collect::<Vec<_>>()
    };
    prop_assert_eq!(text(&planned), text(&tried), "from {}", from);
    Ok(planned.len())
}

fn check(saved: &NicState, machine: &mut Kernel, seed: u64) -> TestCaseResult {
    is_done_as_planned(saved, machine, seed).map(drop)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_reloaded_machine_is_restored_by_the_planned_steps_in_their_stages(
        (machine, _) in any_quiet_machines(),
        seed: u64,
    ) {
        let (saved, mut machine) = (machine.state.clone(), machine);
        machine.reload();
        check(&saved, &mut machine, seed)?;
    }

    #[test]
    fn what_somebody_has_set_up_is_undone_by_the_planned_steps_in_their_stages(
        (saved, mut machine) in any_quiet_machines(),
        seed: u64,
    ) {
        check(&saved.state, &mut machine, seed)?;
    }
}

/// The laws above are about something.
#[test]
fn plans_have_steps_in_every_stage() {
    let mut runner = TestRunner::deterministic();
    let mut stages = BTreeSet::new();
    let mut steps = 0;
    for seed in 0..60 {
        let (saved, mut machine) = any_quiet_machines().new_tree(&mut runner).unwrap().current();
        let plan = plan_restore(&saved.state, &machine.state, &DeviceUsers::new());
        stages.extend(plan.steps.iter().map(|step| step.stage));
        steps += is_done_as_planned(&saved.state, &mut machine, seed).unwrap();
    }
    assert!(stages.is_superset(&Stage::OF_A_PF.into()), "{stages:?}");
    assert!(steps > 600, "only {steps} steps");
}

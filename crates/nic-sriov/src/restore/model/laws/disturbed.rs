//! What holds while others use VFs, questions fail and changes hang.

use std::collections::{BTreeMap, BTreeSet};

use nic_netlink::Setting;
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

use super::{converges, run, saved_machine, texts, two_machines};
use crate::plan::{DeviceUsers, PlannedStep, bond_over_eswitch, obstacles, plan_restore};
use crate::restore::StepFailure;
use crate::restore::model::kernel::{Daemon, Disturbance, Faults, Hang, HungPf, Kernel};
use crate::restore::model::scheduler::Fate;
use crate::restore::model::states::{Kind, Names, any_kind, any_machine};
use crate::restore::model::told::{options, restore};
use crate::{
    Attribute, Component, DeviceAddress, DeviceUser, Difference, NicState, Operation, PciAddress,
    RestoreEvent, Stage, Usage, VfNetdev,
};

fn pf_of(component: &Component) -> &DeviceAddress {
    match component {
        Component::Pf(pf) | Component::Vf { pf, .. } | Component::Representor { pf, .. } => pf,
    }
}

fn vfs(state: &NicState) -> Vec<PciAddress> {
    state.pfs.iter().flat_map(|pf| &pf.vfs).filter_map(|vf| vf.address).collect()
}

/// The first event that ends what has not begun or begins what has not ended, and all that never ends.
fn unpaired(events: &[RestoreEvent]) -> Vec<String> {
    let mut stages = BTreeMap::new();
    let mut steps = BTreeMap::new();
    let mut wrong = Vec::new();
    for event in events {
        let pairs = match event {
            RestoreEvent::StageBegan { pf, stage } => stages.insert(pf, *stage).is_none(),
            RestoreEvent::StageEnded { pf, stage } => stages.remove(pf) == Some(*stage),
            RestoreEvent::PfStepBegan { pf, step } => steps.insert(pf, step).is_none(),
            RestoreEvent::PfStep { pf, step } => steps.remove(pf) == Some(step),
            RestoreEvent::VfBound { .. } | RestoreEvent::VfArrived { .. } | RestoreEvent::VfDone { .. } => {
                true
            }
        };
        if !pairs {
            wrong.push(format!("{event:?}"));
        }
    }
    wrong.extend(stages.iter().map(|(pf, stage)| format!("{stage:?} of {pf} never ends")));
    wrong.extend(steps.iter().map(|(pf, step)| format!("{step} of {pf} never ends")));
    wrong
}

/// What somebody else does.
#[derive(Debug, Clone, Copy)]
enum Act {
    OpensVf,
    OpensPf,
    TakesNetdev,
}

/// VFs to be picked, and what somebody does with them or their PF.
fn any_others() -> impl Strategy<Value = Vec<(prop::sample::Index, Act)>> {
    let act = prop::sample::select(vec![Act::OpensVf, Act::OpensPf, Act::TakesNetdev]);
    prop::collection::vec((any::<prop::sample::Index>(), act), 1..4)
}

/// Nothing is taken from whoever comes at some moment of the restore; and when they have gone, the next restore does the rest.
fn takes_nothing(
    saved: &NicState,
    mut machine: Kernel,
    others: &[(prop::sample::Index, Act)],
    seed: u64,
) -> TestCaseResult {
    let all: BTreeSet<PciAddress> = vfs(saved).into_iter().chain(vfs(&machine.state)).collect();
    prop_assume!(!all.is_empty());
    let all: Vec<PciAddress> = all.into_iter().collect();
    let others = others.iter().map(|(which, act)| match act {
        Act::OpensVf => Disturbance::Opens(*which.get(&all)),
        Act::OpensPf => Disturbance::OpensPf(which.index(saved.pfs.len())),
        Act::TakesNetdev => Disturbance::Takes(*which.get(&all)),
    });
    machine.others = others.collect();
    let modes = saved.pfs.iter().enumerate().filter_map(|(pf, state)| Some((pf, state.eswitch_mode()?)));
    machine.wanted_modes = modes.collect();
    let from = format!("{machine:?}\nothers {:?}", machine.others);
    let told = run(&mut machine, saved, seed);
    prop_assert!(
        machine.violations.is_empty(),
        "{:?}\n{from}\nby {:#?}",
        machine.violations,
        machine.changes
    );
    prop_assert_eq!(unpaired(&told.events), Vec::<String>::new());
    machine.users_leave();
    converges(&mut machine, saved, seed)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_vf_is_taken_from_whoever_uses_it_when_that_is_asked(
        (saved, machine) in two_machines(any_kind()),
        others in any_others(),
        seed: u64,
    ) {
        takes_nothing(&saved.state, machine, &others, seed)?;
    }

    #[test]
    fn no_vf_is_taken_from_whoever_uses_it_below_an_eswitch_that_changes(
        (saved, machine) in two_machines(any_kind().prop_map(|kind| Kind { has_eswitch: true, ..kind })),
        others in any_others(),
        seed: u64,
    ) {
        takes_nothing(&saved.state, machine, &others, seed)?;
    }

    #[test]
    fn fault_4_2_the_eswitchs_mode_stays_while_somebody_uses_the_pf_itself_and_the_other_pf_is_restored(
        machine in any_kind()
            .prop_map(|kind| Kind { has_eswitch: true, ..kind })
            .prop_flat_map(|kind| any_machine(kind, 2, Names::Udevs)),
        pf in 0..2usize,
        seed: u64,
    ) {
        let (saved, mut machine) = (machine.state.clone(), machine);
        machine.reload();
        let mode = machine.state.pfs[pf].eswitch_mode();
        prop_assume!(saved.pfs[pf].eswitch_mode() != mode);
        machine.pf_users.insert(pf, 0);
        let users = DeviceUsers::from([(
            saved.pfs[pf].address.clone(),
            Usage::InUse(DeviceUser::Open("/dev/vfio/7".to_owned())),
        )]);
        let plan = plan_restore(&saved, &machine.state, &users);
        let told = run(&mut machine, &saved, seed);
        prop_assert!(machine.violations.is_empty(), "{:?}", machine.violations);
        prop_assert_eq!(machine.state.pfs[pf].eswitch_mode(), mode);
        let own = Component::Pf(saved.pfs[pf].address.clone());
        let named = |failure: &StepFailure| failure.component == own && failure.cause.contains("is in use");
        prop_assert!(told.outcome.failures.iter().any(named), "{:?}", told.outcome.failures);
        prop_assert!(plan.left_alone.iter().any(|left| left.component == own), "{plan}");
        let after = [Stage::Eswitch, Stage::Bonds, Stage::Vfs, Stage::Finish];
        let changes = |step: &PlannedStep| *step.component.pf() == saved.pfs[pf].address && after.contains(&step.stage);
        prop_assert!(!plan.steps.iter().any(changes), "{plan}");
        let mut wrong = told.wrong();
        wrong.retain(|wrong| *pf_of(&wrong.component) != saved.pfs[pf].address && wrong.attribute != Attribute::Rdma);
        prop_assert!(wrong.is_empty(), "{}", texts(&wrong));
        machine.users_leave();
        converges(&mut machine, &saved, seed)?;
    }

    #[test]
    fn a_restore_ends_in_time_whatever_hangs_and_names_it_and_the_other_pf_is_restored(
        machine in any_kind().prop_flat_map(|kind| any_machine(kind, 2, Names::Udevs)),
        attempt in 1..60usize,
        for_ever: bool,
        seed: u64,
    ) {
        let (saved, mut machine) = (machine.state.clone(), machine);
        machine.reload();
        let hang = if for_ever { Hang::ForEver } else { Hang::ToItsDeadline };
        machine.faults.hangs.insert(attempt, hang);
        let told = run(&mut machine, &saved, seed);
        prop_assert!(machine.violations.is_empty(), "{:?}", machine.violations);
        let names = options().patience.of(Operation::Names);
        let totals = saved.pfs.iter().map(|pf| options().patience.of_pf(pf.vfs.len()));
        prop_assert!(told.took <= totals.clone().max().unwrap() + 2 * names, "{:?}", told.took);
        // A name that hangs has less time than a PF.
        let total = totals.min().unwrap().min(names);
        let hung = machine.faults.hangs.is_empty();
        if hung && for_ever {
            prop_assert!(told.took >= total, "{:?}", told.took);
            let of_time = |failure: &&StepFailure| failure.cause.contains("for all of it were over");
            let named: Vec<&StepFailure> = told.outcome.failures.iter().filter(of_time).collect();
            let pfs: BTreeSet<&DeviceAddress> = named.iter().map(|failure| pf_of(&failure.component)).collect();
            prop_assert_eq!(pfs.len(), 1, "{:?}", named);
            for (at, failure) in named.iter().enumerate() {
                prop_assert!(!named[..at].contains(failure), "named twice: {:?}", failure);
            }
            let wrong = told.wrong();
            // A name that hangs may be the one that another waits for.
            let is_name = named.iter().any(|failure| failure.attributes.contains(&Attribute::Rdma) || failure.step.contains("RDMA"));
            let is_excused = |wrong: &&Difference| {
                pfs.contains(pf_of(&wrong.component)) || (is_name && wrong.attribute == Attribute::Rdma)
            };
            prop_assert!(wrong.iter().all(is_excused), "{}", texts(&wrong));
        } else if told.took < total {
            prop_assert_eq!(unpaired(&told.events), Vec::<String>::new());
        }

        machine.faults = Faults::default();
        converges(&mut machine, &saved, seed)?;
    }

    #[test]
    fn fault_5_3_whatever_of_a_pf_hangs_its_restore_ends_in_its_time_and_no_other_pf_waits_for_it(
        machine in any_kind().prop_flat_map(|kind| any_machine(kind, 2, Names::Udevs)),
        pf in 0..2usize,
        from in 1..60usize,
        for_ever: bool,
        seed: u64,
    ) {
        let (saved, mut machine) = (machine.state.clone(), machine);
        // Ports of one bond over eswitches wait for one another: `bonds.rs`.
        prop_assume!(!saved.pfs.iter().all(|pf| bond_over_eswitch(pf).is_some()));
        machine.reload();
        let hang = if for_ever { Hang::ForEver } else { Hang::ToItsDeadline };
        machine.faults.hung_pf = Some(HungPf { pf, from, hang });
        let told = run(&mut machine, &saved, seed);
        prop_assert!(machine.violations.is_empty(), "{:?}", machine.violations);
        let (hung, other) = (&saved.pfs[pf], &saved.pfs[1 - pf]);
        let patience = options().patience;
        let bound = patience.of_pf(hung.vfs.len()) + 2 * patience.of(Operation::Names);
        prop_assert!(told.took <= bound, "{:?}", told.took);
        let times = [patience.of_pf(hung.vfs.len()), patience.of(Operation::Names)];
        let times = times.map(|time| format!("the {} s for all of it", time.as_secs()));
        let mut late = told.outcome.failures.iter().filter(|failure| failure.cause.contains("for all of it"));
        prop_assert!(late.all(|late| times.iter().any(|time| late.cause.contains(time))), "{:?}", told.outcome.failures);
        // Names of RDMA devices are one space.
        let mut wrong = told.wrong();
        wrong.retain(|wrong| *pf_of(&wrong.component) == other.address && wrong.attribute != Attribute::Rdma);
        prop_assert!(wrong.is_empty(), "{}", texts(&wrong));
        let of_other = |event: &RestoreEvent| {
            matches!(event, RestoreEvent::StageBegan { pf, .. } | RestoreEvent::StageEnded { pf, .. } if *pf == other.address)
        };
        for (at, event) in told.times.iter().zip(&told.events).filter(|(_, event)| of_other(event)) {
            prop_assert!(*at < patience.base, "{event:?} after {at:?}");
        }

        machine.faults = Faults::default();
        converges(&mut machine, &saved, seed)?;
    }

    #[test]
    fn what_begins_is_told_to_end_although_questions_and_steps_fail(
        machine in saved_machine(Names::Any),
        observations in prop::collection::btree_set(1..12usize, 1..3),
        attempts in prop::collection::btree_set(1..60usize, 0..3),
        seed: u64,
    ) {
        let (saved, mut machine) = (machine.state.clone(), machine);
        machine.reload();
        machine.faults.observations = observations;
        machine.faults.attempts = attempts;
        prop_assert_eq!(obstacles(&saved, &machine.state), []);
        let told = restore(&mut machine, &saved, Fate { seed, life: None }).unwrap();
        machine.settle();
        prop_assert!(machine.violations.is_empty(), "{:?}", machine.violations);
        // VFs under a PF that could not be set up are waited for in vain, one after the other, until the PF's time is over.
        let total = saved.pfs.iter().map(|pf| options().patience.of_pf(pf.vfs.len())).min().unwrap();
        if told.took < total {
            prop_assert_eq!(unpaired(&told.events), Vec::<String>::new());
        }

        machine.faults = Faults::default();
        converges(&mut machine, &saved, seed)?;
    }

    #[test]
    fn all_links_are_read_for_masters_and_representors_alone(
        machine in saved_machine(Names::Udevs),
        seed: u64,
    ) {
        let (saved, mut machine) = (machine.state.clone(), machine);
        machine.reload();
        machine.changes.clear();
        run(&mut machine, &saved, seed);
        let joins = machine.changes.iter().filter(|change| change.contains("master")).count();
        let with_ports = saved.pfs.iter().filter(|pf| !pf.representors.is_empty()).count();
        prop_assert!(machine.dumps <= joins + with_ports, "{} dumps, {:#?}", machine.dumps, machine.changes);
    }
}

/// What the PFs are told of a VF is one message in a stage; and where something of it is refused, that alone is named.
#[test]
fn fault_5_5_what_is_set_of_a_vf_is_one_message_and_a_refusal_is_of_one_attribute() {
    use proptest::strategy::ValueTree as _;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut set, mut refused) = (0, 0);
    for seed in 0..60 {
        let mut machine = saved_machine(Names::Udevs).new_tree(&mut runner).unwrap().current();
        machine.rules.rates_need_link = false;
        machine.rules.legacy_only = false;
        machine.rules.link_state_refused = false;
        let saved = machine.state.clone();
        machine.reload();
        let mut refusing = machine.clone();
        refusing.rules.link_state_refused = true;

        machine.changes.clear();
        let told = run(&mut machine, &saved, seed);
        assert!(told.wrong().is_empty() && told.outcome.failures.is_empty(), "{}", texts(&told.wrong()));
        let stages = 2;
        assert!(machine.vf_messages <= stages * vfs(&saved).len(), "{} messages", machine.vf_messages);
        let of_vfs = machine.changes.iter().filter(|change| change.contains(", VF ")).count();
        set += of_vfs.saturating_sub(machine.vf_messages);

        let told = run(&mut refusing, &saved, seed);
        assert!(told.wrong().is_empty(), "{}", texts(&told.wrong()));
        for failure in &told.outcome.failures {
            assert_eq!(
                (&failure.attributes[..], failure.unsupported),
                (&[Attribute::AdminLinkState][..], true)
            );
            refused += 1;
        }
    }
    assert!(set > 100 && refused > 20, "{set} beyond the first of a message, {refused} refused");
}

/// Machines whose PFs, VFs and representors have a master that takes ports from its own daemon alone, after a reload.
fn with_ports_of_a_daemon() -> Vec<(NicState, Kernel)> {
    use proptest::strategy::ValueTree as _;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let machines = (0..60).map(|_| {
        let mut machine = saved_machine(Names::Udevs).new_tree(&mut runner).unwrap().current();
        let saved = machine.state.clone();
        machine.reload();
        (saved, machine)
    });
    machines.collect()
}

#[test]
fn fault_6_6_a_port_that_its_masters_daemon_takes_back_late_is_waited_for() {
    let mut waited = 0;
    for (seed, (saved, mut machine)) in (0..).zip(with_ports_of_a_daemon()) {
        let takes_after = Some(40);
        machine.daemon = Some(Daemon { takes_after, ..Daemon::default() });
        let told = run(&mut machine, &saved, seed);
        assert!(told.wrong().is_empty(), "{}", texts(&told.wrong()));
        let ports = &machine.daemon.as_ref().unwrap().ports;
        let joins = |failure: &StepFailure| failure.step.contains("master");
        assert!(!told.outcome.failures.iter().any(joins), "{:?}", told.outcome.failures);
        waited += usize::from(!ports.is_empty());
    }
    assert!(waited > 10, "only {waited} machines have ports");
}

#[test]
fn fault_6_6_a_port_that_its_masters_daemon_never_takes_back_is_named_and_one_that_nobody_has_is_not_waited_for()
 {
    let patience = options().patience.of(Operation::Attribute);
    let (mut named, mut without) = (0, 0);
    for (seed, (saved, mut machine)) in (0..).zip(with_ports_of_a_daemon()) {
        machine.daemon = Some(Daemon::default());
        let told = run(&mut machine, &saved, seed);
        if machine.daemon.as_ref().unwrap().ports.is_empty() {
            assert!(told.wrong().is_empty() && told.took < patience, "{:?}", told.took);
            without += 1;
            continue;
        }
        assert!(told.took >= patience, "{:?}", told.took);
        let wrong = told.wrong();
        assert!(wrong.iter().all(|wrong| wrong.attribute == Attribute::Master), "{}", texts(&wrong));
        let joins = |failure: &&StepFailure| failure.step.contains("master") && !failure.unsupported;
        let failures = told.outcome.failures.iter().filter(joins).count();
        assert_eq!((failures, wrong.is_empty()), (wrong.len(), false), "{:?}", told.outcome.failures);
        named += 1;
    }
    assert!(named > 10 && without > 5, "{named} with ports, {without} without");
}

/// The law on links means something: machines without masters read none.
#[test]
fn without_masters_and_representors_no_list_of_all_links_is_read() {
    use proptest::strategy::ValueTree as _;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut vfs = 0;
    for seed in 0..40 {
        let mut machine = saved_machine(Names::Udevs).new_tree(&mut runner).unwrap().current();
        for pf in &mut machine.state.pfs {
            pf.eswitch = Setting::NotThere;
            pf.representors.clear();
            let own = pf.netdev.as_set_mut().into_iter();
            let of_vfs = pf.vfs.iter_mut().filter_map(|vf| match &mut vf.netdev {
                VfNetdev::Here(netdev) => Some(netdev),
                _ => None,
            });
            own.chain(of_vfs).for_each(|netdev| netdev.master = None);
            vfs += pf.vfs.len();
        }
        let saved = machine.state.clone();
        machine.reload();
        run(&mut machine, &saved, seed);
        assert_eq!(machine.dumps, 0);
    }
    assert!(vfs > 40, "only {vfs} VFs");
}

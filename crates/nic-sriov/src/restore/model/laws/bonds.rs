//! Bonds over eswitches: who joins when, and who waits for whom.

use proptest::prelude::*;

use nic_netlink::EswitchMode;

use super::{converges, run, texts};
use crate::plan::{BindStep, NetdevStep, PfStep, RestoreStep};
use crate::restore::model::kernel::{Faults, Hang, HungPf, Kernel, Tried};
use crate::restore::model::states::{Kind, Names, any_kind, any_machine};
use crate::restore::model::told::options;
use crate::{Attribute, Component, Operation, RestoreEvent, Stage};

/// Two PFs in switchdev mode with a bond over them.
fn two_ports() -> impl Strategy<Value = Kernel> {
    let kind = any_kind().prop_map(|kind| Kind { has_eswitch: true, ..kind });
    kind.prop_flat_map(|kind| any_machine(kind, 2, Names::Udevs)).prop_map(|mut machine| {
        let bond = machine.strangers.values().next().unwrap().clone();
        for pf in &mut machine.state.pfs {
            pf.eswitch.as_set_mut().unwrap().mode = EswitchMode::Switchdev;
            let netdev = pf.netdev.as_set_mut().unwrap();
            netdev.master = Some(bond.clone());
            netdev.address_as_port = Some(netdev.address.clone());
        }
        machine
    })
}

/// Where in `tried` a step of this kind is.
fn places(tried: &[Tried], is_wanted: impl Fn(&Component, &RestoreStep) -> bool) -> Vec<usize> {
    let wanted = tried
        .iter()
        .enumerate()
        .filter(|(_, tried)| matches!(tried, Tried::Step(component, step) if is_wanted(component, step)));
    wanted.map(|(at, _)| at).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn fault_6_7_ports_join_in_switchdev_mode_and_no_vf_is_bound_before_all_have(
        machine in two_ports(),
        seed: u64,
    ) {
        let (saved, mut machine) = (machine.state.clone(), machine);
        machine.reload();
        machine.tried.clear();
        let told = run(&mut machine, &saved, seed);
        prop_assert!(told.wrong().is_empty(), "{}", texts(&told.wrong()));
        let joins = |step: &RestoreStep| {
            matches!(step, RestoreStep::Pf(PfStep::Netdev(NetdevStep::Master(Some(_)))))
        };
        for pf in &saved.pfs {
            let of_pf = |component: &Component| *component.pf() == pf.address;
            let joined = places(&machine.tried, |component, step| of_pf(component) && joins(step));
            prop_assert_eq!(joined.len(), 1, "{:?}", machine.tried);
            let modes = places(&machine.tried, |component, step| {
                of_pf(component) && matches!(step, RestoreStep::Pf(step) if step.changes_mode())
            });
            prop_assert!(modes.iter().all(|mode| *mode < joined[0]), "{:?}", machine.tried);
        }
        let last = places(&machine.tried, |_, step| joins(step)).into_iter().max().unwrap();
        let bound = places(&machine.tried, |_, step| matches!(step, RestoreStep::Bind(BindStep::Bind(_))));
        prop_assert!(bound.iter().all(|bound| last < *bound), "{:?}", machine.tried);
        converges(&mut machine, &saved, seed)?;
    }

    /// Whatever of a PF hangs, the other one of its bond waits for it no longer than a mode's change may take.
    #[test]
    fn fault_6_7_a_port_that_hangs_keeps_the_other_from_its_vfs_for_a_time_only(
        machine in two_ports(),
        pf in 0..2usize,
        from in 1..60usize,
        for_ever: bool,
        seed: u64,
    ) {
        let (saved, mut machine) = (machine.state.clone(), machine);
        machine.reload();
        let hang = if for_ever { Hang::ForEver } else { Hang::ToItsDeadline };
        machine.faults.hung_pf = Some(HungPf { pf, from, hang });
        let told = run(&mut machine, &saved, seed);
        let (hung, other) = (&saved.pfs[pf], &saved.pfs[1 - pf]);
        let patience = options().patience;
        let bound = patience.of_pf(hung.vfs.len().max(other.vfs.len())) + 2 * patience.of(Operation::Names);
        prop_assert!(told.took <= bound, "{:?}", told.took);
        let mut wrong = told.wrong();
        wrong.retain(|wrong| *wrong.component.pf() == other.address && wrong.attribute != Attribute::Rdma);
        prop_assert!(wrong.is_empty(), "{}", texts(&wrong));
        let waits = patience.of(Operation::EswitchMode { vfs: other.vfs.len() });
        for (at, event) in told.times.iter().zip(&told.events) {
            if let RestoreEvent::StageEnded { pf, stage: Stage::Bonds } = event
                && *pf == other.address
            {
                prop_assert!(*at < waits + patience.base, "{event:?} after {at:?}");
            }
        }
        machine.faults = Faults::default();
        converges(&mut machine, &saved, seed)?;
    }
}

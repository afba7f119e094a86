//! Bonds over eswitches.

use super::*;

/// A port of `bond0`, with its eswitch in this mode.
fn port(mode: EswitchMode) -> PfState {
    let mut pf = pf(vec![vf(0), vf(1)]);
    pf.eswitch = Setting::Set(Eswitch { mode, inline_mode: None, encap_mode: None });
    let netdev = pf.netdev.as_set_mut().unwrap();
    netdev.master = Some("bond0".parse().unwrap());
    netdev.address_as_port = Some(mac(77).into());
    pf
}

/// The port right after its driver was loaded.
fn alone(saved: &PfState) -> PfState {
    let mut found = reloaded(saved);
    found.eswitch.as_set_mut().unwrap().mode = EswitchMode::Legacy;
    let netdev = found.netdev.as_set_mut().unwrap();
    netdev.master = None;
    netdev.address_as_port = None;
    found
}

fn stages_that_join(saved: PfState, found: PfState) -> Vec<Stage> {
    let plan = plan_restore(&state(saved), &state(found), &DeviceUsers::new());
    let joins = |step: &&PlannedStep| {
        matches!(&step.step, RestoreStep::Pf(PfStep::Netdev(NetdevStep::Master(Some(_)))))
    };
    plan.steps.iter().filter(joins).map(|step| step.stage).collect()
}

#[test]
fn fault_6_7_a_bond_over_eswitches_is_joined_in_switchdev_mode_and_before_vfs_are_bound() {
    let saved = port(EswitchMode::Switchdev);
    assert_snapshot!(plan_restore(&state(saved.clone()), &state(alone(&saved)), &DeviceUsers::new()));
    assert_eq!(stages_that_join(saved.clone(), alone(&saved)), [Stage::Bonds]);
}

#[test]
fn fault_6_7_any_other_bond_is_joined_at_the_beginning() {
    let saved = port(EswitchMode::Legacy);
    assert_eq!(stages_that_join(saved.clone(), alone(&saved)), [Stage::Prepare]);
    // A bridge tells of no address that its port has.
    let mut saved = port(EswitchMode::Switchdev);
    saved.netdev.as_set_mut().unwrap().address_as_port = None;
    assert_eq!(stages_that_join(saved.clone(), alone(&saved)), [Stage::Prepare]);
    // What is a port already stays one, whatever becomes of its eswitch.
    let saved = port(EswitchMode::Switchdev);
    let mut found = saved.clone();
    found.eswitch.as_set_mut().unwrap().mode = EswitchMode::Legacy;
    assert_eq!(stages_that_join(saved, found), []);
}

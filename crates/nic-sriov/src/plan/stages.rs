//! What each stage of one PF has to do. The executor goes by the same functions, each stage's on what it then finds.

use std::collections::HashMap;

use nic_netlink::{PhysPortName, VfChange};

use super::netdev::plan_netdev;
use super::pf::{
    changes_mode_under_vfs, plan_bond, plan_eswitch, plan_finish, plan_prepare, vfs_need_binding,
    vfs_to_unbind, without_vfs_to_unbind,
};
use super::users::{DeviceUsers, is_left_alone};
use super::vf::{plan_admin_after, plan_admin_before, plan_admin_mac_again, plan_binding, plan_rates_before};
use super::{AdminStep, BindStep, PfStep, PlannedStep, RestoreStep};
use crate::ofed::{OfedStep, plan_ofed};
use crate::{Component, PciAddress, PfState, RepresentorState, Stage, VfNetdev, VfState};

/// The steps of one stage for a PF as it is found before that stage.
#[must_use]
pub(super) fn plan_stage(
    stage: Stage,
    saved: &PfState,
    found: &PfState,
    users: &DeviceUsers,
) -> Vec<PlannedStep> {
    let mut steps = Vec::new();
    let mut push =
        |component: Component, step: RestoreStep| steps.push(PlannedStep { stage, component, step });
    let of_pf = || Component::Pf(saved.address.clone());
    match stage {
        Stage::Prepare => {
            let prepare = plan_prepare(saved, found);
            if changes_mode_under_vfs(&prepare) {
                for (vf, _, step) in plan_unbinds(saved, found) {
                    push(vf, RestoreStep::Bind(step));
                }
            }
            prepare.into_iter().for_each(|step| push(of_pf(), RestoreStep::Pf(step)));
        }
        Stage::Admin => {
            let planned = without_vfs_to_unbind(saved, found);
            for (vf, _) in restorable(saved, found, users) {
                let Some(now) = planned.vf(vf.index) else { continue };
                for step in plan_admin(saved, found, vf, now) {
                    push(Component::of_vf(saved, vf), RestoreStep::Admin(step));
                }
            }
        }
        Stage::Eswitch => {
            for (vf, _, step) in plan_unbinds(saved, found) {
                push(vf, RestoreStep::Bind(step));
            }
            let eswitch = plan_eswitch(saved, found);
            let stays = !eswitch.iter().any(PfStep::changes_mode);
            eswitch.into_iter().for_each(|step| push(of_pf(), RestoreStep::Pf(step)));
            let ports: HashMap<PhysPortName, &RepresentorState> =
                found.representors.iter().map(|port| (port.port, port)).collect();
            for representor in &saved.representors {
                let now = ports.get(&representor.port).filter(|_| stays);
                let component = Component::Representor { pf: saved.address.clone(), port: representor.port };
                for step in plan_representor(representor, now.copied()) {
                    push(component.clone(), step);
                }
            }
        }
        Stage::Bonds => {
            plan_bond(saved, found).into_iter().for_each(|step| push(of_pf(), RestoreStep::Pf(step)));
        }
        Stage::Vfs => {
            if let Some(step) = plan_autoprobe_to_bind(saved, found) {
                push(of_pf(), RestoreStep::Pf(step));
            }
            for (vf, now) in restorable(saved, found, users) {
                for step in plan_vf(vf, now) {
                    push(Component::of_vf(saved, vf), step);
                }
            }
        }
        Stage::Finish => {
            for (vf, now) in restorable(saved, found, users) {
                for change in plan_admin_at_end(found, vf, now) {
                    push(Component::of_vf(saved, vf), RestoreStep::Admin(AdminStep::Netlink(change)));
                }
            }
            plan_finish(saved, found).into_iter().for_each(|step| push(of_pf(), RestoreStep::Pf(step)));
        }
        // It is one of all PFs.
        Stage::Names => {}
    }
    steps
}

/// The saved VFs that are there and that nobody uses, each with what it is now.
fn restorable<'s>(
    saved: &'s PfState,
    found: &'s PfState,
    users: &DeviceUsers,
) -> Vec<(&'s VfState, &'s VfState)> {
    let pairs = saved.vfs.iter().filter_map(|vf| Some((vf, found.vf(vf.index)?)));
    let used = |now: &VfState| {
        matches!(now.netdev, VfNetdev::OtherDriver)
            && now.address.and_then(|vf| users.get(&vf.into())).is_some_and(is_left_alone)
    };
    pairs.filter(|(_, now)| !now.is_in_use() && !used(now)).collect()
}

/// The VFs that lose their drivers before the eswitch changes its mode.
#[must_use]
pub(crate) fn plan_unbinds(saved: &PfState, found: &PfState) -> Vec<(Component, PciAddress, BindStep)> {
    let bound = vfs_to_unbind(saved, found).into_iter();
    let unbinds = bound.filter_map(|vf| {
        let step = BindStep::Unbind(vf.driver.clone()?);
        Some((Component::of_vf(saved, vf), vf.address?, step))
    });
    unbinds.collect()
}

/// [`Stage::Admin`] of one VF. A PF without a netdev can be told what MLNX_OFED's driver has files for.
#[must_use]
pub(crate) fn plan_admin(saved: &PfState, found: &PfState, vf: &VfState, now: &VfState) -> Vec<AdminStep> {
    let changes = plan_admin_before(vf, now).into_iter().chain(plan_rates_before(saved, vf, now));
    let steps = changes.filter_map(|change| {
        if can_be_told(found) {
            Some(AdminStep::Netlink(change))
        } else {
            let step = OfedStep::of(&change).filter(|_| now.admin.as_set().is_some());
            step.map(AdminStep::Ofed)
        }
    });
    steps.chain(plan_ofed(&vf.ofed, &now.ofed).into_iter().map(AdminStep::Ofed)).collect()
}

/// [`Stage::Vfs`]: VFs can be bound at all.
#[must_use]
pub(crate) fn plan_autoprobe_to_bind(saved: &PfState, found: &PfState) -> Option<PfStep> {
    let is_off = found.drivers_autoprobe == Some(false);
    (is_off && vfs_need_binding(saved, found)).then_some(PfStep::Autoprobe(true))
}

/// [`Stage::Finish`] of one VF: what can be set only when it runs, and what its probe may have changed.
#[must_use]
pub(crate) fn plan_admin_at_end(found: &PfState, vf: &VfState, now: &VfState) -> Vec<VfChange> {
    if !can_be_told(found) {
        return Vec::new();
    }
    plan_admin_mac_again(vf, now).into_iter().chain(plan_admin_after(vf, now)).collect()
}

/// Whether the PF has a netdev, by which it is told what to hold for a VF. Where it has none, the verification says so once.
fn can_be_told(found: &PfState) -> bool {
    found.netdev.as_set().is_some()
}

/// [`Stage::Vfs`] of one VF. What is to be set on a netdev that only a probe brings cannot be told beforehand.
fn plan_vf(saved: &VfState, found: &VfState) -> Vec<RestoreStep> {
    let binding = plan_binding(saved, found);
    let probes = binding.iter().any(|step| matches!(step, BindStep::Bind(_)));
    let mut steps: Vec<RestoreStep> = binding.into_iter().map(RestoreStep::Bind).collect();
    match (&saved.netdev, &found.netdev) {
        (VfNetdev::Here(saved), VfNetdev::Here(found)) if !probes => {
            steps.extend(plan_netdev(saved, found).into_iter().map(RestoreStep::Netdev));
        }
        (VfNetdev::Here(saved), _) => steps.push(RestoreStep::NetdevOnceThere(Box::new(saved.clone()))),
        _ => {}
    }
    steps
}

/// [`Stage::Eswitch`] of one representor; `None` is found where another mode makes it anew.
fn plan_representor(saved: &RepresentorState, found: Option<&RepresentorState>) -> Vec<RestoreStep> {
    match found {
        Some(found) => plan_netdev(&saved.netdev_for(&found.netdev), &found.netdev)
            .into_iter()
            .map(RestoreStep::Netdev)
            .collect(),
        None => vec![RestoreStep::NetdevOnceThere(Box::new(saved.netdev.clone()))],
    }
}

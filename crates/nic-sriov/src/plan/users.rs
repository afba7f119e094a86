//! Who uses PFs and VFs that a restore would touch: of which that has to be asked, and what the answers stand in the way of.

use std::collections::BTreeMap;

use super::pf::{attribute_for_legacy, changes_mode, plan_prepare, vfs_to_unbind};
use super::{PfStep, RestoreObstacle};
use crate::{Component, DeviceAddress, NicState, PciAddress, PfState, Untold, Usage, VfNetdev, VfState};

/// What was answered of PFs and VFs. One that is not among them is used by nobody.
pub type DeviceUsers = BTreeMap<DeviceAddress, Usage>;

/// A VF that a restore leaves alone, or a PF that it leaves alone from where its eswitch would change its mode, because somebody uses it, or
/// because that cannot be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftAlone {
    /// The PF or VF.
    pub component: Component,
    /// By whom, or why that cannot be told.
    pub usage: Usage,
}

/// The PFs and VFs of which a restore has to know whether somebody uses them.
#[must_use]
pub fn devices_to_ask(saved: &NicState, found: &NicState) -> Vec<DeviceAddress> {
    let of_pf = |(saved, found): (&PfState, &PfState)| {
        let own = changes_mode(saved, found).then(|| found.address.clone());
        let all = loses_vfs(saved, found);
        let vfs = found.vfs.iter().filter(|vf| all || matches!(vf.netdev, VfNetdev::OtherDriver));
        own.into_iter().chain(vfs.filter_map(|vf| vf.address.map(DeviceAddress::from))).collect::<Vec<_>>()
    };
    pairs(saved, found).flat_map(of_pf).collect()
}

/// The VFs that a restore removes or takes the driver from.
#[must_use]
pub(crate) fn vfs_to_lose(saved: &NicState, found: &NicState) -> Vec<PciAddress> {
    let losing = pairs(saved, found).filter(|(saved, found)| loses_vfs(saved, found));
    losing.flat_map(|(_, found)| found.vfs.iter().filter_map(|vf| vf.address)).collect()
}

fn pairs<'s>(saved: &'s NicState, found: &'s NicState) -> impl Iterator<Item = (&'s PfState, &'s PfState)> {
    saved.pfs.iter().filter_map(|pf| Some((pf, found.pf(&pf.address).here()?)))
}

fn loses_vfs(saved: &PfState, found: &PfState) -> bool {
    removes_vfs(saved, found) || !vfs_to_unbind(saved, found).is_empty()
}

fn removes_vfs(saved: &PfState, found: &PfState) -> bool {
    plan_prepare(saved, found).contains(&PfStep::NumVfs(0))
}

/// VFs that the restore would remove, or take the driver from, although somebody uses them.
#[must_use]
pub fn obstacles_in_use(saved: &NicState, found: &NicState, users: &DeviceUsers) -> Vec<RestoreObstacle> {
    let mut obstacles = Vec::new();
    for (saved, found) in pairs(saved, found).filter(|(saved, found)| loses_vfs(saved, found)) {
        let removes = removes_vfs(saved, found);
        for vf in &found.vfs {
            let (Some(address), Some(usage)) = (vf.address, usage(vf, users)) else { continue };
            let (pf, usage) = (found.address.clone(), Box::new(usage));
            obstacles.push(if removes {
                let (wanted, found) = (saved.num_vfs, found.num_vfs);
                RestoreObstacle::VfInUse { pf, wanted, found, vf: address, usage }
            } else {
                let change = mode_change(saved, found);
                RestoreObstacle::ModeUnderVfInUse { pf, change, vf: address, usage }
            });
        }
    }
    obstacles
}

/// Who uses the VF, or why that cannot be told; `None` where nobody does.
pub(super) fn usage(vf: &VfState, users: &DeviceUsers) -> Option<Usage> {
    let told =
        vf.address.and_then(|address| users.get(&address.into())).filter(|usage| **usage != Usage::Free);
    match told {
        Some(usage) => Some(usage.clone()),
        None => vf.is_in_use().then_some(Usage::InUse(crate::DeviceUser::Namespace)),
    }
}

/// Who uses the PF itself, or why that cannot be told; `None` where nobody does.
pub(super) fn usage_of_pf(pf: &PfState, users: &DeviceUsers) -> Option<Usage> {
    users.get(&pf.address).filter(|usage| **usage != Usage::Free).cloned()
}

/// Whether a VF whose driver makes no netdevs is left alone. What its PF holds for it may be set although nothing but its driver keeps it from
/// being told who uses it: the restore itself may have bound it just then.
#[must_use]
pub(crate) fn is_left_alone(usage: &Usage) -> bool {
    !matches!(usage, Usage::Free | Usage::CannotBeTold(Untold::Driver(_)))
}

/// Why the eswitch has to change its mode, for people.
fn mode_change(saved: &PfState, found: &PfState) -> String {
    match (attribute_for_legacy(saved, found), saved.eswitch.as_set()) {
        (Some((vf, change)), _) => format!("go through mode legacy to set {change} of VF {vf}"),
        (None, Some(eswitch)) => format!("go to mode {}", eswitch.mode),
        (None, None) => "change its mode".to_owned(),
    }
}

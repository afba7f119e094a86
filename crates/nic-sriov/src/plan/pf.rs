//! The stages of a PF: its netdev and its VFs' number before, its eswitch between, the rest after.

use nic_netlink::{EswitchChange, EswitchMode, LinkName, Setting, VfChange};

use super::predict::unbind;
use super::vf::{binding_to, plan_admin_after, plan_admin_before, plan_rates_before};
use super::{PfStep, plan_netdev};
use crate::{NetdevState, PfState, VfState};

/// [`Stage::Prepare`](crate::Stage::Prepare), before there are VFs: the PF's own properties, then its VFs,
/// created without drivers.
///
/// The PF is up and has its MTU before there are VFs: a VF's MTU may not exceed its PF's, and VFs that probe under a
/// PF that is down wait for it in vain. `sriov_numvfs` takes no change from one count to another
/// (drivers/pci/pci-sysfs.c, `sriov_numvfs_store`: EBUSY), so a wrong count goes through 0.
#[must_use]
pub fn plan_prepare(saved: &PfState, found: &PfState) -> Vec<PfStep> {
    let mut steps = Vec::new();
    let creates = saved.num_vfs != found.num_vfs && saved.num_vfs > 0;
    if saved.num_vfs != found.num_vfs && found.num_vfs > 0 {
        steps.push(PfStep::NumVfs(0));
    }
    // VFs are created in legacy mode: on ConnectX-6 Lx, switchdev with VFs half created is refused.
    let in_legacy = found.eswitch_mode().is_none_or(|mode| mode == EswitchMode::Legacy);
    let leaves =
        saved.eswitch_mode() == Some(EswitchMode::Legacy) || attribute_for_legacy(saved, found).is_some();
    if !in_legacy && (creates || leaves) {
        steps.push(PfStep::Eswitch(EswitchChange::Mode(EswitchMode::Legacy)));
    }
    if let (Some(saved_netdev), Some(found_netdev)) = (saved.netdev.as_set(), found.netdev.as_set()) {
        let needs_up = saved.num_vfs > 0
            && (creates || vfs_need_binding(saved, found) || rates_are_to_be_set(saved, found));
        let mut wanted = NetdevState { up: saved_netdev.up || needs_up, ..saved_netdev.clone() };
        if bond_over_eswitch(saved).is_some() {
            wanted.master.clone_from(&found_netdev.master);
        }
        steps.extend(plan_netdev(&wanted, found_netdev).into_iter().map(PfStep::Netdev));
    }
    if creates {
        // Without the attribute (kernels before 4.12) the VFs probe as soon as they exist, and those whose admin MAC
        // comes too late are bound again.
        if found.drivers_autoprobe == Some(true) {
            steps.push(PfStep::Autoprobe(false));
        }
        steps.push(PfStep::NumVfs(saved.num_vfs));
    }
    steps
}

/// The first attribute of a VF that has to be set and that drivers take in legacy mode only, while the PF is in switchdev
/// mode as it was: for it the eswitch goes through legacy mode once more (VLAN, spoof check and trust: mlx5's
/// `esw/legacy.c`, `mlx5_eswitch_set_vport_vlan` and its neighbours; rates: netdevsim's `nsim_set_vf_rate`).
#[must_use]
pub(crate) fn attribute_for_legacy(saved: &PfState, found: &PfState) -> Option<(u32, VfChange)> {
    let in_switchdev = |pf: &PfState| pf.eswitch_mode() == Some(EswitchMode::Switchdev);
    if !in_switchdev(saved) || !in_switchdev(found) {
        return None;
    }
    // The mode's change takes the drivers from all VFs, and with them the netdevs that are in use in other namespaces.
    let in_use = |vf: &VfState| {
        let was_elsewhere = saved.vf(vf.index).is_some_and(|vf| vf.netdev.is_elsewhere());
        vf.is_in_use() || (was_elsewhere && vf.netdev.is_elsewhere())
    };
    if found.vfs.iter().any(in_use) {
        return None;
    }
    saved.vfs.iter().find_map(|vf| {
        // What cannot be told does not take the drivers from VFs.
        let now = found.vf(vf.index).filter(|now| now.admin.unread().is_none())?;
        let mut changes = plan_admin_before(vf, now).into_iter().chain(plan_rates_before(saved, vf, now));
        Some((vf.index, changes.find(is_for_legacy)?))
    })
}

/// Whether drivers with an eswitch take it in legacy mode only.
fn is_for_legacy(change: &VfChange) -> bool {
    matches!(change, VfChange::Vlan(_) | VfChange::SpoofCheck(_) | VfChange::Trust(_) | VfChange::Rate { .. })
}

/// Whether a refusal of the change says nothing of what the driver can do: the eswitch is in the wrong mode for it.
pub(crate) fn is_refused_by_mode(found: &PfState, change: &VfChange) -> bool {
    found.eswitch_mode() == Some(EswitchMode::Switchdev) && is_for_legacy(change)
}

/// Whether [`plan_prepare`] changes the eswitch's mode with the VFs there that are found, and not with none.
pub(crate) fn changes_mode_under_vfs(prepare: &[PfStep]) -> bool {
    prepare.iter().any(PfStep::changes_mode) && !prepare.contains(&PfStep::NumVfs(0))
}

/// [`Stage::Eswitch`](crate::Stage::Eswitch), with all VFs there: the eswitch's mode, which VFs that are bound must
/// not see change ([`vfs_to_unbind`]), then what can be set only in that mode.
#[must_use]
pub fn plan_eswitch(saved: &PfState, found: &PfState) -> Vec<PfStep> {
    // What was not known is not given back; what is not there cannot be; and a mode that cannot be told is not changed, since that takes the
    // drivers from all VFs.
    let (Setting::Set(saved), Setting::Set(found)) = (&saved.eswitch, &found.eswitch) else {
        return Vec::new();
    };
    let mut changes = Vec::new();
    if saved.mode != found.mode {
        changes.push(EswitchChange::Mode(saved.mode));
    }
    if let Some(inline) = saved.inline_mode.filter(|inline| found.inline_mode != Some(*inline)) {
        changes.push(EswitchChange::InlineMode(inline));
    }
    if let Some(encap) = saved.encap_mode.filter(|encap| found.encap_mode != Some(*encap)) {
        changes.push(EswitchChange::EncapMode(encap));
    }
    changes.into_iter().map(PfStep::Eswitch).collect()
}

/// The bond that the PF was a port of, where its eswitch was in switchdev mode: then the NIC may have made one switch of both.
///
/// A driver that does so (mlx5's lag/lag.c, `mlx5_lag_check_prereq`) takes no bond over PFs that have VFs and are in legacy mode, nor over PFs in different
/// modes; and its firmware takes none while VFs are bound (`mlx5_create_lag`).
#[must_use]
pub(crate) fn bond_over_eswitch(saved: &PfState) -> Option<&LinkName> {
    let netdev = saved.netdev.as_set().filter(|_| saved.eswitch_mode() == Some(EswitchMode::Switchdev))?;
    // Only a bond tells what address its port has as such.
    netdev.master.as_ref().filter(|_| netdev.address_as_port.is_some())
}

/// [`Stage::Bonds`](crate::Stage::Bonds): the PF joins the bond over its eswitch. Nothing else of its netdev is touched.
#[must_use]
pub(crate) fn plan_bond(saved: &PfState, found: &PfState) -> Vec<PfStep> {
    let (Some(bond), Some(found)) = (bond_over_eswitch(saved), found.netdev.as_set()) else {
        return Vec::new();
    };
    let wanted = NetdevState { master: Some(bond.clone()), ..found.clone() };
    plan_netdev(&wanted, found).into_iter().map(PfStep::Netdev).collect()
}

/// The VFs that have to lose their drivers before [`plan_prepare`] or [`plan_eswitch`] changes the mode.
#[must_use]
pub fn vfs_to_unbind<'found>(saved: &PfState, found: &'found PfState) -> Vec<&'found VfState> {
    let changes = plan_eswitch(saved, found).iter().any(PfStep::changes_mode)
        || attribute_for_legacy(saved, found).is_some();
    if !changes {
        return Vec::new();
    }
    found.vfs.iter().filter(|vf| vf.driver.is_some()).collect()
}

/// Whether the eswitch changes its mode on the way, in whichever stage.
pub(crate) fn changes_mode(saved: &PfState, found: &PfState) -> bool {
    plan_prepare(saved, found).into_iter().chain(plan_eswitch(saved, found)).any(|step| step.changes_mode())
}

/// The PF as its VFs' attributes are planned for: VFs that lose their drivers to the eswitch will probe again.
pub(crate) fn without_vfs_to_unbind(saved: &PfState, found: &PfState) -> PfState {
    let mut state = found.clone();
    for unbound in vfs_to_unbind(saved, found) {
        if let Some(vf) = state.vf_mut(unbound.index) {
            unbind(vf);
        }
    }
    state
}

/// [`Stage::Finish`](crate::Stage::Finish), when all VFs are back: autoprobe, and the PF's netdev as saved.
#[must_use]
pub fn plan_finish(saved: &PfState, found: &PfState) -> Vec<PfStep> {
    let mut steps = Vec::new();
    if let (Some(saved), Some(found)) = (saved.drivers_autoprobe, found.drivers_autoprobe)
        && saved != found
    {
        steps.push(PfStep::Autoprobe(saved));
    }
    if let (Some(saved), Some(found)) = (saved.netdev.as_set(), found.netdev.as_set()) {
        steps.extend(plan_netdev(saved, found).into_iter().map(PfStep::Netdev));
    }
    steps
}

/// Whether an explicit bind will be needed, for which `sriov_drivers_autoprobe` must be on: with it off the kernel
/// refuses that too (drivers/pci/pci-driver.c, `pci_device_can_probe`).
#[must_use]
pub fn vfs_need_binding(saved: &PfState, found: &PfState) -> bool {
    let found = without_vfs_to_unbind(saved, found);
    saved.vfs.iter().any(|vf| match found.vf(vf.index) {
        Some(now) => binding_to(vf, now).is_some(),
        None => vf.driver.is_some(),
    })
}

/// Whether rates are still to be set, for which some drivers want the PF's link to be up.
fn rates_are_to_be_set(saved: &PfState, found: &PfState) -> bool {
    let is_rate = |change: &VfChange| matches!(change, VfChange::Rate { .. });
    let mut pairs = saved.vfs.iter().filter_map(|vf| Some((vf, found.vf(vf.index)?)));
    pairs.any(|(vf, now)| plan_admin_after(vf, now).iter().any(is_rate))
}

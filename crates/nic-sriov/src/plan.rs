//! What has to be done to bring the NICs from what they are to what they were. Pure: states in, steps out.
//!
//! VFs do not exist before their PF made them, and a netdev not before its driver probed, so a restore is planned
//! in stages with an observation between them. The functions here each plan one stage; [`plan_restore`] puts them
//! together for showing what would be done, with the stages that cannot be seen yet in the form of a promise.

mod netdev;
mod obstacle;
mod pf;
mod rdma;
mod text;
mod vf;

use nic_netlink::{EswitchChange, LinkChange, LinkName, VfChange};

pub use self::netdev::plan_netdev;
pub(crate) use self::obstacle::without_blocked_pfs;
pub use self::obstacle::{RestoreObstacle, SkippedPf, obstacles};
pub(crate) use self::pf::{
    attribute_for_legacy, changes_mode_under_vfs, is_refused_by_mode, without_vfs_to_unbind,
};
pub use self::pf::{plan_eswitch, plan_finish, plan_prepare, vfs_need_binding, vfs_to_unbind};
pub use self::rdma::{RdmaRename, plan_rdma_names};
pub(crate) use self::rdma::{rdma_names, rdma_renames};
pub(crate) use self::vf::plan_admin_mac_again;
pub use self::vf::{plan_admin_after, plan_admin_before, plan_binding, plan_rates_before};
use self::vf::{plan_vf, vf_as_created};
use crate::ofed::OfedStep;
use crate::{Component, DeviceAddress, NetdevState, NicState, PfState, RepresentorState};

/// A step on a PF.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PfStep {
    /// Set something of its eswitch.
    Eswitch(EswitchChange),
    /// Set something of its netdev.
    Netdev(NetdevStep),
    /// Write `sriov_drivers_autoprobe`.
    Autoprobe(bool),
    /// Write `sriov_numvfs`.
    NumVfs(u32),
}

/// A step on a netdev.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetdevStep {
    /// Set a property.
    Link(LinkChange),
    /// Join this bond, bridge or VRF, or leave the one it is in.
    Master(Option<LinkName>),
}

/// A step that gives a VF the driver it had, or takes one away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BindStep {
    /// Unbind it from this driver.
    Unbind(String),
    /// Set or clear `driver_override`.
    Override(Option<String>),
    /// Bind it to this driver.
    Bind(String),
}

/// What is to be done for one VF.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VfPlan {
    /// Which VF.
    pub component: Component,
    /// Attributes to set on the PF before the VF's driver probes.
    pub admin_before: Vec<VfChange>,
    /// The same, beyond netlink.
    pub ofed: Vec<OfedStep>,
    /// Unbinding and binding.
    pub binding: Vec<BindStep>,
    /// Its netdev's own properties.
    pub netdev: NetdevPlan,
    /// Attributes to set on the PF when the VF is running.
    pub admin_after: Vec<VfChange>,
}

/// What is to be done for a VF's netdev.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetdevPlan {
    /// It is there, and these are the steps.
    Steps(Vec<NetdevStep>),
    /// It is not there yet. When it is, whatever differs from this is set.
    OnceThere(Box<NetdevState>),
}

impl VfPlan {
    /// Whether nothing is to be done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.admin_before.is_empty()
            && self.ofed.is_empty()
            && self.binding.is_empty()
            && self.admin_after.is_empty()
            && matches!(&self.netdev, NetdevPlan::Steps(steps) if steps.is_empty())
    }
}

/// What is to be done for a representor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepresentorPlan {
    /// Which representor.
    pub component: Component,
    /// Its netdev's properties.
    pub netdev: NetdevPlan,
}

/// What is to be done for one PF, its VFs and its representors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PfPlan {
    /// Which PF.
    pub address: DeviceAddress,
    /// Before there are VFs.
    pub prepare: Vec<PfStep>,
    /// When the VFs have their admin attributes and before they are bound: the eswitch.
    pub eswitch: Vec<PfStep>,
    /// For each representor that needs something.
    pub representors: Vec<RepresentorPlan>,
    /// For each VF that needs something.
    pub vfs: Vec<VfPlan>,
    /// When all VFs are back.
    pub finish: Vec<PfStep>,
    /// When all PFs are back: RDMA devices of the PF and its VFs that get their names back.
    pub rdma: Vec<RdmaRename>,
}

impl PfPlan {
    /// Whether nothing is to be done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.prepare.is_empty()
            && self.eswitch.is_empty()
            && self.representors.is_empty()
            && self.vfs.is_empty()
            && self.finish.is_empty()
            && self.rdma.is_empty()
    }
}

/// What is to be done on the machine. Empty when it already is what it was.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RestorePlan {
    /// The PFs that need something.
    pub pfs: Vec<PfPlan>,
}

impl RestorePlan {
    /// Whether nothing is to be done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pfs.is_empty()
    }
}

/// The whole plan, as far as it can be seen from here.
#[must_use]
pub fn plan_restore(saved: &NicState, found: &NicState) -> RestorePlan {
    let renames = plan_rdma_names(saved, found);
    let plan_pf = |pf: &PfState| {
        let now = found.pf(&pf.address).here()?;
        let prepare = plan_prepare(pf, now);
        let created = prepare.contains(&PfStep::NumVfs(pf.num_vfs));
        let unbound = without_vfs_to_unbind(pf, now);
        let vfs = pf.vfs.iter().filter_map(|vf| {
            let vf_now = if created { None } else { unbound.vf(vf.index) };
            if vf_now.is_some_and(crate::VfState::is_in_use) {
                return None;
            }
            let plan = plan_vf(pf, vf, &vf_now.cloned().unwrap_or_else(|| vf_as_created(vf)));
            (!plan.is_empty()).then_some(plan)
        });
        let vfs = vfs.collect();
        let prepared = predict_pf(&prepare, pf, now);
        let finish = plan_finish(pf, &prepared);
        let eswitch = plan_eswitch(pf, &prepared);
        let stays = prepared.eswitch_mode() == now.eswitch_mode() && eswitch.is_empty();
        let representors = pf
            .representors
            .iter()
            .filter_map(|saved| plan_representor(pf, saved, if stays { Some(now) } else { None }))
            .collect();
        let rdma = renames.iter().filter(|rename| *rename.component.pf() == pf.address).cloned().collect();
        let plan = PfPlan { address: pf.address.clone(), prepare, eswitch, representors, vfs, finish, rdma };
        (!plan.is_empty()).then_some(plan)
    };
    RestorePlan { pfs: saved.pfs.iter().filter_map(plan_pf).collect() }
}

fn plan_representor(
    pf: &PfState,
    saved: &RepresentorState,
    now: Option<&PfState>,
) -> Option<RepresentorPlan> {
    let found = now.and_then(|now| now.representors.iter().find(|found| found.port == saved.port));
    let netdev = match found {
        Some(found) => NetdevPlan::Steps(plan_netdev(&saved.netdev_for(&found.netdev), &found.netdev)),
        None => NetdevPlan::OnceThere(Box::new(saved.netdev.clone())),
    };
    let component = Component::Representor { pf: pf.address.clone(), port: saved.port };
    (netdev != NetdevPlan::Steps(Vec::new())).then_some(RepresentorPlan { component, netdev })
}

/// What the PF will be after `steps`, as far as [`plan_finish`] looks at it.
fn predict_pf(steps: &[PfStep], saved: &PfState, found: &PfState) -> PfState {
    let mut state = found.clone();
    for step in steps {
        match step {
            PfStep::Autoprobe(value) => state.drivers_autoprobe = Some(*value),
            PfStep::NumVfs(count) => state.num_vfs = *count,
            PfStep::Eswitch(change) => {
                if let (Some(eswitch), EswitchChange::Mode(mode)) = (state.eswitch.as_set_mut(), change) {
                    eswitch.mode = *mode;
                }
            }
            PfStep::Netdev(step) => {
                if let (Some(netdev), Some(saved)) = (state.netdev.as_set_mut(), saved.netdev.as_set()) {
                    let up = match step {
                        NetdevStep::Link(LinkChange::Up(up)) => *up,
                        _ => netdev.up,
                    };
                    *netdev = NetdevState { up, index: netdev.index, ..saved.clone() };
                }
            }
        }
    }
    if vfs_need_binding(saved, found) && state.drivers_autoprobe == Some(false) {
        state.drivers_autoprobe = Some(true);
    }
    state
}

#[cfg(test)]
mod tests;

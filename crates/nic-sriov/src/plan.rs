//! What has to be done to bring the NICs from what they are to what they were. Pure: states in, steps out.
//!
//! VFs do not exist before their PF made them, and a netdev not before its driver probed, so a restore is planned stage by stage
//! ([`Stage`]), with an observation between them. `plan/stages.rs` says what each stage has to do, to the executor and to [`plan_restore`],
//! which walks all of them beforehand: on what each stage will leave (`plan/predict.rs`) in the place of an observation, and with a promise
//! in the place of steps that only an observation can tell.

mod netdev;
mod obstacle;
mod pf;
mod predict;
mod rdma;
mod stages;
mod text;
mod users;
mod vf;

use std::collections::HashSet;

use nic_netlink::{EswitchChange, LinkChange, LinkName, VfChange};
use serde::{Deserialize, Serialize};

pub use self::netdev::plan_netdev;
pub(crate) use self::obstacle::without_blocked_pfs;
pub use self::obstacle::{RestoreObstacle, SkippedPf, obstacles};
pub(crate) use self::pf::{
    bond_over_eswitch, changes_mode_under_vfs, is_refused_by_mode, plan_bond, without_vfs_to_unbind,
};
pub use self::pf::{plan_eswitch, plan_finish, plan_prepare, vfs_need_binding, vfs_to_unbind};
pub use self::rdma::{RdmaRename, plan_rdma_names};
pub(crate) use self::rdma::{rdma_names, rdma_renames};
use self::stages::plan_stage;
pub(crate) use self::stages::{plan_admin, plan_admin_at_end, plan_autoprobe_to_bind, plan_unbinds};
pub use self::users::{DeviceUsers, LeftAlone, devices_to_ask, obstacles_in_use};
pub(crate) use self::users::{is_left_alone, vfs_to_lose};
pub use self::vf::{plan_admin_after, plan_admin_before, plan_binding, plan_rates_before};
use crate::ofed::OfedStep;
use crate::{Component, Difference, NetdevState, NicState, PfState, Stage, compare};

/// A step on a PF.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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

impl PfStep {
    /// Whether it changes the eswitch's mode.
    pub(crate) fn changes_mode(&self) -> bool {
        matches!(self, Self::Eswitch(EswitchChange::Mode(_)))
    }
}

/// A step on a netdev.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetdevStep {
    /// Join this bond, bridge or VRF, or leave the one it is in.
    Master(Option<LinkName>),
    /// Set a property.
    #[serde(untagged)]
    Link(LinkChange),
}

/// A step that gives a VF the driver it had, or takes one away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BindStep {
    /// Unbind it from this driver.
    Unbind(String),
    /// Set or clear `driver_override`.
    Override(Option<String>),
    /// Bind it to this driver.
    Bind(String),
}

/// A step that sets something that a PF holds for a VF.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdminStep {
    /// Beyond netlink, by a file of MLNX_OFED's driver.
    Ofed(OfedStep),
    /// Over netlink, by the PF's netdev.
    #[serde(untagged)]
    Netlink(VfChange),
}

impl AdminStep {
    /// The change over netlink, where it is one.
    pub(crate) fn as_netlink(&self) -> Option<VfChange> {
        match self {
            Self::Netlink(change) => Some(*change),
            Self::Ofed(_) => None,
        }
    }

    /// The change by a file, where it is one.
    pub(crate) fn as_ofed(&self) -> Option<OfedStep> {
        match self {
            Self::Ofed(step) => Some(*step),
            Self::Netlink(_) => None,
        }
    }
}

/// A step of a restore.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestoreStep {
    /// On the PF itself.
    Pf(PfStep),
    /// On what the PF holds for a VF.
    Admin(AdminStep),
    /// On a VF's driver.
    Bind(BindStep),
    /// On the netdev of a VF or a representor.
    Netdev(NetdevStep),
    /// A promise: the netdev is not there yet, and when it is, whatever differs from this is set.
    NetdevOnceThere(Box<NetdevState>),
    /// Another name for an RDMA device.
    Rdma {
        /// The name it has.
        from: String,
        /// The name it gets.
        to: String,
    },
    /// A promise: the RDMA devices are not there yet, and when they are, they get these names.
    RdmaOnceThere(Vec<String>),
}

/// A step, with its place in the restore.
#[derive(Debug, Clone)]
pub struct PlannedStep {
    /// The stage it is of.
    pub stage: Stage,
    /// What it is done to.
    pub component: Component,
    /// What is done.
    pub step: RestoreStep,
}

/// What a restore would do on the machine as it is. Empty when that already is what it was.
#[derive(Debug, Clone, Default)]
pub struct RestorePlan {
    /// What stands in the way. A PF of which something does is left alone; the others are restored.
    pub obstacles: Vec<RestoreObstacle>,
    /// VFs that differ from what they were and are left alone, because somebody uses them.
    pub left_alone: Vec<LeftAlone>,
    /// The steps, stage by stage, PF by PF within a stage. The PFs go through their stages beside one another, and the VFs of a PF too.
    pub steps: Vec<PlannedStep>,
}

impl PlannedStep {
    /// Whether the eswitch's mode changes with it.
    fn changes_mode(&self) -> bool {
        matches!(&self.step, RestoreStep::Pf(step) if step.changes_mode())
    }
}

impl RestorePlan {
    /// Whether nothing is to be done, and nothing left alone that would be.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.obstacles.is_empty() && self.left_alone.is_empty()
    }
}

/// The whole plan, as far as it can be seen from here. `users` says of the PFs and VFs of [`devices_to_ask`] whether somebody uses them.
#[must_use]
pub fn plan_restore(saved: &NicState, found: &NicState, users: &DeviceUsers) -> RestorePlan {
    let mut in_the_way = obstacles(saved, found);
    in_the_way.extend(obstacles_in_use(saved, found, users));
    let (restorable, _) = without_blocked_pfs(saved, &in_the_way);
    let differences = compare(&restorable, found);
    if !differences.iter().any(Difference::is_wrong) {
        return RestorePlan { obstacles: in_the_way, ..RestorePlan::default() };
    }
    let mut left_alone = left_alone(&restorable, found, users, &differences);
    let pairs =
        restorable.pfs.iter().filter_map(|saved| Some((saved, found.pf(&saved.address).here()?.clone())));
    let mut pfs: Vec<(&PfState, PfState)> = pairs.collect();
    let mut steps = Vec::new();
    for stage in Stage::OF_A_PF {
        for (saved, now) in &mut pfs {
            let component = Component::Pf(saved.address.clone());
            if left_alone.iter().any(|left| left.component == component) {
                continue;
            }
            let planned = plan_stage(stage, saved, now, users);
            if planned.iter().any(PlannedStep::changes_mode)
                && let Some(usage) = users::usage_of_pf(now, users)
            {
                left_alone.push(LeftAlone { component, usage });
                continue;
            }
            planned.iter().for_each(|step| predict::apply(now, saved, step));
            steps.extend(planned);
        }
    }
    let left = NicState { pfs: pfs.into_iter().map(|(_, now)| now).collect(), ..NicState::default() };
    steps.extend(rdma::plan_names_once_there(&restorable, &left));
    RestorePlan { obstacles: in_the_way, left_alone, steps }
}

/// The VFs that differ and that somebody uses.
fn left_alone(
    saved: &NicState,
    found: &NicState,
    users: &DeviceUsers,
    differences: &[Difference],
) -> Vec<LeftAlone> {
    let differing: HashSet<&Component> = differences.iter().map(|difference| &difference.component).collect();
    let mut left_alone = Vec::new();
    for pf in &saved.pfs {
        let Some(now) = found.pf(&pf.address).here() else { continue };
        for vf in pf.vfs.iter().filter_map(|vf| now.vf(vf.index)) {
            let component = Component::of_vf(pf, vf);
            if let Some(usage) = users::usage(vf, users).filter(is_left_alone)
                && differing.contains(&component)
            {
                left_alone.push(LeftAlone { component, usage });
            }
        }
    }
    left_alone
}

#[cfg(test)]
mod tests;

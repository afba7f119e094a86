//! The stages of one PF, in their order; what one stage leaves is observed before the next. They decide which VFs can be
//! worked on, and how long the PF's link is waited for.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::future::join_all;
use nic_netlink::VfChange;

use super::executor::Executor;
use crate::machine::Machine;
use crate::plan::{
    AdminStep, PfStep, changes_mode_under_vfs, is_left_alone, plan_admin, plan_admin_at_end,
    plan_autoprobe_to_bind, plan_finish, plan_prepare, without_vfs_to_unbind,
};
use crate::step::Activity;
use crate::sysfs::VfWriteError;
use crate::{Component, PfState, Stage, VfNetdev, VfState};

/// How long the PF's link is waited for before the rates are set, which some drivers refuse without it.
const LINK_PATIENCE: Duration = Duration::from_secs(10);

/// What a stage leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// A PF that is to be observed before the next stage is planned.
    Changed,
    /// A PF of which the next stage may be planned on what was found before.
    AsPlanned,
    /// A PF that has to be left alone from here on.
    Ended,
}

impl<M: Machine> Executor<'_, M> {
    pub(super) async fn restore_pf(&self, saved: &PfState) {
        let Some(mut found) = self.observe_pf(saved).await else { return };
        for stage in Stage::OF_A_PF {
            let left = match stage {
                Stage::Prepare => self.prepare(saved, &found).await,
                Stage::Admin => self.set_admin(saved, &found).await,
                Stage::Eswitch => self.change_eswitch(saved, &found).await,
                Stage::Bonds => self.join_bond(saved, &found).await,
                Stage::Vfs => self.restore_vfs(saved, &found).await,
                Stage::Finish => self.finish(saved, &found).await,
                // It comes when all PFs are back.
                Stage::Names => Left::AsPlanned,
            };
            found = match left {
                Left::AsPlanned => found,
                Left::Ended => return,
                Left::Changed => match self.observe_pf(saved).await {
                    Some(found) => found,
                    None => return,
                },
            };
        }
    }

    /// [`Stage::Prepare`].
    async fn prepare(&self, saved: &PfState, found: &PfState) -> Left {
        let stage = self.begin(saved, Stage::Prepare);
        let component = Component::Pf(saved.address.clone());
        let steps = plan_prepare(saved, found);
        let changes_mode = steps.iter().any(PfStep::changes_mode);
        let is_used = changes_mode && self.is_used_below_mode(&saved.address).await
            || changes_mode_under_vfs(&steps) && self.unbind_for_mode(saved, found).await;
        if !is_used {
            for step in steps {
                self.pf_step(&component, found, &step).await;
            }
        }
        self.end(saved, stage);
        if is_used { Left::Ended } else { Left::Changed }
    }

    /// [`Stage::Admin`].
    async fn set_admin(&self, saved: &PfState, found: &PfState) -> Left {
        let stage = self.begin(saved, Stage::Admin);
        // Who uses a VF is asked of the one that is there, also where it is to lose its driver.
        let planned = without_vfs_to_unbind(saved, found);
        let vfs = self.restorable_vfs(saved, found).await.into_iter();
        let steps = vfs.filter_map(|(vf, _)| Some((vf, plan_admin(saved, found, vf, planned.vf(vf.index)?))));
        let steps: Vec<(&VfState, Vec<AdminStep>)> = steps.collect();
        let over_netlink = async |vf: &VfState, steps: &[AdminStep]| {
            let changes: Vec<VfChange> = steps.iter().filter_map(AdminStep::as_netlink).collect();
            self.admin_steps(saved, found, vf, &changes).await;
        };
        // All VFs' messages are under way at once. Files are written one after the other: each write has a thread.
        join_all(steps.iter().map(|(vf, steps)| over_netlink(vf, steps))).await;
        for (vf, steps) in &steps {
            for step in steps.iter().filter_map(AdminStep::as_ofed) {
                self.ofed_step(saved, vf, step).await;
            }
        }
        self.end(saved, stage);
        Left::AsPlanned
    }

    /// [`Stage::Vfs`].
    async fn restore_vfs(&self, saved: &PfState, found: &PfState) -> Left {
        let stage = self.begin(saved, Stage::Vfs);
        if let Some(step) = plan_autoprobe_to_bind(saved, found) {
            self.pf_step(&Component::Pf(saved.address.clone()), found, &step).await;
        }
        let vfs = self.restorable_vfs(saved, found).await;
        join_all(vfs.into_iter().map(|(vf, now)| self.restore_vf(saved, now, vf))).await;
        self.end(saved, stage);
        Left::Changed
    }

    /// [`Stage::Finish`].
    async fn finish(&self, saved: &PfState, found: &PfState) -> Left {
        let stage = self.begin(saved, Stage::Finish);
        let component = Component::Pf(saved.address.clone());
        let mut at_end = Vec::new();
        for (vf, now) in self.restorable_vfs(saved, found).await {
            if let (true, VfNetdev::Here(netdev)) = (vf.netdev.is_elsewhere(), &now.netdev) {
                self.ledger().nameless.push((Component::of_vf(saved, vf), netdev.index));
            }
            at_end.push((vf, plan_admin_at_end(found, vf, now)));
        }
        let is_rate = |change: &VfChange| matches!(change, VfChange::Rate { .. });
        if at_end.iter().any(|(_, changes)| changes.iter().any(is_rate)) {
            self.await_link(saved, &component).await;
        }
        join_all(at_end.iter().map(|(vf, changes)| self.admin_steps(saved, found, vf, changes))).await;
        for step in plan_finish(saved, found) {
            self.pf_step(&component, found, &step).await;
        }
        self.end(saved, stage);
        Left::AsPlanned
    }

    /// The saved VFs that exist and that nobody uses, each with what it is now. One that is in use is left alone; in another
    /// network namespace that is as it should be, and the comparison states it.
    async fn restorable_vfs<'s>(
        &self,
        saved: &'s PfState,
        found: &'s PfState,
    ) -> Vec<(&'s VfState, &'s VfState)> {
        let mut restorable = Vec::new();
        let failed: HashSet<Component> =
            self.ledger().failures.iter().map(|failure| failure.component.clone()).collect();
        let pairs = saved.vfs.iter().filter_map(|vf| Some((vf, found.vf(vf.index)?)));
        for (vf, now) in pairs.filter(|(_, now)| !now.is_in_use()) {
            if let (VfNetdev::OtherDriver, Some(address)) = (&now.netdev, now.address)
                && let Err(in_use) = self.check_is_unused(&address.into()).await
                && keeps_from_vf(&in_use)
            {
                let component = Component::of_vf(saved, vf);
                if !failed.contains(&component) {
                    self.fail(&component, &Activity("restore"), &in_use.into());
                }
                continue;
            }
            restorable.push((vf, now));
        }
        restorable
    }

    async fn await_link(&self, saved: &PfState, component: &Component) {
        match self.machine.await_link(&saved.address, LINK_PATIENCE).await {
            Ok(true) => {}
            Ok(false) => tracing::warn!(%component, "the PF's link has not come up; rates may be refused"),
            Err(error) => self.fail(component, &Activity("wait for the link"), &error.into()),
        }
    }
}

fn keeps_from_vf(error: &VfWriteError) -> bool {
    match error {
        VfWriteError::InUse { usage, .. } => is_left_alone(usage),
        _ => true,
    }
}

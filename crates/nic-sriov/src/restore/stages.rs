//! The stages of one PF, in their order; what one stage leaves is observed before the next. They decide which VFs can be
//! worked on, and how long the PF's link is waited for.

use std::time::Duration;

use futures_util::future::join_all;
use nic_netlink::VfChange;

use super::event::Stage;
use super::executor::Executor;
use crate::machine::Machine;
use crate::ofed::{OfedStep, plan_ofed};
use crate::plan::{
    PfStep, changes_mode_under_vfs, plan_admin_after, plan_admin_before, plan_admin_mac_again, plan_finish,
    plan_prepare, plan_rates_before, vfs_need_binding, without_vfs_to_unbind,
};
use crate::step::Activity;
use crate::sysfs::VfWriteError;
use crate::{Component, PfState, Untold, Usage, VfNetdev, VfState};

/// How long the PF's link is waited for before the rates are set, which some drivers refuse without it.
const LINK_PATIENCE: Duration = Duration::from_secs(10);

impl<M: Machine> Executor<'_, M> {
    pub(super) async fn restore_pf(&self, saved: &PfState) {
        let Some(found) = self.observe_pf(saved).await else { return };
        if !self.prepare(saved, &found).await {
            return;
        }
        let Some(found) = self.observe_pf(saved).await else { return };
        self.set_admin(saved, &found).await;
        let Some(found) = self.change_eswitch(saved, found).await else { return };
        self.restore_vfs(saved, &found).await;
        let Some(found) = self.observe_pf(saved).await else { return };
        self.finish(saved, &found).await;
    }

    /// [`Stage::Prepare`]. Whether the PF's restore goes on.
    async fn prepare(&self, saved: &PfState, found: &PfState) -> bool {
        let stage = self.begin(saved, Stage::Prepare);
        let component = Component::Pf(saved.address.clone());
        let steps = plan_prepare(saved, found);
        let goes_on = !changes_mode_under_vfs(&steps) || !self.unbind_for_mode(saved, found).await;
        if goes_on {
            for step in steps {
                self.pf_step(&component, found, &step).await;
            }
        }
        self.end(saved, stage);
        goes_on
    }

    /// [`Stage::Admin`].
    async fn set_admin(&self, saved: &PfState, found: &PfState) {
        let stage = self.begin(saved, Stage::Admin);
        // Who uses a VF is asked of the one that is there, also where it is to lose its driver.
        let planned = without_vfs_to_unbind(saved, found);
        for (vf, _) in self.restorable_vfs(saved, found).await {
            let Some(now) = planned.vf(vf.index) else { continue };
            let changes = plan_admin_before(vf, now).into_iter().chain(plan_rates_before(saved, vf, now));
            for change in changes {
                if can_be_told(found) {
                    self.admin_step(saved, found, vf, &change).await;
                } else if let Some(step) = OfedStep::of(&change).filter(|_| now.admin.as_set().is_some()) {
                    self.ofed_step(saved, vf, step).await;
                }
            }
            for step in plan_ofed(&vf.ofed, &now.ofed) {
                self.ofed_step(saved, vf, step).await;
            }
        }
        self.end(saved, stage);
    }

    /// [`Stage::Vfs`].
    async fn restore_vfs(&self, saved: &PfState, found: &PfState) {
        let stage = self.begin(saved, Stage::Vfs);
        if vfs_need_binding(saved, found) && found.drivers_autoprobe == Some(false) {
            self.pf_step(&Component::Pf(saved.address.clone()), found, &PfStep::Autoprobe(true)).await;
        }
        let vfs = self.restorable_vfs(saved, found).await;
        join_all(vfs.into_iter().map(|(vf, now)| self.restore_vf(saved, now, vf))).await;
        self.end(saved, stage);
    }

    /// [`Stage::Finish`].
    async fn finish(&self, saved: &PfState, found: &PfState) {
        let stage = self.begin(saved, Stage::Finish);
        let component = Component::Pf(saved.address.clone());
        let mut link_awaited = false;
        for (vf, now) in self.restorable_vfs(saved, found).await {
            if let (true, VfNetdev::Here(netdev)) = (vf.netdev.is_elsewhere(), &now.netdev) {
                self.ledger().nameless.push((Component::of_vf(saved, vf), netdev.index));
            }
            let changes = plan_admin_mac_again(vf, now).into_iter().chain(plan_admin_after(vf, now));
            for change in changes.filter(|_| can_be_told(found)) {
                if matches!(change, VfChange::Rate { .. }) && !std::mem::replace(&mut link_awaited, true) {
                    self.await_link(saved, &component).await;
                }
                self.admin_step(saved, found, vf, &change).await;
            }
        }
        for step in plan_finish(saved, found) {
            self.pf_step(&component, found, &step).await;
        }
        self.end(saved, stage);
    }

    /// The saved VFs that exist and that nobody uses, each with what it is now. One that is in use is left alone; in another
    /// network namespace that is as it should be, and the comparison states it.
    async fn restorable_vfs<'s>(
        &self,
        saved: &'s PfState,
        found: &'s PfState,
    ) -> Vec<(&'s VfState, &'s VfState)> {
        let mut restorable = Vec::new();
        let pairs = saved.vfs.iter().filter_map(|vf| Some((vf, found.vf(vf.index)?)));
        for (vf, now) in pairs.filter(|(_, now)| !now.is_in_use()) {
            if let (VfNetdev::OtherDriver, Some(address)) = (&now.netdev, now.address)
                && let Err(in_use) = self.check_is_unused(address).await
                && !is_of_unknown_driver(&in_use)
            {
                let component = Component::of_vf(saved, vf);
                let known = self.ledger().failures.iter().any(|failure| failure.component == component);
                if !known {
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

/// Whether the PF has a netdev, by which it is told what to hold for a VF. Where it has none, the verification says so once.
fn can_be_told(found: &PfState) -> bool {
    found.netdev.as_set().is_some()
}

/// Whether nothing but its driver keeps it from being told whether somebody uses a VF. What its PF holds for it may be set all the same:
/// the restore itself may have bound it just now.
fn is_of_unknown_driver(error: &VfWriteError) -> bool {
    matches!(error, VfWriteError::InUse { usage: Usage::CannotBeTold(Untold::Driver(_)), .. })
}

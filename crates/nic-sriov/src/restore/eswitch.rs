//! The eswitch: VFs that must not see its mode change lose their drivers first, and its representors are waited for.

use super::event::Stage;
use super::executor::Executor;
use super::step_error::StepError;
use crate::arrivals::ArrivalError;
use crate::plan::{BindStep, plan_eswitch, plan_netdev, vfs_to_unbind};
use crate::step::Activity;
use crate::sysfs::{self, VfWriteError};
use crate::{Component, NetdevState, PfState};

impl Executor<'_> {
    /// The eswitch as saved, and its representors. Returns the PF as it is then; `None` where the PF's restore ends here.
    pub(super) async fn change_eswitch(&self, saved: &PfState, mut found: PfState) -> Option<PfState> {
        let changes = !plan_eswitch(saved, &found).is_empty();
        if !changes && saved.representors.is_empty() {
            return Some(found);
        }
        let component = Component::Pf(saved.address.clone());
        let stage = self.begin(saved, Stage::Eswitch);
        if self.unbind_for_mode(saved, &found).await {
            self.end(saved, stage);
            return None;
        }
        for step in plan_eswitch(saved, &found) {
            self.pf_step(&component, &found, &step).await;
        }
        if changes {
            found = self.observe_pf(saved).await?;
        }
        self.restore_representors(saved).await;
        self.end(saved, stage);
        Some(found)
    }

    /// Takes the drivers from the VFs that must not see the eswitch's mode change. Whether somebody was found to use one of them: then
    /// nothing may be changed below it.
    pub(super) async fn unbind_for_mode(&self, saved: &PfState, found: &PfState) -> bool {
        let mut is_used = false;
        for vf in vfs_to_unbind(saved, found) {
            let (Some(address), Some(driver)) = (vf.address, &vf.driver) else { continue };
            let unbound = match sysfs::unbind(self.host, address, driver, self.deadline).await {
                // One that somebody else has unbound meanwhile refuses.
                Err(VfWriteError::Write(_)) if sysfs::check_has_no_driver(self.host, address).is_ok() => {
                    Ok(())
                }
                unbound => unbound,
            };
            is_used |= matches!(unbound, Err(VfWriteError::InUse { .. }));
            self.note_step(
                &Component::of_vf(saved, vf),
                &BindStep::Unbind(driver.clone()),
                unbound.map_err(StepError::from),
            );
        }
        is_used
    }

    async fn restore_representors(&self, saved: &PfState) {
        let ports: Vec<_> = saved.representors.iter().map(|representor| representor.port).collect();
        if ports.is_empty() {
            return;
        }
        let component = Component::Pf(saved.address.clone());
        let _in_progress = self.in_progress(&component, &Activity("wait for the representors"));
        let arrived = match self.arrivals.wait_ports(&saved.address, &ports, self.deadline).await {
            Ok(arrived) => arrived,
            Err(error) => {
                self.fail(&component, &Activity("wait for the representors"), &error.into());
                return;
            }
        };
        let links = match self.source.links().await {
            Ok(links) => links,
            Err(error) => {
                self.fail(&component, &Activity("read the links"), &error.into());
                return;
            }
        };
        for representor in &saved.representors {
            let component = Component::Representor { pf: saved.address.clone(), port: representor.port };
            let Some((_, arrival)) = arrived.iter().find(|(port, _)| *port == representor.port) else {
                let error = ArrivalError::Deadline { device: saved.address.clone(), after: self.deadline };
                self.fail(&component, &Activity("wait for its netdev"), &error.into());
                continue;
            };
            let found = NetdevState::of(&arrival.link, &links);
            let steps = plan_netdev(&representor.netdev_for(&found), &found);
            self.netdev_steps(&component, Some(&saved.address), found.index, steps).await;
        }
    }
}

//! Single steps, each carried out once on the machine, and recorded. A name that another interface holds is no failure
//! yet: it is put aside for `naming.rs`; likewise a master that takes the netdev from its own daemon alone, for `masters.rs`.

use nic_netlink::{EswitchChange, IfIndex, LinkChange, LinkName, VfChange};
use rustix::io::Errno;

use super::event::RestoreEvent;
use super::executor::Executor;
use super::ledger::{PortOfDaemon, VfProgress};
use super::step_error::StepError;
use crate::machine::Machine;
use crate::names::Contested;
use crate::ofed::OfedStep;
use crate::plan::{BindStep, NetdevStep, PfStep, is_refused_by_mode};
use crate::{Component, DeviceAddress, PfState, VfState};

impl<M: Machine> Executor<'_, M> {
    pub(super) async fn pf_step(&self, component: &Component, found: &PfState, step: &PfStep) {
        (self.on_event)(RestoreEvent::PfStepBegan { pf: found.address.clone(), step: step.to_string() });
        let in_progress = self.in_progress(component, step);
        self.try_pf_step(component, found, step).await;
        drop(in_progress);
        (self.on_event)(RestoreEvent::PfStep { pf: found.address.clone(), step: step.to_string() });
    }

    async fn try_pf_step(&self, component: &Component, found: &PfState, step: &PfStep) {
        let result = match step {
            PfStep::Netdev(step) => match found.netdev.as_set() {
                Some(netdev) => {
                    self.netdev_steps(component, Some(&found.address), netdev.index, vec![step.clone()])
                        .await;
                    return;
                }
                None => Err(StepError::NoUplink),
            },
            PfStep::Autoprobe(on) => {
                self.machine.set_autoprobe(&found.address, *on).await.map_err(StepError::from)
            }
            PfStep::NumVfs(count) => self.set_num_vfs(found, *count).await,
            PfStep::Eswitch(change) => self.set_eswitch(found, *change).await,
        };
        self.note_step(component, step, result);
    }

    async fn set_eswitch(&self, found: &PfState, change: EswitchChange) -> Result<(), StepError> {
        if matches!(change, EswitchChange::Mode(_)) {
            self.check_is_unused(&found.address).await?;
            self.check_nobody_uses_vfs(&found.address).await?;
        }
        Ok(self.machine.set_eswitch(&found.address, change).await?)
    }

    async fn set_num_vfs(&self, found: &PfState, count: u32) -> Result<(), StepError> {
        if count == 0 {
            self.check_nobody_uses_vfs(&found.address).await?;
        }
        Ok(self.machine.set_num_vfs(&found.address, count).await?)
    }

    /// Sets what the PF holds for a VF: all of it at once, and one by one where something of it is refused, so that one refusal is one
    /// failure.
    pub(super) async fn admin_steps(
        &self,
        pf: &PfState,
        found: &PfState,
        vf: &VfState,
        changes: &[VfChange],
    ) {
        match self.try_admin_steps(pf, found, vf, changes).await {
            Err(error) if changes.len() > 1 && error.errno().is_some() => {
                for change in changes {
                    let change = std::slice::from_ref(change);
                    let result = self.try_admin_steps(pf, found, vf, change).await;
                    self.note_admin_steps(&Component::of_vf(pf, vf), found, change, result);
                }
            }
            result => self.note_admin_steps(&Component::of_vf(pf, vf), found, changes, result),
        }
    }

    async fn try_admin_steps(
        &self,
        pf: &PfState,
        found: &PfState,
        vf: &VfState,
        changes: &[VfChange],
    ) -> Result<(), StepError> {
        if changes.is_empty() {
            return Ok(());
        }
        let component = Component::of_vf(pf, vf);
        let _in_progress: Vec<_> =
            changes.iter().map(|change| self.in_progress(&component, change)).collect();
        let uplink = found.netdev.as_set().ok_or(StepError::NoUplink)?;
        Ok(self.machine.set_admin(uplink.index, vf.index, changes).await?)
    }

    fn note_admin_steps(
        &self,
        component: &Component,
        found: &PfState,
        changes: &[VfChange],
        result: Result<(), StepError>,
    ) {
        let Err(error) = result else {
            self.ledger().steps += changes.len();
            return;
        };
        for change in changes {
            if is_refused_by_mode(found, change) {
                self.fail_as(component, change, &error, false);
            } else {
                self.fail(component, change, &error);
            }
        }
    }

    pub(super) async fn ofed_step(&self, pf: &PfState, vf: &VfState, step: OfedStep) {
        let component = Component::of_vf(pf, vf);
        let _in_progress = self.in_progress(&component, &step);
        let result = self.machine.set_ofed(&pf.address, vf.index, step).await;
        self.note_step(&component, &step, result.map_err(StepError::from));
    }

    pub(super) async fn bind_step(
        &self,
        saved: &VfState,
        step: &BindStep,
        progress: &mut VfProgress,
    ) -> Result<(), StepError> {
        let address = saved.address.ok_or(StepError::NoAddress)?;
        if matches!(step, BindStep::Unbind(_)) {
            self.check_is_unused(&address.into()).await?;
        }
        self.machine.bind(address, step).await?;
        if matches!(step, BindStep::Bind(_)) {
            (self.on_event)(RestoreEvent::VfBound { component: progress.component.clone() });
        }
        progress.steps += 1;
        self.ledger().steps += 1;
        Ok(())
    }

    /// Carries out steps on a netdev of the device `owner`; returns how many succeeded. It ends where somebody has moved the netdev to another
    /// network namespace, which is no failure: the comparison states it.
    pub(super) async fn netdev_steps(
        &self,
        component: &Component,
        owner: Option<&DeviceAddress>,
        index: IfIndex,
        steps: Vec<NetdevStep>,
    ) -> usize {
        let mut done = 0;
        for step in steps {
            let _in_progress = self.in_progress(component, &step);
            match self.netdev_step(index, &step).await {
                Ok(()) => done += 1,
                Err(error) if error.errno() == Some(Errno::EXIST) && gives_name(&step) => {
                    self.ledger().contested.push(Contested { component: component.clone(), index, step });
                }
                Err(error)
                    if error.errno() == Some(Errno::OPNOTSUPP)
                        && let Some(master) = joined(&step) =>
                {
                    let (component, master) = (component.clone(), master.clone());
                    tracing::info!(%component, %master, "the netdev is left to the daemon of its master, which takes no port otherwise");
                    let port = PortOfDaemon { component, index, master, refused: error };
                    // A PF's is refused at the beginning and again at the end.
                    let ports = &mut self.ledger().ports_of_daemons;
                    ports.retain(|other| other.component != port.component);
                    ports.push(port);
                }
                Err(error) if error.errno() == Some(Errno::NODEV) && self.was_taken(owner).await => {
                    tracing::info!(%component, "the netdev was moved to another network namespace meanwhile; left alone");
                    break;
                }
                Err(error) => self.fail(component, &step, &error),
            }
        }
        self.ledger().steps += done;
        done
    }

    /// Whether the device's netdevs are all in other network namespaces.
    async fn was_taken(&self, owner: Option<&DeviceAddress>) -> bool {
        match owner {
            Some(owner) => self.machine.is_elsewhere(owner).await.unwrap_or(false),
            None => false,
        }
    }

    async fn netdev_step(&self, index: IfIndex, step: &NetdevStep) -> Result<(), StepError> {
        let change = match step {
            NetdevStep::Link(change) => change.clone(),
            NetdevStep::Master(None) => LinkChange::Master(None),
            NetdevStep::Master(Some(name)) => {
                let links = self.machine.links().await?;
                let master = links.by_name(name.as_str()).ok_or_else(|| StepError::NoMaster(name.clone()))?;
                LinkChange::Master(Some(master.index))
            }
        };
        Ok(self.machine.set_link(index, &change).await?)
    }
}

/// The master that the step joins.
fn joined(step: &NetdevStep) -> Option<&LinkName> {
    match step {
        NetdevStep::Master(master) => master.as_ref(),
        NetdevStep::Link(_) => None,
    }
}

/// Whether the step gives a name, which another interface may have.
fn gives_name(step: &NetdevStep) -> bool {
    matches!(step, NetdevStep::Link(LinkChange::Name(_) | LinkChange::AddAltName(_)))
}

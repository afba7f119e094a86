//! The eswitch: VFs that must not see its mode change lose their drivers first, its representors are waited for, and a bond
//! over eswitches is joined.

use std::collections::HashMap;

use nic_netlink::PhysPortName;

use super::executor::Executor;
use super::stages::Left;
use super::step_error::StepError;
use crate::arrivals::{Arrival, ArrivalError};
use crate::machine::{Machine, MachineError};
use crate::plan::{BindStep, PfStep, bond_over_eswitch, plan_bond, plan_eswitch, plan_netdev, plan_unbinds};
use crate::step::Activity;
use crate::sysfs::VfWriteError;
use crate::{Component, DeviceAddress, NetdevState, Operation, PciAddress, PfState, Stage};

impl<M: Machine> Executor<'_, M> {
    /// [`Stage::Eswitch`]: the eswitch as saved, and its representors.
    pub(super) async fn change_eswitch(&self, saved: &PfState, found: &PfState) -> Left {
        let steps = plan_eswitch(saved, found);
        if steps.is_empty() && saved.representors.is_empty() {
            return Left::AsPlanned;
        }
        let stage = self.begin(saved, Stage::Eswitch);
        let left = self.eswitch_steps(saved, found, steps).await;
        if left != Left::Ended {
            self.restore_representors(saved).await;
        }
        self.end(saved, stage);
        left
    }

    async fn eswitch_steps(&self, saved: &PfState, found: &PfState, steps: Vec<PfStep>) -> Left {
        let changes_mode = steps.iter().any(PfStep::changes_mode);
        if changes_mode && self.is_used_below_mode(&saved.address).await {
            return Left::Ended;
        }
        if self.unbind_for_mode(saved, found).await {
            return Left::Ended;
        }
        if steps.is_empty() {
            return Left::AsPlanned;
        }
        for step in steps {
            self.pf_step(&Component::Pf(saved.address.clone()), found, &step).await;
        }
        Left::Changed
    }

    /// Takes the drivers from the VFs that must not see the eswitch's mode change. Whether somebody was found to use one of them, or that
    /// could not be told: then nothing may be changed below it. All are asked before the first loses its driver.
    pub(super) async fn unbind_for_mode(&self, saved: &PfState, found: &PfState) -> bool {
        let bound = plan_unbinds(saved, found);
        let mut is_used = false;
        for (component, address, step) in &bound {
            if let Err(in_use) = self.check_is_unused(&DeviceAddress::from(*address)).await {
                is_used = true;
                self.note_step(component, step, Err(in_use.into()));
            }
        }
        if is_used {
            return true;
        }
        for (component, address, step) in bound {
            let _in_progress = self.in_progress(&component, &step);
            let unbound = self.unbind(address, &step).await;
            is_used |= matches!(unbound, Err(StepError::Vf(VfWriteError::InUse { .. })));
            self.note_step(&component, &step, unbound);
        }
        is_used
    }

    async fn unbind(&self, vf: PciAddress, step: &BindStep) -> Result<(), StepError> {
        self.check_is_unused(&vf.into()).await?;
        match self.machine.bind(vf, step).await {
            // One that somebody else has unbound meanwhile refuses.
            Err(MachineError::Vf(VfWriteError::Write(_))) if self.has_no_driver(vf).await => Ok(()),
            unbound => Ok(unbound?),
        }
    }

    async fn has_no_driver(&self, vf: PciAddress) -> bool {
        matches!(self.machine.driver(vf).await, Ok(None))
    }

    /// [`Stage::Bonds`]: the PF joins, and waits for the others of its bond. One that hangs is not waited for beyond what the change of an eswitch's
    /// mode may take: the bond is then without the NIC's help, and the VFs are there.
    pub(super) async fn join_bond(&self, saved: &PfState, found: &PfState) -> Left {
        let Some(bond) = bond_over_eswitch(saved) else { return Left::AsPlanned };
        let stage = self.begin(saved, Stage::Bonds);
        let component = Component::Pf(saved.address.clone());
        for step in plan_bond(saved, found) {
            self.pf_step(&component, found, &step).await;
        }
        self.bonds.pass(&saved.address);
        let patience = self.patience.of(Operation::EswitchMode { vfs: saved.vfs.len() });
        tokio::select! {
            biased;
            () = self.bonds.await_others(saved) => {}
            () = self.machine.after(patience) => {
                tracing::warn!(%component, %bond, "another PF of the bond has not joined it in time; the VFs are bound, and the NIC may not offload the bond");
            }
        }
        self.end(saved, stage);
        Left::Changed
    }

    async fn restore_representors(&self, saved: &PfState) {
        let ports: Vec<_> = saved.representors.iter().map(|representor| representor.port).collect();
        if ports.is_empty() {
            return;
        }
        let component = Component::Pf(saved.address.clone());
        let _in_progress = self.in_progress(&component, &Activity("wait for the representors"));
        let arrived = match self.machine.await_ports(&saved.address, &ports).await {
            Ok(arrived) => arrived,
            Err(error) => {
                self.fail(&component, &Activity("wait for the representors"), &error.into());
                return;
            }
        };
        let links = match self.machine.links().await {
            Ok(links) => links,
            Err(error) => {
                self.fail(&component, &Activity("read the links"), &error.into());
                return;
            }
        };
        let arrived: HashMap<PhysPortName, Arrival> = arrived.into_iter().collect();
        for representor in &saved.representors {
            let component = Component::Representor { pf: saved.address.clone(), port: representor.port };
            let Some(arrival) = arrived.get(&representor.port) else {
                let after = self.patience.of(Operation::Ports { ports: ports.len() });
                let error = ArrivalError::Deadline { device: saved.address.clone(), after };
                self.fail(&component, &Activity("wait for its netdev"), &error.into());
                continue;
            };
            let found = NetdevState::of(&arrival.link, &links);
            let steps = plan_netdev(&representor.netdev_for(&found), &found);
            self.netdev_steps(&component, Some(&saved.address), found.index, steps).await;
        }
    }
}

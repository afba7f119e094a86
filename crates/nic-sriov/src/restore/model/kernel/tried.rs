//! What a restore tries, in its order: to be compared with its plan.

use nic_netlink::{IfIndex, LinkChange};

use super::{Kernel, Owner};
use crate::plan::{NetdevStep, PfStep, RestoreStep};
use crate::{Component, DeviceAddress, RestoreEvent, Stage};

/// Something that a restore tries, or tells.
#[derive(Debug, Clone)]
pub(in crate::restore::model) enum Tried {
    /// A stage of a PF begins.
    Began(DeviceAddress, Stage),
    /// It has ended.
    Ended(DeviceAddress),
    /// A step.
    Step(Component, RestoreStep),
}

impl Kernel {
    pub(in crate::restore::model) fn note_event(&mut self, event: &RestoreEvent) {
        match event {
            RestoreEvent::StageBegan { pf, stage } => self.tried.push(Tried::Began(pf.clone(), *stage)),
            RestoreEvent::StageEnded { pf, .. } => self.tried.push(Tried::Ended(pf.clone())),
            RestoreEvent::PfStepBegan { .. }
            | RestoreEvent::PfStep { .. }
            | RestoreEvent::VfBound { .. }
            | RestoreEvent::VfArrived { .. }
            | RestoreEvent::VfDone { .. } => {}
        }
    }

    pub(super) fn note_try(&mut self, owner: Owner, step: RestoreStep) {
        let component = match owner {
            Owner::Pf(pf) => Component::Pf(self.state.pfs[pf].address.clone()),
            Owner::Vf(pf, vf) => Component::of_vf(&self.state.pfs[pf], &self.state.pfs[pf].vfs[vf]),
            Owner::Representor(pf, port) => Component::Representor {
                pf: self.state.pfs[pf].address.clone(),
                port: self.state.pfs[pf].representors[port].port,
            },
        };
        self.tried.push(Tried::Step(component, step));
    }

    pub(super) fn note_link_try(&mut self, index: IfIndex, change: &LinkChange) {
        let Some((owner, _)) = self.netdevs().find(|(_, netdev)| netdev.index == index) else { return };
        let step = match change {
            LinkChange::Master(master) => {
                let links = self.links();
                let name = master.and_then(|master| links.get(master)).map(|master| master.name.clone());
                NetdevStep::Master(name)
            }
            change => NetdevStep::Link(change.clone()),
        };
        let step = match owner {
            Owner::Pf(_) => RestoreStep::Pf(PfStep::Netdev(step)),
            Owner::Vf(..) | Owner::Representor(..) => RestoreStep::Netdev(step),
        };
        self.note_try(owner, step);
    }
}

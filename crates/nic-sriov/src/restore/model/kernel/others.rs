//! What happens beside the restore: netdevs come, udev gets round to them, others open VFs and take netdevs away; and what hangs.

use std::collections::BTreeMap;

use nic_netlink::{IfIndex, LinkAddress};

use super::Kernel;
use crate::{DeviceAddress, PciAddress, PfState, VfNetdev};

/// How an attempt hangs.
#[derive(Debug, Clone, Copy)]
pub(in crate::restore::model) enum Hang {
    /// The machine gives it up at its deadline.
    ToItsDeadline,
    /// It never returns.
    ForEver,
}

/// A PF on which nothing returns any more.
#[derive(Debug, Clone, Copy)]
pub(in crate::restore::model) struct HungPf {
    pub(in crate::restore::model) pf: usize,
    /// From this attempt on.
    pub(in crate::restore::model) from: usize,
    pub(in crate::restore::model) hang: Hang,
}

/// What somebody else does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::restore::model) enum Disturbance {
    /// A virtual machine opens a VF, where that has a driver for it.
    Opens(PciAddress),
    /// Somebody opens the PF's own device.
    OpensPf(usize),
    /// A pod takes a VF's netdev into its network namespace.
    Takes(PciAddress),
}

/// Something that can happen now.
#[derive(Debug, Clone, Copy)]
pub(in crate::restore::model) enum Event {
    /// A netdev comes that was late.
    Comes(PciAddress),
    /// udev gets round to a netdev.
    Udev(IfIndex),
    /// udev gets round to a netdev that was renamed.
    Altname(IfIndex),
    /// The disturbance with this number.
    Disturbance(usize),
}

impl Kernel {
    /// All that can happen now.
    pub(in crate::restore::model) fn events(&self) -> Vec<Event> {
        let late = self.late.keys().copied().map(Event::Comes);
        let pending = self.pending.keys().copied().map(Event::Udev);
        let others = self.others.iter().enumerate().filter(|(_, other)| self.can(**other));
        let renamed = self.renamed.iter().copied().map(Event::Altname);
        late.chain(pending).chain(renamed).chain(others.map(|(at, _)| Event::Disturbance(at))).collect()
    }

    fn can(&self, other: Disturbance) -> bool {
        let netdev = |vf| self.place(vf).map(|(pf, vf)| &self.state.pfs[pf].vfs[vf].netdev);
        match other {
            Disturbance::Opens(vf) => matches!(netdev(vf), Some(VfNetdev::OtherDriver)),
            Disturbance::OpensPf(pf) => pf < self.state.pfs.len(),
            Disturbance::Takes(vf) => netdev(vf).is_some_and(|netdev| netdev.here().is_some()),
        }
    }

    pub(in crate::restore::model) fn happen(&mut self, event: Event) {
        match event {
            Event::Comes(vf) => self.arrive(vf),
            Event::Udev(index) => self.udev(index),
            Event::Altname(index) => self.udev_altname(index),
            Event::Disturbance(at) => match self.others.remove(at) {
                Disturbance::Opens(vf) => {
                    self.in_use.insert(vf);
                    self.opened.insert(vf, self.questions);
                }
                Disturbance::OpensPf(pf) => {
                    self.pf_users.insert(pf, self.questions);
                }
                Disturbance::Takes(vf) => {
                    if let Some((pf, at)) = self.place(vf) {
                        let netdev = &mut self.state.pfs[pf].vfs[at].netdev;
                        let taken = std::mem::replace(netdev, VfNetdev::InNamespace);
                        self.taken.extend(taken.here().map(|netdev| (vf, netdev.address.clone())));
                    }
                }
            },
        }
    }

    /// Nobody uses a VF any more: netdevs that were taken come back.
    pub(in crate::restore::model) fn users_leave(&mut self) {
        self.others.clear();
        self.in_use.clear();
        self.pf_users.clear();
        for (vf, address) in std::mem::take(&mut self.taken) {
            if let Some((pf, at)) = self.place(vf)
                && self.state.pfs[pf].vfs[at].is_in_use()
            {
                self.late.insert(vf, address);
                self.arrive(vf);
            }
        }
        self.settle();
    }

    /// How the next attempt hangs, if it does, which is one on this PF.
    pub(in crate::restore::model) fn hang(&mut self, pf: Option<usize>) -> Option<Hang> {
        let next = self.attempts + 1;
        let of_pf = self.faults.hung_pf.filter(|hung| Some(hung.pf) == pf && hung.from <= next);
        let hang = self.faults.hangs.remove(&next).or(of_pf.map(|hung| hung.hang))?;
        self.attempts += 1;
        Some(hang)
    }

    /// The PF as it is; an error where the observation is one that fails.
    pub(in crate::restore::model) fn observe(&mut self, pf: &DeviceAddress) -> Result<Option<PfState>, ()> {
        self.observations += 1;
        if self.faults.observations.remove(&self.observations) {
            return Err(());
        }
        let Some(at) = self.pf_at(pf) else { return Ok(None) };
        self.questions += 1;
        self.observed.insert(at, self.questions);
        Ok(Some(self.state.pfs[at].clone()))
    }

    pub(in crate::restore::model) fn pf_at(&self, pf: &DeviceAddress) -> Option<usize> {
        self.state.pfs.iter().position(|now| now.address == *pf)
    }

    /// Whether somebody uses the VF through VFIO, or has the PF's own device open.
    pub(in crate::restore::model) fn is_open(&mut self, device: &DeviceAddress) -> bool {
        self.questions += 1;
        if let Some(pf) = self.pf_at(device) {
            let open = self.pf_users.contains_key(&pf);
            if !open {
                self.looked_at_pf.insert(pf, self.questions);
            }
            return open;
        }
        let vfs = self.state.pfs.iter().flat_map(|pf| &pf.vfs).filter_map(|vf| vf.address);
        let Some(vf) = vfs.into_iter().find(|vf| DeviceAddress::from(*vf) == *device) else { return false };
        let open = self.in_use.contains(&vf);
        if open {
            self.looked.remove(&vf);
        } else {
            self.looked.insert(vf, self.questions);
        }
        open
    }

    /// Whether the device's netdev is in another network namespace.
    pub(in crate::restore::model) fn is_in_namespace(&mut self, device: &DeviceAddress) -> bool {
        self.questions += 1;
        let vfs = self.state.pfs.iter().flat_map(|pf| &pf.vfs);
        let mut vfs = vfs.filter_map(|vf| Some((vf.address?, &vf.netdev)));
        let Some((vf, netdev)) = vfs.find(|(vf, _)| DeviceAddress::from(*vf) == *device) else {
            return false;
        };
        let away = matches!(netdev, VfNetdev::InNamespace);
        if away {
            self.looked_away.remove(&vf);
        } else {
            self.looked_away.insert(vf, self.questions);
        }
        away
    }

    /// Of each VF of the PF that somebody uses it must have been told otherwise since the PF was observed: whoever came after that came too
    /// late to be seen.
    pub(super) fn expect_unused(&mut self, pf: usize, what: &str) {
        let observed = self.observed.get(&pf).copied();
        for (vf, netdev) in self.state.pfs[pf].vfs.iter().filter_map(|vf| Some((vf.address?, &vf.netdev))) {
            let unseen = |looked: &BTreeMap<PciAddress, usize>| looked.get(&vf).copied() < observed;
            let open = self.in_use.contains(&vf) && unseen(&self.looked);
            if open || (matches!(netdev, VfNetdev::InNamespace) && unseen(&self.looked_away)) {
                self.violations.push(format!("the VFs of PF {pf} {what} while {vf} is in use"));
            }
        }
    }

    /// Of the PF itself it must have been told that nobody uses it since it was observed, unless its user came after that.
    pub(super) fn expect_pf_unused(&mut self, pf: usize) {
        let looked = self.looked_at_pf.get(&pf).copied();
        if self.pf_users.contains_key(&pf) && looked < self.observed.get(&pf).copied() {
            self.violations.push(format!("the eswitch of PF {pf} changes its mode while the PF is in use"));
        }
    }

    /// For its eswitch's mode, none of a PF's VFs loses its driver while somebody uses one who had come before the PF was observed: all are
    /// asked before the first.
    pub(super) fn expect_unused_for_mode(&mut self, pf: usize, what: &str) {
        let mode = self.state.pfs[pf].eswitch_mode();
        if self.wanted_modes.get(&pf).copied() == mode || !self.wanted_modes.contains_key(&pf) {
            return;
        }
        let observed = self.observed.get(&pf).copied().unwrap_or_default();
        let vfs = self.state.pfs[pf].vfs.iter().filter_map(|vf| vf.address);
        let used = vfs
            .filter(|vf| self.in_use.contains(vf))
            .find(|vf| self.opened.get(vf).is_some_and(|at| *at < observed));
        if let Some(used) = used {
            self.violations.push(format!("{what} for the eswitch's mode, while {used} is in use"));
        }
    }

    fn arrive(&mut self, vf: PciAddress) {
        let Some(address): Option<LinkAddress> = self.late.remove(&vf) else { return };
        if let Some((pf, at)) = self.place(vf) {
            let name = super::vf_name(pf, self.state.pfs[pf].vfs[at].index);
            let netdev = self.register(name, address);
            self.state.pfs[pf].vfs[at].netdev = VfNetdev::Here(netdev);
        }
    }

    /// All that is under way comes to its end.
    pub(in crate::restore::model) fn settle(&mut self) {
        for vf in self.late.keys().copied().collect::<Vec<_>>() {
            self.arrive(vf);
        }
        for index in self.pending.keys().copied().collect::<Vec<_>>() {
            self.udev(index);
        }
        for index in std::mem::take(&mut self.renamed) {
            self.udev_altname(index);
        }
    }
}

//! The netdevs of the machine: how they come, what udev calls them, and what can be set on them.

use nic_netlink::{
    IfIndex, Link, LinkAddress, LinkChange, LinkLayer, LinkName, Links, PhysPortName, Setting,
};
use rustix::io::Errno;

use super::{Attempt, Machine, Owner};
use crate::plan::NetdevStep;
use crate::{NetdevState, PciAddress, VfNetdev};

impl Machine {
    pub(super) fn netdevs(&self) -> impl Iterator<Item = (Owner, &NetdevState)> {
        self.state.pfs.iter().enumerate().flat_map(|(pf, state)| {
            let own = state.netdev.iter().map(move |netdev| (Owner::Pf(pf), netdev));
            let vfs = state.vfs.iter().enumerate();
            let vfs = vfs.filter_map(move |(vf, state)| Some((Owner::Vf(pf, vf), state.netdev.here()?)));
            let ports = state.representors.iter().enumerate();
            let ports = ports.map(move |(port, state)| (Owner::Representor(pf, port), &state.netdev));
            own.chain(vfs).chain(ports)
        })
    }

    pub(super) fn netdev_mut(&mut self, index: IfIndex) -> Option<(Owner, &mut NetdevState)> {
        let (owner, _) = self.netdevs().find(|(_, netdev)| netdev.index == index)?;
        let netdev = match owner {
            Owner::Pf(pf) => self.state.pfs[pf].netdev.as_mut()?,
            Owner::Vf(pf, vf) => match &mut self.state.pfs[pf].vfs[vf].netdev {
                VfNetdev::Here(netdev) => netdev,
                _ => return None,
            },
            Owner::Representor(pf, port) => &mut self.state.pfs[pf].representors[port].netdev,
        };
        Some((owner, netdev))
    }

    /// Every interface with its name, its alternative names, and whether it is up.
    pub(in crate::restore::model) fn names(&self) -> Vec<(IfIndex, LinkName, Vec<String>, bool)> {
        let ours = self
            .netdevs()
            .map(|(_, netdev)| (netdev.index, netdev.name.clone(), netdev.altnames.clone(), netdev.up));
        let strangers = self.strangers.iter().map(|(index, name)| (*index, name.clone(), Vec::new(), true));
        ours.chain(strangers).collect()
    }

    /// Names and alternative names are one name space.
    pub(super) fn is_taken(&self, name: &str) -> bool {
        self.names().iter().any(|(_, own, others, _)| own == name || others.iter().any(|other| other == name))
    }

    /// A new netdev has the kernel's first free name, until udev gives it another.
    pub(super) fn register(&mut self, udev_name: LinkName, address: LinkAddress) -> NetdevState {
        let free = (0..)
            .map(|number| format!("eth{number}"))
            .find(|name| !self.is_taken(name) && !self.late.values().any(|netdev| netdev.name == **name));
        let index = self.index();
        if self.rules.udev {
            self.pending.insert(index, udev_name);
        }
        netdev(index, free.unwrap().parse().unwrap(), address)
    }

    /// udev gets round to this link. A name that is taken it does not give.
    pub(super) fn udev(&mut self, index: IfIndex) {
        let Some(name) = self.pending.remove(&index) else { return };
        if !self.is_taken(name.as_str())
            && let Some((_, netdev)) = self.netdev_mut(index)
        {
            netdev.name = name;
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
    }

    pub(super) fn arrive(&mut self, address: PciAddress) {
        let Some(netdev) = self.late.remove(&address) else { return };
        if let Some((pf, vf)) = self.place(address) {
            self.state.pfs[pf].vfs[vf].netdev = VfNetdev::Here(netdev);
        }
    }

    pub(super) fn place(&self, address: PciAddress) -> Option<(usize, usize)> {
        let places = self.state.pfs.iter().enumerate();
        places
            .flat_map(|(pf, state)| (0..state.vfs.len()).map(move |vf| (pf, vf)))
            .find(|(pf, vf)| self.state.pfs[*pf].vfs[*vf].address == Some(address))
    }

    /// Waits for a VF's netdev and for udev; `None` when the deadline passes.
    pub(in crate::restore::model) fn await_netdev(&mut self, address: PciAddress) -> Option<NetdevState> {
        self.arrive(address);
        let (pf, vf) = self.place(address)?;
        let index = self.state.pfs[pf].vfs[vf].netdev.here()?.index;
        self.udev(index);
        self.state.pfs[pf].vfs[vf].netdev.here().cloned()
    }

    /// Waits for an eswitch port's netdev and for udev.
    pub(in crate::restore::model) fn await_port(
        &mut self,
        pf: usize,
        port: PhysPortName,
    ) -> Option<NetdevState> {
        let find = |machine: &Self| {
            let mut ports = machine.state.pfs[pf].representors.iter();
            ports.find(|representor| representor.port == port).map(|representor| representor.netdev.clone())
        };
        self.udev(find(self)?.index);
        find(self)
    }

    pub(in crate::restore::model) fn netdev_step(&mut self, index: IfIndex, step: &NetdevStep) -> Attempt {
        let what = format!("interface {index}: {step}");
        let vf = match self.netdevs().find(|(_, netdev)| netdev.index == index) {
            Some((Owner::Vf(pf, vf), _)) => self.state.pfs[pf].vfs[vf].address,
            _ => None,
        };
        if let Err(errno) = self.gate(vf, &what)? {
            return Ok(Err(errno));
        }
        let result = match step {
            NetdevStep::Master(Some(name)) if !self.is_taken(name.as_str()) => Err(Errno::NODEV),
            NetdevStep::Master(master) => {
                self.netdev_mut(index).ok_or(Errno::NODEV).and_then(|(_, netdev)| {
                    if netdev.up && master.is_some() {
                        return Err(Errno::BUSY);
                    }
                    netdev.master.clone_from(master);
                    Ok(())
                })
            }
            NetdevStep::Link(change) => self.set_link(index, change),
        };
        self.done(what, result)
    }

    fn set_link(&mut self, index: IfIndex, change: &LinkChange) -> Result<(), Errno> {
        let rules = self.rules;
        let given = match change {
            LinkChange::Name(name) => self.is_taken(name.as_str()),
            LinkChange::AddAltName(name) => self.is_taken(name),
            _ => false,
        };
        let locked = |machine: &Self, owner| match owner {
            Owner::Vf(pf, vf) => machine.state.pfs[pf].vfs[vf].admin.as_ref().is_some_and(|admin| {
                matches!(admin.mac, Setting::Set(_)) && admin.trust != Setting::Set(true)
            }),
            Owner::Pf(_) | Owner::Representor(..) => false,
        };
        let owner = self.netdev_mut(index).ok_or(Errno::NODEV)?.0;
        let locked = rules.own_mac_locked && locked(self, owner);
        let limit = match owner {
            Owner::Vf(pf, _) => self.state.pfs[pf].netdev.as_ref().map(|netdev| netdev.mtu),
            Owner::Pf(_) | Owner::Representor(..) => None,
        };
        let (_, netdev) = self.netdev_mut(index).ok_or(Errno::NODEV)?;
        match change {
            LinkChange::Name(name) if *name == netdev.name => {}
            LinkChange::Name(_) if netdev.up && !rules.renames_while_up => return Err(Errno::BUSY),
            LinkChange::Name(_) | LinkChange::AddAltName(_) if given => return Err(Errno::EXIST),
            LinkChange::Name(name) => {
                netdev.name.clone_from(name);
                self.pending.remove(&index);
            }
            LinkChange::AddAltName(name) => {
                netdev.altnames.push(name.clone());
                netdev.altnames.sort_unstable();
            }
            LinkChange::RemoveAltName(name) => {
                let before = netdev.altnames.len();
                netdev.altnames.retain(|other| other != name);
                if netdev.altnames.len() == before {
                    return Err(Errno::INVAL);
                }
            }
            LinkChange::Address(_) if netdev.up && !rules.addresses_while_up => return Err(Errno::BUSY),
            LinkChange::Address(_) if locked => return Err(Errno::ADDRNOTAVAIL),
            LinkChange::Address(_) if netdev.link_layer != LinkLayer::Ethernet => {
                return Err(Errno::OPNOTSUPP);
            }
            LinkChange::Address(address) => netdev.address.clone_from(address),
            LinkChange::Mtu(mtu) if limit.is_some_and(|limit| *mtu > limit) => return Err(Errno::INVAL),
            LinkChange::Mtu(mtu) => netdev.mtu = *mtu,
            LinkChange::Up(up) => netdev.up = *up,
            LinkChange::TxQueueLength(length) => netdev.tx_queue_length = *length,
            LinkChange::Alias(alias) => netdev.alias = Some(alias.clone()).filter(|alias| !alias.is_empty()),
            LinkChange::Group(group) => netdev.group = *group,
            LinkChange::Promiscuous(on) => netdev.promiscuous = *on,
            LinkChange::AllMulticast(on) => netdev.all_multicast = *on,
            LinkChange::Master(_) | LinkChange::NamespaceOfPid(_) => {
                self.violations.push(format!("{change} is not planned"));
            }
        }
        Ok(())
    }
}

/// A netdev as it is when it has just been registered.
pub(super) fn netdev(index: IfIndex, name: LinkName, address: LinkAddress) -> NetdevState {
    let link = Link { address, mtu: 1500, tx_queue_length: 1000, ..Link::new(index, name) };
    NetdevState::of(&link, &Links::default())
}

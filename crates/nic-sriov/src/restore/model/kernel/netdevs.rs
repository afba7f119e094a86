//! The netdevs of the kernel: how they come, what udev calls them, and what can be set on them.

use nic_netlink::{
    IfIndex, Ipoib, IpoibMode, Link, LinkAddress, LinkChange, LinkLayer, LinkName, Links, PhysPortName,
    Setting,
};
use rustix::io::Errno;

use super::{Attempt, Kernel, Owner, pf_name, representor_name, vf_name};
use crate::{DeviceAddress, NetdevState, PciAddress, VfNetdev};

/// The MTU of the fabric, less 4 bytes.
pub(in crate::restore::model) const DATAGRAM_MTU: u32 = 2044;
const CONNECTED_MTU: u32 = 65520;

impl Kernel {
    pub(super) fn netdevs(&self) -> impl Iterator<Item = (Owner, &NetdevState)> {
        self.state.pfs.iter().enumerate().flat_map(|(pf, state)| {
            let own = state.netdev.as_set().into_iter().map(move |netdev| (Owner::Pf(pf), netdev));
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
            Owner::Pf(pf) => self.state.pfs[pf].netdev.as_set_mut()?,
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
        let free = (0..).map(|number| format!("eth{number}")).find(|name| !self.is_taken(name));
        let index = self.index();
        let name: LinkName = free.unwrap().parse().unwrap();
        if self.rules.udev {
            self.pending.insert(index, udev_name);
        }
        self.first_names.insert(index, name.clone());
        netdev(index, name, address, self.rules.ipoib)
    }

    /// The name that udev gives.
    fn udev_name(&self, owner: Owner) -> LinkName {
        match owner {
            Owner::Pf(pf) => pf_name(pf),
            Owner::Vf(pf, vf) => vf_name(pf, self.state.pfs[pf].vfs[vf].index),
            Owner::Representor(pf, port) => representor_name(pf, u32::try_from(port).unwrap()),
        }
    }

    /// udev gets round to this link, which was renamed.
    pub(super) fn udev_altname(&mut self, index: IfIndex) {
        self.renamed.remove(&index);
        let Some((owner, _)) = self.netdevs().find(|(_, netdev)| netdev.index == index) else { return };
        let name = self.udev_name(owner);
        if !self.is_taken(name.as_str())
            && let Some((_, netdev)) = self.netdev_mut(index)
        {
            netdev.altnames.push(name.to_string());
            netdev.altnames.sort_unstable();
        }
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

    pub(in crate::restore::model) fn place(&self, address: PciAddress) -> Option<(usize, usize)> {
        let places = self.state.pfs.iter().enumerate();
        places
            .flat_map(|(pf, state)| (0..state.vfs.len()).map(move |vf| (pf, vf)))
            .find(|(pf, vf)| self.state.pfs[*pf].vfs[*vf].address == Some(address))
    }

    /// The netdev of a PF or a VF, and whether udev is done with it.
    pub(in crate::restore::model) fn netdev_of(&self, device: &DeviceAddress) -> Option<(IfIndex, bool)> {
        let is_of = |owner| match owner {
            Owner::Pf(_) | Owner::Vf(..) => self.device(owner).as_ref() == Some(device),
            Owner::Representor(..) => false,
        };
        let (_, netdev) = self.netdevs().find(|(owner, _)| is_of(*owner))?;
        Some((netdev.index, !self.pending.contains_key(&netdev.index)))
    }

    /// The netdev of a port of a PF's eswitch, and whether udev is done with it.
    pub(in crate::restore::model) fn netdev_of_port(
        &self,
        pf: &DeviceAddress,
        port: PhysPortName,
    ) -> Option<(IfIndex, bool)> {
        let mut ports = self.state.pf(pf).here()?.representors.iter();
        let index = ports.find(|representor| representor.port == port)?.netdev.index;
        Some((index, !self.pending.contains_key(&index)))
    }

    /// The name that a netdev came under, where it has another now.
    pub(in crate::restore::model) fn first_name(&self, link: &Link) -> Option<String> {
        let name = self.first_names.get(&link.index)?;
        (*name != link.name).then(|| name.to_string())
    }

    fn device(&self, owner: Owner) -> Option<DeviceAddress> {
        match owner {
            Owner::Pf(pf) | Owner::Representor(pf, _) => Some(self.state.pfs[pf].address.clone()),
            Owner::Vf(pf, vf) => self.state.pfs[pf].vfs[vf].address.map(DeviceAddress::from),
        }
    }

    /// All links, as a dump has them.
    pub(in crate::restore::model) fn links(&self) -> Links {
        let names = self.names();
        let index_of =
            |name: &LinkName| names.iter().find(|(_, other, ..)| other == name).map(|(index, ..)| *index);
        let ours = self.netdevs().map(|(owner, netdev)| Link {
            altnames: netdev.altnames.clone(),
            link_layer: netdev.link_layer,
            address: netdev.address.clone(),
            mtu: netdev.mtu,
            up: netdev.up,
            running: netdev.up,
            tx_queue_length: netdev.tx_queue_length,
            alias: netdev.alias.clone(),
            group: netdev.group,
            promiscuous: netdev.promiscuous,
            all_multicast: netdev.all_multicast,
            own_address: netdev.address_as_port.is_some().then(|| netdev.address.clone()),
            master: netdev.master.as_ref().and_then(index_of),
            ipoib: netdev.ipoib_mode.as_set().map(|mode| Ipoib {
                mode: *mode,
                user_multicast: netdev.user_multicast.as_set().is_some_and(|wanted| *wanted),
            }),
            parent_device: self.device(owner).map(|device| device.name().to_owned()),
            ..Link::new(netdev.index, netdev.name.clone())
        });
        let strangers = self.strangers.iter().map(|(index, name)| Link::new(*index, name.clone()));
        Links::new(ours.chain(strangers))
    }

    pub(in crate::restore::model) fn link_step(&mut self, index: IfIndex, change: &LinkChange) -> Attempt {
        let what = format!("interface {index}: {change}");
        self.note_link_try(index, change);
        let vf = match self.netdevs().find(|(_, netdev)| netdev.index == index) {
            Some((Owner::Vf(pf, vf), _)) => self.state.pfs[pf].vfs[vf].address,
            _ => None,
        };
        self.gate(vf, &what)?;
        let result = self.set_link(index, change);
        self.done(what, result)
    }

    /// The PF whose own netdev this is.
    pub(in crate::restore::model) fn pf_of_uplink(&self, index: IfIndex) -> Option<usize> {
        self.netdevs().find_map(|(owner, netdev)| match owner {
            Owner::Pf(pf) if netdev.index == index => Some(pf),
            _ => None,
        })
    }

    /// The PF that a netdev is of, or is of a VF or a port of.
    pub(in crate::restore::model) fn pf_of_link(&self, index: IfIndex) -> Option<usize> {
        let (owner, _) = self.netdevs().find(|(_, netdev)| netdev.index == index)?;
        match owner {
            Owner::Pf(pf) | Owner::Vf(pf, _) | Owner::Representor(pf, _) => Some(pf),
        }
    }

    /// All links are read. The daemon may have got round to its ports by then.
    pub(in crate::restore::model) fn read_links(&mut self) -> Links {
        self.dumps += 1;
        let daemon = self.daemon.clone().unwrap_or_default();
        if daemon.takes_after.is_some_and(|after| self.dumps >= after) {
            for (index, master) in daemon.ports {
                if let Some((_, netdev)) = self.netdev_mut(index) {
                    netdev.master = Some(master);
                }
            }
        }
        self.links()
    }

    fn set_link(&mut self, index: IfIndex, change: &LinkChange) -> Result<(), Errno> {
        let rules = self.rules;
        let master = match change {
            LinkChange::Master(Some(master)) => self.links().get(*master).map(|link| link.name.clone()),
            _ => None,
        };
        // net/core/rtnetlink.c, `do_set_master`
        if let (Some(daemon), Some(master)) = (&mut self.daemon, &master) {
            daemon.ports.insert(index, master.clone());
            return Err(Errno::OPNOTSUPP);
        }
        let given = match change {
            LinkChange::Name(name) => self.is_taken(name.as_str()),
            LinkChange::AddAltName(name) => self.is_taken(name),
            _ => false,
        };
        let locked = |kernel: &Self, owner| match owner {
            Owner::Vf(pf, vf) => kernel.state.pfs[pf].vfs[vf].admin.as_set().is_some_and(|admin| {
                matches!(admin.mac, Setting::Set(_)) && !matches!(admin.trust, Setting::Set(true))
            }),
            Owner::Pf(_) | Owner::Representor(..) => false,
        };
        let owner = self.netdev_mut(index).ok_or(Errno::NODEV)?.0;
        let locked = rules.own_mac_locked && locked(self, owner);
        let limit = match owner {
            Owner::Vf(pf, _) => self.state.pfs[pf].netdev.as_set().map(|netdev| netdev.mtu),
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
                if rules.udev && rules.udev_altnames {
                    self.renamed.insert(index);
                }
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
            LinkChange::Mtu(mtu)
                if *mtu > DATAGRAM_MTU && matches!(netdev.ipoib_mode, Setting::Set(IpoibMode::Datagram)) =>
            {
                return Err(Errno::INVAL);
            }
            LinkChange::Mtu(mtu) => netdev.mtu = *mtu,
            LinkChange::IpoibMode(mode) => {
                let now = netdev.ipoib_mode.as_set_mut().ok_or(Errno::OPNOTSUPP)?;
                if std::mem::replace(now, *mode) != *mode {
                    netdev.mtu = match mode {
                        IpoibMode::Datagram => netdev.mtu.min(DATAGRAM_MTU),
                        IpoibMode::Connected => CONNECTED_MTU,
                    };
                }
            }
            LinkChange::UserMulticast(wanted) => {
                *netdev.user_multicast.as_set_mut().ok_or(Errno::OPNOTSUPP)? = *wanted;
            }
            LinkChange::Up(up) => netdev.up = *up,
            LinkChange::TxQueueLength(length) => netdev.tx_queue_length = *length,
            LinkChange::Alias(alias) => netdev.alias = Some(alias.clone()).filter(|alias| !alias.is_empty()),
            LinkChange::Group(group) => netdev.group = *group,
            LinkChange::Promiscuous(on) => netdev.promiscuous = *on,
            LinkChange::AllMulticast(on) => netdev.all_multicast = *on,
            LinkChange::Master(Some(_)) if netdev.up => return Err(Errno::BUSY),
            LinkChange::Master(Some(_)) => {
                netdev.master = Some(master.ok_or(Errno::NODEV)?);
                netdev.address_as_port = Some(netdev.address.clone());
            }
            LinkChange::Master(None) => (netdev.master, netdev.address_as_port) = (None, None),
            LinkChange::NamespaceOfPid(_) => self.violations.push(format!("{change} is not planned")),
        }
        Ok(())
    }
}

/// A netdev as it is when it has just been registered.
pub(super) fn netdev(index: IfIndex, name: LinkName, address: LinkAddress, ipoib: bool) -> NetdevState {
    let mtu = if ipoib { DATAGRAM_MTU } else { 1500 };
    let ipoib = ipoib.then_some(Ipoib { mode: IpoibMode::Datagram, user_multicast: false });
    let link = Link { address, mtu, tx_queue_length: 1000, ipoib, ..Link::new(index, name) };
    NetdevState::of(&link, &Links::default())
}

use nic_netlink::{
    Eswitch, EswitchMode, IfIndex, IpoibMode, Link, LinkAddress, LinkLayer, LinkName, Links, PhysPortName,
    PhysSwitchId, Setting, Unread, VfAttributes,
};
use serde::{Deserialize, Serialize};

use crate::{DeviceAddress, OfedAttributes, PciAddress, PciId};

/// What there is to know of a machine's NICs: one entry for each PF, sorted by address.
///
/// A snapshot holds one; so does every observation made during a restore, and comparing the two is how a restore
/// is planned and verified. What could not be read of it is in it as such ([`Setting::NotKnown`]), so that two states have no `==`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NicState {
    /// The physical functions.
    pub pfs: Vec<PfState>,
    /// Those that are there, and of which nothing is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unread: Vec<UnreadPf>,
}

/// A physical function of which nothing is known.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UnreadPf {
    /// Where it is.
    pub address: DeviceAddress,
    /// Why.
    pub not_known: Unread,
}

/// What a look at a physical function has brought.
#[derive(Debug, Clone, Copy)]
pub enum PfSeen<'a> {
    /// What it is.
    Here(&'a PfState),
    /// It is there, and could not be read.
    Unread(&'a Unread),
    /// It is not there.
    Gone,
}

impl<'a> PfSeen<'a> {
    /// What it is, where that is known.
    #[must_use]
    pub fn here(self) -> Option<&'a PfState> {
        match self {
            Self::Here(pf) => Some(pf),
            Self::Unread(_) | Self::Gone => None,
        }
    }
}

impl NicState {
    /// The PF at `address`.
    #[must_use]
    pub fn pf(&self, address: &DeviceAddress) -> PfSeen<'_> {
        if let Some(pf) = self.pfs.iter().find(|pf| pf.address == *address) {
            return PfSeen::Here(pf);
        }
        match self.unread.iter().find(|unread| unread.address == *address) {
            Some(unread) => PfSeen::Unread(&unread.not_known),
            None => PfSeen::Gone,
        }
    }

    /// A state in which nothing is known of these PFs.
    #[must_use]
    pub fn unread(pfs: &[DeviceAddress], why: &Unread) -> Self {
        let unread = pfs.iter().map(|pf| UnreadPf { address: pf.clone(), not_known: why.clone() });
        Self { pfs: Vec::new(), unread: unread.collect() }
    }

    /// How many VFs the PF has that has most of them.
    #[must_use]
    pub fn most_vfs(&self) -> usize {
        self.pfs.iter().map(|pf| pf.vfs.len()).max().unwrap_or_default()
    }

    /// How many VFs all PFs have together.
    #[must_use]
    pub fn vf_count(&self) -> usize {
        self.pfs.iter().map(|pf| pf.vfs.len()).sum()
    }
}

/// A physical function and all that hangs on it.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PfState {
    /// Where it is.
    pub address: DeviceAddress,
    /// What card it is; `None` on other buses than PCI. Another card in the slot is another PF.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pci_id: Option<PciId>,
    /// The driver bound to it.
    pub driver: Option<String>,
    /// `sriov_totalvfs`; `None` where the device or its driver has no SR-IOV.
    pub total_vfs: Option<u32>,
    /// `sriov_numvfs`; 0 without SR-IOV.
    pub num_vfs: u32,
    /// `sriov_drivers_autoprobe`; `None` on kernels older than 4.12 and on buses that have none.
    pub drivers_autoprobe: Option<bool>,
    /// The eswitch, where the driver has one that devlink shows.
    pub eswitch: Setting<Eswitch>,
    /// The uplink's netdev (outside switchdev: the PF's only one).
    pub netdev: Setting<NetdevState>,
    /// The names of its RDMA devices, sorted. Who uses RDMA goes by them.
    pub rdma: Setting<Vec<String>>,
    /// Its virtual functions, by index.
    pub vfs: Vec<VfState>,
    /// The representors of VFs and SFs that its eswitch has in switchdev mode, sorted by port.
    pub representors: Vec<RepresentorState>,
}

impl PfState {
    /// The VF with this index.
    #[must_use]
    pub fn vf(&self, index: u32) -> Option<&VfState> {
        self.vfs.get(self.place_of_vf(index)?)
    }

    pub(crate) fn vf_mut(&mut self, index: u32) -> Option<&mut VfState> {
        let place = self.place_of_vf(index)?;
        self.vfs.get_mut(place)
    }

    /// VFs are numbered from 0 without a gap, and stand in their order: each is in the place that its index says.
    fn place_of_vf(&self, index: u32) -> Option<usize> {
        let place = usize::try_from(index).ok()?;
        if self.vfs.get(place).is_some_and(|vf| vf.index == index) {
            return Some(place);
        }
        self.vfs.iter().position(|vf| vf.index == index)
    }

    /// The interface indexes of its own netdev, of its VFs' netdevs that are here, and of its representors.
    #[must_use]
    pub fn ifindexes(&self) -> Vec<IfIndex> {
        let vfs = self.vfs.iter().filter_map(|vf| vf.netdev.here());
        let representors = self.representors.iter().map(|representor| &representor.netdev);
        self.netdev.as_set().into_iter().chain(vfs).chain(representors).map(|netdev| netdev.index).collect()
    }

    /// The mode of its eswitch, where it has one.
    #[must_use]
    pub fn eswitch_mode(&self) -> Option<EswitchMode> {
        self.eswitch.as_set().map(|eswitch| eswitch.mode)
    }
}

/// A virtual function: what the PF was told about it, and what it is on its own side.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VfState {
    /// Its index: the N of `virtfnN` and of `ip link set … vf N`.
    pub index: u32,
    /// Where it is; `None` on a bus whose VFs are no devices of their own.
    pub address: Option<PciAddress>,
    /// The driver bound to it.
    pub driver: Option<String>,
    /// `driver_override`, where one is set.
    pub driver_override: Option<String>,
    /// What the PF holds for it; not there where its driver describes no VFs, and not known where the PF has no netdev to ask.
    pub admin: Setting<VfAttributes>,
    /// What MLNX_OFED's driver keeps beyond that, where it runs.
    #[serde(default, skip_serializing_if = "OfedAttributes::is_not_there")]
    pub ofed: OfedAttributes,
    /// The names of its RDMA devices, sorted.
    pub rdma: Setting<Vec<String>>,
    /// Its own netdev.
    pub netdev: VfNetdev,
}

impl VfState {
    /// Whether somebody uses the VF's netdev in another network namespace: then it is left alone, with all that its PF holds
    /// for it, which whoever gave it away has set.
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        matches!(self.netdev, VfNetdev::InNamespace)
    }
}

/// A VF's own netdev, or why there is none to be seen.
#[derive(Debug, Clone, Serialize, schemars::JsonSchema)]
#[serde(tag = "presence", rename_all = "snake_case")]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every VF has its netdev here, so that a box would save nothing"
)]
pub enum VfNetdev {
    /// It is here.
    Here(NetdevState),
    /// The VF has no driver.
    Unbound,
    /// The VF's driver makes no netdevs: it is given to user space, or to a virtual machine.
    OtherDriver,
    /// It is in another network namespace: somebody uses it.
    InNamespace,
    /// The VF has a network driver and yet no netdev: it has not been registered yet. In a snapshot that an earlier version of this
    /// program took, perhaps also: it is in another network namespace.
    #[serde(rename = "away")]
    NotVisible,
}

impl VfNetdev {
    /// The netdev, when it is here.
    #[must_use]
    pub fn here(&self) -> Option<&NetdevState> {
        match self {
            Self::Here(netdev) => Some(netdev),
            Self::Unbound | Self::OtherDriver | Self::InNamespace | Self::NotVisible => None,
        }
    }

    /// Whether there is a netdev, or has to be one soon, and not here.
    #[must_use]
    pub fn is_elsewhere(&self) -> bool {
        matches!(self, Self::InNamespace | Self::NotVisible)
    }
}

/// A VF's or SF's representor in switchdev mode.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RepresentorState {
    /// Which port of the eswitch it stands for.
    pub port: PhysPortName,
    /// The eswitch. The PFs of a NIC with one shared eswitch have the same.
    pub switch_id: Option<PhysSwitchId>,
    /// Whether the kernel made its netdev's address up (`NET_ADDR_RANDOM` in include/uapi/linux/netdevice.h). Such an
    /// address is another after every registration, nobody has set it, and it is not given back.
    #[serde(default)]
    pub address_is_random: bool,
    /// Its netdev.
    pub netdev: NetdevState,
}

impl RepresentorState {
    /// What the netdev `found` in its place should be: as saved, with its own address where the saved one was random.
    #[must_use]
    pub fn netdev_for(&self, found: &NetdevState) -> NetdevState {
        let mut wanted = self.netdev.clone();
        if self.address_is_random {
            wanted.address.clone_from(&found.address);
        }
        wanted
    }
}

/// The properties of a netdev that an administrator can set.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NetdevState {
    /// The ifindex it had when it was looked at. It changes with every registration and is never restored.
    pub index: IfIndex,
    /// Name.
    pub name: LinkName,
    /// Alternative names, sorted.
    pub altnames: Vec<String>,
    /// Ethernet, InfiniBand or another.
    pub link_layer: LinkLayer,
    /// Hardware address; of a bond's port, the one that it had before it joined and has again when it leaves.
    pub address: LinkAddress,
    /// Of a bond's port, the address that it has as such: the bond's, mostly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address_as_port: Option<LinkAddress>,
    /// MTU in bytes.
    pub mtu: u32,
    /// Whether it is administratively up.
    pub up: bool,
    /// Length of the transmit queue, in packets.
    pub tx_queue_length: u32,
    /// Description (`ifalias`).
    pub alias: Option<String>,
    /// Group (`ip link set … group`).
    pub group: u32,
    /// Whether promiscuous mode was asked for.
    pub promiscuous: bool,
    /// Whether all multicast was asked for.
    pub all_multicast: bool,
    /// The name of the bond, bridge, VRF or team it belongs to. Bridges get new indexes, names stay.
    pub master: Option<LinkName>,
    /// How it sends; not there but on IP over InfiniBand. The MTU goes with it.
    #[serde(default = "not_there::<IpoibMode>", skip_serializing_if = "is_not_there")]
    pub ipoib_mode: Setting<IpoibMode>,
    /// Whether user space may join its multicast groups; not there but on IP over InfiniBand.
    #[serde(default = "not_there::<bool>", skip_serializing_if = "is_not_there")]
    pub user_multicast: Setting<bool>,
}

/// What a snapshot of an earlier version says of what it had no field for.
fn not_there<T>() -> Setting<T> {
    Setting::NotThere
}

fn is_not_there<T>(setting: &Setting<T>) -> bool {
    matches!(setting, Setting::NotThere)
}

impl NetdevState {
    /// What `link` says, with its master's name from `links`.
    #[must_use]
    pub fn of(link: &Link, links: &Links) -> Self {
        let mut altnames = link.altnames.clone();
        altnames.sort_unstable();
        Self {
            index: link.index,
            name: link.name.clone(),
            altnames,
            link_layer: link.link_layer,
            address: link.own_address.as_ref().unwrap_or(&link.address).clone(),
            address_as_port: link.own_address.is_some().then(|| link.address.clone()),
            mtu: link.mtu,
            up: link.up,
            tx_queue_length: link.tx_queue_length,
            alias: link.alias.clone(),
            group: link.group,
            promiscuous: link.promiscuous,
            all_multicast: link.all_multicast,
            master: link.master.and_then(|master| links.get(master)).map(|master| master.name.clone()),
            ipoib_mode: link.ipoib.map_or(Setting::NotThere, |ipoib| Setting::Set(ipoib.mode)),
            user_multicast: link.ipoib.map_or(Setting::NotThere, |ipoib| Setting::Set(ipoib.user_multicast)),
        }
    }

    /// Whether the address is the same, as far as it can be. That of an InfiniBand port begins with flags and the number
    /// of a queue pair, which is another after every probe, and the subnet's prefix (ipoib_main.c, `ipoib_dev_init_default`);
    /// what stays is the port GUID at its end.
    #[must_use]
    pub fn has_address_of(&self, other: &Self) -> bool {
        match (self.link_layer, other.link_layer) {
            (LinkLayer::InfiniBand, LinkLayer::InfiniBand) => {
                self.address.as_port_guid() == other.address.as_port_guid()
            }
            _ => self.address == other.address,
        }
    }
}

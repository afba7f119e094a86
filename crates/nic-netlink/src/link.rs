use serde::{Deserialize, Serialize};

use crate::{IfIndex, Ipoib, LinkAddress, LinkName, PhysPortName, PhysSwitchId};

/// A network interface as the kernel describes it, at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Its index, the only identity to act on.
    pub index: IfIndex,
    /// Its name at that moment; udev may be renaming it.
    pub name: LinkName,
    /// Its alternative names (`IFLA_ALT_IFNAME`), up to 127 bytes each.
    pub altnames: Vec<String>,
    /// The kind of a virtual interface (`IFLA_INFO_KIND`): `bond`, `bridge`, `vlan`… A NIC's own has none, except
    /// IP over InfiniBand (`ipoib`).
    pub kind: Option<String>,
    /// The link layer, by the kernel's type number and never by the name.
    pub link_layer: LinkLayer,
    /// The hardware address.
    pub address: LinkAddress,
    /// The address the hardware came with (kernel 5.6 and later).
    pub permanent_address: Option<LinkAddress>,
    /// Of a bond's port, the address that it had before it joined, and has again when it leaves
    /// (`IFLA_BOND_SLAVE_PERM_HWADDR`): until then `address` is the bond's, unless its `fail_over_mac` says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_address: Option<LinkAddress>,
    /// The largest payload, in bytes.
    pub mtu: u32,
    /// The smallest MTU the driver accepts; `None` where it sets no bound.
    pub min_mtu: Option<u32>,
    /// The largest MTU the driver accepts; `None` where it sets no bound.
    pub max_mtu: Option<u32>,
    /// Whether it was set up by an administrator (`IFF_UP`).
    pub up: bool,
    /// Whether it can pass traffic (`IFF_RUNNING`).
    pub running: bool,
    /// Its operational state (RFC 2863).
    pub oper_state: OperState,
    /// The transmit queue's length, in packets.
    pub tx_queue_length: u32,
    /// The free text of `ip link set … alias`.
    pub alias: Option<String>,
    /// Its group number; 0 is the default group.
    pub group: u32,
    /// Whether an administrator asked for promiscuous mode (`IFF_PROMISC`). That a bridge or a capture asks for it
    /// as well does not show here (`dev_get_flags` in `net/core/dev.c`).
    pub promiscuous: bool,
    /// Whether an administrator asked for all multicast frames (`IFF_ALLMULTI`).
    pub all_multicast: bool,
    /// The bond, bridge or VRF it belongs to.
    pub master: Option<IfIndex>,
    /// The device it sits on, on its bus: `0000:01:00.0` (kernel 5.14 and later).
    pub parent_device: Option<String>,
    /// That device's bus: `pci`, `auxiliary`, `netdevsim` (kernel 5.14 and later).
    pub parent_bus: Option<String>,
    /// Its port's name within the NIC, as reported: `p0`, `pf0vf3`. See [`PhysPortName`].
    pub phys_port_name: Option<String>,
    /// The eswitch it is a port of; only in switchdev mode.
    pub phys_switch_id: Option<PhysSwitchId>,
    /// The interface below it (`IFLA_LINK`), such as a VLAN's; in the namespace `link_netns_id` where that is set.
    pub link: Option<IfIndex>,
    /// The identifier of the network namespace in which `link` is to be looked up.
    pub link_netns_id: Option<i32>,
    /// What IP over InfiniBand has alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipoib: Option<Ipoib>,
}

impl Link {
    /// A link of which nothing but its index and its name is known: down, without an MTU and on no device.
    #[must_use]
    pub fn new(index: IfIndex, name: LinkName) -> Self {
        Self {
            index,
            name,
            altnames: Vec::new(),
            kind: None,
            link_layer: LinkLayer::Ethernet,
            address: LinkAddress::default(),
            permanent_address: None,
            own_address: None,
            mtu: 0,
            min_mtu: None,
            max_mtu: None,
            up: false,
            running: false,
            oper_state: OperState::Unknown,
            tx_queue_length: 0,
            alias: None,
            group: 0,
            promiscuous: false,
            all_multicast: false,
            master: None,
            parent_device: None,
            parent_bus: None,
            phys_port_name: None,
            phys_switch_id: None,
            link: None,
            link_netns_id: None,
            ipoib: None,
        }
    }

    /// The PCI address of the device it sits on, as text, where that is a PCI device.
    #[must_use]
    pub fn pci_address(&self) -> Option<&str> {
        match self.parent_bus.as_deref() {
            Some("pci") => self.parent_device.as_deref(),
            _ => None,
        }
    }

    /// Its port's name within the NIC, understood; `None` where it has none or one of another form.
    #[must_use]
    pub fn port(&self) -> Option<PhysPortName> {
        self.phys_port_name.as_deref()?.parse().ok()
    }
}

/// The link layer (`ARPHRD_*` in `include/uapi/linux/if_arp.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LinkLayer {
    /// `ARPHRD_ETHER` (1).
    Ethernet,
    /// `ARPHRD_INFINIBAND` (32): IP over InfiniBand.
    #[serde(rename = "infiniband")]
    InfiniBand,
    /// Another type number: loopback (772), tunnels…
    Other(u16),
}

impl From<u16> for LinkLayer {
    fn from(arphrd: u16) -> Self {
        match arphrd {
            1 => Self::Ethernet,
            32 => Self::InfiniBand,
            other => Self::Other(other),
        }
    }
}

/// The operational state (`IF_OPER_*` in `include/uapi/linux/if.h`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperState {
    /// The driver does not say.
    #[default]
    Unknown,
    /// The hardware is missing.
    NotPresent,
    /// No carrier.
    Down,
    /// The interface below is down.
    LowerLayerDown,
    /// In a test mode.
    Testing,
    /// Waiting, for example for authentication.
    Dormant,
    /// Can pass traffic.
    Up,
}

impl From<u8> for OperState {
    fn from(state: u8) -> Self {
        match state {
            1 => Self::NotPresent,
            2 => Self::Down,
            3 => Self::LowerLayerDown,
            4 => Self::Testing,
            5 => Self::Dormant,
            6 => Self::Up,
            _ => Self::Unknown,
        }
    }
}

//! Links that stand on others: children (VLAN, macvlan…), which go with the link below them, and the ports of masters
//! (bond, bridge, VRF, team).

use std::fmt;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use serde::{Deserialize, Serialize};

use super::raw::RawAttribute;
use super::standing::{Standing, standing};
use super::vxlan;
use crate::attributes::{Attributes, MalformedError};
use crate::body::Body;
use crate::change::RTM_NEWLINK;
use crate::connection::RawMessage;
use crate::decode::{
    self, IFLA_ADDRESS, IFLA_IFNAME, IFLA_INFO_DATA, IFLA_INFO_KIND, IFLA_INFO_SLAVE_DATA,
    IFLA_INFO_SLAVE_KIND, IFLA_LINK, IFLA_LINKINFO, IFLA_MTU,
};
use crate::ipoib::{IFLA_IPOIB_MODE, IFLA_IPOIB_PKEY, IFLA_IPOIB_UMCAST};
use crate::{IfIndex, IpoibMode, Link, LinkAddress, LinkName, MacAddress, VlanProtocol};

/// A link, with what it stands on and what it is to its master.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StackedLink {
    /// The link, without its VFs.
    pub link: Link,
    /// What becomes of it when the one below it goes.
    pub standing: Standing,
    /// What makes it on the link below it; `None` for what stands on none, or is of a kind without a type here.
    pub child: Option<ChildKind>,
    /// What its master keeps about it, where it has one.
    pub port: Option<Port>,
}

/// A kind of link that the kernel removes together with the one below it, and what makes it anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum ChildKind {
    /// A VLAN.
    Vlan {
        /// Its number.
        id: u16,
        /// The protocol of its tag.
        protocol: VlanProtocol,
        /// `VLAN_FLAG_*` of `include/uapi/linux/if_vlan.h`: 1 reorder header, 2 GVRP, 4 loose binding, 8 MVRP,
        /// 0x10 bridge binding.
        flags: u32,
        /// From the tag's priority to the packet's.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        ingress_qos: Vec<QosMapping>,
        /// From the packet's priority to the tag's.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        egress_qos: Vec<QosMapping>,
    },
    /// A macvlan, or a macvtap.
    Macvlan {
        /// Whether it is a macvtap.
        tap: bool,
        /// `MACVLAN_MODE_*` of `include/uapi/linux/if_link.h`: 1 private, 2 VEPA, 4 bridge, 8 passthru, 16 source.
        mode: u32,
        /// `MACVLAN_FLAG_*`.
        flags: u16,
        /// From which addresses, in mode source.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        sources: Vec<MacAddress>,
        /// How many broadcast frames may wait, where the kernel says it (5.11 and later).
        broadcast_queue: Option<u32>,
    },
    /// An ipvlan, or an ipvtap.
    Ipvlan {
        /// Whether it is an ipvtap.
        tap: bool,
        /// 0 layer 2, 1 layer 3, 2 layer 3 with source filters.
        mode: u16,
        /// `IPVLAN_F_*`: 1 private, 2 VEPA.
        flags: u16,
    },
    /// A partition of an InfiniBand port.
    Ipoib {
        /// The partition's key.
        pkey: u16,
        /// 0 datagram, 1 connected.
        mode: u16,
        /// Whether user space may join its multicast groups.
        user_multicast: u16,
    },
    /// A VXLAN that sends through one interface.
    Vxlan {
        /// `IFLA_VXLAN_*` of `include/uapi/linux/if_link.h`, as the kernel said them, without the link below it.
        attributes: Vec<RawAttribute>,
    },
}

/// One entry of a VLAN's priority maps.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(deny_unknown_fields)]
pub struct QosMapping {
    /// From this priority.
    pub from: u32,
    /// To this one.
    pub to: u32,
}

/// What a master keeps about one of its ports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// The master's kind: `bond`, `bridge`, `vrf`, `team`…
    pub master_kind: String,
    /// What can be set, sorted by number: `IFLA_BRPORT_*` for a bridge, `IFLA_BOND_SLAVE_*` for a bond.
    pub settings: Vec<RawAttribute>,
}

/// A child to be made. It comes into being down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewChild {
    /// The child's name, such as `bond0.7`.
    pub name: LinkName,
    /// What it is.
    pub kind: ChildKind,
    /// The link below it.
    pub lower: IfIndex,
    /// Its address; `None` for the one that the kernel gives it.
    pub address: Option<LinkAddress>,
    /// The largest payload in bytes; `None` for that of the link below.
    pub mtu: Option<u32>,
}

impl ChildKind {
    /// The kernel's word for the kind.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Vlan { .. } => "vlan",
            Self::Macvlan { tap: false, .. } => "macvlan",
            Self::Macvlan { tap: true, .. } => "macvtap",
            Self::Ipvlan { tap: false, .. } => "ipvlan",
            Self::Ipvlan { tap: true, .. } => "ipvtap",
            Self::Ipoib { .. } => "ipoib",
            Self::Vxlan { .. } => "vxlan",
        }
    }

    /// Whether it has an address of its own that can be chosen.
    #[must_use]
    pub fn has_own_address(&self) -> bool {
        matches!(self, Self::Vlan { .. } | Self::Macvlan { .. } | Self::Vxlan { .. })
    }
}

/// In the words of `ip link add`.
impl fmt::Display for ChildKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            Self::Vlan { id, protocol, .. } => write!(f, " protocol {protocol} id {id}"),
            Self::Macvlan { mode, .. } => write!(f, " mode {mode}"),
            Self::Ipvlan { mode, .. } => write!(f, " mode {mode}"),
            Self::Ipoib { pkey, mode, user_multicast } => {
                write!(f, " pkey {pkey:#06x} mode {} umcast {user_multicast}", IpoibMode::from(*mode))
            }
            Self::Vxlan { attributes } => write!(f, " id {}", vxlan::id(attributes)),
        }
    }
}

impl Port {
    /// The settings of this one that `found` has otherwise, or lacks.
    #[must_use]
    pub fn settings_not_in(&self, found: &Self) -> Vec<RawAttribute> {
        let other = |setting: &&RawAttribute| !found.settings.contains(setting);
        self.settings.iter().filter(other).cloned().collect()
    }
}

const IFLA_VLAN_ID: u16 = 1;
const IFLA_VLAN_FLAGS: u16 = 2;
/// `VLAN_FLAG_*` of `include/uapi/linux/if_vlan.h`, all of them.
const VLAN_FLAGS: u32 = 0x1f;
const IFLA_VLAN_EGRESS_QOS: u16 = 3;
const IFLA_VLAN_INGRESS_QOS: u16 = 4;
const IFLA_VLAN_PROTOCOL: u16 = 5;
const IFLA_VLAN_QOS_MAPPING: u16 = 1;
const IFLA_MACVLAN_MODE: u16 = 1;
const IFLA_MACVLAN_FLAGS: u16 = 2;
const IFLA_MACVLAN_MACADDR_MODE: u16 = 3;
const IFLA_MACVLAN_MACADDR: u16 = 4;
const IFLA_MACVLAN_MACADDR_DATA: u16 = 5;
const IFLA_MACVLAN_BC_QUEUE_LEN: u16 = 7;
const MACVLAN_MACADDR_SET: u32 = 3;
const IFLA_IPVLAN_MODE: u16 = 1;
const IFLA_IPVLAN_FLAGS: u16 = 2;

/// The attributes of ports that the kernel takes back as it said them (`br_port_policy` in `net/bridge/br_netlink.c`,
/// `bond_slave_policy` in `drivers/net/bonding/bond_netlink.c`); the others are state, statistics or other links.
fn settable(master_kind: &str) -> &'static [u16] {
    match master_kind {
        // Priority, cost, hairpin, guard, protect, fast leave, learning, floods, proxy ARP, multicast router,
        // group forwarding, neighbour suppression, isolation, locks, group limit.
        "bridge" => &[2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 25, 27, 28, 29, 30, 31, 32, 33, 39, 40, 42, 43],
        // Queue and priorities.
        "bond" => &[5, 9, 10],
        _ => &[],
    }
}

pub(super) fn decode(body: &[u8]) -> Result<Option<StackedLink>, MalformedError> {
    let Some(link) = decode::link(body)? else { return Ok(None) };
    let (_, attributes) = decode::LinkHeader::split(body)?;
    let info = attributes.find(IFLA_LINKINFO)?.map(|info| info.nested());
    let data = info.map(|info| info.find(IFLA_INFO_DATA)).transpose()?.flatten().map(|data| data.nested());
    let standing = standing(&link, data)?;
    let mut stacked = StackedLink { link, standing, child: None, port: None };
    let Some(info) = info else { return Ok(Some(stacked)) };
    if let (Some(kind), Some(data), Standing::GoesWith(_)) = (&stacked.link.kind, data, &stacked.standing) {
        stacked.child = child(kind, data)?;
    }
    if let Some(kind) = info.find(IFLA_INFO_SLAVE_KIND)? {
        let master_kind = kind.text();
        let settable = settable(&master_kind);
        let mut settings = Vec::new();
        if let Some(data) = info.find(IFLA_INFO_SLAVE_DATA)? {
            for attribute in data.nested() {
                let attribute = attribute?;
                if settable.contains(&attribute.kind) {
                    settings.push(RawAttribute::of(&attribute));
                }
            }
        }
        settings.sort();
        stacked.port = Some(Port { master_kind, settings });
    }
    Ok(Some(stacked))
}

fn child(kind: &str, data: Attributes<'_>) -> Result<Option<ChildKind>, MalformedError> {
    let u16_or = |number, default| match data.find(number)? {
        Some(attribute) => attribute.u16(),
        None => Ok(default),
    };
    Ok(Some(match kind {
        "vlan" => {
            let protocol = match data.find(IFLA_VLAN_PROTOCOL)? {
                Some(protocol) if u16::from_be_bytes(protocol.number(0)?) == 0x88a8 => {
                    VlanProtocol::Ieee8021Ad
                }
                _ => VlanProtocol::Ieee8021Q,
            };
            let flags = data.find(IFLA_VLAN_FLAGS)?.map_or(Ok(0), |flags| flags.u32_at(0))?;
            ChildKind::Vlan {
                id: u16_or(IFLA_VLAN_ID, 0)?,
                protocol,
                flags,
                ingress_qos: qos(data, IFLA_VLAN_INGRESS_QOS)?,
                egress_qos: qos(data, IFLA_VLAN_EGRESS_QOS)?,
            }
        }
        "macvlan" | "macvtap" => {
            let mut sources = Vec::new();
            if let Some(list) = data.find(IFLA_MACVLAN_MACADDR_DATA)? {
                for source in list.nested() {
                    sources.push(MacAddress(source?.number(0)?));
                }
            }
            let number = |kind| data.find(kind)?.map(|attribute| attribute.u32()).transpose();
            ChildKind::Macvlan {
                tap: kind == "macvtap",
                mode: number(IFLA_MACVLAN_MODE)?.unwrap_or_default(),
                flags: u16_or(IFLA_MACVLAN_FLAGS, 0)?,
                sources,
                broadcast_queue: number(IFLA_MACVLAN_BC_QUEUE_LEN)?,
            }
        }
        "ipvlan" | "ipvtap" => ChildKind::Ipvlan {
            tap: kind == "ipvtap",
            mode: u16_or(IFLA_IPVLAN_MODE, 0)?,
            flags: u16_or(IFLA_IPVLAN_FLAGS, 0)?,
        },
        "ipoib" => ChildKind::Ipoib {
            pkey: u16_or(IFLA_IPOIB_PKEY, 0)?,
            mode: u16_or(IFLA_IPOIB_MODE, 0)?,
            user_multicast: u16_or(IFLA_IPOIB_UMCAST, 0)?,
        },
        "vxlan" => match vxlan::decode(data)? {
            Some(attributes) => ChildKind::Vxlan { attributes },
            None => return Ok(None),
        },
        _ => return Ok(None),
    }))
}

fn qos(data: Attributes<'_>, number: u16) -> Result<Vec<QosMapping>, MalformedError> {
    let Some(list) = data.find(number)? else { return Ok(Vec::new()) };
    let mut mappings = Vec::new();
    for mapping in list.nested() {
        let mapping = mapping?;
        mappings.push(QosMapping { from: mapping.u32_at(0)?, to: mapping.u32_at(4)? });
    }
    mappings.sort_unstable();
    Ok(mappings)
}

/// `struct ifinfomsg` for the link with this index, or for a new one, with no flag to be changed.
fn header(index: Option<IfIndex>) -> Body {
    let index = index.map_or(0, |index| index.0).to_ne_bytes();
    Body::new(&[[0; 4], index, [0; 4], [0; 4]].concat())
}

pub(super) fn new_child(child: &NewChild) -> (RawMessage, u16) {
    let mut body = header(None);
    body.text(IFLA_IFNAME, child.name.as_str());
    if !matches!(child.kind, ChildKind::Vxlan { .. }) {
        body.u32(IFLA_LINK, child.lower.0);
    }
    if let Some(address) = &child.address {
        body.bytes(IFLA_ADDRESS, &address.0);
    }
    if let Some(mtu) = child.mtu {
        body.u32(IFLA_MTU, mtu);
    }
    body.nested(IFLA_LINKINFO, |info| {
        info.text(IFLA_INFO_KIND, child.kind.name());
        info.nested(IFLA_INFO_DATA, |data| encode_kind(data, &child.kind, child.lower));
    });
    (RawMessage { kind: RTM_NEWLINK, body: body.finish() }, NLM_F_CREATE | NLM_F_EXCL)
}

fn encode_kind(data: &mut Body, kind: &ChildKind, lower: IfIndex) {
    match kind {
        ChildKind::Vlan { id, protocol, flags, ingress_qos, egress_qos } => {
            let protocol: u16 = match protocol {
                VlanProtocol::Ieee8021Q => 0x8100,
                VlanProtocol::Ieee8021Ad => 0x88a8,
            };
            data.u16(IFLA_VLAN_ID, *id).bytes(IFLA_VLAN_PROTOCOL, &protocol.to_be_bytes());
            // Flags and the mask of those that are meant: all there are, since reordering is on by default. Others in
            // the mask are refused (`vlan_dev_change_flags` in `net/8021q/vlan_dev.c`).
            data.bytes(IFLA_VLAN_FLAGS, &[flags.to_ne_bytes(), VLAN_FLAGS.to_ne_bytes()].concat());
            for (number, mappings) in
                [(IFLA_VLAN_EGRESS_QOS, egress_qos), (IFLA_VLAN_INGRESS_QOS, ingress_qos)]
            {
                if mappings.is_empty() {
                    continue;
                }
                data.nested(number, |list| {
                    for QosMapping { from, to } in mappings {
                        list.bytes(IFLA_VLAN_QOS_MAPPING, &[from.to_ne_bytes(), to.to_ne_bytes()].concat());
                    }
                });
            }
        }
        ChildKind::Macvlan { mode, flags, sources, broadcast_queue, .. } => {
            data.u32(IFLA_MACVLAN_MODE, *mode).u16(IFLA_MACVLAN_FLAGS, *flags);
            if !sources.is_empty() {
                data.u32(IFLA_MACVLAN_MACADDR_MODE, MACVLAN_MACADDR_SET);
                data.nested(IFLA_MACVLAN_MACADDR_DATA, |list| {
                    for source in sources {
                        list.bytes(IFLA_MACVLAN_MACADDR, &source.0);
                    }
                });
            }
            if let Some(length) = broadcast_queue {
                data.u32(IFLA_MACVLAN_BC_QUEUE_LEN, *length);
            }
        }
        ChildKind::Ipvlan { mode, flags, .. } => {
            data.u16(IFLA_IPVLAN_MODE, *mode).u16(IFLA_IPVLAN_FLAGS, *flags);
        }
        ChildKind::Ipoib { pkey, mode, user_multicast } => {
            data.u16(IFLA_IPOIB_PKEY, *pkey).u16(IFLA_IPOIB_MODE, *mode);
            data.u16(IFLA_IPOIB_UMCAST, *user_multicast);
        }
        ChildKind::Vxlan { attributes } => {
            data.raw(&vxlan::made_with(attributes)).u32(vxlan::IFLA_VXLAN_LINK, lower.0);
        }
    }
}

/// One setting of a port: a refusal is then of exactly that one.
pub(super) fn port_setting(index: IfIndex, master_kind: &str, setting: &RawAttribute) -> RawMessage {
    let mut body = header(Some(index));
    body.nested(IFLA_LINKINFO, |info| {
        info.text(IFLA_INFO_SLAVE_KIND, master_kind);
        info.nested(IFLA_INFO_SLAVE_DATA, |data| {
            data.raw(std::slice::from_ref(setting));
        });
    });
    RawMessage { kind: RTM_NEWLINK, body: body.finish() }
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::{Emitable as _, Parseable as _};
    use netlink_packet_route::link::{
        BondPortState, InfoBondPort, InfoBridgePort, InfoData, InfoIpVlan, InfoIpoib, InfoKind, InfoMacVlan,
        InfoPortData, InfoPortKind, InfoVlan, IpVlanFlags, IpVlanMode, IpoibMode, LinkAttribute, LinkInfo,
        LinkMessage, MacVlanFlags, MacVlanMacAddressMode, MacVlanMode, VlanFlags, VlanQosMapping,
    };

    use super::*;

    fn body(info: Vec<LinkInfo>) -> Vec<u8> {
        let mut message = LinkMessage::default();
        message.header.index = 9;
        message.attributes = vec![
            LinkAttribute::IfName("eth0.5".to_owned()),
            LinkAttribute::Link(3),
            LinkAttribute::LinkInfo(info),
        ];
        let mut body = vec![0; message.buffer_len()];
        message.emit(&mut body);
        body
    }

    fn examples() -> Vec<(InfoKind, InfoData, ChildKind, &'static str)> {
        let wire_protocol = netlink_packet_route::link::VlanProtocol::Ieee8021Ad;
        let source = [2, 0, 0, 0, 0, 1];
        vec![
            (
                InfoKind::Vlan,
                InfoData::Vlan(vec![
                    InfoVlan::Id(5),
                    InfoVlan::Protocol(wire_protocol),
                    InfoVlan::Flags((VlanFlags::ReorderHdr, VlanFlags::from_bits_retain(0x1f))),
                    InfoVlan::EgressQos(vec![VlanQosMapping::Mapping(1, 3), VlanQosMapping::Mapping(2, 7)]),
                ]),
                ChildKind::Vlan {
                    id: 5,
                    protocol: VlanProtocol::Ieee8021Ad,
                    flags: 1,
                    ingress_qos: Vec::new(),
                    egress_qos: vec![QosMapping { from: 1, to: 3 }, QosMapping { from: 2, to: 7 }],
                },
                "vlan protocol 802.1ad id 5",
            ),
            (
                InfoKind::MacVlan,
                InfoData::MacVlan(vec![
                    InfoMacVlan::Mode(MacVlanMode::Source),
                    InfoMacVlan::Flags(MacVlanFlags::NoDst),
                    InfoMacVlan::MacAddrMode(MacVlanMacAddressMode::Set),
                    InfoMacVlan::MacAddrData(vec![InfoMacVlan::MacAddr(source)]),
                    InfoMacVlan::BcQueueLen(1000),
                ]),
                ChildKind::Macvlan {
                    tap: false,
                    mode: 16,
                    flags: 2,
                    sources: vec![MacAddress(source)],
                    broadcast_queue: Some(1000),
                },
                "macvlan mode 16",
            ),
            (
                InfoKind::IpVlan,
                InfoData::IpVlan(vec![
                    InfoIpVlan::Mode(IpVlanMode::L3S),
                    InfoIpVlan::Flags(IpVlanFlags::from_bits_retain(1)),
                ]),
                ChildKind::Ipvlan { tap: false, mode: 2, flags: 1 },
                "ipvlan mode 2",
            ),
            (
                InfoKind::Ipoib,
                InfoData::Ipoib(vec![
                    InfoIpoib::Pkey(0x8001),
                    InfoIpoib::Mode(IpoibMode::Connected),
                    InfoIpoib::UmCast(0),
                ]),
                ChildKind::Ipoib { pkey: 0x8001, mode: 1, user_multicast: 0 },
                "ipoib pkey 0x8001 mode connected umcast 0",
            ),
        ]
    }

    #[test]
    fn children_are_read_and_made_again() {
        for (kind, data, expected, words) in examples() {
            let read = decode(&body(vec![LinkInfo::Kind(kind.clone()), LinkInfo::Data(data.clone())]))
                .unwrap()
                .unwrap();
            assert_eq!(read.child, Some(expected.clone()), "{words}");
            assert_eq!((read.link.link, read.port), (Some(IfIndex(3)), None));
            assert_eq!(expected.to_string(), words);

            let (message, flags) = new_child(&NewChild {
                name: "child0".parse().unwrap(),
                kind: expected,
                lower: IfIndex(4),
                address: Some("02:00:00:00:00:02".parse().unwrap()),
                mtu: Some(1400),
            });
            assert_eq!(flags, NLM_F_CREATE | NLM_F_EXCL);
            let written = LinkMessage::parse(&message.body[..]).unwrap();
            for attribute in [
                LinkAttribute::IfName("child0".to_owned()),
                LinkAttribute::Link(4),
                LinkAttribute::Mtu(1400),
                LinkAttribute::Address(vec![2, 0, 0, 0, 0, 2]),
                LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind), LinkInfo::Data(data)]),
            ] {
                assert!(written.attributes.contains(&attribute), "{attribute:?} in {written:?}");
            }
        }
    }

    #[test]
    fn fault_6_1_a_vxlan_is_read_and_made_again() {
        let vxlan = |link, inherit: &[u8]| {
            let mut data = Body::new(&[]);
            data.u32(1, 7).u32(3, link).u16(15, 4789_u16.to_be()).bytes(28, inherit).bytes(23, &[]);
            data.finish()
        };
        let read = |link, inherit: &[u8]| {
            let mut message = LinkMessage::default();
            message.header.index = 9;
            let data = InfoData::Other(vxlan(link, inherit));
            message.attributes = vec![
                LinkAttribute::IfName("vx0".to_owned()),
                LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Vxlan), LinkInfo::Data(data)]),
            ];
            let mut body = vec![0; message.buffer_len()];
            message.emit(&mut body);
            decode(&body).unwrap().unwrap()
        };
        let found = read(3, &[1]);
        assert_eq!(found.link.link, None, "the kernel names the link below in the kind's data alone");
        assert_eq!(found.standing, Standing::GoesWith(vec![IfIndex(3)]));
        let kind = found.child.unwrap();
        assert_eq!(kind.to_string(), "vxlan id 7");
        assert!(kind.has_own_address());
        assert_eq!(read(0, &[1]).child, None, "one that sends by any interface stays");

        for (inherit, flag) in [(&[1][..], true), (&[0], false)] {
            let (message, _) = new_child(&NewChild {
                name: "vx0".parse().unwrap(),
                kind: read(3, inherit).child.unwrap(),
                lower: IfIndex(4),
                address: None,
                mtu: None,
            });
            let attributes = Attributes::new(&message.body[16..]);
            assert!(attributes.find(IFLA_LINK).unwrap().is_none());
            let info = attributes.find(IFLA_LINKINFO).unwrap().unwrap().nested();
            let data = info.find(IFLA_INFO_DATA).unwrap().unwrap().nested();
            let numbers: Vec<(u16, usize)> =
                data.map(|one| one.map(|one| (one.kind, one.value.len())).unwrap()).collect();
            let inherits = flag.then_some((28, 0));
            let expected = [Some((1, 4)), Some((15, 2)), inherits, Some((23, 0)), Some((3, 4))];
            assert_eq!(numbers, expected.into_iter().flatten().collect::<Vec<_>>(), "{inherit:?}");
            assert_eq!(data.find(3).unwrap().unwrap().u32(), Ok(4));
        }
    }

    #[test]
    fn of_a_port_only_what_can_be_set_is_kept() {
        let bridge = body(vec![
            LinkInfo::PortKind(InfoPortKind::Bridge),
            LinkInfo::PortData(InfoPortData::BridgePort(vec![
                InfoBridgePort::PortNumber(1),
                InfoBridgePort::Isolated(true),
                InfoBridgePort::Priority(32),
            ])),
        ]);
        let port = decode(&bridge).unwrap().unwrap().port.unwrap();
        let numbers: Vec<u16> = port.settings.iter().map(|setting| setting.number).collect();
        assert_eq!((port.master_kind.as_str(), numbers.as_slice()), ("bridge", &[2, 33][..]));
        let other = Port { settings: port.settings[..1].to_vec(), ..port.clone() };
        let missing = port.settings_not_in(&other);
        assert_eq!(missing, port.settings[1..]);

        let message = port_setting(IfIndex(9), "bridge", &missing[0]);
        let written = LinkMessage::parse(&message.body[..]).unwrap();
        let expected = LinkInfo::PortData(InfoPortData::BridgePort(vec![InfoBridgePort::Isolated(true)]));
        let expected = LinkAttribute::LinkInfo(vec![LinkInfo::PortKind(InfoPortKind::Bridge), expected]);
        assert_eq!((written.header.index, written.attributes), (9, vec![expected]));

        let bond = body(vec![
            LinkInfo::PortKind(InfoPortKind::Bond),
            LinkInfo::PortData(InfoPortData::BondPort(vec![
                InfoBondPort::BondPortState(BondPortState::Active),
                InfoBondPort::QueueId(3),
            ])),
        ]);
        let port = decode(&bond).unwrap().unwrap().port.unwrap();
        assert_eq!((port.master_kind.as_str(), port.settings.len()), ("bond", 1));
    }

    #[test]
    fn fault_6_3_of_a_bonds_port_its_own_address_is_known() {
        let own = vec![2, 0, 0, 0, 0, 7];
        let port = |kind, own: &[u8]| {
            let address = InfoBondPort::PermHwaddr(own.to_vec());
            body(vec![LinkInfo::PortKind(kind), LinkInfo::PortData(InfoPortData::BondPort(vec![address]))])
        };
        let bond = decode(&port(InfoPortKind::Bond, &own)).unwrap().unwrap();
        assert_eq!(bond.link.own_address, Some(LinkAddress(own.clone())));
        assert!(bond.port.unwrap().settings.is_empty(), "it cannot be set");
        // Another master's attribute of that number is something else.
        assert_eq!(decode(&port(InfoPortKind::Vrf, &own)).unwrap().unwrap().link.own_address, None);
    }

    #[test]
    fn a_kind_without_a_type_is_no_child() {
        let data = InfoData::Other(vec![1, 2, 3, 4]);
        let body = body(vec![LinkInfo::Kind(InfoKind::Other("newkind".to_owned())), LinkInfo::Data(data)]);
        let read = decode(&body).unwrap().unwrap();
        assert_eq!((read.link.kind.as_deref(), read.child), (Some("newkind"), None));
    }
}

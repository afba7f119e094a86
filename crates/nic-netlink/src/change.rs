//! Changes to links and VFs as data, and the messages that ask the kernel for them.

use std::fmt;

use netlink_packet_core::{DefaultNla, Emitable as _, NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::link::{
    LinkAttribute, LinkMessage, LinkVfInfo, Prop, VfInfo, VfInfoGuid, VfInfoLinkState, VfInfoMac, VfInfoRate,
    VfInfoRssQueryEn, VfInfoSpoofCheck, VfInfoTrust, VfInfoVlan, VfVlan, VfVlanInfo,
};
use nic_host::Foreign;
use rtnetlink::LinkUnspec;
use serde::{Deserialize, Serialize};

use crate::body::Body;
use crate::connection::RawMessage;
use crate::decode::{IFLA_INFO_DATA, IFLA_INFO_KIND, IFLA_LINKINFO};
use crate::ipoib::{self, IFLA_IPOIB_MODE, IFLA_IPOIB_UMCAST};
use crate::{
    Guid, IfIndex, IpoibMode, LinkAddress, LinkName, MacAddress, VfLinkState, VlanProtocol, VlanTag,
};

/// One change to one link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkChange {
    /// Rename it. Kernels before 6.2 refuse it (EBUSY) while the link is up (`dev_change_name` in
    /// `net/core/dev.c`), and every kernel refuses a name that another link has (EEXIST).
    Name(LinkName),
    /// Set the MTU, in bytes.
    Mtu(u32),
    /// Set how IP over InfiniBand sends, which changes the MTU, too. EINVAL where the port's driver has no connected mode.
    IpoibMode(IpoibMode),
    /// Let user space join the multicast groups of an IP over InfiniBand interface, or no longer.
    UserMulticast(bool),
    /// Set it up or down.
    Up(bool),
    /// Set its address. Some drivers refuse it (EBUSY) while the link is up.
    Address(LinkAddress),
    /// Set the transmit queue's length, in packets.
    TxQueueLength(u32),
    /// Set the free text; an empty one takes it away.
    Alias(String),
    /// Set the group's number.
    Group(u32),
    /// Ask for promiscuous mode, or no longer.
    Promiscuous(bool),
    /// Ask for all multicast frames, or no longer.
    AllMulticast(bool),
    /// Make it a port of a bond, bridge or VRF, or take it out of the one it is in.
    Master(Option<IfIndex>),
    /// Give it one more name, of 1 to 127 bytes.
    AddAltName(String),
    /// Take such a name away.
    RemoveAltName(String),
    /// Move it into the network namespace of the process with this id.
    NamespaceOfPid(u32),
}

impl fmt::Display for LinkChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let on = |on: bool| if on { "on" } else { "off" };
        match self {
            Self::Name(name) => write!(f, "name {name}"),
            Self::Mtu(mtu) => write!(f, "mtu {mtu}"),
            Self::IpoibMode(mode) => write!(f, "type ipoib mode {mode}"),
            Self::UserMulticast(wanted) => write!(f, "type ipoib umcast {}", u8::from(*wanted)),
            Self::Up(up) => f.write_str(if *up { "up" } else { "down" }),
            Self::Address(address) => write!(f, "address {address}"),
            Self::TxQueueLength(length) => write!(f, "txqueuelen {length}"),
            Self::Alias(alias) => write!(f, "alias {}", Foreign(alias)),
            Self::Group(group) => write!(f, "group {group}"),
            Self::Promiscuous(wanted) => write!(f, "promisc {}", on(*wanted)),
            Self::AllMulticast(wanted) => write!(f, "allmulticast {}", on(*wanted)),
            Self::Master(Some(master)) => write!(f, "master {master}"),
            Self::Master(None) => f.write_str("nomaster"),
            Self::AddAltName(name) => write!(f, "additional name {}", Foreign(name)),
            Self::RemoveAltName(name) => write!(f, "removal of the additional name {}", Foreign(name)),
            Self::NamespaceOfPid(pid) => write!(f, "network namespace of process {pid}"),
        }
    }
}

/// One change to one attribute of a VF, as its PF administers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VfChange {
    /// The admin MAC. A VF takes it when it probes; all-zero lets it choose again, where the driver allows that.
    Mac(MacAddress),
    /// The VLAN; [`VlanTag::NONE`] takes it away.
    Vlan(VlanTag),
    /// Whether frames with a foreign source address are dropped.
    SpoofCheck(bool),
    /// Whether the VF may do what is reserved.
    Trust(bool),
    /// What the VF sees as its link.
    LinkState(VfLinkState),
    /// Bandwidth in Mbit/s; 0 is no guarantee and no limit. The kernel sets both at once.
    Rate {
        /// Guaranteed.
        min: u32,
        /// At most.
        max: u32,
    },
    /// Whether the VF may read the RSS configuration.
    QueryRss(bool),
    /// The InfiniBand node GUID.
    NodeGuid(Guid),
    /// The InfiniBand port GUID.
    PortGuid(Guid),
}

impl fmt::Display for VfChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let on = |on: bool| if on { "on" } else { "off" };
        match self {
            Self::Mac(mac) => write!(f, "mac {mac}"),
            Self::Vlan(tag) => write!(f, "vlan {tag}"),
            Self::SpoofCheck(wanted) => write!(f, "spoofchk {}", on(*wanted)),
            Self::Trust(wanted) => write!(f, "trust {}", on(*wanted)),
            Self::LinkState(state) => write!(f, "state {state}"),
            Self::Rate { min, max } => write!(f, "min_tx_rate {min} max_tx_rate {max}"),
            Self::QueryRss(wanted) => write!(f, "query_rss {}", on(*wanted)),
            Self::NodeGuid(guid) => write!(f, "node_guid {guid}"),
            Self::PortGuid(guid) => write!(f, "port_guid {guid}"),
        }
    }
}

// include/uapi/linux/rtnetlink.h
pub(crate) const RTM_NEWLINK: u16 = 16;
pub(crate) const RTM_DELLINK: u16 = 17;
pub(crate) const RTM_GETLINK: u16 = 18;
const RTM_NEWLINKPROP: u16 = 108;
const RTM_DELLINKPROP: u16 = 109;
const IFLA_IFALIAS: u16 = 20;

/// The message for a change of a link, with the flags it needs beside "request" and "acknowledge".
pub(crate) fn link_message(index: IfIndex, change: &LinkChange) -> (RawMessage, u16) {
    let link = LinkUnspec::new_with_index(index.0);
    let property = |name: &String| LinkAttribute::PropList(vec![Prop::AltIfName(name.clone())]);
    let link = match change {
        LinkChange::Name(name) => link.name(name.as_str()),
        LinkChange::Mtu(mtu) => link.mtu(*mtu),
        LinkChange::IpoibMode(mode) => return (changed_ipoib(index, IFLA_IPOIB_MODE, (*mode).into()), 0),
        LinkChange::UserMulticast(wanted) => {
            return (changed_ipoib(index, IFLA_IPOIB_UMCAST, (*wanted).into()), 0);
        }
        LinkChange::Up(true) => link.up(),
        LinkChange::Up(false) => link.down(),
        LinkChange::Address(address) => link.address(address.0.clone()),
        LinkChange::TxQueueLength(length) => link.txqueuelen(*length),
        // The kernel stores every byte of the value (`dev_set_alias`); the library would add a zero byte to it, and
        // an alias of one zero byte is not none.
        LinkChange::Alias(alias) => {
            let bytes = alias.as_bytes().to_vec();
            link.append_extra_attribute(LinkAttribute::Other(DefaultNla::new(IFLA_IFALIAS, bytes)))
        }
        LinkChange::Group(group) => link.link_group(*group),
        LinkChange::Promiscuous(wanted) => link.promiscuous(*wanted),
        LinkChange::AllMulticast(wanted) => link.allmulticast(*wanted),
        LinkChange::Master(Some(master)) => link.controller(master.0),
        LinkChange::Master(None) => link.nocontroller(),
        LinkChange::AddAltName(name) => {
            let link = link.append_extra_attribute(property(name));
            return (raw(RTM_NEWLINKPROP, &link.build()), NLM_F_EXCL | NLM_F_CREATE | NLM_F_APPEND);
        }
        LinkChange::RemoveAltName(name) => {
            let link = link.append_extra_attribute(property(name));
            return (raw(RTM_DELLINKPROP, &link.build()), 0);
        }
        LinkChange::NamespaceOfPid(pid) => link.setns_by_pid(*pid),
    };
    (raw(RTM_NEWLINK, &link.build()), 0)
}

/// One attribute of IP over InfiniBand, of a port's own interface or of a child (`ipoib_changelink` in
/// `drivers/infiniband/ulp/ipoib/ipoib_netlink.c`).
fn changed_ipoib(index: IfIndex, number: u16, value: u16) -> RawMessage {
    let mut body = Body::new(&[[0; 4], index.0.to_ne_bytes(), [0; 4], [0; 4]].concat());
    body.nested(IFLA_LINKINFO, |info| {
        // The library ends the kind with a zero byte, and iproute2 does not.
        info.bytes(IFLA_INFO_KIND, ipoib::KIND.as_bytes());
        info.nested(IFLA_INFO_DATA, |data| {
            data.u16(number, value);
        });
    });
    RawMessage { kind: RTM_NEWLINK, body: body.finish() }
}

/// The message for changes of a VF, which the kernel carries out in their order: each has an entry of its own in the list (`do_setlink` in
/// `net/core/rtnetlink.c`).
pub(crate) fn vf_message(pf: IfIndex, vf: u32, changes: &[VfChange]) -> RawMessage {
    let list = changes.iter().map(|change| LinkVfInfo(vec![vf_info(vf, *change)])).collect();
    let list = LinkAttribute::VfInfoList(list);
    raw(RTM_NEWLINK, &LinkUnspec::new_with_index(pf.0).append_extra_attribute(list).build())
}

fn vf_info(vf: u32, change: VfChange) -> VfInfo {
    match change {
        VfChange::Mac(mac) => VfInfo::Mac(VfInfoMac::new(vf, &mac.0)),
        // The older attribute has no room for the protocol, and is the only one that old kernels know.
        VfChange::Vlan(VlanTag { id, qos, protocol: VlanProtocol::Ieee8021Q }) => {
            VfInfo::Vlan(VfInfoVlan::new(vf, id.into(), qos.into()))
        }
        VfChange::Vlan(VlanTag { id, qos, protocol: VlanProtocol::Ieee8021Ad }) => {
            let protocol = netlink_packet_route::link::VlanProtocol::Ieee8021Ad;
            VfInfo::VlanList(vec![VfVlan::Info(VfVlanInfo::new(vf, id.into(), qos.into(), protocol))])
        }
        VfChange::SpoofCheck(wanted) => VfInfo::SpoofCheck(VfInfoSpoofCheck::new(vf, wanted)),
        VfChange::Trust(wanted) => VfInfo::Trust(VfInfoTrust::new(vf, wanted)),
        VfChange::LinkState(state) => {
            use netlink_packet_route::link::VfLinkState as Wire;
            let state = match state {
                VfLinkState::Auto => Wire::Auto,
                VfLinkState::Enable => Wire::Enable,
                VfLinkState::Disable => Wire::Disable,
            };
            VfInfo::LinkState(VfInfoLinkState::new(vf, state))
        }
        VfChange::Rate { min, max } => VfInfo::Rate(VfInfoRate::new(vf, min, max)),
        VfChange::QueryRss(wanted) => VfInfo::RssQueryEn(VfInfoRssQueryEn::new(vf, wanted)),
        VfChange::NodeGuid(guid) => VfInfo::IbNodeGuid(VfInfoGuid::new(vf, u64::from_be_bytes(guid.0))),
        VfChange::PortGuid(guid) => VfInfo::IbPortGuid(VfInfoGuid::new(vf, u64::from_be_bytes(guid.0))),
    }
}

fn raw(kind: u16, message: &LinkMessage) -> RawMessage {
    let mut body = vec![0; message.buffer_len()];
    message.emit(&mut body);
    RawMessage { kind, body }
}

// The captures are of a little-endian machine.
#[cfg(test)]
#[cfg(target_endian = "little")]
mod tests {
    use netlink_packet_core::NLM_F_ACK;

    use super::*;
    use crate::connection::{captured, wire};

    const CAPTURE: &str = include_str!("../tests/iproute2/ip-link.txt");
    const INDEX: IfIndex = IfIndex(3);

    fn vf_changes() -> Vec<(&'static str, VfChange)> {
        let guid = Guid([0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77]);
        let vlan = |id, qos, protocol| VfChange::Vlan(VlanTag { id, qos, protocol });
        vec![
            ("mac 02:00:00:00:0a:01", VfChange::Mac(MacAddress([2, 0, 0, 0, 0x0a, 1]))),
            ("vlan 100", vlan(100, 0, VlanProtocol::Ieee8021Q)),
            ("vlan 100 qos 3", vlan(100, 3, VlanProtocol::Ieee8021Q)),
            ("vlan 100 qos 3 proto 802.1ad", vlan(100, 3, VlanProtocol::Ieee8021Ad)),
            ("vlan 0", VfChange::Vlan(VlanTag::NONE)),
            ("spoofchk on", VfChange::SpoofCheck(true)),
            ("spoofchk off", VfChange::SpoofCheck(false)),
            ("trust on", VfChange::Trust(true)),
            ("trust off", VfChange::Trust(false)),
            ("state auto", VfChange::LinkState(VfLinkState::Auto)),
            ("state enable", VfChange::LinkState(VfLinkState::Enable)),
            ("state disable", VfChange::LinkState(VfLinkState::Disable)),
            ("max_tx_rate 1000 min_tx_rate 200", VfChange::Rate { min: 200, max: 1000 }),
            ("query_rss on", VfChange::QueryRss(true)),
            ("query_rss off", VfChange::QueryRss(false)),
            ("node_guid 00:11:22:33:44:55:66:77", VfChange::NodeGuid(guid)),
            ("port_guid 00:11:22:33:44:55:66:77", VfChange::PortGuid(guid)),
        ]
    }

    fn link_changes() -> Vec<(&'static str, LinkChange)> {
        vec![
            ("name vx", LinkChange::Name("vx".parse().unwrap())),
            ("mtu 9000", LinkChange::Mtu(9000)),
            ("type ipoib mode connected", LinkChange::IpoibMode(IpoibMode::Connected)),
            ("type ipoib mode datagram", LinkChange::IpoibMode(IpoibMode::Datagram)),
            ("type ipoib umcast 1", LinkChange::UserMulticast(true)),
            ("type ipoib umcast 0", LinkChange::UserMulticast(false)),
            ("up", LinkChange::Up(true)),
            ("down", LinkChange::Up(false)),
            ("address 02:00:00:00:0b:01", LinkChange::Address("02:00:00:00:0b:01".parse().unwrap())),
            ("txqueuelen 500", LinkChange::TxQueueLength(500)),
            ("alias hello", LinkChange::Alias("hello".to_owned())),
            ("alias ", LinkChange::Alias(String::new())),
            ("group 7", LinkChange::Group(7)),
            ("promisc on", LinkChange::Promiscuous(true)),
            ("promisc off", LinkChange::Promiscuous(false)),
            ("allmulticast on", LinkChange::AllMulticast(true)),
            ("allmulticast off", LinkChange::AllMulticast(false)),
            ("master v1", LinkChange::Master(Some(IfIndex(2)))),
            ("nomaster", LinkChange::Master(None)),
            ("netns 1", LinkChange::NamespaceOfPid(1)),
        ]
    }

    #[test]
    fn the_messages_are_those_of_iproute2() {
        let mut compared = Vec::new();
        let mut compare = |command: String, message, flags| {
            assert_eq!(
                hex::encode(wire(message, NLM_F_ACK | flags)),
                hex::encode(captured(CAPTURE, &command)),
                "{command}"
            );
            compared.push(command);
        };
        for (words, change) in vf_changes() {
            compare(format!("ip link set dev v0 vf 1 {words}"), vf_message(INDEX, 1, &[change]), 0);
        }
        for (words, change) in link_changes() {
            let (message, flags) = link_message(INDEX, &change);
            compare(format!("ip link set dev v0 {words}"), message, flags);
        }
        for (word, change) in [
            ("add", LinkChange::AddAltName("myaltname".to_owned())),
            ("del", LinkChange::RemoveAltName("myaltname".to_owned())),
        ] {
            let (message, flags) = link_message(INDEX, &change);
            compare(format!("ip link property {word} dev v0 altname myaltname"), message, flags);
        }
        // `rate` is IFLA_VF_TX_RATE, the older attribute with a limit and no guarantee. It is the only line of the
        // capture without an equal here.
        let all = CAPTURE.lines().filter_map(|line| line.split_once(" => ")).map(|(command, _)| command);
        let left: Vec<&str> = all.filter(|command| !compared.iter().any(|done| done == command)).collect();
        assert_eq!(left, ["ip link set dev v0 vf 1 rate 1000"]);
    }

    /// Each change stands in a message of several as it stands in iproute2's message of that one, and in the same order.
    #[test]
    fn fault_5_5_several_changes_of_a_vf_are_one_message() {
        /// The entries of the list, as bytes.
        fn entries(message: &RawMessage) -> Vec<u8> {
            const IFLA_VFINFO_LIST: u16 = 22;
            let attributes = crate::attributes::Attributes::new(&message.body[16..]);
            attributes.find(IFLA_VFINFO_LIST).unwrap().unwrap().value.to_vec()
        }
        let changes: Vec<VfChange> = vf_changes().into_iter().map(|(_, change)| change).collect();
        let one_by_one = changes.iter().map(|change| entries(&vf_message(INDEX, 1, &[*change])));
        assert_eq!(entries(&vf_message(INDEX, 1, &changes)), one_by_one.collect::<Vec<_>>().concat());
    }

    #[test]
    fn a_change_is_shown_in_the_words_of_ip_link() {
        for (words, change) in vf_changes() {
            match change {
                VfChange::Vlan(tag) => assert_eq!(change.to_string(), format!("vlan {tag}")),
                VfChange::Rate { .. } => assert_eq!(change.to_string(), "min_tx_rate 200 max_tx_rate 1000"),
                _ => assert_eq!(change.to_string(), words),
            }
        }
    }
}

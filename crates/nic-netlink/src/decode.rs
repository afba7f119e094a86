//! Links from the bytes of `RTM_NEWLINK` and `RTM_DELLINK`.

use crate::attributes::{Attribute, Attributes, MalformedError};
use crate::decode_vf;
use crate::{IfIndex, Link, LinkAddress, LinkName, OperState, PhysSwitchId};

// include/uapi/linux/if_link.h
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_WIRELESS: u16 = 11;
const IFLA_TXQLEN: u16 = 13;
const IFLA_OPERSTATE: u16 = 16;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_NUM_VF: u16 = 21;
const IFLA_VFINFO_LIST: u16 = 22;
const IFLA_GROUP: u16 = 27;
const IFLA_PHYS_SWITCH_ID: u16 = 36;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_PHYS_PORT_NAME: u16 = 38;
const IFLA_MIN_MTU: u16 = 50;
const IFLA_MAX_MTU: u16 = 51;
const IFLA_PROP_LIST: u16 = 52;
const IFLA_ALT_IFNAME: u16 = 53;
const IFLA_PERM_ADDRESS: u16 = 54;
const IFLA_PARENT_DEV_NAME: u16 = 56;
const IFLA_PARENT_DEV_BUS_NAME: u16 = 57;
const IFLA_INFO_KIND: u16 = 1;

// include/uapi/linux/if.h
const IFF_UP: u32 = 1;
const IFF_RUNNING: u32 = 1 << 6;
const IFF_PROMISC: u32 = 1 << 8;
const IFF_ALLMULTI: u32 = 1 << 9;

const AF_UNSPEC: u8 = 0;

/// `struct ifinfomsg`, the fixed part in front of the attributes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LinkHeader {
    family: u8,
    layer: u16,
    pub(crate) index: IfIndex,
    flags: u32,
}

impl LinkHeader {
    pub(crate) fn split(body: &[u8]) -> Result<(Self, Attributes<'_>), MalformedError> {
        let (header, attributes) = body
            .split_first_chunk::<16>()
            .ok_or_else(|| MalformedError(format!("a link of {} bytes", body.len())))?;
        let [family, _, l0, l1, i0, i1, i2, i3, f0, f1, f2, f3, ..] = *header;
        let header = Self {
            family,
            layer: u16::from_ne_bytes([l0, l1]),
            index: IfIndex(u32::from_ne_bytes([i0, i1, i2, i3])),
            flags: u32::from_ne_bytes([f0, f1, f2, f3]),
        };
        Ok((header, Attributes::new(attributes)))
    }

    /// Whether the message is of the link itself.
    ///
    /// A bridge announces its ports on the same multicast group, with family `AF_BRIDGE` (`br_ifinfo_notify` in
    /// `net/bridge/br_netlink.c`): there `RTM_DELLINK` means that the port left the bridge.
    pub(crate) fn is_of_link(&self) -> bool {
        self.family == AF_UNSPEC
    }
}

/// A link of which nothing but the header and the name is known.
fn empty(header: &LinkHeader, name: LinkName) -> Link {
    Link {
        index: header.index,
        name,
        altnames: Vec::new(),
        kind: None,
        link_layer: header.layer.into(),
        address: LinkAddress::default(),
        permanent_address: None,
        mtu: 0,
        min_mtu: None,
        max_mtu: None,
        up: header.flags & IFF_UP != 0,
        running: header.flags & IFF_RUNNING != 0,
        oper_state: OperState::Unknown,
        tx_queue_length: 0,
        alias: None,
        group: 0,
        promiscuous: header.flags & IFF_PROMISC != 0,
        all_multicast: header.flags & IFF_ALLMULTI != 0,
        master: None,
        parent_device: None,
        parent_bus: None,
        phys_port_name: None,
        phys_switch_id: None,
        link: None,
        link_netns_id: None,
        num_vf: 0,
        vfs: Vec::new(),
        vfs_truncated: false,
    }
}

/// A link, or `None` for a message that carries only a part of one: wireless events hold no more than the name and
/// the event (`net/wireless/wext-core.c`, `rtnetlink_ifinfo_prep`).
pub(crate) fn link(body: &[u8]) -> Result<Option<Link>, MalformedError> {
    let (header, mut attributes) = LinkHeader::split(body)?;
    let name = attributes.find(IFLA_IFNAME)?.and_then(|name| LinkName::from_kernel(name.bytes()));
    let Some(name) = name else {
        return Err(MalformedError(format!("link {} has no valid name", header.index)));
    };
    let mut link = empty(&header, name);
    let mut vf_list = None;
    while let Some(attribute) = attributes.next() {
        let attribute = attribute?;
        match attribute.kind {
            IFLA_WIRELESS => return Ok(None),
            IFLA_ADDRESS => link.address = LinkAddress(attribute.value.to_vec()),
            IFLA_PERM_ADDRESS => link.permanent_address = Some(LinkAddress(attribute.value.to_vec())),
            IFLA_MTU => link.mtu = attribute.u32()?,
            IFLA_MIN_MTU => link.min_mtu = nonzero(&attribute)?,
            IFLA_MAX_MTU => link.max_mtu = nonzero(&attribute)?,
            IFLA_LINK => link.link = nonzero(&attribute)?.map(IfIndex),
            IFLA_MASTER => link.master = nonzero(&attribute)?.map(IfIndex),
            IFLA_TXQLEN => link.tx_queue_length = attribute.u32()?,
            IFLA_OPERSTATE => link.oper_state = OperState::from(attribute.u8()?),
            IFLA_LINKINFO => link.kind = attribute.nested().find(IFLA_INFO_KIND)?.map(|kind| kind.text()),
            IFLA_IFALIAS => link.alias = Some(attribute.text()).filter(|alias| !alias.is_empty()),
            IFLA_GROUP => link.group = attribute.u32()?,
            IFLA_PHYS_SWITCH_ID => {
                link.phys_switch_id =
                    (!attribute.value.is_empty()).then(|| PhysSwitchId(attribute.value.to_vec()));
            }
            IFLA_PHYS_PORT_NAME => link.phys_port_name = Some(attribute.text()),
            IFLA_LINK_NETNSID => link.link_netns_id = Some(attribute.i32()?),
            IFLA_PARENT_DEV_NAME => link.parent_device = Some(attribute.text()),
            IFLA_PARENT_DEV_BUS_NAME => link.parent_bus = Some(attribute.text()),
            IFLA_PROP_LIST => {
                for property in attribute.nested() {
                    let property = property?;
                    if property.kind == IFLA_ALT_IFNAME {
                        link.altnames.push(property.text());
                    }
                }
            }
            IFLA_NUM_VF => link.num_vf = attribute.u32()?,
            IFLA_VFINFO_LIST => {
                let (list, rest) = decode_vf::split_list(&attribute, link.num_vf);
                attributes.resume_at(rest);
                vf_list = Some(list);
            }
            _ => {}
        }
    }
    if let Some(list) = vf_list {
        link.vfs = decode_vf::vfs(list, link.link_layer, link.address.0.len())?;
    }
    link.vfs_truncated = u32::try_from(link.vfs.len()).is_ok_and(|entries| entries < link.num_vf);
    Ok(Some(link))
}

fn nonzero(attribute: &Attribute<'_>) -> Result<Option<u32>, MalformedError> {
    attribute.u32().map(|value| (value != 0).then_some(value))
}

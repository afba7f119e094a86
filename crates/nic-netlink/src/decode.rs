//! Links from the bytes of `RTM_NEWLINK` and `RTM_DELLINK`.

use crate::attributes::{Attribute, Attributes, MalformedError};
use crate::{IfIndex, Link, LinkAddress, LinkName, OperState, PhysSwitchId, ipoib};

// include/uapi/linux/if_link.h
pub(crate) const IFLA_ADDRESS: u16 = 1;
pub(crate) const IFLA_IFNAME: u16 = 3;
pub(crate) const IFLA_MTU: u16 = 4;
pub(crate) const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_WIRELESS: u16 = 11;
const IFLA_TXQLEN: u16 = 13;
const IFLA_OPERSTATE: u16 = 16;
pub(crate) const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
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
pub(crate) const IFLA_INFO_KIND: u16 = 1;
pub(crate) const IFLA_INFO_DATA: u16 = 2;
pub(crate) const IFLA_INFO_SLAVE_KIND: u16 = 4;
pub(crate) const IFLA_INFO_SLAVE_DATA: u16 = 5;
const IFLA_BOND_SLAVE_PERM_HWADDR: u16 = 4;

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
    pub(crate) layer: u16,
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
fn from_header(header: &LinkHeader, name: LinkName) -> Link {
    Link {
        link_layer: header.layer.into(),
        up: header.flags & IFF_UP != 0,
        running: header.flags & IFF_RUNNING != 0,
        promiscuous: header.flags & IFF_PROMISC != 0,
        all_multicast: header.flags & IFF_ALLMULTI != 0,
        ..Link::new(header.index, name)
    }
}

/// A link, or `None` for a message that carries only a part of one: wireless events hold no more than the name and
/// the event (`net/wireless/wext-core.c`, `rtnetlink_ifinfo_prep`).
pub(crate) fn link(body: &[u8]) -> Result<Option<Link>, MalformedError> {
    let (header, attributes) = LinkHeader::split(body)?;
    let name = attributes.find(IFLA_IFNAME)?.and_then(|name| LinkName::from_kernel(name.bytes()));
    let Some(name) = name else {
        return Err(MalformedError(format!("link {} has no valid name", header.index)));
    };
    let mut link = from_header(&header, name);
    for attribute in attributes {
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
            IFLA_LINKINFO => {
                let info = attribute.nested();
                link.kind = info.find(IFLA_INFO_KIND)?.map(|kind| kind.text());
                link.own_address = own_address(info)?;
                if link.kind.as_deref() == Some(ipoib::KIND)
                    && let Some(data) = info.find(IFLA_INFO_DATA)?
                {
                    link.ipoib = ipoib::decode(data.nested())?;
                }
            }
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
            _ => {}
        }
    }
    Ok(Some(link))
}

/// What a bond keeps of its port's address (`bond_fill_slave_info` in `drivers/net/bonding/bond_netlink.c`).
fn own_address(info: Attributes<'_>) -> Result<Option<LinkAddress>, MalformedError> {
    if info.find(IFLA_INFO_SLAVE_KIND)?.is_none_or(|kind| kind.text() != "bond") {
        return Ok(None);
    }
    let Some(data) = info.find(IFLA_INFO_SLAVE_DATA)? else { return Ok(None) };
    let own = data.nested().find(IFLA_BOND_SLAVE_PERM_HWADDR)?;
    Ok(own.map(|own| LinkAddress(own.value.to_vec())))
}

fn nonzero(attribute: &Attribute<'_>) -> Result<Option<u32>, MalformedError> {
    attribute.u32().map(|value| (value != 0).then_some(value))
}

// The captures are of a little-endian machine.
#[cfg(test)]
#[cfg(target_endian = "little")]
mod tests {
    use super::*;
    use crate::connection::messages;
    use crate::{Ipoib, IpoibMode, PhysPort};

    fn captured(capture: &str) -> Link {
        let messages = messages(capture);
        link(&messages.first().unwrap().body).unwrap().unwrap()
    }

    const IGB: &str = include_str!("../tests/captures/igb-pf.hex");
    const IGBVF: &str = include_str!("../tests/captures/igbvf.hex");
    const REPRESENTOR: &str = include_str!("../tests/captures/netdevsim-representor.hex");

    #[test]
    fn a_pf_of_igb() {
        let link = captured(IGB);
        assert_eq!(link.pci_address(), Some("0000:01:00.0"));
        insta::assert_json_snapshot!(link);
    }

    #[test]
    fn a_vf_of_igb() {
        insta::assert_json_snapshot!(captured(IGBVF));
    }

    #[test]
    fn a_representor_has_a_port_and_a_switch() {
        let link = captured(REPRESENTOR);
        assert_eq!(link.port().unwrap().port, PhysPort::Vf { pf: 0, vf: 0 });
        assert!(link.phys_switch_id.is_some());
    }

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        // The length wraps, as the kernel's does.
        let length = (value.len() + 4) & 0xffff;
        let mut bytes = [u16::try_from(length).unwrap().to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend_from_slice(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn message(layer: u16, address: &[u8], attributes: &[Vec<u8>]) -> Vec<u8> {
        let mut body = vec![0; 16];
        body[2..4].copy_from_slice(&layer.to_ne_bytes());
        body[4] = 7;
        body.extend(attribute(IFLA_IFNAME, b"pf0\0"));
        body.extend(attribute(IFLA_ADDRESS, address));
        body.extend(attributes.concat());
        body
    }

    #[test]
    fn what_is_not_a_whole_link_is_told_apart() {
        assert_eq!(link(&message(1, &[2; 6], &[attribute(IFLA_WIRELESS, &[0; 8])])), Ok(None));
        assert!(link(&[0; 15]).is_err());
        assert!(link(&[0; 16]).is_err(), "a link has a name");
        let mut of_a_bridge = message(1, &[2; 6], &[]);
        of_a_bridge[0] = 7;
        assert!(!LinkHeader::split(&of_a_bridge).unwrap().0.is_of_link());
    }

    #[test]
    fn fault_6_5_of_ip_over_infiniband_its_mode_is_known() {
        let ipoib = |kind: &[u8], mode: u16| {
            let number = |kind, value: u16| attribute(kind, &value.to_ne_bytes());
            let data = [number(1, 0xffff), number(2, mode), number(3, 1)].concat();
            let info = [attribute(IFLA_INFO_KIND, kind), attribute(IFLA_INFO_DATA, &data)].concat();
            link(&message(32, &[2; 20], &[attribute(IFLA_LINKINFO, &info)])).unwrap().unwrap().ipoib
        };
        let expected = |mode| Some(Ipoib { mode, user_multicast: true });
        assert_eq!(ipoib(b"ipoib\0", 1), expected(IpoibMode::Connected));
        assert_eq!(ipoib(b"ipoib\0", 0), expected(IpoibMode::Datagram));
        assert_eq!(ipoib(b"ipvlan\0", 1), None, "another kind's attribute of that number is something else");
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_link_or_an_error(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..512)) {
            let _ = link(&bytes);
        }

        /// A capture with one byte changed: the likeliest way into the depths of the decoder.
        #[test]
        fn a_damaged_capture_is_a_link_or_an_error(position in 0_usize..1600, byte: u8) {
            let mut body = messages(IGB).remove(0).body;
            let position = position % body.len();
            body[position] = byte;
            let _ = link(&body);
        }
    }
}

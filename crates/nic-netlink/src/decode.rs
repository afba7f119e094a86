//! Links from the bytes of `RTM_NEWLINK` and `RTM_DELLINK`.

use crate::attributes::{Attribute, Attributes, MalformedError};
use crate::decode_vf;
use crate::{IfIndex, Link, LinkAddress, LinkName, OperState, PhysSwitchId};

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
pub(crate) const IFLA_INFO_KIND: u16 = 1;
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
    let (header, mut attributes) = LinkHeader::split(body)?;
    let name = attributes.find(IFLA_IFNAME)?.and_then(|name| LinkName::from_kernel(name.bytes()));
    let Some(name) = name else {
        return Err(MalformedError(format!("link {} has no valid name", header.index)));
    };
    let mut link = from_header(&header, name);
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
            IFLA_LINKINFO => {
                let info = attribute.nested();
                link.kind = info.find(IFLA_INFO_KIND)?.map(|kind| kind.text());
                link.own_address = own_address(info)?;
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
        link.vfs_truncated = u32::try_from(link.vfs.len()).is_ok_and(|entries| entries < link.num_vf);
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
    use crate::{
        Guid, LinkLayer, MacAddress, PhysPort, Setting, VfAttributes, VfLinkState, VlanProtocol, VlanTag,
    };

    fn captured(capture: &str) -> Link {
        let messages = messages(capture);
        link(&messages.first().unwrap().body).unwrap().unwrap()
    }

    const IGB: &str = include_str!("../tests/captures/igb-pf.hex");
    const IGBVF: &str = include_str!("../tests/captures/igbvf.hex");
    const NETDEVSIM: &str = include_str!("../tests/captures/netdevsim-pf.hex");
    const REPRESENTOR: &str = include_str!("../tests/captures/netdevsim-representor.hex");

    fn tag(id: u16, qos: u8, protocol: VlanProtocol) -> VlanTag {
        VlanTag { id, qos, protocol }
    }

    #[test]
    fn a_pf_of_igb_with_three_vfs() {
        let link = captured(IGB);
        assert_eq!((link.num_vf, link.vfs_truncated, link.vfs.len()), (3, false, 3));
        assert_eq!(link.pci_address(), Some("0000:01:00.0"));
        let [vf0, vf1, vf2] = &link.vfs[..] else { panic!("{:?}", link.vfs) };
        let expected = VfAttributes {
            address: "02:00:00:00:0a:01".parse().unwrap(),
            mac: Setting::Set(MacAddress([2, 0, 0, 0, 0x0a, 1])),
            vlan: Setting::Set(tag(100, 3, VlanProtocol::Ieee8021Q)),
            vlans: vec![tag(100, 3, VlanProtocol::Ieee8021Q)],
            spoof_check: Setting::Set(true),
            trust: Setting::Set(false),
            // igb answers neither this nor GUIDs.
            query_rss: Setting::Unsupported,
            min_tx_rate: Setting::NotSet,
            max_tx_rate: Setting::NotSet,
            ..VfAttributes::new(0)
        };
        assert_eq!(*vf0, expected);
        assert_eq!((vf1.index, vf1.mac, vf1.vlan), (1, Setting::NotSet, Setting::NotSet));
        assert_eq!((vf1.spoof_check, vf1.trust), (Setting::Set(false), Setting::Set(true)));
        assert_eq!((vf1.min_tx_rate, vf1.max_tx_rate), (Setting::NotSet, Setting::Set(100)));
        assert_eq!(vf2.vlan, Setting::Set(tag(7, 0, VlanProtocol::Ieee8021Q)));
        insta::assert_json_snapshot!(Link { vfs: Vec::new(), ..link });
    }

    #[test]
    fn a_vf_of_igb() {
        insta::assert_json_snapshot!(captured(IGBVF));
    }

    #[test]
    fn a_port_of_netdevsim_with_four_vfs() {
        let link = captured(NETDEVSIM);
        let provider = tag(5, 2, VlanProtocol::Ieee8021Ad);
        let priority = tag(0, 4, VlanProtocol::Ieee8021Q);
        let tags: Vec<_> = link.vfs.iter().map(|vf| vf.vlan).collect();
        assert_eq!(tags, [Setting::Set(provider), Setting::Set(priority), Setting::NotSet, Setting::NotSet]);
        let states: Vec<_> = link.vfs.iter().map(|vf| vf.link_state).collect();
        assert_eq!(states, [VfLinkState::Auto, VfLinkState::Auto, VfLinkState::Enable, VfLinkState::Disable]);
        let rates: Vec<_> = link.vfs.iter().map(|vf| (vf.min_tx_rate, vf.max_tx_rate)).collect();
        let none = (Setting::NotSet, Setting::NotSet);
        assert_eq!(rates, [none, none, (Setting::Set(200), Setting::Set(1000)), none]);
        let rss: Vec<_> = link.vfs.iter().map(|vf| vf.query_rss).collect();
        assert_eq!(rss, [false, false, false, true].map(Setting::Set));
    }

    #[test]
    fn a_representor_counts_the_vfs_of_its_device_and_describes_none() {
        let link = captured(REPRESENTOR);
        assert_eq!((link.num_vf, link.vfs.len(), link.vfs_truncated), (4, 0, false));
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

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
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

    fn vf_mac(vf: u32, mac: &[u8]) -> Vec<u8> {
        let mut value = words(&[vf]);
        value.extend_from_slice(mac);
        value.resize(36, 0);
        attribute(1, &value)
    }

    #[test]
    fn what_the_driver_did_not_fill_in_is_unsupported_and_not_off() {
        for (value, expected) in
            [(u32::MAX, Setting::Unsupported), (0, Setting::Set(false)), (1, Setting::Set(true))]
        {
            let switches = [4, 9, 7].map(|kind| attribute(kind, &words(&[0, value])));
            let vf = attribute(1, &[vec![vf_mac(0, &[])], switches.to_vec()].concat().concat());
            let list = [attribute(IFLA_NUM_VF, &words(&[1])), attribute(IFLA_VFINFO_LIST, &vf)];
            let link = link(&message(1, &[2; 6], &list)).unwrap().unwrap();
            let vf = link.vf(0).unwrap();
            assert_eq!([vf.spoof_check, vf.trust, vf.query_rss], [expected; 3], "{value}");
        }
    }

    #[test]
    fn on_infiniband_a_vf_has_guids_and_no_mac() {
        let guid = |kind, guid: u64| attribute(kind, &[words(&[2, 0]), guid.to_ne_bytes().to_vec()].concat());
        let vf = [vf_mac(2, &[0xab; 20]), guid(10, 0x0011_2233_4455_6677), guid(11, 0)].concat();
        let list = [attribute(IFLA_NUM_VF, &words(&[1])), attribute(IFLA_VFINFO_LIST, &attribute(1, &vf))];
        let link = link(&message(32, &[0xab; 20], &list)).unwrap().unwrap();
        assert_eq!(link.link_layer, LinkLayer::InfiniBand);
        let vf = link.vf(2).unwrap();
        assert_eq!((vf.mac, &vf.address.0[..]), (Setting::Unsupported, &[0xab; 20][..]));
        assert_eq!(vf.node_guid, Setting::Set(Guid([0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77])));
        assert_eq!(vf.port_guid, Setting::NotSet);
    }

    /// Entries as long as the kernel's without statistics.
    fn entries(count: u32) -> Vec<u8> {
        (0..count)
            .flat_map(|vf| {
                let list = attribute(12, &attribute(1, &words(&[vf, 0, 0, 0x81])));
                let padding = attribute(13, &[0xff; 32]);
                let attributes = [vf_mac(vf, &[2, 0, 0, 0, 1, 1]), padding, list];
                attribute(1, &attributes.concat())
            })
            .collect()
    }

    #[test]
    fn a_list_beyond_64_kib_is_read_to_its_end() {
        for count in [1_u32, 400, 1000, 3000] {
            let list = [
                attribute(IFLA_NUM_VF, &words(&[count])),
                attribute(IFLA_VFINFO_LIST, &entries(count)),
                attribute(IFLA_PHYS_PORT_NAME, b"p0\0"),
            ];
            let link = link(&message(1, &[2; 6], &list)).unwrap().unwrap();
            assert_eq!(link.vfs.len(), usize::try_from(count).unwrap());
            assert_eq!(link.vfs.last().map(|vf| vf.index), Some(count - 1));
            assert_eq!((link.vfs_truncated, link.phys_port_name.as_deref()), (false, Some("p0")), "{count}");
            assert_eq!(link.address, LinkAddress(vec![2; 6]), "no VF's attribute is taken for the link's");
        }
    }

    #[test]
    fn fewer_entries_than_vfs_are_noticed() {
        let list = [
            attribute(IFLA_NUM_VF, &words(&[3])),
            attribute(IFLA_VFINFO_LIST, &entries(2)),
            attribute(IFLA_PHYS_PORT_NAME, b"p0\0"),
        ];
        let link = link(&message(1, &[2; 6], &list)).unwrap().unwrap();
        assert_eq!((link.vfs.len(), link.vfs_truncated), (2, true));
        assert_eq!(link.phys_port_name.as_deref(), Some("p0"));
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

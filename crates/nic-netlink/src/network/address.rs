//! IP addresses of interfaces (`RTM_NEWADDR`).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

use super::ip::{self, octets};
use crate::IfIndex;
use crate::attributes::{Attributes, MalformedError};
use crate::body::Body;

/// An address of an interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Address {
    /// The interface.
    pub index: IfIndex,
    /// The address.
    pub address: IpAddr,
    /// How many bits of it (with a peer: of the peer) are the network.
    pub prefix_length: u8,
    /// The other end's address, where the link has one (`ip addr add … peer`).
    pub peer: Option<IpAddr>,
    /// The broadcast address; IPv4 only.
    pub broadcast: Option<Ipv4Addr>,
    /// The label, which is the interface's name where none was chosen; IPv4 only.
    pub label: Option<String>,
    /// `RT_SCOPE_*` of `include/uapi/linux/rtnetlink.h`: 0 global, 253 link, 254 host.
    pub scope: u8,
    /// The flags.
    pub flags: AddressFlags,
    /// For how many seconds it is still preferred; `None` for ever.
    pub preferred_s: Option<u32>,
    /// For how many seconds it is still valid; `None` for ever.
    pub valid_s: Option<u32>,
    /// The metric of the route to its network, where one was chosen.
    pub metric: Option<u32>,
    /// `IFAPROT_*` of `include/uapi/linux/if_addr.h` (kernel 5.18 and later): who made it; 0 where nobody said.
    pub origin: u8,
}

/// `IFA_F_*` of `include/uapi/linux/if_addr.h`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct AddressFlags(pub u32);

impl AddressFlags {
    /// A temporary address (IPv6, RFC 8981), or one that is not the first of its network (IPv4).
    pub const SECONDARY: Self = Self(0x01);
    /// No duplicate address detection.
    pub const NODAD: Self = Self(0x02);
    /// Duplicate address detection has found another holder.
    pub const DADFAILED: Self = Self(0x08);
    /// A home address (RFC 6275).
    pub const HOMEADDRESS: Self = Self(0x10);
    /// Duplicate address detection has not ended.
    pub const TENTATIVE: Self = Self(0x40);
    /// Valid for ever.
    pub const PERMANENT: Self = Self(0x80);
    /// The kernel makes temporary addresses from it.
    pub const MANAGETEMPADDR: Self = Self(0x100);
    /// No route to its network was made for it.
    pub const NOPREFIXROUTE: Self = Self(0x200);
    /// Multicast groups are joined through it.
    pub const MCAUTOJOIN: Self = Self(0x400);
    /// What a user can ask for. The kernel works out the others (`inet6_rtm_newaddr` in `net/ipv6/addrconf.c`).
    pub const SETTABLE: Self = Self(
        Self::NODAD.0
            | Self::HOMEADDRESS.0
            | Self::MANAGETEMPADDR.0
            | Self::NOPREFIXROUTE.0
            | Self::MCAUTOJOIN.0,
    );

    /// Whether all of `flags` are set.
    #[must_use]
    pub fn contains(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// Those that a user can ask for.
    #[must_use]
    pub fn settable(self) -> Self {
        Self(self.0 & Self::SETTABLE.0)
    }
}

impl Address {
    /// Whether the kernel makes it on its own account and anew: the loopback's, the link-local and the autoconfigured
    /// ones, and temporary ones.
    #[must_use]
    pub fn is_made_by_kernel(&self) -> bool {
        const IFAPROT_KERNEL_LO: u8 = 1;
        const IFAPROT_KERNEL_LL: u8 = 3;
        let is_temporary = self.address.is_ipv6() && self.flags.contains(AddressFlags::SECONDARY);
        is_temporary || (IFAPROT_KERNEL_LO..=IFAPROT_KERNEL_LL).contains(&self.origin)
    }
}

/// In the words of `ip address add`, without the interface.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.peer {
            Some(peer) => write!(f, "{} peer {peer}/{}", self.address, self.prefix_length),
            None => write!(f, "{}/{}", self.address, self.prefix_length),
        }
    }
}

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_LABEL: u16 = 3;
const IFA_BROADCAST: u16 = 4;
const IFA_CACHEINFO: u16 = 6;
const IFA_FLAGS: u16 = 8;
const IFA_RT_PRIORITY: u16 = 9;
const IFA_PROTO: u16 = 11;
/// `INFINITY_LIFE_TIME` of `include/net/addrconf.h`.
const FOR_EVER: u32 = u32::MAX;

/// `None` for an address of another family than IPv4 and IPv6.
pub(super) fn decode(body: &[u8]) -> Result<Option<Address>, MalformedError> {
    let Some(([family, prefix_length, flags, scope, i0, i1, i2, i3], attributes)) =
        body.split_first_chunk::<8>()
    else {
        return Err(MalformedError(format!("an address of {} bytes", body.len())));
    };
    if !ip::is_family(*family) {
        return Ok(None);
    }
    let index = IfIndex(u32::from_ne_bytes([*i0, *i1, *i2, *i3]));
    let (mut local, mut prefix) = (None, None);
    let mut address = Address {
        index,
        address: ip::unspecified(*family),
        prefix_length: *prefix_length,
        peer: None,
        broadcast: None,
        label: None,
        scope: *scope,
        flags: AddressFlags((*flags).into()),
        preferred_s: None,
        valid_s: None,
        metric: None,
        origin: 0,
    };
    let lifetime = |seconds: u32| (seconds != FOR_EVER).then_some(seconds);
    for attribute in Attributes::new(attributes) {
        let attribute = attribute?;
        match attribute.kind {
            IFA_ADDRESS => prefix = Some(ip::decode(&attribute)?),
            IFA_LOCAL => local = Some(ip::decode(&attribute)?),
            IFA_LABEL => address.label = Some(attribute.text()),
            IFA_BROADCAST => address.broadcast = Some(attribute.number::<4>(0)?.into()),
            IFA_CACHEINFO => {
                address.preferred_s = lifetime(attribute.u32_at(0)?);
                address.valid_s = lifetime(attribute.u32_at(4)?);
            }
            IFA_FLAGS => address.flags = AddressFlags(attribute.u32()?),
            IFA_RT_PRIORITY => address.metric = Some(attribute.u32()?).filter(|metric| *metric != 0),
            IFA_PROTO => address.origin = attribute.u8()?,
            _ => {}
        }
    }
    // IPv4 says both always, IPv6 a local one only beside a peer's.
    let Some(own) = local.or(prefix) else {
        return Err(MalformedError(format!("an address of interface {index} without an address")));
    };
    address.address = own;
    address.peer = prefix.filter(|prefix| *prefix != own);
    Ok(Some(address))
}

pub(super) fn encode(address: &Address) -> Vec<u8> {
    let flags = address.flags.settable().0;
    // The header has room for the lower eight flags only; the attribute has them all.
    let [low, ..] = flags.to_le_bytes();
    let header = [ip::family(address.address), address.prefix_length, low, address.scope];
    let mut body = Body::new(&[header, address.index.0.to_ne_bytes()].concat());
    body.bytes(IFA_LOCAL, &octets(address.address));
    body.bytes(IFA_ADDRESS, &octets(address.peer.unwrap_or(address.address)));
    if let Some(broadcast) = address.broadcast {
        body.bytes(IFA_BROADCAST, &broadcast.octets());
    }
    if let Some(label) = &address.label {
        body.text(IFA_LABEL, label);
    }
    body.u32(IFA_FLAGS, flags);
    if address.preferred_s.is_some() || address.valid_s.is_some() {
        let [preferred, valid] =
            [address.preferred_s, address.valid_s].map(|seconds| seconds.unwrap_or(FOR_EVER).to_ne_bytes());
        body.bytes(IFA_CACHEINFO, &[preferred, valid, [0; 4], [0; 4]].concat());
    }
    if let Some(metric) = address.metric {
        body.u32(IFA_RT_PRIORITY, metric);
    }
    if address.origin != 0 {
        body.u8(IFA_PROTO, address.origin);
    }
    body.finish()
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::{Emitable as _, Parseable as _};
    use netlink_packet_route::AddressFamily;
    use netlink_packet_route::address::{
        AddressAttribute, AddressFlags as WireFlags, AddressHeader, AddressHeaderFlags, AddressMessage,
        AddressProtocol, AddressScope, CacheInfo,
    };

    use super::*;

    fn message(header: AddressHeader, attributes: Vec<AddressAttribute>) -> Vec<u8> {
        let mut message = AddressMessage::default();
        message.header = header;
        message.attributes = attributes;
        let mut body = vec![0; message.buffer_len()];
        message.emit(&mut body);
        body
    }

    fn header(family: AddressFamily, prefix_len: u8, scope: AddressScope) -> AddressHeader {
        AddressHeader { family, prefix_len, flags: AddressHeaderFlags::empty(), scope, index: 7 }
    }

    fn cache_info(preferred: u32, valid: u32) -> AddressAttribute {
        let mut info = CacheInfo::default();
        info.ifa_preferred = preferred;
        info.ifa_valid = valid;
        AddressAttribute::CacheInfo(info)
    }

    #[test]
    fn an_ipv4_address_with_everything() {
        let local: IpAddr = "192.0.2.1".parse().unwrap();
        let body = message(
            header(AddressFamily::Inet, 24, AddressScope::Link),
            vec![
                AddressAttribute::Address("198.51.100.0".parse().unwrap()),
                AddressAttribute::Local(local),
                AddressAttribute::Broadcast("192.0.2.255".parse().unwrap()),
                AddressAttribute::Label("eth0:storage".to_owned()),
                AddressAttribute::Flags(WireFlags::Permanent | WireFlags::Noprefixroute),
                AddressAttribute::RoutePriority(50),
                cache_info(100, u32::MAX),
            ],
        );
        let expected = Address {
            index: IfIndex(7),
            address: local,
            prefix_length: 24,
            peer: Some("198.51.100.0".parse().unwrap()),
            broadcast: Some("192.0.2.255".parse().unwrap()),
            label: Some("eth0:storage".to_owned()),
            scope: 253,
            flags: AddressFlags(0x280),
            preferred_s: Some(100),
            valid_s: None,
            metric: Some(50),
            origin: 0,
        };
        assert_eq!(decode(&body), Ok(Some(expected.clone())));
        assert_eq!(expected.to_string(), "192.0.2.1 peer 198.51.100.0/24");
        assert!(!expected.is_made_by_kernel());
    }

    #[test]
    fn an_ipv6_address_has_no_local_one() {
        let body = message(
            header(AddressFamily::Inet6, 64, AddressScope::Universe),
            vec![
                AddressAttribute::Address("2001:db8::1".parse().unwrap()),
                cache_info(u32::MAX, u32::MAX),
                AddressAttribute::Flags(WireFlags::Permanent | WireFlags::Tentative),
                AddressAttribute::Protocol(AddressProtocol::LinkLocal),
            ],
        );
        let address = decode(&body).unwrap().unwrap();
        assert_eq!((address.to_string(), address.peer), ("2001:db8::1/64".to_owned(), None));
        assert_eq!((address.preferred_s, address.valid_s), (None, None));
        assert!(address.is_made_by_kernel() && address.flags.contains(AddressFlags::TENTATIVE));
    }

    #[test]
    fn what_is_asked_for_is_what_the_library_understands() {
        for text in ["192.0.2.1", "2001:db8::1"] {
            let address = Address {
                index: IfIndex(9),
                address: text.parse().unwrap(),
                prefix_length: 24,
                peer: None,
                broadcast: None,
                label: Some("eth0".to_owned()),
                scope: 0,
                flags: AddressFlags(AddressFlags::PERMANENT.0 | AddressFlags::NOPREFIXROUTE.0),
                preferred_s: Some(10),
                valid_s: Some(20),
                metric: Some(7),
                origin: 5,
            };
            let body = encode(&address);
            let read = AddressMessage::parse(&body[..]).unwrap();
            assert_eq!((read.header.index, read.header.prefix_len), (9, 24));
            assert!(read.attributes.contains(&AddressAttribute::Local(address.address)));
            assert!(read.attributes.contains(&AddressAttribute::Flags(WireFlags::Noprefixroute)));
            let expected = Address { flags: AddressFlags::NOPREFIXROUTE, ..address };
            assert_eq!(decode(&body), Ok(Some(expected)));
        }
    }

    #[test]
    fn what_is_no_address_is_told_apart() {
        assert!(decode(&[2; 7]).is_err());
        assert!(decode(&[2, 24, 0, 0, 7, 0, 0, 0]).is_err(), "an address has an address");
        assert_eq!(decode(&[7, 24, 0, 0, 7, 0, 0, 0]), Ok(None), "another family");
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_an_address_or_an_error(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..128)) {
            let _ = decode(&bytes);
        }
    }
}

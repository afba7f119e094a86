//! Permanent neighbour entries (`RTM_NEWNEIGH`).

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::ip::{self, octets};
use crate::attributes::{Attributes, MalformedError};
use crate::body::Body;
use crate::{IfIndex, LinkAddress};

/// A neighbour that an administrator entered for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Neighbour {
    /// The interface.
    pub index: IfIndex,
    /// The neighbour.
    pub address: IpAddr,
    /// Where it is.
    pub link_address: LinkAddress,
    /// `NTF_*` of `include/uapi/linux/neighbour.h`: 0x80 a router, 0x10 learned from outside.
    pub flags: u8,
    /// `RTPROT_*`: who entered it; 0 where nobody said.
    pub protocol: u8,
}

/// In the words of `ip neighbour add`.
impl fmt::Display for Neighbour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} lladdr {}", self.address, self.link_address)
    }
}

const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NDA_PROTOCOL: u16 = 12;
const NUD_PERMANENT: u16 = 0x80;

/// `None` for what is not permanent, or of another family than IPv4 and IPv6.
pub(super) fn decode(body: &[u8]) -> Result<Option<Neighbour>, MalformedError> {
    let Some(([family, _, _, _, i0, i1, i2, i3, s0, s1, flags, _], attributes)) =
        body.split_first_chunk::<12>()
    else {
        return Err(MalformedError(format!("a neighbour of {} bytes", body.len())));
    };
    if !ip::is_family(*family) || u16::from_ne_bytes([*s0, *s1]) & NUD_PERMANENT == 0 {
        return Ok(None);
    }
    let index = IfIndex(u32::from_ne_bytes([*i0, *i1, *i2, *i3]));
    let (mut address, mut link_address, mut protocol) = (None, LinkAddress::default(), 0);
    for attribute in Attributes::new(attributes) {
        let attribute = attribute?;
        match attribute.kind {
            NDA_DST => address = Some(ip::decode(&attribute)?),
            NDA_LLADDR => link_address = LinkAddress(attribute.value.to_vec()),
            NDA_PROTOCOL => protocol = attribute.u8()?,
            _ => {}
        }
    }
    let address = address
        .ok_or_else(|| MalformedError(format!("a neighbour on interface {index} without an address")))?;
    Ok(Some(Neighbour { index, address, link_address, flags: *flags, protocol }))
}

pub(super) fn encode(neighbour: &Neighbour) -> Vec<u8> {
    let [s0, s1] = NUD_PERMANENT.to_ne_bytes();
    let family = [ip::family(neighbour.address), 0, 0, 0];
    let header = [family, neighbour.index.0.to_ne_bytes(), [s0, s1, neighbour.flags, 0]];
    let mut body = Body::new(&header.concat());
    body.bytes(NDA_DST, &octets(neighbour.address));
    if !neighbour.link_address.0.is_empty() {
        body.bytes(NDA_LLADDR, &neighbour.link_address.0);
    }
    if neighbour.protocol != 0 {
        body.u8(NDA_PROTOCOL, neighbour.protocol);
    }
    body.finish()
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::{Emitable as _, Parseable as _};
    use netlink_packet_route::AddressFamily;
    use netlink_packet_route::neighbour::{
        NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
    };

    use super::*;

    fn message(state: NeighbourState) -> NeighbourMessage {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Inet6;
        message.header.ifindex = 7;
        message.header.state = state;
        message.header.flags = NeighbourFlags::Router;
        message.attributes = vec![
            NeighbourAttribute::Destination(NeighbourAddress::Inet6("fe80::1".parse().unwrap())),
            NeighbourAttribute::LinkLayerAddress(vec![2, 0, 0, 0, 0, 1]),
        ];
        message
    }

    fn body(message: &NeighbourMessage) -> Vec<u8> {
        let mut body = vec![0; message.buffer_len()];
        message.emit(&mut body);
        body
    }

    #[test]
    fn a_permanent_one_is_read_and_asked_for_again() {
        let permanent = message(NeighbourState::Permanent);
        let neighbour = decode(&body(&permanent)).unwrap().unwrap();
        assert_eq!(neighbour.to_string(), "fe80::1 lladdr 02:00:00:00:00:01");
        assert_eq!((neighbour.index, neighbour.flags), (IfIndex(7), 0x80));
        assert_eq!(NeighbourMessage::parse(&encode(&neighbour)[..]).unwrap(), permanent);
    }

    #[test]
    fn what_the_kernel_found_out_itself_is_left_out() {
        for state in [NeighbourState::Reachable, NeighbourState::Stale, NeighbourState::Noarp] {
            assert_eq!(decode(&body(&message(state))), Ok(None), "{state:?}");
        }
        assert!(decode(&[2; 11]).is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_neighbour_or_an_error(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..128)) {
            let _ = decode(&bytes);
        }
    }
}

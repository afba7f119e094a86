//! Forwarding entries of VXLANs and bridges (`RTM_NEWNEIGH` of family `AF_BRIDGE`).

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::ip::{self, octets};
use crate::attributes::{Attributes, MalformedError};
use crate::body::Body;
use crate::{IfIndex, MacAddress};

/// An entry that somebody made: which way a MAC address is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ForwardingEntry {
    /// The VXLAN, or the bridge's port.
    pub index: IfIndex,
    /// The address; all zeros is what a VXLAN does with unknown ones.
    pub link_address: MacAddress,
    /// `NUD_*` of `include/uapi/linux/neighbour.h`: 0x80 permanent, 0x40 static.
    pub state: u16,
    /// `NTF_*`: 2 the interface's own, 4 its bridge's, 0x40 sticky.
    pub flags: u8,
    /// The VLAN, in a bridge that tells them apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
    /// The far end of a VXLAN's tunnel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub far_end: Option<IpAddr>,
    /// The far end's UDP port, where it is another than the VXLAN's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The network's number at the far end, where it is another than the VXLAN's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vni: Option<u32>,
    /// The network that the entry is for, on a VXLAN that has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_vni: Option<u32>,
    /// The interface to the far end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub through: Option<IfIndex>,
    /// The next hop object that says where the far ends are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_hop_object: Option<u32>,
}

impl ForwardingEntry {
    /// Whether it is the same way, however it came there: a VXLAN marks its own default destination as reachable, too.
    #[must_use]
    pub fn is_same_way(&self, other: &Self) -> bool {
        let way =
            |entry: &Self| Self { state: 0, flags: entry.flags & (NTF_SELF | NTF_MASTER), ..entry.clone() };
        way(self) == way(other)
    }

    /// Whether it is in the table of the interface's bridge.
    #[must_use]
    pub fn is_of_bridge(&self) -> bool {
        self.flags & NTF_MASTER != 0
    }

    /// In the words of `bridge fdb`, with interfaces called as `name` says.
    pub(super) fn iproute2_text(&self, name: &dyn Fn(IfIndex) -> String) -> String {
        let mut words = vec![format!("{} dev {}", self.link_address, name(self.index))];
        words.push(if self.is_of_bridge() { "master" } else { "self" }.to_owned());
        let mut word =
            |word: &str, value: Option<String>| words.extend(value.map(|value| format!("{word} {value}")));
        word("dst", self.far_end.map(|address| address.to_string()));
        word("port", self.port.map(|port| port.to_string()));
        word("vni", self.vni.map(|vni| vni.to_string()));
        word("src_vni", self.source_vni.map(|vni| vni.to_string()));
        word("via", self.through.map(name));
        word("nhid", self.next_hop_object.map(|object| object.to_string()));
        word("vlan", self.vlan.map(|vlan| vlan.to_string()));
        words.join(" ")
    }
}

/// In the words of `bridge fdb`.
impl fmt::Display for ForwardingEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.iproute2_text(&|index| index.to_string()))
    }
}

const AF_BRIDGE: u8 = 7;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NDA_VLAN: u16 = 5;
const NDA_PORT: u16 = 6;
const NDA_VNI: u16 = 7;
const NDA_IFINDEX: u16 = 8;
const NDA_SRC_VNI: u16 = 11;
const NDA_NH_ID: u16 = 13;
const NUD_NOARP: u16 = 0x40;
const NUD_PERMANENT: u16 = 0x80;
const NTF_SELF: u8 = 2;
const NTF_MASTER: u8 = 4;
const NTF_EXT_LEARNED: u8 = 0x10;

/// A request for all entries: with a header of this length alone the kernel filters by nothing
/// (`valid_fdb_dump_legacy` in `net/core/rtnetlink.c`).
pub(super) fn question() -> Vec<u8> {
    let mut header = vec![0; 12];
    if let Some(family) = header.first_mut() {
        *family = AF_BRIDGE;
    }
    header
}

/// `None` for what was learned, by the kernel or by a daemon that marks it so (`NTF_EXT_LEARNED`).
pub(super) fn decode(body: &[u8]) -> Result<Option<ForwardingEntry>, MalformedError> {
    let Some(([family, _, _, _, i0, i1, i2, i3, s0, s1, flags, _], attributes)) =
        body.split_first_chunk::<12>()
    else {
        return Err(MalformedError(format!("a forwarding entry of {} bytes", body.len())));
    };
    let state = u16::from_ne_bytes([*s0, *s1]);
    if *family != AF_BRIDGE || state & (NUD_PERMANENT | NUD_NOARP) == 0 || flags & NTF_EXT_LEARNED != 0 {
        return Ok(None);
    }
    let mut entry = ForwardingEntry {
        index: IfIndex(u32::from_ne_bytes([*i0, *i1, *i2, *i3])),
        link_address: MacAddress([0; 6]),
        state,
        flags: *flags,
        vlan: None,
        far_end: None,
        port: None,
        vni: None,
        source_vni: None,
        through: None,
        next_hop_object: None,
    };
    for attribute in Attributes::new(attributes) {
        let attribute = attribute?;
        match attribute.kind {
            NDA_DST => entry.far_end = Some(ip::decode(&attribute)?),
            // Of IP over InfiniBand and the like, which no bridge and no VXLAN has, it is longer.
            NDA_LLADDR if attribute.value.len() != 6 => return Ok(None),
            NDA_LLADDR => entry.link_address = MacAddress(attribute.number(0)?),
            NDA_VLAN => entry.vlan = Some(attribute.u16()?),
            NDA_PORT => entry.port = Some(u16::from_be_bytes(attribute.number(0)?)),
            NDA_VNI => entry.vni = Some(attribute.u32()?),
            NDA_SRC_VNI => entry.source_vni = Some(attribute.u32()?),
            NDA_IFINDEX => entry.through = Some(IfIndex(attribute.u32()?)),
            NDA_NH_ID => entry.next_hop_object = Some(attribute.u32()?),
            _ => {}
        }
    }
    Ok(Some(entry))
}

pub(super) fn encode(entry: &ForwardingEntry) -> Vec<u8> {
    let [s0, s1] = entry.state.to_ne_bytes();
    let header = [[AF_BRIDGE, 0, 0, 0], entry.index.0.to_ne_bytes(), [s0, s1, entry.flags, 0]];
    let mut body = Body::new(&header.concat());
    body.bytes(NDA_LLADDR, &entry.link_address.0);
    if let Some(far_end) = entry.far_end {
        body.bytes(NDA_DST, &octets(far_end));
    }
    if let Some(vlan) = entry.vlan {
        body.u16(NDA_VLAN, vlan);
    }
    if let Some(port) = entry.port {
        body.bytes(NDA_PORT, &port.to_be_bytes());
    }
    let through = entry.through.map(|index| index.0);
    for (number, value) in [
        (NDA_VNI, entry.vni),
        (NDA_SRC_VNI, entry.source_vni),
        (NDA_IFINDEX, through),
        (NDA_NH_ID, entry.next_hop_object),
    ] {
        if let Some(value) = value {
            body.u32(number, value);
        }
    }
    body.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> ForwardingEntry {
        ForwardingEntry {
            index: IfIndex(7),
            link_address: MacAddress([2, 0, 0, 0, 0, 9]),
            state: NUD_PERMANENT,
            flags: NTF_SELF,
            vlan: Some(5),
            far_end: Some("192.0.2.77".parse().unwrap()),
            port: Some(4790),
            vni: Some(8),
            source_vni: Some(9),
            through: Some(IfIndex(3)),
            next_hop_object: None,
        }
    }

    #[test]
    fn fault_6_1_an_entry_is_read_and_asked_for_again() {
        let entry = entry();
        assert_eq!(decode(&encode(&entry)), Ok(Some(entry.clone())));
        assert_eq!(
            entry.to_string(),
            "02:00:00:00:00:09 dev 7 self dst 192.0.2.77 port 4790 vni 8 src_vni 9 via 3 vlan 5"
        );
        let of_bridge = ForwardingEntry { flags: NTF_MASTER, far_end: None, ..entry.clone() };
        assert_eq!(decode(&encode(&of_bridge)), Ok(Some(of_bridge.clone())));
        assert!(of_bridge.is_of_bridge() && !of_bridge.is_same_way(&entry));
        assert!(ForwardingEntry { state: 0x82, ..entry.clone() }.is_same_way(&entry));
    }

    #[test]
    fn what_was_learned_is_left_out() {
        const NUD_REACHABLE: u16 = 2;
        for learned in [
            ForwardingEntry { state: NUD_REACHABLE, ..entry() },
            ForwardingEntry { flags: NTF_SELF | NTF_EXT_LEARNED, ..entry() },
        ] {
            assert_eq!(decode(&encode(&learned)), Ok(None), "{learned:?}");
        }
        assert!(decode(&[7; 11]).is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_an_entry_or_an_error(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..128)) {
            let _ = decode(&bytes);
        }
    }
}

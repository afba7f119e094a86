//! VF attributes from `IFLA_VFINFO_LIST`.

use crate::attributes::{Attribute, Attributes, MalformedError};
use crate::{
    Guid, LinkAddress, LinkLayer, MacAddress, Setting, VfAttributes, VfLinkState, VlanProtocol, VlanTag,
};

// include/uapi/linux/if_link.h. The structures all begin with the VF's number, 32 bits.
const IFLA_VF_INFO: u16 = 1;
const IFLA_VF_MAC: u16 = 1;
const IFLA_VF_VLAN: u16 = 2;
const IFLA_VF_TX_RATE: u16 = 3;
const IFLA_VF_SPOOFCHK: u16 = 4;
const IFLA_VF_LINK_STATE: u16 = 5;
const IFLA_VF_RATE: u16 = 6;
const IFLA_VF_RSS_QUERY_EN: u16 = 7;
const IFLA_VF_TRUST: u16 = 9;
const IFLA_VF_IB_NODE_GUID: u16 = 10;
const IFLA_VF_IB_PORT_GUID: u16 = 11;
const IFLA_VF_VLAN_LIST: u16 = 12;
const IFLA_VF_VLAN_INFO: u16 = 1;

const ETH_P_8021AD: u16 = 0x88a8;

/// The entries of the list of VFs.
///
/// The length of an attribute has 16 bits. The kernel writes a longer list in full, and its length modulo 65536
/// (`rtnl_fill_vf` in `net/core/rtnetlink.c` ends it with `nla_nest_end`, which does not check). The number of VFs stands
/// in front of the list and each entry has its own length, so the true end can be counted out; that it is the true one
/// shows in the 16 bits that were kept.
pub(crate) fn list<'a>(list: &Attribute<'a>, num_vf: u32) -> &'a [u8] {
    let declared = list.value.len();
    let mut entries = Attributes::new(list.onward);
    let mut end = 0;
    for _ in 0..num_vf {
        match entries.next() {
            Some(Ok(entry)) if entry.kind == IFLA_VF_INFO => {
                end += (entry.value.len() + 4).next_multiple_of(4);
            }
            _ => break,
        }
    }
    const WRAP: usize = 1 << 16;
    let wrapped = end > declared && end % WRAP == declared % WRAP;
    // Behind the list there is no padding, since its entries are padded.
    let length = if wrapped { end } else { declared };
    list.onward.get(..length).unwrap_or(list.value)
}

/// A VF's number, with what is said of it.
type ReadVf = (u32, Result<VfAttributes, MalformedError>);

/// Every entry of the list, each with the number of its VF: one that cannot be understood is no other's.
pub(crate) fn vfs(
    list: &[u8],
    layer: LinkLayer,
    address_length: usize,
) -> Result<Vec<ReadVf>, MalformedError> {
    let mut vfs = Vec::new();
    for entry in Attributes::new(list) {
        let entry = entry?;
        if entry.kind != IFLA_VF_INFO {
            continue;
        }
        // Each attribute repeats the VF's number; this one is always there.
        let Some(mac) = entry.nested().find(IFLA_VF_MAC)? else { continue };
        let index = mac.u32_at(0)?;
        vfs.push((index, vf(&entry, index, layer, address_length)));
    }
    Ok(vfs)
}

fn vf(
    entry: &Attribute<'_>,
    index: u32,
    layer: LinkLayer,
    address_length: usize,
) -> Result<VfAttributes, MalformedError> {
    let mut vf = VfAttributes::new(index);
    for attribute in entry.nested() {
        let attribute = attribute?;
        match attribute.kind {
            IFLA_VF_MAC => {
                let field: [u8; 32] = attribute.number(4)?;
                vf.address = LinkAddress(field.into_iter().take(address_length).collect());
                vf.mac = match (layer, MacAddress(attribute.number(4)?)) {
                    (LinkLayer::InfiniBand, _) => Setting::NotThere,
                    (_, mac) if mac.is_zero() => Setting::NotSet,
                    (_, mac) => Setting::Set(mac),
                };
            }
            IFLA_VF_VLAN if vf.vlans.is_empty() => {
                vf.vlan = tag(attribute.u32_at(4)?, attribute.u32_at(8)?, VlanProtocol::Ieee8021Q)?;
            }
            IFLA_VF_VLAN_LIST => {
                for info in attribute.nested() {
                    let info = info?;
                    if info.kind != IFLA_VF_VLAN_INFO {
                        continue;
                    }
                    let protocol = match u16::from_be_bytes(info.number(12)?) {
                        ETH_P_8021AD => VlanProtocol::Ieee8021Ad,
                        _ => VlanProtocol::Ieee8021Q,
                    };
                    let tag = tag(info.u32_at(4)?, info.u32_at(8)?, protocol)?;
                    let is_first = vf.vlans.is_empty();
                    vf.vlans.extend(tag.as_set().copied());
                    if is_first {
                        vf.vlan = tag;
                    }
                }
            }
            IFLA_VF_SPOOFCHK => vf.spoof_check = switch(&attribute)?,
            IFLA_VF_TRUST => vf.trust = switch(&attribute)?,
            IFLA_VF_RSS_QUERY_EN => vf.query_rss = switch(&attribute)?,
            IFLA_VF_LINK_STATE => {
                vf.link_state = match attribute.u32_at(4)? {
                    0 => VfLinkState::Auto,
                    1 => VfLinkState::Enable,
                    2 => VfLinkState::Disable,
                    other => return Err(MalformedError(format!("{other} is no link state of a VF"))),
                };
            }
            IFLA_VF_RATE => {
                vf.min_tx_rate = rate(attribute.u32_at(4)?);
                vf.max_tx_rate = rate(attribute.u32_at(8)?);
            }
            // The older form of the limit; IFLA_VF_RATE, which repeats it, may come before or after.
            IFLA_VF_TX_RATE if !vf.max_tx_rate.is_there() => vf.max_tx_rate = rate(attribute.u32_at(4)?),
            IFLA_VF_IB_NODE_GUID => vf.node_guid = guid(&attribute)?,
            IFLA_VF_IB_PORT_GUID => vf.port_guid = guid(&attribute)?,
            _ => {}
        }
    }
    Ok(vf)
}

/// `struct ifla_vf_spoofchk`, `ifla_vf_trust`, `ifla_vf_rss_query_en`. The kernel presets the value with -1, so that it
/// can be seen that the driver has not filled it in (`rtnl_fill_vfinfo` in `net/core/rtnetlink.c`).
fn switch(attribute: &Attribute<'_>) -> Result<Setting<bool>, MalformedError> {
    Ok(match attribute.u32_at(4)? {
        u32::MAX => Setting::NotThere,
        value => Setting::Set(value != 0),
    })
}

fn rate(mbit: u32) -> Setting<u32> {
    if mbit == 0 { Setting::NotSet } else { Setting::Set(mbit) }
}

/// `struct ifla_vf_guid`: number, 4 bytes of padding, and the GUID as a 64-bit number whose highest byte is the first.
fn guid(attribute: &Attribute<'_>) -> Result<Setting<Guid>, MalformedError> {
    let guid = Guid(u64::from_ne_bytes(attribute.number(8)?).to_be_bytes());
    Ok(if guid.is_zero() { Setting::NotSet } else { Setting::Set(guid) })
}

fn tag(id: u32, qos: u32, protocol: VlanProtocol) -> Result<Setting<VlanTag>, MalformedError> {
    let outside = |_| MalformedError(format!("VLAN {id} with priority {qos} is out of range"));
    let tag = VlanTag {
        id: u16::try_from(id).map_err(outside)?,
        qos: u8::try_from(qos).map_err(outside)?,
        protocol,
    };
    Ok(if id == 0 && qos == 0 { Setting::NotSet } else { Setting::Set(tag) })
}

//! VXLANs: what makes one is kept as the kernel said it, but for three attributes.

use super::raw::{HexBytes, RawAttribute};
use crate::attributes::{Attributes, MalformedError};

const IFLA_VXLAN_ID: u16 = 1;
/// The link below, by an index that is another one afterwards.
pub(super) const IFLA_VXLAN_LINK: u16 = 3;
/// A flag, which `vxlan_fill_info` says as a byte (drivers/net/vxlan/vxlan_core.c, `vxlan_policy`).
const IFLA_VXLAN_TTL_INHERIT: u16 = 28;
const IFLA_VXLAN_VNIFILTER: u16 = 30;
/// Which bits of a header have to be zero: where nobody has said so, all that the other attributes leave, and as such the kernel
/// refuses them.
const IFLA_VXLAN_RESERVED_BITS: u16 = 33;
/// That they are there at all reserves bits (`vxlan_nl2conf`), and the kernel says them always.
const REMOTE_CHECKSUMS: [u16; 2] = [21, 22];

/// What makes it, without the link below it. `None` for one with a filter of network identifiers, whose entries are
/// in another list and go with it.
pub(super) fn decode(data: Attributes<'_>) -> Result<Option<Vec<RawAttribute>>, MalformedError> {
    let mut attributes = Vec::new();
    for attribute in data {
        let attribute = attribute?;
        let is_set = attribute.value.iter().any(|byte| *byte != 0);
        match attribute.kind {
            IFLA_VXLAN_LINK => {}
            IFLA_VXLAN_TTL_INHERIT => {
                if is_set || attribute.value.is_empty() {
                    attributes.push(RawAttribute { number: attribute.kind, value: HexBytes::default() });
                }
            }
            IFLA_VXLAN_VNIFILTER if is_set => return Ok(None),
            number if REMOTE_CHECKSUMS.contains(&number) && !is_set => {}
            _ => attributes.push(RawAttribute::of(&attribute)),
        }
    }
    Ok(Some(attributes))
}

/// Those that one is made with; the others show whether it is the same.
pub(super) fn made_with(attributes: &[RawAttribute]) -> Vec<RawAttribute> {
    attributes.iter().filter(|attribute| attribute.number != IFLA_VXLAN_RESERVED_BITS).cloned().collect()
}

/// Its network's number.
pub(super) fn id(attributes: &[RawAttribute]) -> u32 {
    let id = attributes.iter().find(|attribute| attribute.number == IFLA_VXLAN_ID);
    id.and_then(|id| id.value.0.first_chunk()).map_or(0, |bytes| u32::from_ne_bytes(*bytes))
}

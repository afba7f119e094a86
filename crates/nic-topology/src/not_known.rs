//! What is not known of what stands on interfaces that go.

use std::collections::BTreeSet;

use nic_netlink::{About, IfIndex, Unread};
use serde::{Deserialize, Serialize};

use crate::Network;

/// Something that stands on an interface that goes, or may, and could not be read.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UnknownEntry {
    /// What it is, as far as that is known: `one of the IP addresses of pf0`.
    pub what: String,
    /// Why it is not known.
    pub not_known: Unread,
}

/// What of the entries that could not be read is about links that go, or may be. `names` are those of the links that are saved.
///
/// A link that could not be read, and that the kernel does not show on one of those that go, is passed over: most are strangers.
pub(crate) fn unknown_entries(
    network: &Network,
    goes: &BTreeSet<IfIndex>,
    names: &BTreeSet<&str>,
) -> Vec<UnknownEntry> {
    let entries = network.unread.iter().filter_map(|entry| {
        let of = match &entry.about {
            About::Link(index) if goes.contains(index) => format!(" of {}", network.name(*index)),
            About::Links(links) => {
                let named = links.iter().find(|name| names.contains(name.as_str()))?;
                format!(" that name {named}")
            }
            About::Link(_) => return None,
            About::NotKnown => String::new(),
        };
        Some(UnknownEntry { what: format!("one of the {}{of}", entry.list), not_known: entry.unread.clone() })
    });
    let uppers = network.unread_uppers.iter().filter(|(lower, _)| goes.contains(lower));
    let uppers = uppers.flat_map(|(lower, names)| {
        names.iter().map(|name| UnknownEntry {
            what: format!("the link {name} on {}", network.name(*lower)),
            not_known: Unread::because("what the kernel says of it cannot be read"),
        })
    });
    entries.chain(uppers).collect()
}

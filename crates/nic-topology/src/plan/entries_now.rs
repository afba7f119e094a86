//! What stands on links now, by what the kernel tells entries apart by: there may be thousands, and each saved one is looked for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use nic_netlink::{Address, ForwardingEntry, IfIndex, IpVersion, LinkAddress, MacAddress, Neighbour, Rule};

use super::LinkMapping;
use crate::Network;

/// Addresses, neighbours, forwarding entries and rules. Routes have more to be looked at: [`RoutesNow`](super::entries::RoutesNow).
pub(crate) struct EntriesNow<'now> {
    addresses: BTreeMap<AddressPlace, &'now Address>,
    neighbours: BTreeSet<(IfIndex, IpAddr, &'now LinkAddress)>,
    /// A table has one entry for an address and a far end, or a few that differ in the far end's port and network.
    forwarding: BTreeMap<(IfIndex, MacAddress, Option<IpAddr>), Vec<&'now ForwardingEntry>>,
    rules: BTreeMap<(IpVersion, u32), Vec<&'now Rule>>,
}

type AddressPlace = (IfIndex, IpAddr, u8, Option<IpAddr>);

impl<'now> EntriesNow<'now> {
    pub(crate) fn new(now: &'now Network) -> Self {
        let mut entries = Self {
            addresses: BTreeMap::new(),
            neighbours: BTreeSet::new(),
            forwarding: BTreeMap::new(),
            rules: BTreeMap::new(),
        };
        for address in &now.addresses {
            let place = (address.index, address.address, address.prefix_length, address.peer);
            entries.addresses.entry(place).or_insert(address);
        }
        for neighbour in &now.neighbours {
            entries.neighbours.insert((neighbour.index, neighbour.address, &neighbour.link_address));
        }
        for entry in &now.forwarding {
            let place = (entry.index, entry.link_address, entry.far_end);
            entries.forwarding.entry(place).or_default().push(entry);
        }
        for rule in &now.rules {
            entries.rules.entry((rule.version, rule.priority)).or_default().push(rule);
        }
        entries
    }

    /// The saved address as it is now, on the link that is now its own.
    pub(crate) fn address(&self, saved: &Address, mapping: &LinkMapping<'_>) -> Option<&'now Address> {
        let index = mapping.index(saved.index)?;
        self.addresses.get(&(index, saved.address, saved.prefix_length, saved.peer)).copied()
    }

    pub(crate) fn has_neighbour(&self, saved: &Neighbour, mapping: &LinkMapping<'_>) -> bool {
        let index = mapping.index(saved.index);
        index.is_some_and(|index| self.neighbours.contains(&(index, saved.address, &saved.link_address)))
    }

    pub(crate) fn has_entry(&self, saved: &ForwardingEntry, mapping: &LinkMapping<'_>) -> bool {
        let Some(index) = mapping.index(saved.index) else { return false };
        let through = saved.through.map(|through| mapping.index(through).unwrap_or(IfIndex(0)));
        let wanted = ForwardingEntry { index, through, ..saved.clone() };
        let place = (index, saved.link_address, saved.far_end);
        self.forwarding.get(&place).into_iter().flatten().any(|found| found.is_same_way(&wanted))
    }

    pub(crate) fn has_rule(&self, saved: &Rule) -> bool {
        self.rules.get(&(saved.version, saved.priority)).is_some_and(|rules| rules.contains(&saved))
    }
}

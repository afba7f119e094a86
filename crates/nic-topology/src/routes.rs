//! Which routes go with links and addresses, and which of them come back by themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use nic_netlink::{AddressFlags, IfIndex, Prefix, Route};

use crate::Network;

/// `IFAPROT_*` and `RTPROT_*` share their numbers: what keepalived moves from machine to machine. It has moved to
/// another one, perhaps, and is not put back.
pub(crate) const KEEPALIVED: u8 = 18;

/// Whether the kernel removes it: through a link that goes, or from an address that no other link has
/// (`fib_sync_down_addr` in `net/ipv4/fib_semantics.c`).
pub(crate) fn route_goes(route: &Route, goes: &BTreeSet<IfIndex>, owners: &Owners) -> bool {
    let through = route.next_hops.iter().filter_map(|hop| hop.index).any(|index| goes.contains(&index));
    through || route.preferred_source.is_some_and(|source| owners.go.get(&source) == Some(&true))
}

/// Whether the kernel makes it with an address or with the link, or of a router advertisement, or keepalived does.
pub(crate) fn comes_by_itself(route: &Route, owners: &Owners) -> bool {
    match route.protocol {
        Route::BY_ROUTER_ADVERTISEMENT | KEEPALIVED => true,
        // Local, broadcast, anycast and multicast ones come with each address.
        Route::BY_KERNEL if route.kind != Route::UNICAST => true,
        Route::BY_KERNEL => owners.have_network(route),
        _ => false,
    }
}

/// What routes want to know of the addresses, of which there may be as many as of them.
pub(crate) struct Owners {
    /// Of each address, whether all links that have it go.
    go: BTreeMap<IpAddr, bool>,
    /// The networks to which the kernel makes routes with the addresses, each on its link.
    networks: BTreeSet<(IfIndex, Prefix)>,
}

impl Owners {
    pub(crate) fn of(network: &Network, goes: &BTreeSet<IfIndex>) -> Self {
        let mut owners = Self { go: BTreeMap::new(), networks: BTreeSet::new() };
        for address in &network.addresses {
            *owners.go.entry(address.address).or_insert(true) &= goes.contains(&address.index);
            if !address.flags.contains(AddressFlags::NOPREFIXROUTE) {
                let far = address.peer.unwrap_or(address.address);
                owners.networks.insert((address.index, Prefix::containing(far, address.prefix_length)));
            }
        }
        owners
    }

    /// Whether it is the route to an address's own network. Network managers make such routes themselves, too, and mark them
    /// as the kernel's; those are for addresses without [`AddressFlags::NOPREFIXROUTE`] only.
    fn have_network(&self, route: &Route) -> bool {
        let index = route.next_hops.first().and_then(|hop| hop.index);
        index.is_some_and(|index| self.networks.contains(&(index, route.destination)))
    }
}

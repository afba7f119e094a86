use std::collections::{BTreeMap, BTreeSet};

use nic_host::{Host, ReadError};
use nic_netlink::{
    Address, AddressFlags, ChildKind, IfIndex, LinkAddress, LinkName, Neighbour, Netlink, NetworkReadError,
    Port, Prefix, Route, Rule, StackedLink,
};
use serde::{Deserialize, Serialize};

use crate::{ManagedBy, Network, Progress, progress};

/// What stands on interfaces that go away: all that the kernel removes with them, and what they are ports of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NetworkState {
    /// The interfaces that go, those that go with them, and those that stay and have or stand on one of them.
    pub links: Vec<LinkState>,
    /// The addresses of those that go.
    pub addresses: Vec<Address>,
    /// The permanent neighbours on those that go.
    pub neighbours: Vec<Neighbour>,
    /// The routes that go: through such an interface, or from such an address. In the kernel's order.
    pub routes: Vec<Route>,
    /// The rules that name such an interface. The kernel keeps them; a network manager may not.
    pub rules: Vec<Rule>,
}

/// A link that goes, or has to do with one that does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LinkState {
    /// The index it had. All that is saved refers to it by this; it is never restored.
    pub index: IfIndex,
    /// The link's name.
    pub name: LinkName,
    /// The kind of a virtual one.
    pub kind: Option<String>,
    /// Its place among the others.
    pub place: Place,
    /// The one it was a port of.
    pub master: Option<IfIndex>,
    /// What that one kept about it.
    pub port: Option<Port>,
    /// The hardware address.
    pub address: LinkAddress,
    /// The MTU, in bytes.
    pub mtu: u32,
    /// Whether it was up.
    pub up: bool,
    /// The length of its transmit queue, in packets.
    pub tx_queue_length: u32,
    /// The description (`ifalias`).
    pub alias: Option<String>,
    /// The group (`ip link set … group`).
    pub group: u32,
    /// Its further names, sorted.
    pub altnames: Vec<String>,
    /// Whose it is, where a network manager has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub managed_by: Option<ManagedBy>,
}

/// What becomes of a link, and how it comes back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "place", rename_all = "snake_case", deny_unknown_fields)]
pub enum Place {
    /// Its driver goes; the driver that comes makes it anew.
    Device,
    /// The kernel removes it with the link below it; it has to be made again.
    Child {
        /// The link below it.
        lower: IfIndex,
        /// What makes it.
        child: ChildKind,
    },
    /// The kernel removes it with the link below it, and nothing here knows how it is made.
    LostChild {
        /// The link below it.
        lower: IfIndex,
    },
    /// It stays: a master of one that goes, or what stands on such a master.
    Stays {
        /// The link below it.
        lower: Option<IfIndex>,
    },
}

impl LinkState {
    /// Whether the kernel removes it.
    #[must_use]
    pub fn goes(&self) -> bool {
        !matches!(self.place, Place::Stays { .. })
    }

    fn of(stacked: &StackedLink, place: Place) -> Self {
        let link = &stacked.link;
        let mut altnames = link.altnames.clone();
        altnames.sort_unstable();
        Self {
            index: link.index,
            name: link.name.clone(),
            kind: link.kind.clone(),
            place,
            master: link.master,
            port: stacked.port.clone(),
            address: link.address.clone(),
            mtu: link.mtu,
            up: link.up,
            tx_queue_length: link.tx_queue_length,
            alias: link.alias.clone(),
            group: link.group,
            altnames,
            managed_by: None,
        }
    }
}

/// `IFAPROT_*` and `RTPROT_*` share their numbers: what keepalived moves from machine to machine. It has moved to
/// another one, perhaps, and is not put back.
const KEEPALIVED: u8 = 18;

/// What stands on interfaces could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// A list of the kernel's.
    #[error(transparent)]
    Network(#[from] NetworkReadError),
    /// What a network manager says.
    #[error(transparent)]
    Manager(#[from] ReadError),
}

impl NetworkState {
    /// The same without what stood on the devices `gone`, which will not come back: their own entries, those of the links
    /// that the kernel has removed with them, and the routes that had one of these as their only way.
    #[must_use]
    pub fn without_devices(mut self, gone: &[IfIndex]) -> Self {
        let mut gone = gone.to_vec();
        loop {
            let falls = |link: &&LinkState| match &link.place {
                Place::Child { lower, .. } | Place::LostChild { lower } => {
                    gone.contains(lower) && !gone.contains(&link.index)
                }
                Place::Device | Place::Stays { .. } => false,
            };
            let more: Vec<IfIndex> = self.links.iter().filter(falls).map(|link| link.index).collect();
            if more.is_empty() {
                break;
            }
            gone.extend(more);
        }
        let names: Vec<String> = self
            .links
            .iter()
            .filter(|link| gone.contains(&link.index))
            .map(|link| link.name.as_str().to_owned())
            .collect();
        let is_gone = |index: &IfIndex| gone.contains(index);
        let names_gone = |name: &Option<String>| name.as_ref().is_some_and(|name| names.contains(name));
        self.links.retain(|link| !is_gone(&link.index));
        self.addresses.retain(|address| !is_gone(&address.index));
        self.neighbours.retain(|neighbour| !is_gone(&neighbour.index));
        self.routes.retain(|route| {
            route.next_hops.is_empty()
                || !route.next_hops.iter().all(|hop| hop.index.as_ref().is_some_and(is_gone))
        });
        self.rules.retain(|rule| !names_gone(&rule.input_interface) && !names_gone(&rule.output_interface));
        self
    }

    /// Reads what stands on the interfaces `devices`, and whose they are. See [`NetworkState::standing_on`].
    pub async fn observe(host: &Host, netlink: &Netlink, devices: &[IfIndex]) -> Result<Self, ObserveError> {
        let mut state = Self::standing_on(&Network::read(netlink).await?, devices);
        for link in &mut state.links {
            link.managed_by = match progress(host, link.index)? {
                Progress::Managed(manager) | Progress::Done(manager) => Some(manager),
                Progress::NotManaged => None,
            };
        }
        Ok(state)
    }

    /// What stands on the interfaces `devices`, when their driver makes them go.
    ///
    /// Left out is what comes back by itself: what the kernel makes of addresses and router advertisements. So is what
    /// keepalived has put there, which may be another machine's by then. A link in another network namespace cannot be
    /// seen, and whoever moved it there has to make it again.
    #[must_use]
    pub fn standing_on(network: &Network, devices: &[IfIndex]) -> Self {
        let goes = links_that_go(network, devices);
        let affected = links_affected(network, &goes);
        let links = affected.iter().filter_map(|index| network.links.get(index));
        let mut links: Vec<LinkState> = links
            .map(|stacked| {
                let index = stacked.link.index;
                let lower = lower(stacked);
                let place = match (lower, &stacked.child) {
                    _ if devices.contains(&index) => Place::Device,
                    _ if !goes.contains(&index) => Place::Stays { lower },
                    (Some(lower), Some(child)) => Place::Child { lower, child: child.clone() },
                    (Some(lower), None) => Place::LostChild { lower },
                    (None, _) => Place::Device,
                };
                LinkState::of(stacked, place)
            })
            .collect();
        // What a child stands on comes before it.
        links.sort_by_key(|link| depth(network, link.index));
        let is_kept = |address: &&Address| {
            goes.contains(&address.index) && !address.is_made_by_kernel() && address.origin != KEEPALIVED
        };
        let addresses: Vec<Address> = network.addresses.iter().filter(is_kept).cloned().collect();
        let neighbours = network.neighbours.iter().filter(|neighbour| goes.contains(&neighbour.index));
        let routes = network.routes.iter().filter(|route| {
            let goes = route_goes(route, &goes, network);
            goes && !comes_by_itself(route, network)
        });
        let names: BTreeSet<&str> = links.iter().map(|link| link.name.as_str()).collect();
        let rules = network.rules.iter().filter(|rule| {
            [&rule.input_interface, &rule.output_interface]
                .into_iter()
                .flatten()
                .any(|name| names.contains(name.as_str()))
        });
        Self {
            neighbours: neighbours.cloned().collect(),
            routes: routes.cloned().collect(),
            rules: rules.cloned().collect(),
            addresses,
            links,
        }
    }

    /// The link with this saved index.
    #[must_use]
    pub fn link(&self, index: IfIndex) -> Option<&LinkState> {
        self.links.iter().find(|link| link.index == index)
    }

    /// The saved link's name; its index where it is none of these.
    #[must_use]
    pub fn name(&self, index: IfIndex) -> String {
        self.link(index).map_or_else(|| format!("ifindex {index}"), |link| link.name.to_string())
    }

    /// Whether nothing stands on the interfaces but they themselves.
    #[must_use]
    pub fn is_bare(&self) -> bool {
        self.links.iter().all(|link| link.place == Place::Device)
            && self.addresses.is_empty()
            && self.neighbours.is_empty()
            && self.routes.is_empty()
            && self.rules.is_empty()
    }
}

/// The link below, where it is in this namespace.
fn lower(stacked: &StackedLink) -> Option<IfIndex> {
    // Both ends of a veth name each other, and neither stands on the other.
    let is_pair = stacked.link.kind.as_deref() == Some("veth");
    stacked.link.link.filter(|_| stacked.link.link_netns_id.is_none() && !is_pair)
}

/// The links themselves, and those that stand on them, and so on.
pub(crate) fn links_that_go(network: &Network, devices: &[IfIndex]) -> BTreeSet<IfIndex> {
    let mut goes: BTreeSet<IfIndex> = devices.iter().copied().collect();
    grow(&mut goes, network, |stacked, goes| lower(stacked).is_some_and(|lower| goes.contains(&lower)));
    goes
}

/// Those that go, their masters, and what stands on the masters, and so on.
pub(crate) fn links_affected(network: &Network, goes: &BTreeSet<IfIndex>) -> BTreeSet<IfIndex> {
    let mut affected = goes.clone();
    grow(&mut affected, network, |stacked, affected| {
        let on_one = lower(stacked).is_some_and(|lower| affected.contains(&lower));
        let has_one = network
            .links
            .values()
            .any(|port| port.link.master == Some(stacked.link.index) && affected.contains(&port.link.index));
        on_one || has_one
    });
    affected
}

fn grow(
    set: &mut BTreeSet<IfIndex>,
    network: &Network,
    belongs: impl Fn(&StackedLink, &BTreeSet<IfIndex>) -> bool,
) {
    loop {
        let more: Vec<IfIndex> = network
            .links
            .values()
            .filter(|stacked| !set.contains(&stacked.link.index) && belongs(stacked, set))
            .map(|stacked| stacked.link.index)
            .collect();
        if more.is_empty() {
            return;
        }
        set.extend(more);
    }
}

/// How many links are below it.
fn depth(network: &Network, index: IfIndex) -> usize {
    let mut depth = 0;
    let mut at = index;
    while let Some(below) = network.links.get(&at).and_then(lower) {
        depth += 1;
        at = below;
        if depth > network.links.len() {
            break;
        }
    }
    depth
}

/// Whether the kernel removes it: through a link that goes, or from an address that no other link has
/// (`fib_sync_down_addr` in `net/ipv4/fib_semantics.c`).
fn route_goes(route: &Route, goes: &BTreeSet<IfIndex>, network: &Network) -> bool {
    let through = route.next_hops.iter().filter_map(|hop| hop.index).any(|index| goes.contains(&index));
    through
        || route.preferred_source.is_some_and(|source| {
            let mut owners = network.addresses.iter().filter(|address| address.address == source).peekable();
            owners.peek().is_some() && owners.all(|owner| goes.contains(&owner.index))
        })
}

/// Whether the kernel makes it with an address or with the link, or of a router advertisement, or keepalived does.
fn comes_by_itself(route: &Route, network: &Network) -> bool {
    match route.protocol {
        Route::BY_ROUTER_ADVERTISEMENT | KEEPALIVED => true,
        // Local, broadcast, anycast and multicast ones come with each address.
        Route::BY_KERNEL if route.kind != Route::UNICAST => true,
        Route::BY_KERNEL => comes_with_an_address(route, &network.addresses),
        _ => false,
    }
}

/// Whether it is the route to an address's own network. Network managers make such routes themselves, too, and mark them
/// as the kernel's; those are for addresses without [`AddressFlags::NOPREFIXROUTE`] only.
fn comes_with_an_address(route: &Route, addresses: &[Address]) -> bool {
    let Some(index) = route.next_hops.first().and_then(|hop| hop.index) else { return false };
    addresses.iter().any(|address| {
        let network = Prefix::containing(address.peer.unwrap_or(address.address), address.prefix_length);
        address.index == index
            && !address.flags.contains(AddressFlags::NOPREFIXROUTE)
            && network == route.destination
    })
}

/// The first of several links of a name, for looking links up.
pub(crate) fn by_name(network: &Network) -> BTreeMap<&str, &StackedLink> {
    network.links.values().map(|stacked| (stacked.link.name.as_str(), stacked)).collect()
}

use std::collections::{BTreeMap, BTreeSet};

use nic_host::{Host, ListError, ReadError};
use nic_netlink::{
    Address, ChildKind, ForwardingEntry, IfIndex, LinkAddress, LinkName, Neighbour, Netlink,
    NetworkReadError, Port, Route, Rule, StackedLink, Standing, Tunnel,
};
use serde::{Deserialize, Serialize};

use crate::going::{Lowers, Ports, depth, links_affected, links_that_go, one_below};
use crate::network::is_bridge_port;
use crate::not_known::unknown_entries;
use crate::routes::{KEEPALIVED, Owners, comes_by_itself, route_goes};
use crate::{ManagedBy, Network, Progress, UnknownEntry, progress};

/// What stands on interfaces that go away: all that the kernel removes with them, and what they are ports of.
#[derive(Debug, Clone, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NetworkState {
    /// The interfaces that go, those that go with them, and those that stay and have or stand on one of them.
    pub links: Vec<LinkState>,
    /// The addresses of those that go.
    pub addresses: Vec<Address>,
    /// The permanent neighbours on those that go.
    pub neighbours: Vec<Neighbour>,
    /// The forwarding entries that somebody made, of VXLANs that go and of bridges for ports that go.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forwarding: Vec<ForwardingEntry>,
    /// The routes that go: through such an interface, or from such an address. In the kernel's order.
    pub routes: Vec<Route>,
    /// The rules that name such an interface. The kernel keeps them; a network manager may not.
    pub rules: Vec<Rule>,
    /// What stands on those that go, or may, and is not known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_known: Vec<UnknownEntry>,
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
    /// Of a bond's port, the one that it had before it joined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_address: Option<LinkAddress>,
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
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
    /// It stays, and goes on naming the index of one that is gone.
    Bound {
        /// The interface that it sends through.
        lower: IfIndex,
        /// What it is bound to the one that comes with; `None` for what nothing can bind anew.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tunnel: Option<Tunnel>,
    },
}

impl LinkState {
    /// Whether the kernel removes it.
    #[must_use]
    pub fn goes(&self) -> bool {
        match self.place {
            Place::Device | Place::Child { .. } | Place::LostChild { .. } => true,
            Place::Stays { .. } | Place::Bound { .. } => false,
        }
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
            own_address: link.own_address.clone(),
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

/// What stands on interfaces could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// A list of the kernel's.
    #[error(transparent)]
    Network(#[from] NetworkReadError),
    /// What a network manager says.
    #[error(transparent)]
    Manager(#[from] ReadError),
    /// What stands on a link, in sysfs.
    #[error("what stands on the interfaces cannot be listed")]
    Uppers(#[from] ListError),
}

impl NetworkState {
    /// The same without what stood on the devices `gone`, which will not come back: their own entries, those of the links
    /// that the kernel has removed with them, and the routes that had one of these as their only way.
    #[must_use]
    pub fn without_devices(mut self, gone: &[IfIndex]) -> Self {
        let mut gone: BTreeSet<IfIndex> = gone.iter().copied().collect();
        loop {
            let falls = |link: &&LinkState| match &link.place {
                Place::Child { lower, .. } | Place::LostChild { lower } => {
                    gone.contains(lower) && !gone.contains(&link.index)
                }
                Place::Device | Place::Stays { .. } | Place::Bound { .. } => false,
            };
            let more: Vec<IfIndex> = self.links.iter().filter(falls).map(|link| link.index).collect();
            if more.is_empty() {
                break;
            }
            gone.extend(more);
        }
        let names: BTreeSet<String> = self
            .links
            .iter()
            .filter(|link| gone.contains(&link.index))
            .map(|link| link.name.as_str().to_owned())
            .collect();
        let is_gone = |index: &IfIndex| gone.contains(index);
        let names_gone = |name: &Option<String>| name.as_ref().is_some_and(|name| names.contains(name));
        self.links.retain(|link| !is_gone(&link.index));
        for link in &mut self.links {
            // It stays, and nothing comes that it could be bound to.
            if matches!(&link.place, Place::Bound { lower, .. } if is_gone(lower)) {
                link.place = Place::Stays { lower: None };
            }
            if link.master.as_ref().is_some_and(is_gone) {
                (link.master, link.port) = (None, None);
            }
        }
        self.addresses.retain(|address| !is_gone(&address.index));
        self.neighbours.retain(|neighbour| !is_gone(&neighbour.index));
        self.forwarding.retain(|entry| !is_gone(&entry.index));
        self.routes.retain(|route| {
            route.next_hops.is_empty()
                || !route.next_hops.iter().all(|hop| hop.index.as_ref().is_some_and(is_gone))
        });
        self.rules.retain(|rule| !names_gone(&rule.input_interface) && !names_gone(&rule.output_interface));
        self
    }

    /// Reads what stands on the interfaces `devices`, and whose they are. See [`NetworkState::standing_on`].
    pub async fn observe(host: &Host, netlink: &Netlink, devices: &[IfIndex]) -> Result<Self, ObserveError> {
        let mut network = Network::read(netlink).await?;
        network.read_uppers(host, devices)?;
        let mut state = Self::standing_on(&network, devices);
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
        let devices: BTreeSet<IfIndex> = devices.iter().copied().collect();
        let affected = links_affected(network, &goes);
        let links = affected.iter().filter_map(|index| network.links.get(index));
        let (ports, lowers) = (Ports::of(network), Lowers::of(network));
        let mut links: Vec<LinkState> = links
            .map(|stacked| {
                let is_device = devices.contains(&stacked.link.index);
                let place = if is_device {
                    Place::Device
                } else {
                    place(stacked, one_below(&ports, &lowers, stacked, &goes), &goes)
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
        // The kernel's list is not of one moment (`neigh_dump_table` in `net/core/neighbour.c`): one may be there twice.
        let mut seen = BTreeSet::new();
        let neighbours = network.neighbours.iter().filter(|neighbour| {
            goes.contains(&neighbour.index) && seen.insert((neighbour.index, neighbour.address))
        });
        let forwarding = network.forwarding.iter().filter(|entry| {
            goes.contains(&entry.index)
                && network.links.get(&entry.index).is_some_and(|link| is_kept_entry(network, link, entry))
        });
        let owners = Owners::of(network, &goes);
        let routes = network
            .routes
            .iter()
            .filter(|route| route_goes(route, &goes, &owners) && !comes_by_itself(route, &owners));
        let names: BTreeSet<&str> = links.iter().map(|link| link.name.as_str()).collect();
        let rules = network.rules.iter().filter(|rule| {
            [&rule.input_interface, &rule.output_interface]
                .into_iter()
                .flatten()
                .any(|name| names.contains(name.as_str()))
        });
        let not_known = unknown_entries(network, &goes, &names);
        Self {
            not_known,
            neighbours: neighbours.cloned().collect(),
            forwarding: forwarding.cloned().collect(),
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

    /// What nothing gives back when the interfaces come back, in a line each: links that the kernel removes and that nothing here can make,
    /// and those that stay and can be bound to nothing else.
    #[must_use]
    pub fn lost(&self) -> Vec<String> {
        let lost = self.links.iter().filter_map(|link| {
            let kind = link.kind.as_deref().unwrap_or("link");
            match &link.place {
                Place::LostChild { lower } => Some(format!(
                    "{kind} {} on {} goes with it, and cannot be made again",
                    link.name,
                    self.name(*lower)
                )),
                Place::Bound { lower, tunnel: None } => Some(format!(
                    "{kind} {} stays bound to {}, which is gone by then, and cannot be bound anew",
                    link.name,
                    self.name(*lower)
                )),
                Place::Device
                | Place::Child { .. }
                | Place::Stays { .. }
                | Place::Bound { tunnel: Some(_), .. } => None,
            }
        });
        lost.collect()
    }

    /// What is not known and was not taken into account yet ([`NetworkState::accepting_not_known`]).
    pub fn not_known(&self) -> impl Iterator<Item = &UnknownEntry> {
        self.not_known.iter().filter(|entry| !entry.not_known.is_accepted())
    }

    /// The same state, with all that is not known taken into account: it is lost then, and that is said.
    #[must_use]
    pub fn accepting_not_known(mut self) -> Self {
        for entry in &mut self.not_known {
            entry.not_known = entry.not_known.clone().accepted();
        }
        self
    }

    /// Whether nothing stands on the interfaces but they themselves.
    #[must_use]
    pub fn is_bare(&self) -> bool {
        self.links.iter().all(|link| link.place == Place::Device)
            && self.addresses.is_empty()
            && self.neighbours.is_empty()
            && self.forwarding.is_empty()
            && self.routes.is_empty()
            && self.rules.is_empty()
            && self.not_known.is_empty()
    }
}

/// What becomes of a link that is no device itself, and has one that goes below it or not.
fn place(stacked: &StackedLink, below: Option<IfIndex>, goes: &BTreeSet<IfIndex>) -> Place {
    match (below, &stacked.child, &stacked.standing) {
        (Some(lower), Some(child), Standing::GoesWith(_)) if goes.contains(&stacked.link.index) => {
            Place::Child { lower, child: child.clone() }
        }
        (Some(lower), _, _) if goes.contains(&stacked.link.index) => Place::LostChild { lower },
        (Some(_), _, Standing::BoundTo { lower, tunnel }) => {
            Place::Bound { lower: *lower, tunnel: tunnel.clone() }
        }
        // One of several below it goes, or what nothing is known of stays.
        (Some(lower), _, Standing::GoesWith(_) | Standing::NotKnown(_)) => {
            Place::Bound { lower, tunnel: None }
        }
        _ => Place::Stays { lower: stacked.standing.lowers().first().copied() },
    }
}

/// Whether somebody made the entry, and it goes with the link: all of a VXLAN's, and those of a bridge but for the address
/// of the port and of the bridge, which the kernel enters itself (`br_fdb_add_local` in `net/bridge/br_fdb.c`).
///
/// What else has such a table is left out: an Ethernet interface's has what its uppers asked for, in other network
/// namespaces too, and nothing tells that from what an administrator has entered.
fn is_kept_entry(network: &Network, link: &StackedLink, entry: &ForwardingEntry) -> bool {
    if !entry.is_of_bridge() {
        return link.link.kind.as_deref() == Some("vxlan");
    }
    let bridge = link.link.master.and_then(|master| network.links.get(&master));
    let is_of = |link: &StackedLink| link.link.address.0 == entry.link_address.0;
    is_bridge_port(link) && !is_of(link) && !bridge.is_some_and(is_of)
}

/// The first of several links of a name, for looking links up.
pub(crate) fn by_name(network: &Network) -> BTreeMap<&str, &StackedLink> {
    network.links.values().map(|stacked| (stacked.link.name.as_str(), stacked)).collect()
}

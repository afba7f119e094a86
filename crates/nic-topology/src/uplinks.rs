//! The ways out of the machine that go through interfaces that go away.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use nic_netlink::{IfIndex, Route, StackedLink};
use serde::{Deserialize, Serialize};

use crate::Network;
use crate::going::{links_affected, links_that_go};

/// What of a node's network stands on interfaces that go away, directly or through bonds, bridges, VLANs and so on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uplinks {
    /// The virtual links on them: name and kind.
    pub links: Vec<(String, String)>,
    /// The addresses on all of them, with the interface's name.
    pub addresses: Vec<(String, String)>,
    /// The default routes through them, in the words of iproute2.
    pub default_routes: Vec<String>,
    /// The Kubernetes API, where it is behind them.
    pub api: Option<ApiRoute>,
    /// Ways out of which nothing tells what they go through in the end, each with the interface that they are lost in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_known: Vec<String>,
}

/// Whether a way out goes through interfaces.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Carried {
    No,
    Yes,
    /// It ends in this interface, of which the kernel does not tell what is below.
    CannotBeTold(IfIndex),
}

/// The links below an interface, down to the NICs.
struct Ways<'a> {
    network: &'a Network,
    /// The interfaces that go, and all that has to do with them.
    affected: &'a BTreeSet<IfIndex>,
}

impl Ways<'_> {
    /// Walks down from the interface that a route leads to.
    fn carried(&self, interface: IfIndex) -> Carried {
        let (mut seen, mut open) = (BTreeSet::new(), vec![interface]);
        let mut carried = Carried::No;
        while let Some(index) = open.pop() {
            if !seen.insert(index) {
                continue;
            }
            if self.affected.contains(&index) {
                return Carried::Yes;
            }
            let Some(stacked) = self.network.links.get(&index) else {
                carried = Carried::CannotBeTold(index);
                continue;
            };
            let ports = self.network.links.values().filter(|port| port.link.master == Some(index));
            let below: Vec<IfIndex> =
                stacked.standing.lowers().iter().copied().chain(ports.map(|port| port.link.index)).collect();
            if below.is_empty() {
                match self.end(stacked) {
                    Carried::Yes => return Carried::Yes,
                    Carried::CannotBeTold(index) => carried = Carried::CannotBeTold(index),
                    Carried::No => {}
                }
            }
            open.extend(below);
        }
        carried
    }

    /// What is below an interface that names none: a NIC nothing, and of a virtual one the kernel does not tell.
    fn end(&self, stacked: &StackedLink) -> Carried {
        match stacked.link.kind.as_deref() {
            None | Some("ipoib") => Carried::No,
            // An Open vSwitch bridge is a port of its datapath without a master, as which the datapath's other ports have it
            // (`ovs_vport_cmd_fill_info` and `get_dpdev` in net/openvswitch). All datapaths of this kind are taken for one.
            Some(OPEN_VSWITCH) => {
                let is_port = |port: &IfIndex| {
                    let master = self.network.links.get(port).and_then(|port| port.link.master);
                    let master = master.and_then(|master| self.network.links.get(&master));
                    master.is_some_and(|master| master.link.kind.as_deref() == Some(OPEN_VSWITCH))
                };
                if self.affected.iter().any(is_port) { Carried::Yes } else { Carried::No }
            }
            Some(_) => Carried::CannotBeTold(stacked.link.index),
        }
    }
}

const OPEN_VSWITCH: &str = "openvswitch";

/// How the Kubernetes API is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiRoute {
    /// The API server's address.
    pub address: IpAddr,
    /// The interface that leads there.
    pub interface: String,
}

impl Uplinks {
    /// What stands on `devices`, and which ways out lead there, walked down from each route's own interface. `api` is the Kubernetes API's address with the route that the kernel chooses for it.
    #[must_use]
    pub fn of(network: &Network, devices: &[IfIndex], api: Option<(IpAddr, &Route)>) -> Self {
        let goes = links_that_go(network, devices);
        let affected = links_affected(network, &goes);
        let name = |index: IfIndex| network.name(index);
        let links = affected.iter().filter_map(|index| network.links.get(index));
        let virtual_links = links.filter_map(|stacked| {
            let link = &stacked.link;
            let is_device = devices.contains(&link.index);
            link.kind.clone().filter(|_| !is_device).map(|kind| (link.name.to_string(), kind))
        });
        let addresses = network
            .addresses
            .iter()
            .filter(|address| affected.contains(&address.index) && !address.is_made_by_kernel());
        let ways = Ways { network, affected: &affected };
        let carried = |route: &Route| {
            let hops = route.next_hops.iter().filter_map(|hop| hop.index);
            let mut answer = Carried::No;
            for hop in hops {
                match ways.carried(hop) {
                    Carried::Yes => return Carried::Yes,
                    Carried::No => {}
                    unknown @ Carried::CannotBeTold(_) => answer = unknown,
                }
            }
            answer
        };
        let (mut default_routes, mut not_known) = (Vec::new(), Vec::new());
        for route in &network.routes {
            if !route.destination.is_default() || route.kind != Route::UNICAST {
                continue;
            }
            let text = route.iproute2_text(&name);
            match carried(route) {
                Carried::No => {}
                Carried::Yes => default_routes.push(text),
                Carried::CannotBeTold(index) => {
                    not_known.push(format!("route {text}, which is lost in {}", name(index)));
                }
            }
        }
        let api = api.and_then(|(address, route)| match carried(route) {
            Carried::No => None,
            Carried::Yes => Some(ApiRoute {
                address,
                interface: route.next_hops.iter().find_map(|hop| hop.index).map(name).unwrap_or_default(),
            }),
            Carried::CannotBeTold(index) => {
                not_known.push(format!(
                    "the way to the Kubernetes API {address}, which is lost in {}",
                    name(index)
                ));
                None
            }
        });
        Self {
            links: virtual_links.collect(),
            addresses: addresses.map(|address| (name(address.index), address.to_string())).collect(),
            default_routes,
            api,
            not_known,
        }
    }

    /// Whether the machine itself is reached through them, or may be: a default route or the Kubernetes API is.
    #[must_use]
    pub fn carry_management(&self) -> bool {
        !self.default_routes.is_empty() || self.api.is_some() || !self.not_known.is_empty()
    }
}

/// In one line.
impl fmt::Display for Uplinks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        parts.extend(self.default_routes.iter().map(|route| format!("route {route}")));
        if let Some(ApiRoute { address, interface }) = &self.api {
            parts.push(format!("the Kubernetes API {address} over {interface}"));
        }
        parts.extend(self.not_known.iter().map(|way| format!("perhaps {way}")));
        parts.extend(self.links.iter().map(|(name, kind)| format!("{kind} {name}")));
        parts.extend(self.addresses.iter().map(|(name, address)| format!("address {address} of {name}")));
        f.write_str(&parts.join(", "))
    }
}

//! The ways out of the machine that go through interfaces that go away.

use std::fmt;
use std::net::IpAddr;

use nic_netlink::{IfIndex, Route};
use serde::{Deserialize, Serialize};

use crate::Network;
use crate::ways::{Carried, Ways};

/// What of a node's network stands on interfaces that go away, directly or through bonds, bridges, VLANs and so on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uplinks {
    /// The virtual links on them: name and kind.
    pub links: Vec<(String, String)>,
    /// The addresses on all of them, with the interface's name.
    pub addresses: Vec<(String, String)>,
    /// The default routes through them, in the words of iproute2.
    pub default_routes: Vec<String>,
    /// The Kubernetes API's servers that are behind them.
    pub api: Vec<ApiRoute>,
    /// Ways out of which nothing tells what they go through in the end, each with the interface that they are lost in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_known: Vec<String>,
}

/// How the Kubernetes API is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiRoute {
    /// The API server's address.
    pub address: IpAddr,
    /// The interface that leads there.
    pub interface: String,
}

impl Uplinks {
    /// What stands on `devices`, and which ways out lead there. `api` are the addresses of the Kubernetes API's servers, each with the
    /// route that the kernel chooses for it.
    #[must_use]
    pub fn of(network: &Network, devices: &[IfIndex], api: &[(IpAddr, Route)]) -> Self {
        let ways = Ways::new(network, devices);
        let affected = ways.affected();
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
        let (mut default_routes, mut not_known) = (Vec::new(), Vec::new());
        for route in &network.routes {
            if !route.destination.is_default() || route.kind != Route::UNICAST {
                continue;
            }
            let text = route.iproute2_text(&name);
            match ways.carried(route) {
                Carried::No => {}
                Carried::Yes => default_routes.push(text),
                Carried::CannotBeTold(index) => {
                    not_known.push(format!("route {text}, which is lost in {}", name(index)));
                }
            }
        }
        let mut servers = Vec::new();
        for (address, route) in api {
            match ways.carried(route) {
                Carried::No => {}
                Carried::Yes => servers.push(ApiRoute {
                    address: *address,
                    interface: route.next_hops.iter().find_map(|hop| hop.index).map(name).unwrap_or_default(),
                }),
                Carried::CannotBeTold(index) => not_known.push(format!(
                    "the way to the Kubernetes API {address}, which is lost in {}",
                    name(index)
                )),
            }
        }
        Self {
            links: virtual_links.collect(),
            addresses: addresses.map(|address| (name(address.index), address.to_string())).collect(),
            default_routes,
            api: servers,
            not_known,
        }
    }

    /// Whether the machine itself is reached through them, or may be: a default route or the Kubernetes API is.
    #[must_use]
    pub fn carry_management(&self) -> bool {
        !self.default_routes.is_empty() || !self.api.is_empty() || !self.not_known.is_empty()
    }
}

/// In one line.
impl fmt::Display for Uplinks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        parts.extend(self.default_routes.iter().map(|route| format!("route {route}")));
        parts.extend(
            self.api.iter().map(|ApiRoute { address, interface }| {
                format!("the Kubernetes API {address} over {interface}")
            }),
        );
        parts.extend(self.not_known.iter().map(|way| format!("perhaps {way}")));
        parts.extend(self.links.iter().map(|(name, kind)| format!("{kind} {name}")));
        parts.extend(self.addresses.iter().map(|(name, address)| format!("address {address} of {name}")));
        f.write_str(&parts.join(", "))
    }
}

//! The ways out of the machine that go through interfaces that go away.

use std::fmt;
use std::net::IpAddr;

use nic_netlink::{IfIndex, Route};
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
    /// What stands on `devices`. `api` is the Kubernetes API's address with the route that the kernel chooses for it.
    #[must_use]
    pub fn of(network: &Network, devices: &[IfIndex], api: Option<(IpAddr, &Route)>) -> Self {
        let goes = links_that_go(network, devices);
        let affected = links_affected(network, &goes);
        let through = |route: &Route| affected.iter().any(|index| route.goes_through(*index));
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
        let default_routes = network
            .routes
            .iter()
            .filter(|route| route.destination.is_default() && route.kind == Route::UNICAST && through(route));
        Self {
            links: virtual_links.collect(),
            addresses: addresses.map(|address| (name(address.index), address.to_string())).collect(),
            default_routes: default_routes.map(|route| route.iproute2_text(&name)).collect(),
            api: api.filter(|(_, route)| through(route)).map(|(address, route)| ApiRoute {
                address,
                interface: route.next_hops.iter().find_map(|hop| hop.index).map(name).unwrap_or_default(),
            }),
        }
    }

    /// Whether the machine itself is reached through them: a default route or the Kubernetes API is.
    #[must_use]
    pub fn carry_management(&self) -> bool {
        !self.default_routes.is_empty() || self.api.is_some()
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
        parts.extend(self.links.iter().map(|(name, kind)| format!("{kind} {name}")));
        parts.extend(self.addresses.iter().map(|(name, address)| format!("address {address} of {name}")));
        f.write_str(&parts.join(", "))
    }
}

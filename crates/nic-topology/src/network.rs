use std::collections::BTreeMap;

use nic_netlink::{Address, IfIndex, Neighbour, Netlink, NetworkReadError, Route, Rule, StackedLink};

/// The network of one namespace at one moment, as far as it matters here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Network {
    /// The links.
    pub links: BTreeMap<IfIndex, StackedLink>,
    /// The IP addresses, of each link in the kernel's order.
    pub addresses: Vec<Address>,
    /// The permanent neighbours.
    pub neighbours: Vec<Neighbour>,
    /// The routes of all tables.
    pub routes: Vec<Route>,
    /// The rules.
    pub rules: Vec<Rule>,
}

impl Network {
    /// Reads it. The lists are read one after the other: what changes in between shows in the later ones only.
    pub async fn read(netlink: &Netlink) -> Result<Self, NetworkReadError> {
        let links = netlink.stacked_links().await?;
        Ok(Self {
            links: links.into_iter().map(|link| (link.link.index, link)).collect(),
            addresses: netlink.addresses().await?,
            neighbours: netlink.permanent_neighbours().await?,
            routes: netlink.routes().await?,
            rules: netlink.rules().await?,
        })
    }

    /// The link's name; its index where it has none any more.
    #[must_use]
    pub fn name(&self, index: IfIndex) -> String {
        self.links.get(&index).map_or_else(|| index.to_string(), |link| link.link.name.to_string())
    }
}

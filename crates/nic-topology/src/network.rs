use std::collections::BTreeMap;

use nic_netlink::{
    Address, ForwardingEntry, IfIndex, Listed, Neighbour, Netlink, NetworkReadError, Route, Rule,
    StackedLink, UnreadEntry,
};

/// The network of one namespace at one moment, as far as it matters here.
#[derive(Debug, Clone, Default)]
pub struct Network {
    /// The links.
    pub links: BTreeMap<IfIndex, StackedLink>,
    /// What the kernel says stands on a link, of those that were asked for it ([`Network::read_uppers`]).
    pub uppers: BTreeMap<IfIndex, Vec<IfIndex>>,
    /// The IP addresses, of each link in the kernel's order.
    pub addresses: Vec<Address>,
    /// The permanent neighbours.
    pub neighbours: Vec<Neighbour>,
    /// The forwarding entries that somebody made.
    pub forwarding: Vec<ForwardingEntry>,
    /// The routes of all tables.
    pub routes: Vec<Route>,
    /// The rules.
    pub rules: Vec<Rule>,
    /// What could not be read of these lists.
    pub unread: Vec<UnreadEntry>,
    /// The links that the kernel shows on one that was asked for it, by name, and that are not known.
    pub unread_uppers: BTreeMap<IfIndex, Vec<String>>,
}

impl Network {
    /// Reads it. The lists are read one after the other: what changes in between shows in the later ones only.
    pub async fn read(netlink: &Netlink) -> Result<Self, NetworkReadError> {
        let mut unread = Vec::new();
        let links = known(netlink.stacked_links().await?, &mut unread);
        let has_forwarding =
            |link: &StackedLink| link.link.kind.as_deref() == Some("vxlan") || is_bridge_port(link);
        let forwarding = if links.iter().any(has_forwarding) {
            known(netlink.forwarding_entries().await?, &mut unread)
        } else {
            Vec::new()
        };
        Ok(Self {
            links: links.into_iter().map(|link| (link.link.index, link)).collect(),
            uppers: BTreeMap::new(),
            unread_uppers: BTreeMap::new(),
            addresses: known(netlink.addresses().await?, &mut unread),
            neighbours: known(netlink.permanent_neighbours().await?, &mut unread),
            forwarding,
            routes: known(netlink.routes().await?, &mut unread),
            rules: known(netlink.rules().await?, &mut unread),
            unread,
        })
    }

    /// The link's name; its index where it has none any more.
    #[must_use]
    pub fn name(&self, index: IfIndex) -> String {
        self.links.get(&index).map_or_else(|| index.to_string(), |link| link.link.name.to_string())
    }
}

/// What was read of a list; what was not goes to `unread`.
fn known<T>(listed: Listed<T>, unread: &mut Vec<UnreadEntry>) -> Vec<T> {
    unread.extend(listed.unread);
    listed.entries
}

/// Whether it is in a bridge.
pub(crate) fn is_bridge_port(link: &StackedLink) -> bool {
    link.port.as_ref().is_some_and(|port| port.master_kind == "bridge")
}

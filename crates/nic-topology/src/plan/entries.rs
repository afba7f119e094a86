//! Addresses, neighbours, routes, rules.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use nic_netlink::{Address, IfIndex, IpVersion, NetworkChange, NextHop, Prefix, Route, Rule};

use super::entries_now::EntriesNow;
use super::{Action, LinkMapping, Stage, Step, will_be_there};
use crate::NetworkState;
use crate::routing_daemon::routing_daemon;

pub(super) fn plan(saved: &NetworkState, mapping: &LinkMapping<'_>, age: Duration) -> Vec<Step> {
    let mut steps = Vec::new();
    let found = EntriesNow::new(mapping.now);
    let mut step = |stage, link, change| steps.push(Step { stage, link, action: Action::Network(change) });
    for address in in_order(&saved.addresses) {
        if !will_be_there(saved, mapping, address.index) || found.address(address, mapping).is_some() {
            continue;
        }
        if let Some(address) = aged(address, age) {
            step(Stage::Addresses, address.index, NetworkChange::Address(address));
        }
    }
    for neighbour in &saved.neighbours {
        if will_be_there(saved, mapping, neighbour.index) && !found.has_neighbour(neighbour, mapping) {
            step(Stage::Neighbours, neighbour.index, NetworkChange::Neighbour(neighbour.clone()));
        }
    }
    for entry in &saved.forwarding {
        if will_be_there(saved, mapping, entry.index) && !found.has_entry(entry, mapping) {
            step(Stage::Neighbours, entry.index, NetworkChange::Forwarding(entry.clone()));
        }
    }
    let (through, direct): (Vec<&Route>, Vec<&Route>) =
        saved.routes.iter().partition(|route| route.has_gateway());
    let now = RoutesNow::new(saved, mapping);
    let mut owners: BTreeMap<IpAddr, IfIndex> = BTreeMap::new();
    for address in &saved.addresses {
        owners.entry(address.address).or_insert(address.index);
    }
    let source_link = |route: &Route| owners.get(&route.preferred_source?).copied();
    for route in direct.into_iter().chain(through) {
        let hops = route.next_hops.iter().filter_map(|hop| hop.index);
        if !hops.clone().all(|index| will_be_there(saved, mapping, index)) {
            continue;
        }
        let Some(route_as_aged) = aged_route(route, age) else { continue };
        let link = hops
            .clone()
            .find(|index| mapping.saved_link(saved, *index).is_some())
            .or_else(|| source_link(route));
        let change = match now.find(route, mapping) {
            RouteNow::Missing => NetworkChange::AppendRoute(route_as_aged),
            RouteNow::LacksNextHops => NetworkChange::ReplaceRoute(route_as_aged),
            RouteNow::Here | RouteNow::Otherwise(_) | RouteNow::ByObject | RouteNow::OfDaemon(_) => continue,
        };
        step(Stage::Routes, link.unwrap_or(IfIndex(0)), change);
    }
    let links: BTreeMap<&str, IfIndex> =
        saved.links.iter().rev().map(|link| (link.name.as_str(), link.index)).collect();
    for rule in saved.rules.iter().filter(|rule| !found.has_rule(rule)) {
        if let Some(link) = rule_link(&links, rule) {
            step(Stage::Rules, link, NetworkChange::Rule(rule.clone()));
        }
    }
    steps
}

/// The order in which they were added: the kernel lists IPv4 addresses in it, and IPv6 ones of a scope in the reverse
/// (`ipv6_link_dev_addr` in `net/ipv6/addrconf.c`).
fn in_order(addresses: &[Address]) -> impl Iterator<Item = &Address> {
    let of = |v4: bool| move |address: &&Address| address.address.is_ipv4() == v4;
    addresses.iter().filter(of(true)).chain(addresses.iter().rev().filter(of(false)))
}

/// With the lifetimes that are left; `None` when it has run out.
fn aged(address: &Address, age: Duration) -> Option<Address> {
    let age = u32::try_from(age.as_secs()).unwrap_or(u32::MAX);
    let mut address = address.clone();
    if let Some(valid) = &mut address.valid_s {
        *valid = valid.checked_sub(age).filter(|left| *left > 0)?;
    }
    address.preferred_s = address.preferred_s.map(|preferred| preferred.saturating_sub(age));
    Some(address)
}

fn aged_route(route: &Route, age: Duration) -> Option<Route> {
    let age = u32::try_from(age.as_secs()).unwrap_or(u32::MAX);
    let mut route = route.clone();
    if let Some(expires) = &mut route.expires_s {
        *expires = expires.checked_sub(age).filter(|left| *left > 0)?;
    }
    Some(route)
}

/// How a saved route is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RouteNow<'now> {
    /// It is there.
    Here,
    /// It is not, and nothing is in its place.
    Missing,
    /// It is there with a part of its next hops only.
    LacksNextHops,
    /// Another one is in its place.
    Otherwise(&'now Route),
    /// It is not there, and used a next hop object, which whoever made that has to make again.
    ByObject,
    /// It is not there, and a routing daemon has to make it again: by now it may know better.
    OfDaemon(Cow<'static, str>),
}

/// The routes of now and the saved ones, each by its place: a router has some 10⁵ of them, and each is looked for.
pub(crate) struct RoutesNow<'now> {
    now: BTreeMap<RoutePlace, Vec<&'now Route>>,
    /// With present indexes.
    saved: BTreeMap<RoutePlace, Vec<Route>>,
}

impl<'now> RoutesNow<'now> {
    pub(crate) fn new(saved: &NetworkState, mapping: &LinkMapping<'now>) -> Self {
        let mut routes = Self { now: BTreeMap::new(), saved: BTreeMap::new() };
        for route in &mapping.now.routes {
            routes.now.entry(place(route)).or_default().push(route);
        }
        for route in saved.routes.iter().map(|route| as_present(route, mapping)) {
            routes.saved.entry(place(&route)).or_default().push(route);
        }
        routes
    }

    /// How the saved `route` is now.
    pub(crate) fn find(&self, route: &Route, mapping: &LinkMapping<'_>) -> RouteNow<'now> {
        let wanted = as_present(route, mapping);
        let in_its_place = self.now.get(&place(&wanted)).map_or(&[][..], Vec::as_slice);
        if in_its_place.iter().any(|found| same(found, &wanted)) {
            return RouteNow::Here;
        }
        if route.next_hop_object.is_some() {
            return RouteNow::ByObject;
        }
        if let Some(daemon) = routing_daemon(route.protocol) {
            return RouteNow::OfDaemon(daemon);
        }
        // Those that are the same have the same place.
        let saved_there = self.saved.get(&place(&wanted)).map_or(&[][..], Vec::as_slice);
        let was_saved = |found: &Route| saved_there.iter().any(|route| same(found, route));
        match in_its_place.iter().find(|found| !was_saved(found)) {
            None => RouteNow::Missing,
            Some(found) if has_part_of(found, &wanted) => RouteNow::LacksNextHops,
            Some(found) => RouteNow::Otherwise(found),
        }
    }
}

/// With present indexes. A link that is not there yet has none, which no route has.
fn as_present(route: &Route, mapping: &LinkMapping<'_>) -> Route {
    let next_hops = route.next_hops.iter().map(|hop| NextHop {
        index: hop.index.map(|index| mapping.index(index).unwrap_or(IfIndex(0))),
        ..hop.clone()
    });
    Route { next_hops: next_hops.collect(), ..route.clone() }
}

/// What the kernel tells routes apart by: version, destination, source, table, type of service and priority, and the link of one without a
/// router, of which IPv6 has several side by side.
type RoutePlace = (IpVersion, Prefix, Option<Prefix>, u32, u8, u32, Option<Option<IfIndex>>);

fn place(route: &Route) -> RoutePlace {
    let direct = route.version == IpVersion::V6 && !route.has_gateway();
    let link = direct.then(|| route.next_hops.first().and_then(|hop| hop.index));
    (route.version, route.destination, route.source, route.table, route.tos, route.priority, link)
}

fn same(a: &Route, b: &Route) -> bool {
    // The kernel may list the hops of IPv6 in another order, and the time left is another each time.
    let plain = |route: &Route| {
        let mut route = Route { expires_s: None, ..route.clone() };
        route.next_hops.sort_by_key(|hop| (hop.index, hop.gateway));
        route
    };
    plain(a) == plain(b)
}

fn has_part_of(found: &Route, wanted: &Route) -> bool {
    !found.next_hops.is_empty()
        && found.next_hops.len() < wanted.next_hops.len()
        && found.next_hops.iter().all(|hop| {
            wanted.next_hops.iter().any(|other| (other.index, other.gateway) == (hop.index, hop.gateway))
        })
}

/// The first saved link that the rule names.
fn rule_link(links: &BTreeMap<&str, IfIndex>, rule: &Rule) -> Option<IfIndex> {
    let names = [&rule.input_interface, &rule.output_interface];
    names.into_iter().flatten().find_map(|name| links.get(name.as_str()).copied())
}

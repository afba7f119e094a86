//! Whether a state of the network can be at all: one that was written down may have been edited since, or damaged.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use nic_host::Foreign;
use nic_netlink::{
    Address, ChildKind, ForwardingEntry, HIGHEST_INT, IfIndex, IpVersion, LinkAddress, LinkName, Neighbour,
    Port, Prefix, Route, Rule, ensure_address_fits, ensure_alias_fits, is_altname,
};

use crate::{LinkState, NetworkState, Place};

/// The longest label of an address: `IFNAMSIZ` less the closing NUL.
const LONGEST_LABEL: usize = 15;
/// The longest word for a kind of link: it becomes part of the name of a module that the kernel asks for (`MODULE_NAME_LEN`).
const LONGEST_KIND: usize = 55;
/// The highest number of a VLAN: 4095 is reserved (`vlan_validate` in `net/8021q/vlan_netlink.c`).
const HIGHEST_VLAN: u16 = 4094;
/// The highest number of a VXLAN's network: it has 24 bits.
const HIGHEST_VNI: u32 = 0xff_ffff;

/// Two statements that cannot both be true, or one that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} ({about}): {what}")]
pub struct Contradiction {
    /// The field's path, such as `links[3].place.lower`.
    pub field: String,
    /// The link, address or route that it is of.
    pub about: String,
    /// The field's value, and what speaks against it.
    pub what: String,
}

/// A field of an entry, and what is wrong with it.
type Wrong = (&'static str, String);

/// The links before one, by the index that they had.
type Links<'a> = BTreeMap<IfIndex, &'a LinkState>;

impl NetworkState {
    /// Looks whether the state can be: every link that something stands on is there, nothing is there twice that the kernel has once, and
    /// every value is one that the kernel could have told. A restore makes messages of it.
    ///
    /// # Errors
    /// The first contradiction.
    pub fn check(&self) -> Result<(), Contradiction> {
        let mut links = Links::new();
        let mut names = BTreeSet::new();
        all("links", &self.links, LinkState::called, |link| {
            check_link(link, &links)?;
            check_names(link, &mut names)?;
            links.insert(link.index, link);
            Ok(())
        })?;
        all("links", &self.links, LinkState::called, |link| check_ties(link, &links))?;
        let name = |index: IfIndex| self.name(index);

        let mut seen = BTreeSet::new();
        all(
            "addresses",
            &self.addresses,
            |address| format!("{address} on {}", name(address.index)),
            |address| {
                goes(&links, address.index)?;
                check_address(address)?;
                let key = (address.index, address.address, address.prefix_length, address.peer);
                once("address", seen.insert(key))
            },
        )?;
        let mut seen = BTreeSet::new();
        all(
            "neighbours",
            &self.neighbours,
            |neighbour| format!("{neighbour} on {}", name(neighbour.index)),
            |neighbour| {
                goes(&links, neighbour.index)?;
                check_neighbour(neighbour)?;
                once("address", seen.insert((neighbour.index, neighbour.address)))
            },
        )?;
        all(
            "forwarding",
            &self.forwarding,
            |entry| format!("{} on {}", entry.link_address, name(entry.index)),
            |entry| {
                goes(&links, entry.index)?;
                check_forwarding(entry)
            },
        )?;
        all("routes", &self.routes, ToString::to_string, |route| check_route(route, &links))?;
        all("rules", &self.rules, |rule| format!("priority {}", rule.priority), check_rule)
    }
}

/// Looks at each of a list; the first that is wrong is named by its place and by what it is.
fn all<'a, T>(
    list: &str,
    entries: &'a [T],
    called: impl Fn(&'a T) -> String,
    mut check: impl FnMut(&'a T) -> Result<(), Wrong>,
) -> Result<(), Contradiction> {
    for (place, entry) in entries.iter().enumerate() {
        if let Err((field, what)) = check(entry) {
            return Err(Contradiction {
                field: format!("{list}[{place}].{field}"),
                about: called(entry),
                what,
            });
        }
    }
    Ok(())
}

impl LinkState {
    fn called(&self) -> String {
        self.name.to_string()
    }
}

fn check_link(link: &LinkState, before: &Links<'_>) -> Result<(), Wrong> {
    index("index", link.index)?;
    once("index", !before.contains_key(&link.index))?;
    at_most("mtu", link.mtu, HIGHEST_INT)?;
    hardware_address("address", &link.address)?;
    if let Some(own) = &link.own_address {
        hardware_address("own_address", own)?;
    }
    link.alias.as_deref().map_or(Ok(()), ensure_alias_fits).map_err(|what| ("alias", what))?;
    if let Some(kind) = &link.kind {
        check_kind("kind", kind)?;
    }
    // What a child stands on comes before it: so none stands on itself by way of others.
    match &link.place {
        Place::Child { lower, child } => {
            is_among("place.lower", *lower, before, "comes before it")?;
            same_kind("place.child.kind", child.name(), link.kind.as_deref())?;
            check_child(child)
        }
        Place::Bound { tunnel: Some(tunnel), .. } => {
            same_kind("place.tunnel.kind", &tunnel.kind, link.kind.as_deref())
        }
        Place::Device | Place::LostChild { .. } | Place::Stays { .. } | Place::Bound { tunnel: None, .. } => {
            Ok(())
        }
    }
}

/// What a link has to do with others, all of which are known by now.
fn check_ties(link: &LinkState, links: &Links<'_>) -> Result<(), Wrong> {
    match &link.place {
        Place::LostChild { lower } | Place::Bound { lower, .. } => {
            if *lower == link.index {
                return Err(("place.lower", format!("ifindex {lower} is the link itself")));
            }
            is_among("place.lower", *lower, links, "is here")?;
        }
        Place::Device | Place::Child { .. } | Place::Stays { .. } => {}
    }
    match (link.master, &link.port) {
        (Some(master), _) if master == link.index => {
            Err(("master", format!("ifindex {master} is the link itself")))
        }
        (Some(master), port) => {
            is_among("master", master, links, "is here")?;
            let Some(Port { master_kind, .. }) = port else { return Ok(()) };
            same_kind(
                "port.master_kind",
                master_kind,
                links.get(&master).and_then(|link| link.kind.as_deref()),
            )
        }
        (None, Some(_)) => Err(("port", "a link without a master is nobody's port".to_owned())),
        (None, None) => Ok(()),
    }
}

/// Names and alternative names are of one space (`netdev_name_in_use` in `net/core/dev.c`).
fn check_names<'a>(link: &'a LinkState, names: &mut BTreeSet<&'a str>) -> Result<(), Wrong> {
    if !names.insert(link.name.as_str()) {
        return Err(("name", format!("{} is there twice", link.name)));
    }
    for name in &link.altnames {
        if !is_altname(name) {
            return Err(("altnames", format!("{} is no name of an interface", Foreign(name))));
        }
        if !names.insert(name) {
            return Err(("altnames", format!("{} is there twice", Foreign(name))));
        }
    }
    Ok(())
}

fn check_child(child: &ChildKind) -> Result<(), Wrong> {
    match child {
        ChildKind::Vlan { id, .. } => at_most("place.child.id", *id, HIGHEST_VLAN),
        ChildKind::Macvlan { mode, .. } if ![1, 2, 4, 8, 16].contains(mode) => {
            Err(("place.child.mode", format!("{mode} is no mode of a macvlan")))
        }
        ChildKind::Ipvlan { mode, .. } => at_most("place.child.mode", *mode, 2),
        ChildKind::Ipoib { pkey, .. } if pkey & 0x7fff == 0 => {
            Err(("place.child.pkey", format!("{pkey:#06x} is no partition's key")))
        }
        ChildKind::Ipoib { mode, user_multicast, .. } => {
            at_most("place.child.mode", *mode, 1)?;
            at_most("place.child.user_multicast", *user_multicast, 1)
        }
        ChildKind::Macvlan { .. } | ChildKind::Vxlan { .. } => Ok(()),
    }
}

fn check_address(address: &Address) -> Result<(), Wrong> {
    let version = version_of(address.address);
    prefix_length("prefix_length", version, address.prefix_length)?;
    if let Some(peer) = address.peer {
        same_version("peer", version, peer)?;
    }
    if version == IpVersion::V6 && (address.broadcast.is_some() || address.label.is_some()) {
        let field = if address.broadcast.is_some() { "broadcast" } else { "label" };
        return Err((field, "an IPv6 address has none".to_owned()));
    }
    if let Some(label) = address.label.as_ref().filter(|label| label.chars().count() > LONGEST_LABEL) {
        return Err(("label", format!("{} is longer than {LONGEST_LABEL} bytes", Foreign(label))));
    }
    let for_ever = |seconds: Option<u32>| seconds.unwrap_or(u32::MAX);
    if for_ever(address.preferred_s) > for_ever(address.valid_s) {
        return Err(("preferred_s", "an address is not preferred for longer than it is valid".to_owned()));
    }
    Ok(())
}

fn check_neighbour(neighbour: &Neighbour) -> Result<(), Wrong> {
    hardware_address("link_address", &neighbour.link_address)
}

fn check_forwarding(entry: &ForwardingEntry) -> Result<(), Wrong> {
    if let Some(vlan) = entry.vlan {
        at_most("vlan", vlan, HIGHEST_VLAN)?;
    }
    for (field, vni) in [("vni", entry.vni), ("source_vni", entry.source_vni)] {
        if let Some(vni) = vni {
            at_most(field, vni, HIGHEST_VNI)?;
        }
    }
    Ok(())
}

fn check_route(route: &Route, links: &Links<'_>) -> Result<(), Wrong> {
    prefix("destination", route.version, &route.destination)?;
    if let Some(source) = &route.source {
        prefix("source", route.version, source)?;
    }
    if let Some(source) = route.preferred_source {
        same_version("preferred_source", route.version, source)?;
    }
    for hop in &route.next_hops {
        if !(1..=256).contains(&hop.weight) {
            return Err(("next_hops.weight", format!("{} is not between 1 and 256", hop.weight)));
        }
        if let Some(gateway) = hop.gateway.filter(|_| route.version == IpVersion::V6) {
            same_version("next_hops.gateway", route.version, gateway)?;
        }
    }
    // Of several ways one may be over an interface that stays.
    if let [hop] = route.next_hops.as_slice()
        && route.preferred_source.is_none()
    {
        let Some(index) = hop.index else {
            return Err(("next_hops.index", "the route leads over no interface".to_owned()));
        };
        is_among("next_hops.index", index, links, "is here")?;
    }
    Ok(())
}

fn check_rule(rule: &Rule) -> Result<(), Wrong> {
    for (field, told) in [("source", &rule.source), ("destination", &rule.destination)] {
        if let Some(told) = told {
            prefix(field, rule.version, told)?;
        }
    }
    for (field, name) in
        [("input_interface", &rule.input_interface), ("output_interface", &rule.output_interface)]
    {
        if let Some(name) = name
            && name.parse::<LinkName>().is_err()
        {
            return Err((field, format!("{} is no name of an interface", Foreign(name))));
        }
    }
    Ok(())
}

fn index(field: &'static str, index: IfIndex) -> Result<(), Wrong> {
    if index.0 == 0 {
        return Err((field, "0 is no interface's index".to_owned()));
    }
    at_most(field, index.0, HIGHEST_INT)
}

fn at_most<T: Copy + PartialOrd + std::fmt::Display>(
    field: &'static str,
    value: T,
    highest: T,
) -> Result<(), Wrong> {
    if value > highest { Err((field, format!("{value} is above {highest}"))) } else { Ok(()) }
}

fn once(field: &'static str, is_new: bool) -> Result<(), Wrong> {
    if is_new { Ok(()) } else { Err((field, "it is there twice".to_owned())) }
}

fn hardware_address(field: &'static str, address: &LinkAddress) -> Result<(), Wrong> {
    ensure_address_fits(address).map_err(|what| (field, what))
}

fn check_kind(field: &'static str, kind: &str) -> Result<(), Wrong> {
    let is_word = (1..=LONGEST_KIND).contains(&kind.len())
        && kind.chars().all(|character| character.is_ascii_graphic() && character != '/');
    if is_word { Ok(()) } else { Err((field, format!("{} is no kind of link", Foreign(kind)))) }
}

fn same_kind(field: &'static str, kind: &str, other: Option<&str>) -> Result<(), Wrong> {
    if Some(kind) == other {
        return Ok(());
    }
    let other = other.map_or_else(|| "of none".to_owned(), |other| format!("a {}", Foreign(other)));
    Err((field, format!("{}, and the link is {other}", Foreign(kind))))
}

/// An index that something names must be of one of `links`.
fn is_among(
    field: &'static str,
    index: IfIndex,
    links: &Links<'_>,
    where_: &'static str,
) -> Result<(), Wrong> {
    if links.contains_key(&index) {
        return Ok(());
    }
    Err((field, format!("ifindex {index} is of no link that {where_}")))
}

/// What stands on a link is saved where the link goes.
fn goes(links: &Links<'_>, index: IfIndex) -> Result<(), Wrong> {
    match links.get(&index) {
        Some(link) if link.goes() => Ok(()),
        Some(link) => Err(("index", format!("ifindex {index} is {}, which stays", link.name))),
        None => Err(("index", format!("ifindex {index} is of no link that is here"))),
    }
}

fn version_of(address: IpAddr) -> IpVersion {
    if address.is_ipv4() { IpVersion::V4 } else { IpVersion::V6 }
}

fn same_version(field: &'static str, version: IpVersion, address: IpAddr) -> Result<(), Wrong> {
    if version_of(address) == version {
        return Ok(());
    }
    let called = match version {
        IpVersion::V4 => "IPv4",
        IpVersion::V6 => "IPv6",
    };
    Err((field, format!("{address} is no {called} address")))
}

fn prefix_length(field: &'static str, version: IpVersion, length: u8) -> Result<(), Wrong> {
    let bits = match version {
        IpVersion::V4 => 32,
        IpVersion::V6 => 128,
    };
    if length > bits {
        return Err((field, format!("{length} is more than the {bits} bits of an address")));
    }
    Ok(())
}

fn prefix(field: &'static str, version: IpVersion, prefix: &Prefix) -> Result<(), Wrong> {
    same_version(field, version, prefix.address)?;
    prefix_length(field, version, prefix.length)
}

//! What is different now.

use std::fmt;
use std::time::Duration;

use nic_netlink::{Address, IfIndex, StackedLink};
use serde::{Deserialize, Serialize};

use crate::names::Names;
use crate::plan::entries::{RouteNow, RoutesNow};
use crate::plan::entries_now::EntriesNow;
use crate::{LinkMapping, NetworkState, Place, plan};

/// Something that is not as it was saved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// What, in the words of iproute2.
    pub what: String,
    /// How it is now.
    pub found: String,
    /// Whether that is a fault.
    pub gravity: Gravity,
}

/// Whether a difference is a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gravity {
    /// The machine is not as it was.
    Wrong,
    /// Somebody else has made it otherwise, or has to make it.
    #[serde(rename = "stated")]
    CannotRestore,
}

impl Difference {
    /// Whether it is a fault.
    #[must_use]
    pub fn is_wrong(&self) -> bool {
        self.gravity == Gravity::Wrong
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.found)
    }
}

/// All that is different from what is saved, `age` after it was saved. What can be given back is [`plan`]'s to say, and is
/// all wrong as long as it is missing.
#[must_use]
pub fn compare(saved: &NetworkState, mapping: &LinkMapping<'_>, age: Duration) -> Vec<Difference> {
    let mut differences = Vec::new();
    let mut note =
        |what: String, found: String, gravity| differences.push(Difference { what, found, gravity });
    for link in &saved.links {
        let present = mapping.index(link.index).and_then(|index| mapping.now.links.get(&index));
        let what = format!("link {}", link.name);
        match (&link.place, present) {
            (Place::Device, None) => note(what, "missing".to_owned(), Gravity::Wrong),
            (Place::LostChild { lower }, None) => {
                let kind = link.kind.as_deref().unwrap_or("link");
                let found =
                    format!("missing: a {kind} on {}, which cannot be made again", saved.name(*lower));
                note(what, found, Gravity::Wrong);
            }
            (Place::LostChild { lower } | Place::Bound { lower, tunnel: None }, Some(present))
                if has_lost(mapping, *lower, present) =>
            {
                let kind = link.kind.as_deref().unwrap_or("link");
                let lower = saved.name(*lower);
                let found =
                    format!("still bound to the {lower} that is gone, and nothing binds a {kind} anew");
                note(what, found, Gravity::CannotRestore);
            }
            (Place::Stays { .. } | Place::Bound { .. }, None) => {
                note(what, "missing".to_owned(), Gravity::CannotRestore);
            }
            (Place::Child { child, .. }, Some(present)) if present.child.as_ref() != Some(child) => {
                let now =
                    present.child.as_ref().map_or_else(|| "of another kind".to_owned(), ToString::to_string);
                note(format!("{what} type {child}"), format!("is {now}"), Gravity::Wrong);
            }
            _ => {}
        }
    }
    let names = Names::of(saved);
    for step in plan(saved, mapping, age) {
        note(step.text(&names), "missing".to_owned(), Gravity::Wrong);
    }
    let entries = EntriesNow::new(mapping.now);
    for address in &saved.addresses {
        let Some(found) = entries.address(address, mapping) else { continue };
        for (attribute, was, is) in address_attributes(address, found) {
            let what = format!("address {address} dev {}", names.name(address.index));
            note(what, format!("{attribute} is {is}, was {was}"), Gravity::CannotRestore);
        }
    }
    let name = |index: IfIndex| names.name(index);
    let routes = RoutesNow::new(saved, mapping);
    for route in &saved.routes {
        let found = match routes.find(route, mapping) {
            RouteNow::Otherwise(other) => {
                format!("in its place is {}", other.iproute2_text(&|index| mapping.now.name(index)))
            }
            RouteNow::ByObject => {
                "missing: it used a next hop object, which its owner has to make".to_owned()
            }
            RouteNow::OfDaemon(daemon) => format!("missing: {daemon} has to make it again"),
            RouteNow::Here | RouteNow::Missing | RouteNow::LacksNextHops => continue,
        };
        note(format!("route {}", route.iproute2_text(&name)), found, Gravity::CannotRestore);
    }
    for entry in &saved.not_known {
        let gravity = if entry.not_known.is_accepted() { Gravity::CannotRestore } else { Gravity::Wrong };
        note(entry.what.clone(), format!("what it was is not known: {}", entry.not_known), gravity);
    }
    differences
}

/// Whether the saved `lower` is back, and this is not on it.
fn has_lost(mapping: &LinkMapping<'_>, lower: IfIndex, present: &StackedLink) -> bool {
    let lowers = present.standing.lowers();
    !lowers.is_empty() && mapping.index(lower).is_some_and(|lower| !lowers.contains(&lower))
}

/// The attributes that differ, as they were and as they are. Lifetimes run down.
fn address_attributes(was: &Address, is: &Address) -> Vec<(&'static str, String, String)> {
    let optional = |value: Option<String>| value.unwrap_or_else(|| "none".to_owned());
    let flags = |address: &Address| format!("{:#x}", address.flags.settable().0);
    let broadcast = |address: &Address| optional(address.broadcast.map(|address| address.to_string()));
    let metric = |address: &Address| optional(address.metric.map(|metric| metric.to_string()));
    let ends = |address: &Address| if address.valid_s.is_some() { "limited" } else { "for ever" }.to_owned();
    let attributes: [(&'static str, [String; 2]); 6] = [
        ("flags", [was, is].map(flags)),
        ("broadcast", [was, is].map(broadcast)),
        ("label", [was, is].map(|address| optional(address.label.clone()))),
        ("scope", [was, is].map(|address| address.scope.to_string())),
        ("metric", [was, is].map(metric)),
        ("lifetime", [was, is].map(ends)),
    ];
    attributes
        .into_iter()
        .filter(|(_, [was, is])| was != is)
        .map(|(name, [was, is])| (name, was, is))
        .collect()
}

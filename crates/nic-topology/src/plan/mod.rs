//! What is missing, as a list of steps in an order that works. Pure.

pub(crate) mod entries;
pub(crate) mod entries_now;
mod links;

use std::collections::BTreeMap;
use std::time::Duration;

use nic_netlink::{IfIndex, LinkChange, NetworkChange, Standing};

use crate::names::Names;
use crate::state::by_name;
use crate::{LinkState, Network, NetworkState, Place};

/// One step. Its interfaces are named by the indexes that they had when they were saved, since some of them may still have
/// to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Its place in the order.
    pub stage: Stage,
    /// The saved link that it is for: with that link's manager it is left to.
    pub link: IfIndex,
    /// What to do.
    pub action: Action,
}

/// The stages, in order. What a stage makes may bring what a later one would.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Children are made, those below first, and tunnels are bound to what came.
    Children,
    /// Ports join their masters; those of bonds and teams are down for it.
    Masters,
    /// What masters keep about their ports, and what links are otherwise.
    Settings,
    /// Links are set up. Only then does the kernel take routes.
    Up,
    /// Addresses; with them come the routes to their networks.
    Addresses,
    /// Neighbours, and forwarding entries.
    Neighbours,
    /// Routes, those to routers before those through them.
    Routes,
    /// Rules.
    Rules,
}

/// What to do. Indexes are saved ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Change a link.
    Link(LinkChange),
    /// Add something.
    Network(NetworkChange),
}

impl Step {
    /// In the words of iproute2, with the names of `saved`.
    #[must_use]
    pub fn iproute2_text(&self, saved: &NetworkState) -> String {
        self.text(&Names::of(saved))
    }

    /// The same, of one of many steps.
    pub(crate) fn text(&self, names: &Names<'_>) -> String {
        let name = |index: IfIndex| names.name(index);
        match &self.action {
            Action::Link(LinkChange::Master(Some(master))) => {
                format!("link set dev {} master {}", name(self.link), name(*master))
            }
            Action::Link(change) => format!("link set dev {} {change}", name(self.link)),
            Action::Network(change) => change.iproute2_text(&name),
        }
    }
}

/// The network as it is now, and which of its links are the saved ones.
#[derive(Debug, Clone)]
pub struct LinkMapping<'now> {
    /// The network.
    pub now: &'now Network,
    /// From saved to present indexes.
    present: BTreeMap<IfIndex, IfIndex>,
    /// The saved links, each with its place in the list of them.
    saved: BTreeMap<IfIndex, usize>,
}

impl<'now> LinkMapping<'now> {
    /// Finds the saved links again: the devices by what the caller says, what stays by index or else by name and kind, a
    /// child by name and kind on the right link.
    #[must_use]
    pub fn new(saved: &NetworkState, now: &'now Network, devices: &BTreeMap<IfIndex, IfIndex>) -> Self {
        let names = by_name(now);
        let mut found = Self {
            now,
            present: BTreeMap::new(),
            saved: saved.links.iter().zip(0..).map(|(link, place)| (link.index, place)).collect(),
        };
        // What a child stands on comes before it.
        for link in &saved.links {
            let named = names.get(link.name.as_str()).filter(|named| named.link.kind == link.kind);
            let named = named.map(|named| named.link.index);
            let kept = now.links.get(&link.index).filter(|kept| kept.link.kind == link.kind);
            let kept = kept.map(|kept| kept.link.index);
            let on = |below: IfIndex, index: IfIndex| {
                let below = found.index(below);
                let lowers = now.links.get(&index).map_or(&[][..], |link| link.standing.lowers());
                below.is_some_and(|below| lowers.contains(&below))
            };
            let names_none =
                |index| now.links.get(&index).is_some_and(|link| link.standing == Standing::Alone);
            let present = match &link.place {
                Place::Device => {
                    devices.get(&link.index).copied().filter(|index| now.links.contains_key(index))
                }
                Place::Child { lower, .. } => named.filter(|index| on(*lower, *index)),
                // Somebody has made it again, or the kernel has kept what it was expected to remove.
                Place::LostChild { lower } => named
                    .filter(|index| on(*lower, *index) || names_none(*index))
                    .or(kept.filter(|kept| named == Some(*kept))),
                Place::Stays { .. } | Place::Bound { .. } => kept.or(named),
            };
            if let Some(present) = present {
                found.present.insert(link.index, present);
            }
        }
        found
    }

    /// The present index of a link; `None` where it is not there. One that was not saved is what it was.
    #[must_use]
    pub fn index(&self, saved: IfIndex) -> Option<IfIndex> {
        if self.saved.contains_key(&saved) { self.present.get(&saved).copied() } else { Some(saved) }
    }

    /// The link of `saved`, of which this mapping is, with this saved index.
    pub(crate) fn saved_link<'saved>(
        &self,
        saved: &'saved NetworkState,
        index: IfIndex,
    ) -> Option<&'saved LinkState> {
        saved.links.get(*self.saved.get(&index)?)
    }
}

/// What is missing now of what is saved, `age` after it was saved. Empty when nothing is.
///
/// Only what the kernel removed is given back: what stays and has changed, somebody has changed. And only what is missing
/// is: what is there in another form stays as it is. [`crate::compare`] names both.
#[must_use]
pub fn plan(saved: &NetworkState, mapping: &LinkMapping<'_>, age: Duration) -> Vec<Step> {
    let mut steps = links::plan(saved, mapping);
    steps.extend(entries::plan(saved, mapping, age));
    steps.sort_by_key(|step| step.stage);
    steps
}

/// Whether all links below this one exist or can be created, so that trying makes sense.
fn can_exist(saved: &NetworkState, mapping: &LinkMapping<'_>, link: &LinkState) -> bool {
    if mapping.index(link.index).is_some() {
        return true;
    }
    match &link.place {
        Place::Child { lower, .. } => match mapping.saved_link(saved, *lower) {
            Some(lower) => can_exist(saved, mapping, lower),
            None => true,
        },
        Place::Device | Place::LostChild { .. } | Place::Stays { .. } | Place::Bound { .. } => false,
    }
}

/// Whether something is to be put on this saved index: a link that is there, or will be after this plan.
fn will_be_there(saved: &NetworkState, mapping: &LinkMapping<'_>, index: IfIndex) -> bool {
    mapping.saved_link(saved, index).is_none_or(|link| can_exist(saved, mapping, link))
}

#[cfg(test)]
mod tests;

//! Children, masters, settings, up.

use nic_netlink::{ChildKind, IfIndex, LinkChange, NetworkChange, NewChild, Rebinding, StackedLink};

use super::{Action, LinkMapping, Stage, Step, can_exist};
use crate::{LinkState, NetworkState, Place};

pub(super) fn plan(saved: &NetworkState, mapping: &LinkMapping<'_>) -> Vec<Step> {
    let mut steps = Vec::new();
    for link in saved.links.iter().filter(|link| can_exist(saved, mapping, link)) {
        let found = mapping.index(link.index).and_then(|index| mapping.now.links.get(&index));
        let mut step = |stage, action| steps.push(Step { stage, link: link.index, action });
        if let (None, Place::Child { lower, child }) = (found, &link.place) {
            let child = new_child(saved, link, *lower, child);
            step(Stage::Children, Action::Network(NetworkChange::AddChild(child)));
        }
        if let (Some(found), Place::Bound { lower, tunnel: Some(tunnel) }) = (found, &link.place)
            && super::will_be_there(saved, mapping, *lower)
            && names_what_is_gone(mapping, *lower, found)
        {
            let (index, tunnel, mtu) = (link.index, tunnel.clone(), link.mtu);
            let rebinding = Rebinding { index, tunnel, lower: *lower, mtu };
            step(Stage::Children, Action::Network(NetworkChange::Rebind(rebinding)));
        }
        if link.goes() {
            plan_removed_link(saved, mapping, link, found, &mut step);
        } else if let Some(found) = found {
            plan_kept_link(saved, mapping, link, found, &mut step);
        }
    }
    steps
}

/// Whether it still names the saved interface's index, which is nobody's now. Another one somebody has chosen.
fn names_what_is_gone(mapping: &LinkMapping<'_>, lower: IfIndex, found: &StackedLink) -> bool {
    found.standing.lowers() == [lower] && !mapping.now.links.contains_key(&lower)
}

fn new_child(saved: &NetworkState, link: &LinkState, lower: IfIndex, child: &ChildKind) -> NewChild {
    let own = link.own_address.as_ref().unwrap_or(&link.address);
    // A VLAN takes the address of the link below it, and follows it then: to name the same would end that.
    let is_inherited = saved.link(lower).is_some_and(|lower| lower.address == *own);
    let address = (child.has_own_address() && !is_inherited).then(|| own.clone());
    NewChild { name: link.name.clone(), kind: child.clone(), lower, address, mtu: Some(link.mtu) }
}

fn plan_removed_link(
    saved: &NetworkState,
    mapping: &LinkMapping<'_>,
    link: &LinkState,
    found: Option<&StackedLink>,
    step: &mut impl FnMut(Stage, Action),
) {
    let mut up = found.is_some_and(|found| found.link.up);
    let master = link.master.filter(|master| super::will_be_there(saved, mapping, *master));
    let joins = master.filter(|master| found.and_then(|found| found.link.master) != mapping.index(*master));
    if let Some(master) = joins {
        // `bond_enslave` and `team_port_add` refuse what is up, and set it up themselves.
        let kind = link.port.as_ref().map(|port| port.master_kind.as_str());
        if matches!(kind, Some("bond" | "team")) && up {
            step(Stage::Masters, Action::Link(LinkChange::Up(false)));
            up = false;
        }
        step(Stage::Masters, Action::Link(LinkChange::Master(Some(master))));
    }
    // A port that joins has its master's defaults, and which those are shows when it has joined.
    let found_port = found.and_then(|found| found.port.as_ref()).filter(|_| joins.is_none());
    if let (Some(port), Some(found)) = (&link.port, found_port) {
        for setting in port.settings_not_in(found) {
            let (index, master_kind) = (link.index, port.master_kind.clone());
            step(
                Stage::Settings,
                Action::Network(NetworkChange::PortSetting { index, master_kind, setting }),
            );
        }
    }
    // A device's own properties are for whoever knows it.
    if link.place != Place::Device {
        for change in properties(link, found) {
            step(Stage::Settings, Action::Link(change));
        }
    }
    if link.up && !up {
        step(Stage::Up, Action::Link(LinkChange::Up(true)));
    }
}

/// What a child is beside what it is made with.
fn properties(link: &LinkState, found: Option<&StackedLink>) -> Vec<LinkChange> {
    let found = found.map(|found| &found.link);
    let differs = |is: fn(&nic_netlink::Link, &LinkState) -> bool, unset: bool| {
        found.map_or(!unset, |found| !is(found, link))
    };
    let mut changes = Vec::new();
    if found.is_some_and(|found| found.mtu != link.mtu) {
        changes.push(LinkChange::Mtu(link.mtu));
    }
    if differs(|found, link| found.tx_queue_length == link.tx_queue_length, true) {
        changes.push(LinkChange::TxQueueLength(link.tx_queue_length));
    }
    if differs(|found, link| found.alias == link.alias, link.alias.is_none()) {
        changes.push(LinkChange::Alias(link.alias.clone().unwrap_or_default()));
    }
    if differs(|found, link| found.group == link.group, link.group == 0) {
        changes.push(LinkChange::Group(link.group));
    }
    let missing = |name: &&String| found.is_none_or(|found| !found.altnames.contains(name));
    changes.extend(link.altnames.iter().filter(missing).cloned().map(LinkChange::AddAltName));
    changes
}

/// A bond without ports has another address and perhaps another MTU, and so has a bridge; with its ports it takes them
/// back, unless an administrator had chosen them.
fn plan_kept_link(
    saved: &NetworkState,
    mapping: &LinkMapping<'_>,
    link: &LinkState,
    found: &StackedLink,
    step: &mut impl FnMut(Stage, Action),
) {
    let is_port = |port: &&LinkState| port.master == Some(link.index) && port.goes();
    let mut ports = saved.links.iter().filter(is_port).peekable();
    if ports.peek().is_none() {
        return;
    }
    let is_back = |port: &LinkState| {
        let present = mapping.index(port.index).and_then(|index| mapping.now.links.get(&index));
        present.is_some_and(|present| present.link.master == Some(found.link.index))
    };
    // Before that it has an address that will not last.
    if !ports.all(is_back) {
        return;
    }
    if found.link.address != link.address {
        step(Stage::Settings, Action::Link(LinkChange::Address(link.address.clone())));
    }
    if found.link.mtu != link.mtu {
        step(Stage::Settings, Action::Link(LinkChange::Mtu(link.mtu)));
    }
}

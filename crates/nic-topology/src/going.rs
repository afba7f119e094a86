//! Which links the kernel removes when some go, and which have to do with those.

use std::collections::BTreeSet;

use nic_netlink::{IfIndex, LinkLayer, StackedLink, Standing};

use crate::Network;

/// The links themselves, and those that the kernel removes with them, and so on.
pub(crate) fn links_that_go(network: &Network, devices: &[IfIndex]) -> BTreeSet<IfIndex> {
    let mut goes: BTreeSet<IfIndex> = devices.iter().copied().collect();
    grow(&mut goes, network, |stacked, goes| {
        goes_with(network, stacked, goes) || is_left_empty(network, stacked, goes)
    });
    goes
}

/// Those that go, their masters, and what stands on the masters, and so on.
pub(crate) fn links_affected(network: &Network, goes: &BTreeSet<IfIndex>) -> BTreeSet<IfIndex> {
    let mut affected = goes.clone();
    grow(&mut affected, network, |stacked, affected| {
        let on_one = stacked.standing.lowers().iter().any(|lower| affected.contains(lower));
        on_one || ports(network, stacked).any(|port| affected.contains(&port))
    });
    affected
}

/// Whether the kernel removes it with what is in `goes`: by the rules of its kind, or because it stands there by what the
/// kernel shows of any kind and those rules do not explain it.
fn goes_with(network: &Network, stacked: &StackedLink, goes: &BTreeSet<IfIndex>) -> bool {
    let by_kind = match &stacked.standing {
        Standing::Alone | Standing::BoundTo { .. } => false,
        Standing::GoesWith(lowers) => return lowers.iter().all(|lower| goes.contains(lower)),
        // What the kernel keeps has no place in sysfs, so that its absence tells, too.
        Standing::NotKnown(lower) => goes.contains(lower) && !network.uppers.contains_key(lower),
    };
    by_kind || stands_without_reason(network, stacked, goes)
}

/// Whether it is shown on one of `goes`, and neither is that one's master nor stands there by its kind.
fn stands_without_reason(network: &Network, stacked: &StackedLink, goes: &BTreeSet<IfIndex>) -> bool {
    let index = stacked.link.index;
    let shown =
        network.uppers.iter().filter(|(lower, uppers)| goes.contains(lower) && uppers.contains(&index));
    shown
        .into_iter()
        .any(|(lower, _)| network.links.get(lower).is_some_and(|lower| lower.link.master != Some(index)))
}

/// Whether it is a bond that the kernel removes with its last port, which is one of other than Ethernet ports
/// (`bond_slave_netdev_event` in `drivers/net/bonding/bond_main.c`).
fn is_left_empty(network: &Network, stacked: &StackedLink, goes: &BTreeSet<IfIndex>) -> bool {
    let link = &stacked.link;
    let mut ports = ports(network, stacked).peekable();
    link.kind.as_deref() == Some("bond")
        && link.link_layer != LinkLayer::Ethernet
        && ports.peek().is_some()
        && ports.all(|port| goes.contains(&port))
}

/// A link that goes, and that this one stands on or is the master of; the first of several.
pub(crate) fn one_below(
    network: &Network,
    stacked: &StackedLink,
    goes: &BTreeSet<IfIndex>,
) -> Option<IfIndex> {
    let index = stacked.link.index;
    let shown = network.uppers.iter().filter(|(_, uppers)| uppers.contains(&index)).map(|(lower, _)| *lower);
    let named = stacked.standing.lowers().iter().copied();
    named.chain(shown).chain(ports(network, stacked)).find(|lower| goes.contains(lower))
}

fn ports(network: &Network, master: &StackedLink) -> impl Iterator<Item = IfIndex> {
    let index = master.link.index;
    network.links.values().filter(move |port| port.link.master == Some(index)).map(|port| port.link.index)
}

fn grow(
    set: &mut BTreeSet<IfIndex>,
    network: &Network,
    belongs: impl Fn(&StackedLink, &BTreeSet<IfIndex>) -> bool,
) {
    loop {
        let more: Vec<IfIndex> = network
            .links
            .values()
            .filter(|stacked| !set.contains(&stacked.link.index) && belongs(stacked, set))
            .map(|stacked| stacked.link.index)
            .collect();
        if more.is_empty() {
            return;
        }
        set.extend(more);
    }
}

/// How many links are below it.
pub(crate) fn depth(network: &Network, index: IfIndex) -> usize {
    fn below(network: &Network, index: IfIndex, left: usize) -> usize {
        let lowers = network.links.get(&index).map_or(&[][..], |stacked| stacked.standing.lowers());
        // Links that name each other have no end.
        let Some(left) = left.checked_sub(1) else { return 0 };
        lowers.iter().map(|lower| 1 + below(network, *lower, left)).max().unwrap_or_default()
    }
    below(network, index, network.links.len())
}

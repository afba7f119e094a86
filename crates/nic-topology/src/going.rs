//! Which links the kernel removes when some go, and which have to do with those.

use std::collections::{BTreeMap, BTreeSet};

use nic_netlink::{IfIndex, LinkLayer, StackedLink, Standing};

use crate::Network;

/// The links themselves, and those that the kernel removes with them, and so on.
pub(crate) fn links_that_go(network: &Network, devices: &[IfIndex]) -> BTreeSet<IfIndex> {
    let mut goes: BTreeSet<IfIndex> = devices.iter().copied().collect();
    let (ports, lowers) = (Ports::of(network), Lowers::of(network));
    grow(&mut goes, network, |stacked, goes| {
        goes_with(network, &lowers, stacked, goes) || is_left_empty(&ports, stacked, goes)
    });
    goes
}

/// Those that go, their masters, and what stands on the masters, and so on.
pub(crate) fn links_affected(network: &Network, goes: &BTreeSet<IfIndex>) -> BTreeSet<IfIndex> {
    let mut affected = goes.clone();
    let all_ports = Ports::of(network);
    grow(&mut affected, network, |stacked, affected| {
        let on_one = stacked.standing.lowers().iter().any(|lower| affected.contains(lower));
        on_one || all_ports.ports(stacked).any(|port| affected.contains(&port))
    });
    affected
}

/// Whether the kernel removes it with what is in `goes`: by the rules of its kind, or because it stands there by what the
/// kernel shows of any kind and those rules do not explain it.
fn goes_with(network: &Network, lowers: &Lowers, stacked: &StackedLink, goes: &BTreeSet<IfIndex>) -> bool {
    let by_kind = match &stacked.standing {
        Standing::Alone | Standing::BoundTo { .. } => false,
        Standing::GoesWith(lowers) => return lowers.iter().all(|lower| goes.contains(lower)),
        // What the kernel keeps has no place in sysfs, so that its absence tells, too.
        Standing::NotKnown(lower) => goes.contains(lower) && !network.uppers.contains_key(lower),
    };
    by_kind || stands_without_reason(network, lowers, stacked, goes)
}

/// Whether it is shown on one of `goes`, and neither is that one's master nor stands there by its kind.
fn stands_without_reason(
    network: &Network,
    lowers: &Lowers,
    stacked: &StackedLink,
    goes: &BTreeSet<IfIndex>,
) -> bool {
    let index = stacked.link.index;
    let mut shown = lowers.shown_below(index).filter(|lower| goes.contains(lower));
    shown.any(|lower| network.links.get(&lower).is_some_and(|lower| lower.link.master != Some(index)))
}

/// Whether it is a bond that the kernel removes with its last port, which is one of other than Ethernet ports
/// (`bond_slave_netdev_event` in `drivers/net/bonding/bond_main.c`).
fn is_left_empty(all_ports: &Ports, stacked: &StackedLink, goes: &BTreeSet<IfIndex>) -> bool {
    let link = &stacked.link;
    let mut ports = all_ports.ports(stacked).peekable();
    link.kind.as_deref() == Some("bond")
        && link.link_layer != LinkLayer::Ethernet
        && ports.peek().is_some()
        && ports.all(|port| goes.contains(&port))
}

/// A link that goes, and that this one stands on or is the master of; the first of several.
pub(crate) fn one_below(
    ports: &Ports,
    lowers: &Lowers,
    stacked: &StackedLink,
    goes: &BTreeSet<IfIndex>,
) -> Option<IfIndex> {
    let shown = lowers.shown_below(stacked.link.index);
    let named = stacked.standing.lowers().iter().copied();
    named.chain(shown).chain(ports.ports(stacked)).find(|lower| goes.contains(lower))
}

/// The ports of each master: a machine may have thousands of links, and each may be a master.
pub(crate) struct Ports(BTreeMap<IfIndex, Vec<IfIndex>>);

impl Ports {
    pub(crate) fn of(network: &Network) -> Self {
        let mut ports: BTreeMap<IfIndex, Vec<IfIndex>> = BTreeMap::new();
        for port in network.links.values() {
            if let Some(master) = port.link.master {
                ports.entry(master).or_default().push(port.link.index);
            }
        }
        Self(ports)
    }

    fn ports(&self, master: &StackedLink) -> impl Iterator<Item = IfIndex> {
        self.0.get(&master.link.index).into_iter().flatten().copied()
    }
}

/// The links that each one is shown to stand on, of those that were asked for it.
pub(crate) struct Lowers(BTreeMap<IfIndex, Vec<IfIndex>>);

impl Lowers {
    pub(crate) fn of(network: &Network) -> Self {
        let mut lowers: BTreeMap<IfIndex, Vec<IfIndex>> = BTreeMap::new();
        for (lower, uppers) in &network.uppers {
            for upper in uppers {
                lowers.entry(*upper).or_default().push(*lower);
            }
        }
        Self(lowers)
    }

    fn shown_below(&self, upper: IfIndex) -> impl Iterator<Item = IfIndex> {
        self.0.get(&upper).into_iter().flatten().copied()
    }
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

//! A netdev's own properties.

use nic_netlink::{LinkAddress, LinkChange, LinkLayer};

use super::NetdevStep;
use super::vf::SettingChange;
use crate::NetdevState;

/// [`Stage::Vfs`](crate::Stage::Vfs) and others: a netdev's own properties, in an order the kernel takes.
///
/// Down first where the change needs it: kernels before 6.2 rename no interface that is up, and many drivers refuse
/// a MAC change then. Leave a master, MTU and the rest, join a master, and up last.
#[must_use]
pub fn plan_netdev(saved: &NetdevState, found: &NetdevState) -> Vec<NetdevStep> {
    let mut steps = Vec::new();
    let address = new_address(saved, found);
    let renames = saved.name != found.name;
    // A bond goes on with the address that its port had when it joined.
    let rejoins = address.is_some() && found.address_as_port.is_some();
    let leaves = found.master.is_some() && (found.master != saved.master || rejoins);
    let joins = saved.master.is_some() && (found.master != saved.master || rejoins);
    let mut up = found.up;
    if up && (renames || address.is_some() || joins || !saved.up) {
        steps.push(NetdevStep::Link(LinkChange::Up(false)));
        up = false;
    }
    if leaves {
        steps.push(NetdevStep::Master(None));
    }
    for altname in found.altnames.iter().filter(|name| !saved.altnames.contains(name)) {
        steps.push(NetdevStep::Link(LinkChange::RemoveAltName(altname.clone())));
    }
    if renames {
        steps.push(NetdevStep::Link(LinkChange::Name(saved.name.clone())));
    }
    for altname in saved.altnames.iter().filter(|name| !found.altnames.contains(name)) {
        steps.push(NetdevStep::Link(LinkChange::AddAltName(altname.clone())));
    }
    let mut set = |change: LinkChange| steps.push(NetdevStep::Link(change));
    if let Some(address) = address {
        set(LinkChange::Address(address));
    }
    let mode = SettingChange::of(&saved.ipoib_mode, &found.ipoib_mode).value();
    if let Some(mode) = mode {
        set(LinkChange::IpoibMode(mode));
    }
    if let Some(wanted) = SettingChange::of(&saved.user_multicast, &found.user_multicast).value() {
        set(LinkChange::UserMulticast(wanted));
    }
    // A mode brings its own MTU, and refuses the other's.
    if saved.mtu != found.mtu || mode.is_some() {
        set(LinkChange::Mtu(saved.mtu));
    }
    if saved.tx_queue_length != found.tx_queue_length {
        set(LinkChange::TxQueueLength(saved.tx_queue_length));
    }
    if saved.alias != found.alias {
        set(LinkChange::Alias(saved.alias.clone().unwrap_or_default()));
    }
    if saved.group != found.group {
        set(LinkChange::Group(saved.group));
    }
    if saved.promiscuous != found.promiscuous {
        set(LinkChange::Promiscuous(saved.promiscuous));
    }
    if saved.all_multicast != found.all_multicast {
        set(LinkChange::AllMulticast(saved.all_multicast));
    }
    if joins {
        steps.push(NetdevStep::Master(saved.master.clone()));
    }
    if saved.up && !up {
        steps.push(NetdevStep::Link(LinkChange::Up(true)));
    }
    steps
}

/// The MAC to set. An InfiniBand port's address follows its GUID.
fn new_address(saved: &NetdevState, found: &NetdevState) -> Option<LinkAddress> {
    let settable = saved.link_layer == LinkLayer::Ethernet && saved.address != found.address;
    settable.then(|| saved.address.clone())
}

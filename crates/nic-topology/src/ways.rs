//! Which routes go through interfaces that go away, walked down from each route's own interface.

use std::collections::BTreeSet;

use nic_netlink::{IfIndex, Route, StackedLink};

use crate::Network;
use crate::going::{links_affected, links_that_go};

/// Whether a route goes through interfaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carried {
    /// It does not: each of its ways ends in another NIC.
    No,
    /// One of its ways does.
    Yes,
    /// It ends in this interface, of which the kernel does not tell what is below.
    CannotBeTold(IfIndex),
}

/// The links below an interface, down to the NICs of which some go away.
#[derive(Debug, Clone)]
pub struct Ways<'a> {
    network: &'a Network,
    /// The interfaces that go, and all that has to do with them.
    affected: BTreeSet<IfIndex>,
}

impl<'a> Ways<'a> {
    /// The ways of a machine whose interfaces `devices` go away.
    #[must_use]
    pub fn new(network: &'a Network, devices: &[IfIndex]) -> Self {
        Self { network, affected: links_affected(network, &links_that_go(network, devices)) }
    }

    /// What has to do with the interfaces that go.
    pub(crate) fn affected(&self) -> &BTreeSet<IfIndex> {
        &self.affected
    }

    /// Whether a route goes through the interfaces that go.
    #[must_use]
    pub fn carried(&self, route: &Route) -> Carried {
        let mut answer = Carried::No;
        for hop in route.next_hops.iter().filter_map(|hop| hop.index) {
            match self.carried_over(hop) {
                Carried::Yes => return Carried::Yes,
                Carried::No => {}
                unknown @ Carried::CannotBeTold(_) => answer = unknown,
            }
        }
        answer
    }

    /// Whether what goes over an interface goes through the interfaces that go: walks down from it.
    #[must_use]
    pub fn carried_over(&self, interface: IfIndex) -> Carried {
        let (mut seen, mut open) = (BTreeSet::new(), vec![interface]);
        let mut carried = Carried::No;
        while let Some(index) = open.pop() {
            if !seen.insert(index) {
                continue;
            }
            if self.affected.contains(&index) {
                return Carried::Yes;
            }
            let Some(stacked) = self.network.links.get(&index) else {
                carried = Carried::CannotBeTold(index);
                continue;
            };
            let ports = self.network.links.values().filter(|port| port.link.master == Some(index));
            let below: Vec<IfIndex> =
                stacked.standing.lowers().iter().copied().chain(ports.map(|port| port.link.index)).collect();
            if below.is_empty() {
                match self.end(stacked) {
                    Carried::Yes => return Carried::Yes,
                    Carried::CannotBeTold(index) => carried = Carried::CannotBeTold(index),
                    Carried::No => {}
                }
            }
            open.extend(below);
        }
        carried
    }

    /// What is below an interface that names none: a NIC nothing, and of a virtual one the kernel does not tell.
    fn end(&self, stacked: &StackedLink) -> Carried {
        match stacked.link.kind.as_deref() {
            None | Some("ipoib") => Carried::No,
            // An Open vSwitch bridge is a port of its datapath without a master, as which the datapath's other ports have it
            // (`ovs_vport_cmd_fill_info` and `get_dpdev` in net/openvswitch). All datapaths of this kind are taken for one.
            Some(OPEN_VSWITCH) => {
                let is_port = |port: &IfIndex| {
                    let master = self.network.links.get(port).and_then(|port| port.link.master);
                    let master = master.and_then(|master| self.network.links.get(&master));
                    master.is_some_and(|master| master.link.kind.as_deref() == Some(OPEN_VSWITCH))
                };
                if self.affected.iter().any(is_port) { Carried::Yes } else { Carried::No }
            }
            Some(_) => Carried::CannotBeTold(stacked.link.index),
        }
    }
}

const OPEN_VSWITCH: &str = "openvswitch";

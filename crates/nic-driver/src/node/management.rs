//! What of the node's own goes through the NICs that a swap takes away: its ways out, and storage on other machines.

use std::collections::BTreeSet;
use std::net::IpAddr;

use nic_kmod::{ObserveUsersError, Peer, RemoteStorage, observe_remote_storage};
use nic_netlink::{IfIndex, Netlink, NetworkReadError, Route};
use nic_sriov::{LinkSource, NicState};
use nic_topology::{Carried, Network, Uplinks, Ways};

use super::api_servers::api_servers;
use super::network::ifindexes;
use crate::context::Context;

/// What goes through the NICs could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum ManagementError {
    /// The routes.
    #[error("whether the node itself is reached through its NICs cannot be told")]
    Network(#[from] NetworkReadError),
    /// Storage on other machines.
    #[error("whether storage is reached through the NICs cannot be told")]
    Storage(#[from] ObserveUsersError),
}

/// What of the node's own goes through NICs, or may do so.
#[derive(Debug, Default)]
pub(crate) struct BehindNics {
    /// The machine's own ways out, where one goes through them.
    pub(crate) ways_out: Option<Uplinks>,
    /// Storage on other machines.
    pub(crate) storage: Vec<StorageBehind>,
}

/// Storage that is reached through the NICs, or may be.
#[derive(Debug)]
pub(crate) struct StorageBehind {
    pub(crate) storage: RemoteStorage,
    /// The ways to it, such as `192.0.2.1 over pf0`, that go through the NICs; empty where only nothing tells otherwise.
    pub(crate) ways: Vec<String>,
}

/// Looks what goes through these NICs. A tree's network is not recorded.
pub(crate) async fn behind_nics(
    context: &Context,
    source: &LinkSource,
    nics: &NicState,
) -> Result<BehindNics, ManagementError> {
    let LinkSource::Kernel(kernel) = source else { return Ok(BehindNics::default()) };
    let netlink = &kernel.netlink;
    let network = Network::read(netlink).await?;
    let devices = ifindexes(nics);
    let mut api = Vec::new();
    for address in api_servers(context) {
        api.extend(route_to(netlink, address).await?.map(|route| (address, route)));
    }
    let ways_out = Some(Uplinks::of(&network, &devices, &api)).filter(Uplinks::carry_management);
    let ways = Ways::new(&network, &devices);
    let mut storage = Vec::new();
    for remote in observe_remote_storage(&context.host)? {
        // Where it is cannot be told, and so neither whether it is reached.
        let mut may_be = remote.peers.is_empty();
        let mut over = Vec::new();
        for peer in &remote.peers {
            let interfaces = interfaces_to(netlink, &network, peer).await?;
            may_be |= interfaces.is_none();
            for interface in interfaces.into_iter().flatten() {
                match ways.carried_over(interface) {
                    Carried::Yes => over.push(format!("{} over {}", peer.address, network.name(interface))),
                    Carried::CannotBeTold(_) => may_be = true,
                    Carried::No => {}
                }
            }
        }
        if may_be || !over.is_empty() {
            storage.push(StorageBehind { storage: remote, ways: over });
        }
    }
    Ok(BehindNics { ways_out, storage })
}

/// The interfaces that lead to a peer; `None` where the one that it is bound to is not there, and so not known.
async fn interfaces_to(
    netlink: &Netlink,
    network: &Network,
    peer: &Peer,
) -> Result<Option<BTreeSet<IfIndex>>, NetworkReadError> {
    if let Some(name) = &peer.interface {
        let link = network.links.values().find(|link| link.link.name.as_str() == name);
        return Ok(link.map(|link| BTreeSet::from([link.link.index])));
    }
    let route = route_to(netlink, peer.address).await?;
    Ok(Some(route.iter().flat_map(|route| &route.next_hops).filter_map(|hop| hop.index).collect()))
}

/// `None` for this machine's own addresses, too, to which the kernel's route leads over `lo`, an interface without a NIC.
async fn route_to(netlink: &Netlink, address: IpAddr) -> Result<Option<Route>, NetworkReadError> {
    let route = netlink.route_to(address).await?;
    Ok(route.filter(|route| route.kind == Route::UNICAST))
}

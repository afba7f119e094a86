//! The node's own ways out through the NICs that a swap takes away.

use std::net::IpAddr;

use nic_netlink::Netlink;
use nic_sriov::{LinkSource, NicState};
use nic_topology::{Network, Uplinks};

use super::network::ifindexes;
use crate::context::Context;

/// Ways out that could not be looked at.
#[derive(Debug, thiserror::Error)]
#[error("whether the node itself is reached through its NICs cannot be told")]
pub struct ManagementError(#[from] nic_netlink::NetworkReadError);

/// Looks which of the machine's own ways out go through these NICs, or may do so; `None` where none does. A tree's network is not
/// recorded.
pub(crate) async fn ways_out(
    context: &Context,
    source: &LinkSource,
    nics: &NicState,
) -> Result<Option<Uplinks>, ManagementError> {
    let LinkSource::Kernel(kernel) = source else { return Ok(None) };
    let uplinks = uplinks(&kernel.netlink, nics, context.settings.kubernetes_api).await?;
    Ok(Some(uplinks).filter(Uplinks::carry_management))
}

async fn uplinks(
    netlink: &Netlink,
    nics: &NicState,
    api: Option<IpAddr>,
) -> Result<Uplinks, nic_netlink::NetworkReadError> {
    let route = match api {
        Some(api) => netlink.route_to(api).await?.map(|route| (api, route)),
        None => None,
    };
    let network = Network::read(netlink).await?;
    let devices = ifindexes(nics);
    Ok(Uplinks::of(&network, &devices, route.as_ref().map(|(api, route)| (*api, route))))
}

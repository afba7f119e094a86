//! The node's own ways out through the NICs that a swap takes away.

use std::net::IpAddr;

use nic_netlink::Netlink;
use nic_sriov::NicState;
use nic_topology::{Network, Uplinks};

use super::network::ifindexes;
use crate::context::{Context, ManagementNic};

/// A reload that would take the node's own network away, and must not.
#[derive(Debug, thiserror::Error)]
#[error(
    "the node itself is reached through NICs that a reload takes away for its time: {uplinks}. Allow it with \
     --management-nic warn, or move the node's network to another NIC"
)]
pub struct ManagementBlocked {
    /// What goes through them.
    pub uplinks: Uplinks,
}

/// Ways out that could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum ManagementError {
    /// They are there, and not to be taken away.
    #[error(transparent)]
    Blocked(#[from] ManagementBlocked),
    /// The kernel was asked in vain.
    #[error("whether the node itself is reached through its NICs cannot be told")]
    Read(#[from] nic_netlink::NetworkReadError),
}

/// Looks which of the machine's own ways out go through these NICs, and does what the setting says.
pub(crate) async fn check_management(
    context: &Context,
    netlink: &Netlink,
    nics: &NicState,
) -> Result<(), ManagementError> {
    let policy = context.settings.management_nic;
    if policy == ManagementNic::Allow {
        return Ok(());
    }
    let uplinks = uplinks(netlink, nics, context.settings.kubernetes_api).await?;
    if !uplinks.carry_management() {
        return Ok(());
    }
    if policy == ManagementNic::Refuse {
        return Err(ManagementBlocked { uplinks }.into());
    }
    tracing::warn!(%uplinks, "the node itself is reached through NICs that go now; all of it will be restored");
    Ok(())
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

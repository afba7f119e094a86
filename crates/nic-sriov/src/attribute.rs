//! The attributes that a restore gives back, by name.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An attribute of a PF, a VF or a representor, under the name that the results and the journal give it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Attribute {
    /// Whether it is there at all.
    Presence,
    /// Whether it could be observed.
    #[serde(rename = "state")]
    Observation,
    /// The PCI address of a VF.
    PciAddress,
    /// The driver it is bound to.
    Driver,
    /// `driver_override`.
    DriverOverride,
    /// `sriov_numvfs`.
    NumVfs,
    /// `sriov_drivers_autoprobe`.
    DriversAutoprobe,
    /// The eswitch's mode.
    #[serde(rename = "eswitch.mode")]
    EswitchMode,
    /// The eswitch's inline mode.
    #[serde(rename = "eswitch.inline_mode")]
    EswitchInlineMode,
    /// The eswitch's encapsulation mode.
    #[serde(rename = "eswitch.encap_mode")]
    EswitchEncapMode,
    /// Whether it has a netdev here.
    Netdev,
    /// The netdev's name.
    Name,
    /// The netdev's alternative names.
    Altnames,
    /// The netdev's hardware address.
    Address,
    /// The netdev's MTU.
    Mtu,
    /// Whether the netdev of IP over InfiniBand sends by datagrams or by connections.
    IpoibMode,
    /// Whether user space may join the multicast groups of the netdev of IP over InfiniBand.
    UserMulticast,
    /// Whether the netdev is administratively up.
    Up,
    /// The length of the netdev's transmit queue.
    TxQueueLength,
    /// The netdev's `ifalias`.
    Alias,
    /// The netdev's group.
    Group,
    /// Whether promiscuous mode is asked for.
    Promiscuous,
    /// Whether all multicast is asked for.
    AllMulticast,
    /// The bond, bridge or VRF that the netdev belongs to.
    Master,
    /// The names of its RDMA devices.
    Rdma,
    /// All that the PF holds for a VF.
    Admin,
    /// The admin MAC.
    #[serde(rename = "admin.mac")]
    AdminMac,
    /// VLAN, priority and protocol.
    #[serde(rename = "admin.vlan")]
    AdminVlan,
    /// Spoof check.
    #[serde(rename = "admin.spoof_check")]
    AdminSpoofCheck,
    /// Trust.
    #[serde(rename = "admin.trust")]
    AdminTrust,
    /// Link state.
    #[serde(rename = "admin.link_state")]
    AdminLinkState,
    /// Guaranteed rate.
    #[serde(rename = "admin.min_tx_rate")]
    AdminMinTxRate,
    /// Highest rate.
    #[serde(rename = "admin.max_tx_rate")]
    AdminMaxTxRate,
    /// Whether the VF may read the RSS configuration.
    #[serde(rename = "admin.query_rss")]
    AdminQueryRss,
    /// InfiniBand node GUID.
    #[serde(rename = "admin.node_guid")]
    AdminNodeGuid,
    /// InfiniBand port GUID.
    #[serde(rename = "admin.port_guid")]
    AdminPortGuid,
    /// The VLANs that the VF may tag itself.
    #[serde(rename = "ofed.trunk")]
    OfedTrunk,
    /// The rate group.
    #[serde(rename = "ofed.rate_group")]
    OfedRateGroup,
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The name is the one that is serialised: a formatter takes a unit variant as its name.
        self.serialize(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_the_serialised_name() {
        for (attribute, name) in [
            (Attribute::AdminSpoofCheck, "admin.spoof_check"),
            (Attribute::TxQueueLength, "tx_queue_length"),
            (Attribute::Observation, "state"),
        ] {
            assert_eq!(attribute.to_string(), name);
            assert_eq!(serde_json::to_value(attribute).unwrap(), name);
        }
    }
}

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Guid, LinkAddress, MacAddress, Setting};

/// What a physical function's driver says of one of its virtual functions: one `IFLA_VF_INFO`.
///
/// The kernel presets the fields before it asks the driver (`rtnl_fill_vfinfo` in `net/core/rtnetlink.c`), so an
/// attribute that is there does not prove that the driver knows it. For `spoof_check`, `trust` and `query_rss` the
/// preset is `u32::MAX` and can be told apart. For the link state it is `Auto`, for VLAN and rates 0: there only
/// the refusal of a change tells.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VfAttributes {
    /// The VF's number on its PF, from 0.
    pub index: u32,
    /// The address as the driver filled it in, cut to the length of the PF's own. On InfiniBand this repeats the
    /// PF's address (`ipoib_get_vf_config`) and says nothing of the VF.
    pub address: LinkAddress,
    /// The admin MAC. All-zero is `NotSet`: the VF chooses one when it probes. `NotThere` on InfiniBand.
    pub mac: Setting<MacAddress>,
    /// The VLAN the PF puts the VF's traffic in. VLAN 0 without priority is `NotSet`.
    pub vlan: Setting<VlanTag>,
    /// Every entry of `IFLA_VF_VLAN_LIST`. The kernel's interface has room for more than one, its code for one
    /// (`MAX_VLAN_LIST_LEN`).
    pub vlans: Vec<VlanTag>,
    /// Whether frames with a foreign source address are dropped.
    pub spoof_check: Setting<bool>,
    /// Whether the VF may do what is reserved, such as change its MAC or become promiscuous.
    pub trust: Setting<bool>,
    /// Whether the VF may read the RSS configuration it shares with its PF.
    pub query_rss: Setting<bool>,
    /// What the VF sees as its link.
    pub link_state: VfLinkState,
    /// Guaranteed bandwidth in Mbit/s.
    pub min_tx_rate: Setting<u32>,
    /// Bandwidth limit in Mbit/s.
    pub max_tx_rate: Setting<u32>,
    /// The InfiniBand node GUID.
    pub node_guid: Setting<Guid>,
    /// The InfiniBand port GUID.
    pub port_guid: Setting<Guid>,
}

impl VfAttributes {
    /// VF number `index`, of which nothing else is known.
    #[must_use]
    pub fn new(index: u32) -> Self {
        Self {
            index,
            address: LinkAddress::default(),
            mac: Setting::NotThere,
            vlan: Setting::NotThere,
            vlans: Vec::new(),
            spoof_check: Setting::NotThere,
            trust: Setting::NotThere,
            query_rss: Setting::NotThere,
            link_state: VfLinkState::Auto,
            min_tx_rate: Setting::NotThere,
            max_tx_rate: Setting::NotThere,
            node_guid: Setting::NotThere,
            port_guid: Setting::NotThere,
        }
    }
}

/// A VLAN tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VlanTag {
    /// The VLAN, 0 to 4095; 0 is none.
    pub id: u16,
    /// The priority, 0 to 7.
    pub qos: u8,
    /// The kind of tag.
    pub protocol: VlanProtocol,
}

impl VlanTag {
    /// No VLAN and no priority, which is also how one is taken away.
    pub const NONE: Self = Self { id: 0, qos: 0, protocol: VlanProtocol::Ieee8021Q };
}

impl fmt::Display for VlanTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} qos {} proto {}", self.id, self.qos, self.protocol)
    }
}

/// The kind of a VLAN tag, which is its EtherType.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub enum VlanProtocol {
    /// 802.1Q (0x8100), a customer's tag.
    #[default]
    #[serde(rename = "802.1q")]
    Ieee8021Q,
    /// 802.1ad (0x88a8), a provider's tag.
    #[serde(rename = "802.1ad")]
    Ieee8021Ad,
}

impl fmt::Display for VlanProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ieee8021Q => "802.1Q",
            Self::Ieee8021Ad => "802.1ad",
        })
    }
}

/// What a VF sees as its link.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum VfLinkState {
    /// The PF's link.
    #[default]
    Auto,
    /// Always up.
    Enable,
    /// Always down.
    Disable,
}

impl fmt::Display for VfLinkState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Enable => "enable",
            Self::Disable => "disable",
        })
    }
}

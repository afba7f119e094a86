use std::collections::BTreeMap;

use nic_netlink::{EthtoolGroup, EthtoolSettings, EthtoolValue, IfIndex, LinkName, Setting, Unread};
use serde::{Deserialize, Serialize};

/// What is set of one network device.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeviceSettings {
    /// Its interface index when it was looked at.
    pub index: IfIndex,
    /// Its name then, for messages.
    pub name: LinkName,
    /// Its settings by group. A group of which its driver has none is not in it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ethtool: BTreeMap<EthtoolGroup, Setting<EthtoolSettings>>,
}

impl DeviceSettings {
    /// A device of which nothing is set.
    #[must_use]
    pub fn new(index: IfIndex, name: LinkName) -> Self {
        Self { index, name, ethtool: BTreeMap::new() }
    }

    /// A device of which nothing could be read.
    #[must_use]
    pub fn not_known(index: IfIndex, name: &LinkName, why: &Unread) -> Self {
        let groups = EthtoolGroup::ALL.map(|group| (group, Setting::NotKnown(why.clone())));
        Self { index, name: name.clone(), ethtool: groups.into() }
    }

    /// The value of one setting, where it is known.
    pub(crate) fn value(&self, group: EthtoolGroup, name: &str) -> Option<&EthtoolValue> {
        self.group(group)?.get(name)
    }

    /// The settings of one group, where they are known.
    pub(crate) fn group(&self, group: EthtoolGroup) -> Option<&EthtoolSettings> {
        self.ethtool.get(&group)?.as_set()
    }
}

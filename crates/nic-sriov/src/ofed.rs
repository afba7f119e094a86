//! What MLNX_OFED's driver keeps of a VF beyond what netlink can say: `<PF>/sriov/<N>/` in sysfs.
//!
//! Most files there print a usage text when read. Two hold data: `trunk`, the VLANs that a VF may tag itself (VGT+),
//! and `config`, of which only the rate group has no netlink equal.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use nic_host::{DeadlineWriteError, Foreign, Host};
use nic_netlink::{Agreement, Guid, Setting, Unread, VfChange, VfLinkState};
use serde::{Deserialize, Serialize};

use crate::DeviceAddress;

/// What MLNX_OFED's driver keeps of a VF beyond what netlink can say.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct OfedAttributes {
    /// The VLANs the VF may tag its traffic with itself (VGT+), ascending. Not set: VGT+ is off.
    pub trunk: Setting<Vec<u16>>,
    /// The rate group, on NICs that have them; not set is group 0, of those that are in none.
    pub rate_group: Setting<u32>,
}

impl Default for OfedAttributes {
    /// Those of a driver that keeps none.
    fn default() -> Self {
        Self { trunk: Setting::NotThere, rate_group: Setting::NotThere }
    }
}

impl OfedAttributes {
    /// Whether the driver keeps none of them.
    #[must_use]
    pub fn is_not_there(&self) -> bool {
        matches!((&self.trunk, &self.rate_group), (Setting::NotThere, Setting::NotThere))
    }
}

/// A write to `<PF>/sriov/<N>/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OfedStep {
    /// Allow the VLANs from the first to the second, both included.
    TrunkAdd(u16, u16),
    /// Allow them no longer.
    TrunkRemove(u16, u16),
    /// Put the VF in a rate group.
    RateGroup(u32),
    /// Set its InfiniBand node GUID, where there is no netdev to set it by.
    NodeGuid(Guid),
    /// Likewise its port GUID.
    PortGuid(Guid),
    /// Likewise its link state.
    Policy(VfLinkState),
}

impl OfedStep {
    /// The write that does what this change does, where there is one.
    pub(crate) fn of(change: &VfChange) -> Option<Self> {
        match change {
            VfChange::NodeGuid(guid) => Some(Self::NodeGuid(*guid)),
            VfChange::PortGuid(guid) => Some(Self::PortGuid(*guid)),
            VfChange::LinkState(state) => Some(Self::Policy(*state)),
            VfChange::Mac(_)
            | VfChange::Vlan(_)
            | VfChange::SpoofCheck(_)
            | VfChange::Trust(_)
            | VfChange::QueryRss(_)
            | VfChange::Rate { .. } => None,
        }
    }

    fn file(self) -> &'static str {
        match self {
            Self::TrunkAdd(..) | Self::TrunkRemove(..) => "trunk",
            Self::RateGroup(_) => "group",
            Self::NodeGuid(_) => "node",
            Self::PortGuid(_) => "port",
            Self::Policy(_) => "policy",
        }
    }

    fn value(self) -> String {
        match self {
            Self::TrunkAdd(first, last) => format!("add {first} {last}"),
            Self::TrunkRemove(first, last) => format!("rem {first} {last}"),
            Self::RateGroup(group) => group.to_string(),
            Self::NodeGuid(guid) | Self::PortGuid(guid) => guid.to_string(),
            Self::Policy(VfLinkState::Auto) => "Follow".to_owned(),
            Self::Policy(VfLinkState::Enable) => "Up".to_owned(),
            Self::Policy(VfLinkState::Disable) => "Down".to_owned(),
        }
    }
}

impl fmt::Display for OfedStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.file(), self.value())
    }
}

/// Reads a VF's folder. What cannot be read of it, or is not understood, is not known.
pub(crate) fn observe(host: &Host, pf: &DeviceAddress, vf: u32) -> OfedAttributes {
    let folder = format!("{}/sriov/{vf}", pf.sysfs());
    let read = |file: &str| host.attribute(format!("{folder}/{file}"));
    let trunk = match read("trunk") {
        Ok(Some(text)) => parse_trunk(&text),
        Ok(None) => Setting::NotThere,
        Err(error) => Setting::NotKnown(Unread::of(&error)),
    };
    let rate_group = match read("config") {
        Ok(Some(text)) => parse_rate_group(&text),
        Ok(None) => Setting::NotThere,
        Err(error) => Setting::NotKnown(Unread::of(&error)),
    };
    OfedAttributes { trunk, rate_group }
}

/// Carries out a step.
pub(crate) async fn apply(
    host: &Host,
    pf: &DeviceAddress,
    vf: u32,
    step: OfedStep,
    deadline: Duration,
) -> Result<(), DeadlineWriteError> {
    let path = format!("{}/sriov/{vf}/{}", pf.sysfs(), step.file());
    host.write_attribute_within(path, &step.value(), deadline).await
}

/// The steps from `found` to `saved`: what is too much goes first.
#[must_use]
pub fn plan_ofed(saved: &OfedAttributes, found: &OfedAttributes) -> Vec<OfedStep> {
    let mut steps = Vec::new();
    match saved.trunk.against(&found.trunk) {
        Agreement::Differs { saved, found } => {
            let vlans = |of: Option<&Vec<u16>>| of.cloned().unwrap_or_default();
            steps = plan_trunk(&vlans(saved), &vlans(found));
        }
        // What is too much cannot be told; what is missing cannot be wrong to allow.
        Agreement::FoundNotKnown(_) => {
            steps = plan_trunk(saved.trunk.as_set().map_or(&[], Vec::as_slice), &[]);
        }
        Agreement::Same
        | Agreement::WasNotThere
        | Agreement::IsNotThere { .. }
        | Agreement::SavedNotKnown(_) => {}
    }
    match saved.rate_group.against(&found.rate_group) {
        Agreement::Differs { saved, .. } => steps.push(OfedStep::RateGroup(saved.copied().unwrap_or(0))),
        Agreement::FoundNotKnown(_) => {
            steps.extend(saved.rate_group.as_set().copied().map(OfedStep::RateGroup));
        }
        Agreement::Same
        | Agreement::WasNotThere
        | Agreement::IsNotThere { .. }
        | Agreement::SavedNotKnown(_) => {}
    }
    steps
}

fn plan_trunk(saved: &[u16], found: &[u16]) -> Vec<OfedStep> {
    let without = |of: &[u16], other: &[u16]| -> Vec<u16> {
        of.iter().copied().filter(|vlan| !other.contains(vlan)).collect()
    };
    let remove = ranges(&without(found, saved)).into_iter();
    let add = ranges(&without(saved, found)).into_iter();
    let remove = remove.map(|(first, last)| OfedStep::TrunkRemove(first, last));
    remove.chain(add.map(|(first, last)| OfedStep::TrunkAdd(first, last))).collect()
}

/// `Allowed 802.1Q VLANs: 10 11 12`, or nothing. Ranges and commas are taken too. A driver without VGT+ for this VF prints how the file
/// is written to, `usage: …`. Of what else it may print nothing is taken for "off".
fn parse_trunk(text: &str) -> Setting<Vec<u16>> {
    let text = text.trim();
    if text.is_empty() {
        return Setting::NotSet;
    }
    if text.to_ascii_lowercase().starts_with("usage") {
        return Setting::NotThere;
    }
    let vlan = |text: &str| text.parse::<u16>().ok().filter(|vlan| *vlan < 4096);
    let range = |item: &str| {
        let (first, last) = item.split_once('-').unwrap_or((item, item));
        Some(vlan(first)?..=vlan(last)?)
    };
    let items = text.split_once(':').map(|(_, list)| {
        let items = list.split([' ', ',', '\n', '\t']).filter(|item| !item.is_empty());
        items.map(range).collect::<Option<Vec<_>>>()
    });
    let Some(Some(ranges)) = items else {
        let why = format!("trunk holds {}, which is no list of VLANs", Foreign(text));
        return Setting::NotKnown(Unread::because(why));
    };
    let vlans: BTreeSet<u16> = ranges.into_iter().flatten().collect();
    if vlans.is_empty() { Setting::NotSet } else { Setting::Set(vlans.into_iter().collect()) }
}

/// The line `RateGroup  : N` of `config`.
fn parse_rate_group(config: &str) -> Setting<u32> {
    let of_line = |line: &'_ str| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == "RateGroup").then(|| value.trim().to_owned())
    };
    let Some(value) = config.lines().find_map(of_line) else { return Setting::NotThere };
    match value.parse() {
        Ok(0) => Setting::NotSet,
        Ok(group) => Setting::Set(group),
        Err(_) => {
            let why = format!("config holds the rate group {}, which is no number", Foreign(&value));
            Setting::NotKnown(Unread::because(why))
        }
    }
}

fn ranges(vlans: &[u16]) -> Vec<(u16, u16)> {
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for &vlan in vlans {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == vlan => *last = vlan,
            _ => ranges.push((vlan, vlan)),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(value: &impl Serialize) -> serde_json::Value {
        serde_json::to_value(value).unwrap()
    }

    fn attributes(trunk: &[u16], group: u32) -> OfedAttributes {
        OfedAttributes {
            trunk: if trunk.is_empty() { Setting::NotSet } else { Setting::Set(trunk.to_vec()) },
            rate_group: if group == 0 { Setting::NotSet } else { Setting::Set(group) },
        }
    }

    #[test]
    fn a_folder_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::at(dir.path());
        let pf: DeviceAddress = "0000:01:00.0".parse().unwrap();
        assert!(observe(&host, &pf, 3).is_not_there());
        let folder = host.path(format!("{}/sriov/3", pf.sysfs()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("trunk"), "Allowed 802.1Q VLANs: 10 11 12 40\n").unwrap();
        let config = "VF         : 3\nMAC        : 00:22:33:44:55:66\nVGT+       : ON\nRateGroup  : 2\n";
        std::fs::write(folder.join("config"), config).unwrap();
        assert_eq!(json(&observe(&host, &pf, 3)), json(&attributes(&[10, 11, 12, 40], 2)));
        // Each of the two is there by itself, and unknown by itself.
        std::fs::remove_file(folder.join("trunk")).unwrap();
        std::fs::create_dir(folder.join("trunk")).unwrap();
        let found = observe(&host, &pf, 3);
        assert!(found.trunk.unread().is_some() && found.rate_group.as_set() == Some(&2), "{found:?}");
        std::fs::remove_dir(folder.join("trunk")).unwrap();
        let found = observe(&host, &pf, 3);
        assert!(
            matches!(found.trunk, Setting::NotThere) && found.rate_group.as_set() == Some(&2),
            "{found:?}"
        );
    }

    #[test]
    fn what_is_not_understood_is_not_off() {
        assert!(matches!(parse_trunk(""), Setting::NotSet));
        assert!(matches!(parse_trunk("Allowed 802.1Q VLANs:"), Setting::NotSet));
        assert!(matches!(parse_trunk("usage: write <add|rem> <start_vlan> <end_vlan>"), Setting::NotThere));
        assert_eq!(parse_trunk("Allowed 802.1Q VLANs: 2-4, 9").as_set().unwrap(), &[2, 3, 4, 9]);
        for odd in ["Allowed 802.1Q VLANs: 10 eleven 12", "VLANs: 4096", "all of them"] {
            assert!(parse_trunk(odd).unread().is_some(), "{odd}");
        }
        assert!(parse_rate_group("RateGroup : none").unread().is_some());
        assert!(matches!(parse_rate_group("RateGroup : 0"), Setting::NotSet));
        assert!(matches!(parse_rate_group("VF : 3"), Setting::NotThere));
    }

    #[test]
    fn the_difference_is_planned_in_ranges() {
        let saved = attributes(&[10, 11, 12, 40], 2);
        let found = attributes(&[11, 90], 0);
        assert_eq!(
            plan_ofed(&saved, &found).iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["trunk rem 90 90", "trunk add 10 10", "trunk add 12 12", "trunk add 40 40", "group 2"]
        );
        assert!(plan_ofed(&saved, &saved).is_empty());
        let none = OfedAttributes::default();
        assert!(plan_ofed(&saved, &none).is_empty(), "a driver without the folder cannot be given it");
        assert!(plan_ofed(&none, &saved).is_empty());
        assert_eq!(plan_ofed(&attributes(&[], 0), &attributes(&[], 3)), [OfedStep::RateGroup(0)]);
    }
}

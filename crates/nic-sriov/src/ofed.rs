//! What MLNX_OFED's driver keeps of a VF beyond what netlink can say: `<PF>/sriov/<N>/` in sysfs.
//!
//! Most files there print a usage text when read. Two hold data: `trunk`, the VLANs that a VF may tag itself (VGT+),
//! and `config`, of which only the rate group has no netlink equal.

use nic_host::{DeadlineWriteError, Host, ReadError};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

use crate::DeviceAddress;

/// What MLNX_OFED's driver keeps of a VF beyond what netlink can say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct OfedAttributes {
    /// The VLANs the VF may tag its traffic with itself (VGT+), ascending. Empty: VGT+ is off.
    pub trunk: Vec<u16>,
    /// The rate group, on NICs that have them; 0 is the default group.
    pub rate_group: Option<u32>,
}

/// A write to `<PF>/sriov/<N>/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OfedStep {
    /// Allow the VLANs from the first to the second, both included.
    TrunkAdd(u16, u16),
    /// Allow them no longer.
    TrunkRemove(u16, u16),
    /// Put the VF in a rate group.
    RateGroup(u32),
}

impl OfedStep {
    fn file(self) -> &'static str {
        match self {
            Self::TrunkAdd(..) | Self::TrunkRemove(..) => "trunk",
            Self::RateGroup(_) => "group",
        }
    }

    fn value(self) -> String {
        match self {
            Self::TrunkAdd(first, last) => format!("add {first} {last}"),
            Self::TrunkRemove(first, last) => format!("rem {first} {last}"),
            Self::RateGroup(group) => group.to_string(),
        }
    }
}

impl fmt::Display for OfedStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.file(), self.value())
    }
}

/// Reads a VF's folder; `None` where the driver has none.
pub(crate) fn observe(host: &Host, pf: &DeviceAddress, vf: u32) -> Result<Option<OfedAttributes>, ReadError> {
    let folder = format!("{}/sriov/{vf}", pf.sysfs());
    let Some(trunk) = host.attribute(format!("{folder}/trunk"))? else { return Ok(None) };
    let config = host.attribute(format!("{folder}/config"))?.unwrap_or_default();
    Ok(Some(OfedAttributes { trunk: parse_trunk(&trunk), rate_group: parse_rate_group(&config) }))
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
pub fn plan_ofed(saved: Option<&OfedAttributes>, found: Option<&OfedAttributes>) -> Vec<OfedStep> {
    let (Some(saved), Some(found)) = (saved, found) else { return Vec::new() };
    let without = |of: &[u16], other: &[u16]| -> Vec<u16> {
        of.iter().copied().filter(|vlan| !other.contains(vlan)).collect()
    };
    let mut steps: Vec<OfedStep> = ranges(&without(&found.trunk, &saved.trunk))
        .into_iter()
        .map(|(first, last)| OfedStep::TrunkRemove(first, last))
        .collect();
    let add = ranges(&without(&saved.trunk, &found.trunk));
    steps.extend(add.into_iter().map(|(first, last)| OfedStep::TrunkAdd(first, last)));
    if let (Some(saved), Some(found)) = (saved.rate_group, found.rate_group)
        && saved != found
    {
        steps.push(OfedStep::RateGroup(saved));
    }
    steps
}

/// `Allowed 802.1Q VLANs: 10 11 12`, or nothing. Ranges and commas are taken too.
fn parse_trunk(text: &str) -> Vec<u16> {
    let Some((_, list)) = text.split_once(':') else { return Vec::new() };
    let mut vlans: Vec<u16> = list
        .split([' ', ',', '\n', '\t'])
        .filter_map(|item| {
            let (first, last) = item.split_once('-').unwrap_or((item, item));
            Some(first.parse::<u16>().ok()?..=last.parse::<u16>().ok()?)
        })
        .flatten()
        .filter(|vlan| *vlan < 4096)
        .collect();
    vlans.sort_unstable();
    vlans.dedup();
    vlans
}

/// The line `RateGroup  : N` of `config`.
fn parse_rate_group(config: &str) -> Option<u32> {
    config.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == "RateGroup").then(|| value.trim().parse().ok()).flatten()
    })
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

    #[test]
    fn a_folder_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::at(dir.path());
        let pf: DeviceAddress = "0000:01:00.0".parse().unwrap();
        assert_eq!(observe(&host, &pf, 3).unwrap(), None);
        let folder = host.path(format!("{}/sriov/3", pf.sysfs()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("trunk"), "Allowed 802.1Q VLANs: 10 11 12 40\n").unwrap();
        let config = "VF         : 3\nMAC        : 00:22:33:44:55:66\nVGT+       : ON\nRateGroup  : 2\n";
        std::fs::write(folder.join("config"), config).unwrap();
        let expected = OfedAttributes { trunk: vec![10, 11, 12, 40], rate_group: Some(2) };
        assert_eq!(observe(&host, &pf, 3).unwrap(), Some(expected));
    }

    #[test]
    fn an_empty_trunk_is_off() {
        assert_eq!(parse_trunk(""), Vec::<u16>::new());
        assert_eq!(parse_trunk("usage: write <add|rem> <start_vlan> <end_vlan>"), Vec::<u16>::new());
        assert_eq!(parse_trunk("Allowed 802.1Q VLANs: 2-4, 9"), [2, 3, 4, 9]);
    }

    #[test]
    fn the_difference_is_planned_in_ranges() {
        let attributes = |trunk: &[u16], group| OfedAttributes { trunk: trunk.to_vec(), rate_group: group };
        let saved = attributes(&[10, 11, 12, 40], Some(2));
        let found = attributes(&[11, 90], Some(0));
        assert_eq!(
            plan_ofed(Some(&saved), Some(&found)).iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["trunk rem 90 90", "trunk add 10 10", "trunk add 12 12", "trunk add 40 40", "group 2"]
        );
        assert!(plan_ofed(Some(&saved), Some(&saved)).is_empty());
        assert!(plan_ofed(Some(&saved), None).is_empty(), "a driver without the folder cannot be given it");
    }
}

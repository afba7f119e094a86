use std::fmt;

use nic_netlink::{EthtoolGroup, EthtoolValue, LinkName, Setting};
use serde::{Deserialize, Serialize};

use crate::plan::{owed, select};
use crate::{DeviceSettings, plan};

/// A setting that is not as it was saved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingDifference {
    /// The device's name when its settings were saved.
    pub device: LinkName,
    /// The group of settings.
    pub group: EthtoolGroup,
    /// The setting, as ethtool(8) calls it; `None` for all of the group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub setting: Option<String>,
    /// What it was.
    pub saved: String,
    /// What it is now.
    pub found: String,
    /// Whether that is a fault.
    pub gravity: Gravity,
}

/// Whether a difference is a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gravity {
    /// The device is not as it was.
    Wrong,
    /// The driver that runs now has no such setting, or does not let one set it.
    Unsupported,
    /// It could not be read when the settings were saved: what it was is lost.
    NotSaved,
}

impl SettingDifference {
    /// Whether it is a fault.
    #[must_use]
    pub fn is_wrong(&self) -> bool {
        self.gravity == Gravity::Wrong
    }
}

impl fmt::Display for SettingDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.device, self.group)?;
        if let Some(setting) = &self.setting {
            write!(f, ": {setting}")?;
        }
        write!(f, " is {}, was {}", self.found, self.saved)
    }
}

/// All that somebody had set of a device and that is not as it was. `defaults` is as for [`plan`].
#[must_use]
pub fn compare(
    saved: &DeviceSettings,
    defaults: Option<&DeviceSettings>,
    found: &DeviceSettings,
) -> Vec<SettingDifference> {
    let mut differences = Vec::new();
    let mut note = |group, setting: Option<&str>, saved_value: String, found: String, gravity| {
        let (device, setting) = (saved.name.clone(), setting.map(str::to_owned));
        differences.push(SettingDifference { device, group, setting, saved: saved_value, found, gravity });
    };
    for change in plan(saved, defaults, found) {
        for (name, value) in change.settings.iter() {
            let now = found.value(change.group, name).map(|now| restricted(now, value).to_string());
            note(change.group, Some(name), value.to_string(), now.unwrap_or_default(), Gravity::Wrong);
        }
    }
    for (group, settings) in &saved.ethtool {
        let now = found.ethtool.get(group);
        match (settings, now) {
            (Setting::NotKnown(unread), _) => {
                note(
                    *group,
                    None,
                    format!("not known: {unread}"),
                    "as it came".to_owned(),
                    Gravity::NotSaved,
                );
            }
            (Setting::Set(_), Some(Setting::NotKnown(unread))) => {
                note(*group, None, "set".to_owned(), format!("not known: {unread}"), Gravity::Wrong);
            }
            _ => {
                for (name, value) in owed(saved, defaults, *group) {
                    if let Some(lacking) = lacking(&value, found.value(*group, name)) {
                        note(
                            *group,
                            Some(name),
                            lacking.to_string(),
                            "not there".to_owned(),
                            Gravity::Unsupported,
                        );
                    }
                }
            }
        }
    }
    differences
}

/// What of a value is not there any more.
fn lacking(value: &EthtoolValue, now: Option<&EthtoolValue>) -> Option<EthtoolValue> {
    match (value, now) {
        (value, None) => Some(value.clone()),
        // A switch that was off and is not there is off.
        (EthtoolValue::Bits(bits), Some(EthtoolValue::Bits(now))) => {
            select(bits, |name, on| on && !now.contains_key(name))
        }
        (_, Some(_)) => None,
    }
}

/// Of switches those that `to` has.
fn restricted(value: &EthtoolValue, to: &EthtoolValue) -> EthtoolValue {
    match (value, to) {
        (EthtoolValue::Bits(bits), EthtoolValue::Bits(to)) => {
            let kept = bits.iter().filter(|(name, _)| to.contains_key(*name));
            EthtoolValue::Bits(kept.map(|(name, on)| (name.clone(), *on)).collect())
        }
        (value, _) => value.clone(),
    }
}

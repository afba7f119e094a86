use std::collections::BTreeMap;
use std::fmt;

use nic_netlink::{EthtoolGroup, EthtoolSettings, EthtoolValue};

use crate::DeviceSettings;

/// A change to one group of a device's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingChange {
    /// The group.
    pub group: EthtoolGroup,
    /// What is to be set of it.
    pub settings: EthtoolSettings,
}

impl fmt::Display for SettingChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.group, self.settings)
    }
}

/// What of a device is not as it was, and was set by somebody: in the order in which a device takes it.
///
/// `defaults` is what the device had when the driver under which it was `saved` had just come up, before anybody set something. What
/// still was that is nobody's setting, and the new driver's default stands. Where it is not known, all that differs counts as set.
#[must_use]
pub fn plan(
    saved: &DeviceSettings,
    defaults: Option<&DeviceSettings>,
    found: &DeviceSettings,
) -> Vec<SettingChange> {
    let changes = EthtoolGroup::ALL.into_iter().filter_map(|group| {
        let mut settings = EthtoolSettings::default();
        for (name, value) in owed(saved, defaults, group) {
            if let Some(now) = found.value(group, name)
                && let Some(value) = differing(&value, now)
            {
                settings.set(name, value);
            }
        }
        (!settings.is_empty()).then_some(SettingChange { group, settings })
    });
    changes.collect()
}

/// What of a group somebody had set: of switches that are set one by one, those that somebody had set.
pub(crate) fn owed<'a>(
    saved: &'a DeviceSettings,
    defaults: Option<&DeviceSettings>,
    group: EthtoolGroup,
) -> Vec<(&'a str, EthtoolValue)> {
    let settings = saved.group(group).into_iter().flat_map(EthtoolSettings::iter);
    let owed = settings.filter_map(|(name, value)| {
        let default = defaults.and_then(|defaults| defaults.value(group, name));
        let value = match default {
            Some(default) => differing_of_known(value, default)?,
            None => value.clone(),
        };
        Some((name, value))
    });
    owed.collect()
}

/// What of a value differs from what is there now; `None` where nothing does. Of switches those that are there, and are the other way.
fn differing(value: &EthtoolValue, now: &EthtoolValue) -> Option<EthtoolValue> {
    match (value, now) {
        (EthtoolValue::Bits(bits), EthtoolValue::Bits(now)) => {
            select(bits, |name, on| now.get(name).is_some_and(|now| *now != on))
        }
        (value, now) => (value != now).then(|| value.clone()),
    }
}

/// What of a value is not the default. A switch that the default does not have is not.
fn differing_of_known(value: &EthtoolValue, default: &EthtoolValue) -> Option<EthtoolValue> {
    match (value, default) {
        (EthtoolValue::Bits(bits), EthtoolValue::Bits(default)) => {
            select(bits, |name, on| default.get(name) != Some(&on))
        }
        (value, default) => (value != default).then(|| value.clone()),
    }
}

/// Those of some switches that are to be kept; `None` where there are none.
pub(crate) fn select(
    bits: &BTreeMap<String, bool>,
    keep: impl Fn(&str, bool) -> bool,
) -> Option<EthtoolValue> {
    let kept = bits.iter().filter(|(name, on)| keep(name, **on));
    let kept: BTreeMap<_, _> = kept.map(|(name, on)| (name.clone(), *on)).collect();
    (!kept.is_empty()).then_some(EthtoolValue::Bits(kept))
}

//! The laws of plans and comparisons, on any settings.

use std::collections::{BTreeMap, BTreeSet};

use nic_netlink::{EthtoolGroup, EthtoolSettings, EthtoolValue, IfIndex, Setting, Unread};
use proptest::prelude::*;

use crate::{DeviceSettings, Gravity, SettingChange, SettingDifference, compare, plan};

fn device() -> DeviceSettings {
    DeviceSettings::new(IfIndex(7), "enp1s0f0np0".parse().unwrap())
}

fn with(group: EthtoolGroup, values: &[(&str, EthtoolValue)]) -> DeviceSettings {
    let mut settings = EthtoolSettings::default();
    for (name, value) in values {
        settings.set(name, value.clone());
    }
    let mut device = device();
    device.ethtool.insert(group, Setting::Set(settings));
    device
}

fn bits(names: &[(&str, bool)]) -> EthtoolValue {
    EthtoolValue::Bits(names.iter().map(|(name, on)| ((*name).to_owned(), *on)).collect())
}

fn texts(differences: &[SettingDifference]) -> Vec<(String, Gravity)> {
    differences.iter().map(|one| (one.to_string(), one.gravity)).collect()
}

fn any_value() -> impl Strategy<Value = EthtoolValue> {
    let name = prop::sample::select(vec!["rx-gro", "hw-tc-offload", "ntuple"]);
    let bits = prop::collection::btree_map(name.clone().prop_map(str::to_owned), any::<bool>(), 1..4);
    let names = prop::collection::btree_set(name.prop_map(str::to_owned), 0..3);
    prop_oneof![
        (0_u32..4).prop_map(EthtoolValue::Number),
        any::<bool>().prop_map(EthtoolValue::Switch),
        bits.prop_map(EthtoolValue::Bits),
        names.prop_map(EthtoolValue::Names),
    ]
}

/// Settings with the same names and kinds of values everywhere, as one kernel gives them.
fn any_device() -> impl Strategy<Value = DeviceSettings> {
    let fields: [(EthtoolGroup, &str, u8); 5] = [
        (EthtoolGroup::Features, "features", 0),
        (EthtoolGroup::Channels, "combined", 1),
        (EthtoolGroup::Rings, "rx", 1),
        (EthtoolGroup::Pause, "rx", 2),
        (EthtoolGroup::Fec, "modes", 3),
    ];
    let kind = |value: &EthtoolValue| match value {
        EthtoolValue::Bits(_) => 0_u8,
        EthtoolValue::Number(_) => 1,
        EthtoolValue::Switch(_) => 2,
        EthtoolValue::Names(_) | EthtoolValue::Bytes(_) => 3,
    };
    let values = fields.map(|(_, _, wanted)| {
        prop::option::of(any_value().prop_filter("another kind", move |value| kind(value) == wanted))
    });
    values.prop_map(move |values| {
        let mut device = device();
        for ((group, name, _), value) in fields.into_iter().zip(values) {
            if let Some(value) = value {
                device.ethtool.append(&mut with(group, &[(name, value)]).ethtool);
            }
        }
        device
    })
}

/// What a driver that takes everything makes of a change.
fn apply(found: &mut DeviceSettings, change: &SettingChange) {
    let Some(Setting::Set(settings)) = found.ethtool.get_mut(&change.group) else { panic!("{change}") };
    for (name, value) in change.settings.iter() {
        let value = match (settings.get(name), value) {
            (Some(EthtoolValue::Bits(now)), EthtoolValue::Bits(bits)) => {
                let mut now = now.clone();
                for (name, on) in bits {
                    assert!(now.insert(name.clone(), *on).is_some(), "{name} is not there to be changed");
                }
                EthtoolValue::Bits(now)
            }
            (_, value) => value.clone(),
        };
        settings.set(name, value);
    }
}

proptest! {
    #[test]
    fn a_device_that_is_what_it_was_needs_no_change(saved in any_device()) {
        prop_assert!(plan(&saved, None, &saved).is_empty());
        prop_assert!(compare(&saved, None, &saved).is_empty());
    }

    #[test]
    fn what_is_planned_is_enough(saved in any_device(), found in any_device(), defaults in any_device()) {
        for defaults in [None, Some(&defaults)] {
            let mut found = found.clone();
            let changes = plan(&saved, defaults, &found);
            prop_assert!(changes.is_sorted_by_key(|change| change.group));
            let wrong = compare(&saved, defaults, &found);
            let wrong = wrong.iter().filter(|one| one.is_wrong()).map(|one| one.group).collect::<BTreeSet<_>>();
            let changed = changes.iter().map(|change| change.group).collect::<BTreeSet<_>>();
            prop_assert_eq!(wrong, changed);
            changes.iter().for_each(|change| apply(&mut found, change));
            prop_assert!(plan(&saved, defaults, &found).is_empty());
            prop_assert!(!compare(&saved, defaults, &found).iter().any(SettingDifference::is_wrong));
        }
    }

    #[test]
    fn an_old_default_is_not_given_back(saved in any_device(), found in any_device()) {
        prop_assert!(plan(&saved, Some(&saved), &found).is_empty());
        prop_assert!(compare(&saved, Some(&saved), &found).is_empty());
    }
}

#[test]
fn switches_are_told_one_by_one() {
    let saved = with(
        EthtoolGroup::Features,
        &[("features", bits(&[("hw-tc-offload", true), ("rx-gro", true), ("old", true)]))],
    );
    let found =
        with(EthtoolGroup::Features, &[("features", bits(&[("hw-tc-offload", false), ("rx-gro", true)]))]);
    let changes = plan(&saved, None, &found);
    assert_eq!(
        changes.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["offloads: features hw-tc-offload on"]
    );
    assert_eq!(
        texts(&compare(&saved, None, &found)),
        [
            (
                "enp1s0f0np0: offloads: features is hw-tc-offload off, was hw-tc-offload on".to_owned(),
                Gravity::Wrong
            ),
            ("enp1s0f0np0: offloads: features is not there, was old on".to_owned(), Gravity::Unsupported),
        ]
    );
}

#[test]
fn what_is_not_known_is_never_the_same() {
    let known = with(EthtoolGroup::Rings, &[("rx", EthtoolValue::Number(512))]);
    let unread = || Setting::NotKnown(Unread::because("the device is in error"));
    let unknown = DeviceSettings { ethtool: BTreeMap::from([(EthtoolGroup::Rings, unread())]), ..device() };
    assert_eq!(
        texts(&compare(&known, None, &unknown)),
        [(
            "enp1s0f0np0: ring sizes is not known: the device is in error, was set".to_owned(),
            Gravity::Wrong
        )]
    );
    for found in [&known, &unknown] {
        assert_eq!(
            texts(&compare(&unknown, None, found)),
            [(
                "enp1s0f0np0: ring sizes is as it came, was not known: the device is in error".to_owned(),
                Gravity::NotSaved
            )]
        );
    }
}

#[test]
fn trial_w12_devices_that_cannot_be_are_named() {
    let rings = |value| with(EthtoolGroup::Rings, &[("rx", value)]);
    let at = |index| DeviceSettings { index: IfIndex(index), ..rings(EthtoolValue::Number(512)) };
    assert_eq!(DeviceSettings::check(&[at(7), at(8)]), Ok(()));
    for (devices, told) in [
        (vec![at(7), at(7)], "[1].index (enp1s0f0np0): 7 is there twice"),
        (vec![at(0)], "[0].index (enp1s0f0np0): 0 is no interface's index"),
        (vec![at(u32::MAX)], "[0].index (enp1s0f0np0): 4294967295 is no interface's index"),
        (
            vec![at(8), rings(EthtoolValue::Switch(true))],
            "[1].ethtool.rings (enp1s0f0np0): rx: the value is no number",
        ),
    ] {
        assert_eq!(DeviceSettings::check(&devices).unwrap_err().to_string(), told);
    }
}

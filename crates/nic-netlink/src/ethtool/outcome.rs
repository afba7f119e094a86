//! What a device reports although nobody has set it: the outcome of a negotiation, or of an algorithm that follows the traffic. To give
//! it back would fix what is to vary, and to compare it would find differences where there are none.

use super::group::EthtoolGroup;
use super::value::{EthtoolSettings, EthtoolValue};

/// What is reported under a switch that leaves it to the device.
struct Left {
    group: EthtoolGroup,
    /// The switch that leaves the others to the device, when it is on.
    switch: &'static str,
    others: &'static [&'static str],
}

/// - Link modes: with autonegotiation, speed, duplex and lanes are what came of it; without, nothing is advertised.
/// - Pause: with autonegotiation the flags are what came of it in many drivers (`igb_get_pauseparam`); what is asked for is among
///   the modes that are advertised (`Pause`, `Asym_Pause`).
/// - Coalescing: an adaptive driver may report what it has come to (`ice_get_coalesce`), and sets it anew with the traffic.
const LEFT: [Left; 5] = [
    Left { group: EthtoolGroup::LinkModes, switch: "autoneg", others: &["speed", "duplex", "lanes"] },
    Left { group: EthtoolGroup::Pause, switch: "autoneg", others: &["rx", "tx"] },
    Left {
        group: EthtoolGroup::Coalesce,
        switch: "adaptive-rx",
        others: &["rx-usecs", "rx-frames", "rx-usecs-irq", "rx-frames-irq"],
    },
    Left {
        group: EthtoolGroup::Coalesce,
        switch: "adaptive-tx",
        others: &["tx-usecs", "tx-frames", "tx-usecs-irq", "tx-frames-irq"],
    },
    Left { group: EthtoolGroup::Fec, switch: "auto", others: &["modes"] },
];

/// Takes out what is no setting.
pub(super) fn take_out(group: EthtoolGroup, settings: &mut EthtoolSettings) {
    let is_on =
        |settings: &EthtoolSettings, switch| settings.get(switch) == Some(&EthtoolValue::Switch(true));
    for left in LEFT.iter().filter(|left| left.group == group) {
        if is_on(settings, left.switch) {
            left.others.iter().for_each(|other| settings.remove(other));
        }
    }
    if group == EthtoolGroup::LinkModes {
        let supports_modes =
            matches!(settings.get("advertise"), Some(EthtoolValue::Names(modes)) if !modes.is_empty());
        if !supports_modes {
            // A VF or a virtual device: what it reports is what the link beneath it has come to.
            *settings = EthtoolSettings::default();
        } else if !is_on(settings, "autoneg") {
            settings.remove("advertise");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use EthtoolValue::{Names, Number, Switch};

    fn names(group: EthtoolGroup, values: &[(&str, EthtoolValue)]) -> Vec<String> {
        let mut settings = EthtoolSettings::default();
        for (name, value) in values {
            settings.set(name, value.clone());
        }
        take_out(group, &mut settings);
        settings.iter().map(|(name, _)| name.to_owned()).collect()
    }

    #[test]
    fn what_was_negotiated_is_no_setting() {
        let link_modes = |autoneg| {
            let advertise = Names(["100baseT/Full".to_owned()].into());
            names(
                EthtoolGroup::LinkModes,
                &[
                    ("autoneg", Switch(autoneg)),
                    ("advertise", advertise),
                    ("speed", Number(100)),
                    ("duplex", Number(1)),
                ],
            )
        };
        assert_eq!(link_modes(true), ["advertise", "autoneg"]);
        assert_eq!(link_modes(false), ["autoneg", "duplex", "speed"]);
        let without_modes =
            [("autoneg", Switch(false)), ("speed", Number(1000)), ("advertise", Names([].into()))];
        assert!(names(EthtoolGroup::LinkModes, &without_modes).is_empty());
        let pause = |autoneg| {
            names(
                EthtoolGroup::Pause,
                &[("autoneg", Switch(autoneg)), ("rx", Switch(true)), ("tx", Switch(false))],
            )
        };
        assert_eq!(pause(true), ["autoneg"]);
        assert_eq!(pause(false), ["autoneg", "rx", "tx"]);
    }

    #[test]
    fn what_follows_the_traffic_is_no_setting() {
        let values = [("rx-usecs", Number(3)), ("tx-usecs", Number(7)), ("adaptive-rx", Switch(true))];
        assert_eq!(names(EthtoolGroup::Coalesce, &values), ["adaptive-rx", "tx-usecs"]);
        let values = [("rx-usecs", Number(3)), ("adaptive-rx", Switch(false))];
        assert_eq!(names(EthtoolGroup::Coalesce, &values), ["adaptive-rx", "rx-usecs"]);
    }
}

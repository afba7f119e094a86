//! Whether settings that were written down are such as can be given to a device. [`Field::write`] leaves out what is not.
//!
//! [`Field::write`]: super::group::Field::write

use nic_host::Foreign;

use super::group::{EthtoolGroup, Kind};
use super::value::{EthtoolSettings, EthtoolValue};

/// The longest name of a switch: `ETH_GSTRING_LEN` (`include/uapi/linux/ethtool.h`).
const LONGEST_SWITCH: usize = 32;

impl EthtoolGroup {
    /// The group's key in JSON.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::PrivateFlags => "private_flags",
            Self::Features => "features",
            Self::Channels => "channels",
            Self::Rings => "rings",
            Self::Coalesce => "coalesce",
            Self::Fec => "fec",
            Self::LinkModes => "link_modes",
            Self::Pause => "pause",
            Self::Eee => "eee",
            Self::WakeOnLan => "wake_on_lan",
            Self::Module => "module",
            Self::MessageLevel => "message_level",
        }
    }

    /// Makes sure that all of these are settings of this group, each with a value of its form.
    ///
    /// # Errors
    /// The first setting that is not, and why.
    pub fn ensure_fits(self, settings: &EthtoolSettings) -> Result<(), String> {
        for (name, value) in settings.iter() {
            let field = self.form().fields.iter().find(|field| field.name == name);
            let Some(field) = field else {
                return Err(format!("{}: there is no such setting", Foreign(name)));
            };
            fits(field.kind, value).map_err(|why| format!("{name}: {why}"))?;
        }
        Ok(())
    }
}

fn fits(kind: Kind, value: &EthtoolValue) -> Result<(), String> {
    let switches: Vec<&String> = match (kind, value) {
        // The highest number is how the kernel says that it does not know.
        (Kind::U8, EthtoolValue::Number(number)) => return below(*number, u8::MAX.into()),
        (Kind::U32, EthtoolValue::Number(number)) => return below(*number, u32::MAX),
        (Kind::Switch, EthtoolValue::Switch(_)) | (Kind::Bytes, EthtoolValue::Bytes(_)) => return Ok(()),
        (Kind::Bits, EthtoolValue::Bits(bits)) => bits.keys().collect(),
        (Kind::WholeBits, EthtoolValue::Names(names)) => names.iter().collect(),
        (kind, _) => return Err(format!("the value is no {}", form(kind))),
    };
    // A driver may give its own switches any name.
    match switches.into_iter().find(|name| !(1..=LONGEST_SWITCH).contains(&name.chars().count())) {
        Some(name) => Err(format!("{} is no switch's name", Foreign(name))),
        None => Ok(()),
    }
}

fn below(number: u32, end: u32) -> Result<(), String> {
    if number < end { Ok(()) } else { Err(format!("{number} is not below {end}")) }
}

fn form(kind: Kind) -> &'static str {
    match kind {
        Kind::U8 | Kind::U32 => "number",
        Kind::Switch => "switch",
        Kind::Bits => "list of switches that are on or off",
        Kind::WholeBits => "list of names",
        Kind::Bytes => "list of bytes",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_groups_key_is_the_one_in_json() {
        for group in EthtoolGroup::ALL {
            assert_eq!(serde_json::to_value(group).unwrap(), group.key());
        }
    }

    #[test]
    fn trial_w12_a_setting_that_no_device_takes_is_named() {
        let settings = |name: &str, value: EthtoolValue| {
            let mut settings = EthtoolSettings::default();
            settings.set(name, value);
            settings
        };
        let number = EthtoolValue::Number;
        let bits = |name: &str| EthtoolValue::Bits([(name.to_owned(), true)].into());
        let long = "x".repeat(33);
        for (group, name, value, told) in [
            (EthtoolGroup::Rings, "rx", number(1024), None),
            (EthtoolGroup::Rings, "rx\n", number(1024), Some("\"rx\\n\": there is no such setting")),
            (EthtoolGroup::Rings, "combined", number(8), Some("no such setting")),
            (EthtoolGroup::Rings, "rx", EthtoolValue::Switch(true), Some("rx: the value is no number")),
            (EthtoolGroup::Rings, "rx", number(u32::MAX), Some("rx: 4294967295 is not below")),
            (EthtoolGroup::Rings, "tcp-data-split", number(300), Some("300 is not below 255")),
            (EthtoolGroup::Rings, "tx-push", number(1), Some("no switch")),
            (EthtoolGroup::Features, "features", bits("rx-gro"), None),
            (EthtoolGroup::Features, "features", bits(""), Some("\"\" is no switch's name")),
            (EthtoolGroup::PrivateFlags, "flags", bits(&long), Some("no switch's name")),
            (EthtoolGroup::WakeOnLan, "wol", EthtoolValue::Names(["magic".to_owned()].into()), None),
            (EthtoolGroup::WakeOnLan, "wol", bits("magic"), Some("no list of names")),
        ] {
            let checked = group.ensure_fits(&settings(name, value.clone()));
            match (&checked, told) {
                (Ok(()), None) => {}
                (Err(why), Some(told)) => assert!(why.contains(told), "{why}"),
                _ => panic!("{group} {name} {value:?}: {checked:?}"),
            }
        }
    }
}

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::HexBytes;

/// One setting's value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EthtoolValue {
    /// A number, in the unit of ethtool(8).
    Number(u32),
    /// On or off.
    Switch(bool),
    /// Several switches, by the kernel's or the driver's names, each of which is set on its own.
    Bits(BTreeMap<String, bool>),
    /// What is in a set that is given as a whole, by the kernel's names.
    Names(BTreeSet<String>),
    /// Bytes, as of the password of Wake-on-LAN.
    Bytes(HexBytes),
}

/// Settings of one group, by the names of ethtool(8).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct EthtoolSettings(BTreeMap<String, EthtoolValue>);

impl EthtoolSettings {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of the setting of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&EthtoolValue> {
        self.0.get(name)
    }

    /// Sets the setting of this name.
    pub fn set(&mut self, name: &str, value: EthtoolValue) {
        self.0.insert(name.to_owned(), value);
    }

    /// Takes the setting of this name out.
    pub fn remove(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// Each setting's name and value, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &EthtoolValue)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }
}

impl fmt::Display for EthtoolValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Switch(on) => f.write_str(on_or_off(*on)),
            Self::Bits(bits) => {
                let bits: Vec<_> =
                    bits.iter().map(|(name, on)| format!("{name} {}", on_or_off(*on))).collect();
                f.write_str(&bits.join(" "))
            }
            Self::Names(names) if names.is_empty() => f.write_str("none"),
            Self::Names(names) => {
                f.write_str(&names.iter().map(String::as_str).collect::<Vec<_>>().join(" "))
            }
            Self::Bytes(bytes) => bytes.fmt(f),
        }
    }
}

impl fmt::Display for EthtoolSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings: Vec<_> = self.iter().map(|(name, value)| format!("{name} {value}")).collect();
        f.write_str(&settings.join(", "))
    }
}

fn on_or_off(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

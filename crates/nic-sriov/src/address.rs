use std::fmt;
use std::str::FromStr;

use nic_host::Foreign;
use serde::{Deserialize, Serialize};

/// A PCI function's address, `domain:bus:device.function` in hexadecimal: `0000:01:00.2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PciAddress {
    /// Domain (segment). More than 16 bits wide behind Intel VMD and on Hyper-V.
    pub domain: u32,
    /// Bus.
    pub bus: u8,
    /// Device, 0 to 31.
    pub device: u8,
    /// Function, 0 to 7.
    pub function: u8,
}

/// A text that is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is not a {expected}", Foreign(text))]
pub struct ParseAddressError {
    /// The text.
    pub text: String,
    /// What it should have been.
    pub expected: &'static str,
}

impl FromStr for PciAddress {
    type Err = ParseAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (domain, rest) = text.split_once(':')?;
            let (bus, rest) = rest.split_once(':')?;
            let (device, function) = rest.split_once('.')?;
            let address = Self {
                domain: hexadecimal(domain, 4..=8)?,
                bus: u8::try_from(hexadecimal(bus, 2..=2)?).ok()?,
                device: u8::try_from(hexadecimal(device, 2..=2)?).ok()?,
                function: u8::try_from(hexadecimal(function, 1..=1)?).ok()?,
            };
            (address.device < 32 && address.function < 8).then_some(address)
        };
        parse().ok_or_else(|| ParseAddressError {
            text: text.to_owned(),
            expected: "PCI address such as 0000:01:00.0",
        })
    }
}

fn hexadecimal(digits: &str, width: std::ops::RangeInclusive<usize>) -> Option<u32> {
    let well_formed = width.contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    well_formed.then(|| u32::from_str_radix(digits, 16).ok()).flatten()
}

/// In JSON, the text it is displayed as.
impl schemars::JsonSchema for PciAddress {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "PciAddress".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "description": "0000:01:00.2" })
    }
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:02x}:{:02x}.{}", self.domain, self.bus, self.device, self.function)
    }
}

impl TryFrom<String> for PciAddress {
    type Error = ParseAddressError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<PciAddress> for String {
    fn from(address: PciAddress) -> Self {
        address.to_string()
    }
}

/// A device on any bus that can be a physical function: its bus and its name there.
///
/// Shown as the kernel's own tools show it: a PCI device by its address alone, any other as `bus/name`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeviceAddress {
    bus: String,
    name: String,
}

impl DeviceAddress {
    /// The device `name` on `bus`. Both name folders of sysfs.
    pub fn new(bus: &str, name: &str) -> Result<Self, ParseAddressError> {
        let well_formed =
            |part: &str| !part.is_empty() && !part.starts_with('.') && !part.contains(['/', '\0', '\n']);
        if well_formed(bus) && well_formed(name) {
            return Ok(Self { bus: bus.to_owned(), name: name.to_owned() });
        }
        Err(ParseAddressError {
            text: format!("{bus}/{name}"),
            expected: "device address such as pci/0000:01:00.0",
        })
    }

    /// The bus: `pci`, `netdevsim`.
    #[must_use]
    pub fn bus(&self) -> &str {
        &self.bus
    }

    /// The name on the bus: `0000:01:00.0`, `netdevsim10`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its folder in sysfs.
    #[must_use]
    pub fn sysfs(&self) -> String {
        format!("/sys/bus/{}/devices/{}", self.bus, self.name)
    }
}

impl From<PciAddress> for DeviceAddress {
    fn from(address: PciAddress) -> Self {
        Self { bus: "pci".to_owned(), name: address.to_string() }
    }
}

impl FromStr for DeviceAddress {
    type Err = ParseAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('/') {
            Some((bus, name)) => Self::new(bus, name),
            None => text.parse::<PciAddress>().map(Self::from),
        }
    }
}

/// In JSON, the text it is displayed as.
impl schemars::JsonSchema for DeviceAddress {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "DeviceAddress".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "description": "0000:01:00.0, or bus/name" })
    }
}

impl fmt::Display for DeviceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.bus == "pci" { f.write_str(&self.name) } else { write!(f, "{}/{}", self.bus, self.name) }
    }
}

impl TryFrom<String> for DeviceAddress {
    type Error = ParseAddressError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<DeviceAddress> for String {
    fn from(address: DeviceAddress) -> Self {
        address.to_string()
    }
}

/// What kind of card a PCI device is: vendor and device, as `lspci -n` prints them, e.g. `8086:10c9`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct PciId(pub String);

impl PciId {
    /// From sysfs' `vendor` and `device`, which read `0x8086` and `0x10c9`.
    pub(crate) fn of_sysfs(vendor: &str, device: &str) -> Self {
        let digits = |text: &str| text.trim_start_matches("0x").to_owned();
        Self(format!("{}:{}", digits(vendor), digits(device)))
    }
}

impl fmt::Display for PciId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pci_addresses() {
        for good in ["0000:01:00.0", "0000:ff:1f.7", "10000:01:00.2"] {
            assert_eq!(good.parse::<PciAddress>().unwrap().to_string(), good);
        }
        for bad in [
            "",
            "01:00.0",
            "0000:01:20.0",
            "0000:01:00.8",
            "0000:1:00.0",
            "0000:01:00.0 ",
            "000g:01:00.0",
            "+000:01:00.0",
        ] {
            assert!(bad.parse::<PciAddress>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn device_addresses_are_shown_as_they_are_parsed() {
        for good in ["0000:01:00.0", "netdevsim/netdevsim10"] {
            assert_eq!(good.parse::<DeviceAddress>().unwrap().to_string(), good);
        }
        assert_eq!(
            "netdevsim/netdevsim10".parse::<DeviceAddress>().unwrap().sysfs(),
            "/sys/bus/netdevsim/devices/netdevsim10"
        );
        for bad in ["netdevsim/..", "/x", "pci/", "eth0"] {
            assert!(bad.parse::<DeviceAddress>().is_err(), "{bad:?}");
        }
    }
}

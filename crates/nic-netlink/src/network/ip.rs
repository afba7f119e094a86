//! IP addresses and prefixes in netlink messages.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::attributes::{Attribute, MalformedError};

pub(super) const AF_INET: u8 = 2;
pub(super) const AF_INET6: u8 = 10;

/// The IP version of what has no address that would tell.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum IpVersion {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl IpVersion {
    pub(super) fn of_family(family: u8) -> Option<Self> {
        match family {
            AF_INET => Some(Self::V4),
            AF_INET6 => Some(Self::V6),
            _ => None,
        }
    }

    pub(super) fn family(self) -> u8 {
        match self {
            Self::V4 => AF_INET,
            Self::V6 => AF_INET6,
        }
    }
}

/// A network: an address of which only the first bits count.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(deny_unknown_fields)]
pub struct Prefix {
    /// The address; the kernel reports the bits beyond the length as zero.
    pub address: IpAddr,
    /// How many bits count.
    pub length: u8,
}

impl Prefix {
    /// The network that `address` is in.
    #[must_use]
    pub fn containing(address: IpAddr, length: u8) -> Self {
        let keep = |bits: u32| bits.saturating_sub(length.into());
        let address = match address {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(keep(32)).unwrap_or(0);
                Ipv4Addr::from_bits(address.to_bits() & mask).into()
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(keep(128)).unwrap_or(0);
                Ipv6Addr::from_bits(address.to_bits() & mask).into()
            }
        };
        Self { address, length }
    }

    /// Whether it is all addresses: the destination of a default route.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.length == 0
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_default() { f.write_str("default") } else { write!(f, "{}/{}", self.address, self.length) }
    }
}

pub(super) fn is_family(family: u8) -> bool {
    IpVersion::of_family(family).is_some()
}

pub(super) fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { AF_INET } else { AF_INET6 }
}

pub(super) fn unspecified(family: u8) -> IpAddr {
    if family == AF_INET { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}

pub(super) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// An address, whose length tells its version.
pub(super) fn decode(attribute: &Attribute<'_>) -> Result<IpAddr, MalformedError> {
    from_bytes(attribute.value)
}

pub(super) fn from_bytes(bytes: &[u8]) -> Result<IpAddr, MalformedError> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .map_err(|_| MalformedError(format!("an IP address of {} bytes", bytes.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_what_its_length_leaves() {
        for (address, length, expected) in [
            ("192.0.2.77", 24, "192.0.2.0/24"),
            ("192.0.2.77", 32, "192.0.2.77/32"),
            ("192.0.2.77", 0, "default"),
            ("2001:db8::77", 64, "2001:db8::/64"),
            ("2001:db8::77", 128, "2001:db8::77/128"),
            ("2001:db8::77", 0, "default"),
        ] {
            let prefix = Prefix::containing(address.parse().unwrap(), length);
            assert_eq!(prefix.to_string(), expected);
        }
    }
}

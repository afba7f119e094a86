//! Attributes that are kept as the kernel wrote them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ParseIdentityError;
use crate::attributes::Attribute;
use crate::body::Body;
use crate::identity::{hex_byte, serde_as_text};

/// An attribute whose bytes are given back as they were read.
///
/// Used where the kernel takes exactly what it said, and where a type for each value would only add ways to lose one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawAttribute {
    /// Its number, without the flags for nesting and byte order.
    pub number: u16,
    /// Its value, without padding.
    pub value: HexBytes,
}

impl RawAttribute {
    pub(super) fn of(attribute: &Attribute<'_>) -> Self {
        Self { number: attribute.kind, value: HexBytes(attribute.value.to_vec()) }
    }
}

/// Bytes; in text, hexadecimal digits without separators. The byte order is the kernel's.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HexBytes(pub Vec<u8>);

impl FromStr for HexBytes {
    type Err = ParseIdentityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        let bytes = rest.is_empty().then(|| pairs.iter().map(|pair| hex_byte(pair)).collect::<Option<_>>());
        bytes
            .flatten()
            .map(Self)
            .ok_or_else(|| ParseIdentityError::new(text, "hexadecimal bytes, such as dc050000"))
    }
}

impl fmt::Display for HexBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

serde_as_text!(HexBytes);

impl Body {
    pub(super) fn raw(&mut self, attributes: &[RawAttribute]) -> &mut Self {
        for attribute in attributes {
            self.bytes(attribute.number, &attribute.value.0);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_hexadecimal_text() {
        for text in ["", "00", "dc050000"] {
            assert_eq!(text.parse::<HexBytes>().unwrap().to_string(), text);
        }
        for text in ["0", "0g", "+1", "0x00"] {
            assert!(text.parse::<HexBytes>().is_err(), "{text}");
        }
    }
}

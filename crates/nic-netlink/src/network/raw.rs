//! Attributes that are kept as the kernel wrote them, and writing attributes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ParseIdentityError;
use crate::attributes::Attribute;
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

/// A message's body being written: a fixed header, then attributes.
#[derive(Debug)]
pub(super) struct Body(Vec<u8>);

impl Body {
    pub(super) fn new(header: &[u8]) -> Self {
        Self(header.to_vec())
    }

    pub(super) fn bytes(&mut self, number: u16, value: &[u8]) -> &mut Self {
        self.nested(number, |body| body.0.extend_from_slice(value))
    }

    pub(super) fn u8(&mut self, number: u16, value: u8) -> &mut Self {
        self.bytes(number, &[value])
    }

    pub(super) fn u16(&mut self, number: u16, value: u16) -> &mut Self {
        self.bytes(number, &value.to_ne_bytes())
    }

    pub(super) fn u32(&mut self, number: u16, value: u32) -> &mut Self {
        self.bytes(number, &value.to_ne_bytes())
    }

    /// A text with its terminating zero byte.
    pub(super) fn text(&mut self, number: u16, text: &str) -> &mut Self {
        self.nested(number, |body| {
            body.0.extend_from_slice(text.as_bytes());
            body.0.push(0);
        })
    }

    pub(super) fn raw(&mut self, attributes: &[RawAttribute]) -> &mut Self {
        for attribute in attributes {
            self.bytes(attribute.number, &attribute.value.0);
        }
        self
    }

    /// An attribute whose value is what `write` writes.
    pub(super) fn nested(&mut self, number: u16, write: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.0.len();
        self.0.extend([0; 2]);
        self.0.extend(number.to_ne_bytes());
        write(self);
        self.close(start);
        self
    }

    /// A structure that begins with its own length in two bytes, as an attribute does (`struct rtnexthop`).
    pub(super) fn counted(&mut self, after_length: &[u8], write: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.0.len();
        self.0.extend([0; 2]);
        self.0.extend_from_slice(after_length);
        write(self);
        self.close(start);
        self
    }

    /// Writes the length of what began at `start`, and pads it. What is too long for a length of two bytes gets a length
    /// that the kernel refuses; nothing that it ever said is that long.
    fn close(&mut self, start: usize) {
        let length = u16::try_from(self.0.len() - start).unwrap_or_default();
        if let Some(field) = self.0.get_mut(start..start + 2) {
            field.copy_from_slice(&length.to_ne_bytes());
        }
        let end = self.0.len().next_multiple_of(4);
        self.0.resize(end, 0);
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.0
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

    #[test]
    fn attributes_are_padded_and_nested_ones_counted_without_their_padding() {
        let mut body = Body::new(&[9; 4]);
        body.nested(18, |info| {
            info.text(1, "vlan").u16(2, 5);
        });
        let expected = [
            &[9; 4][..],
            &24_u16.to_ne_bytes(),
            &18_u16.to_ne_bytes(),
            &9_u16.to_ne_bytes(),
            &1_u16.to_ne_bytes(),
            b"vlan\0\0\0\0",
            &6_u16.to_ne_bytes(),
            &2_u16.to_ne_bytes(),
            &5_u16.to_ne_bytes(),
            &[0; 2],
        ];
        assert_eq!(body.finish(), expected.concat());
    }
}

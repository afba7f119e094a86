use std::fmt;
use std::str::FromStr;

use nic_host::Foreign;
use serde::{Deserialize, Serialize};

/// A network interface's index: what the kernel itself calls it by.
///
/// Unlike a name it stays the same for the life of the interface, through renames. It is unique inside one network
/// namespace, and is not given out again before the counter has wrapped (`dev_index_reserve` in
/// `net/core/dev.c`).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(transparent)]
pub struct IfIndex(pub u32);

/// A text that is not of the form its type wants.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is not {expected}", Foreign(text))]
pub struct ParseIdentityError {
    /// The text.
    pub text: String,
    /// What was expected, with an example.
    pub expected: &'static str,
}

impl ParseIdentityError {
    pub(crate) fn new(text: &str, expected: &'static str) -> Self {
        Self { text: text.to_owned(), expected }
    }
}

impl FromStr for IfIndex {
    type Err = ParseIdentityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.trim().parse() {
            Ok(index) if index > 0 => Ok(Self(index)),
            _ => Err(ParseIdentityError::new(text, "an interface index, such as 7")),
        }
    }
}

impl fmt::Display for IfIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Serde through `FromStr` and `Display`.
macro_rules! serde_as_text {
    ($type:ty) => {
        /// In JSON, the text it is displayed as.
        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string" })
            }
        }

        impl TryFrom<String> for $type {
            type Error = ParseIdentityError;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.to_string()
            }
        }
    };
}
pub(crate) use serde_as_text;

/// An Ethernet address, `02:00:00:00:00:01`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddress(pub [u8; 6]);

impl MacAddress {
    /// Whether every byte is zero. As the admin MAC of a VF this means "not set": the VF chooses its own.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.0 == [0; 6]
    }
}

impl FromStr for MacAddress {
    type Err = ParseIdentityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_array(text)
            .map(Self)
            .ok_or_else(|| ParseIdentityError::new(text, "a MAC address, such as 02:00:00:00:00:01"))
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_colons(f, &self.0)
    }
}

serde_as_text!(MacAddress);

/// An InfiniBand GUID in network byte order, `00:11:22:33:44:55:66:77`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Guid(pub [u8; 8]);

impl Guid {
    /// Whether every byte is zero, which means "not set".
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.0 == [0; 8]
    }
}

impl FromStr for Guid {
    type Err = ParseIdentityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_array(text)
            .map(Self)
            .ok_or_else(|| ParseIdentityError::new(text, "a GUID, such as 00:11:22:33:44:55:66:77"))
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_colons(f, &self.0)
    }
}

serde_as_text!(Guid);

/// A link-layer address of any length: 6 bytes on Ethernet, 20 on IP over InfiniBand, none on some tunnels.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LinkAddress(pub Vec<u8>);

impl LinkAddress {
    /// The Ethernet address, where this is one.
    #[must_use]
    pub fn as_mac(&self) -> Option<MacAddress> {
        self.0.as_slice().try_into().ok().map(MacAddress)
    }

    /// The port GUID that ends an InfiniBand address of 20 bytes (4 bytes of flags and QPN, 8 of subnet prefix, 8 of
    /// GUID).
    #[must_use]
    pub fn as_port_guid(&self) -> Option<Guid> {
        let (_, guid) = self.0.split_at_checked(12)?;
        guid.try_into().ok().map(Guid)
    }
}

impl From<MacAddress> for LinkAddress {
    fn from(mac: MacAddress) -> Self {
        Self(mac.0.to_vec())
    }
}

impl FromStr for LinkAddress {
    type Err = ParseIdentityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_bytes(text)
            .map(Self)
            .ok_or_else(|| ParseIdentityError::new(text, "a link-layer address, such as 02:00:00:00:00:01"))
    }
}

impl fmt::Display for LinkAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_colons(f, &self.0)
    }
}

serde_as_text!(LinkAddress);

/// The identity of the switch a port belongs to (`IFLA_PHYS_SWITCH_ID`), as sysfs shows it: hexadecimal digits
/// without separators. Ports with the same one belong to the same eswitch.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PhysSwitchId(pub Vec<u8>);

impl FromStr for PhysSwitchId {
    type Err = ParseIdentityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseIdentityError::new(text, "a switch identity, such as 0c42a10300b4a5f2");
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        if pairs.is_empty() || !rest.is_empty() {
            return Err(error());
        }
        pairs.iter().map(|pair| hex_byte(pair)).collect::<Option<_>>().map(Self).ok_or_else(error)
    }
}

impl fmt::Display for PhysSwitchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

serde_as_text!(PhysSwitchId);

/// An interface's name: 1 to 15 bytes, without `/`, `:` and white space, and not `.` or `..`
/// (`dev_valid_name` in `net/core/dev.c`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LinkName(String);

impl LinkName {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A name the kernel gave. The kernel accepts bytes that are no UTF-8; each of them becomes a `?`, which keeps
    /// the name within its length. Such a name is for showing: links are acted on by index.
    pub(crate) fn from_kernel(bytes: &[u8]) -> Option<Self> {
        let text = match str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => {
                bytes.iter().map(|&byte| if byte.is_ascii() { char::from(byte) } else { '?' }).collect()
            }
        };
        text.parse().ok()
    }
}

impl FromStr for LinkName {
    type Err = ParseIdentityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // The kernel's isspace() takes 0xa0 for a space, also where it is the second byte of a UTF-8 character.
        let refused = |byte: u8| matches!(byte, 0 | b'/' | b':' | b' ' | 0x09..=0x0d | 0xa0);
        let valid =
            (1..=15).contains(&text.len()) && text != "." && text != ".." && !text.bytes().any(refused);
        if valid {
            Ok(Self(text.to_owned()))
        } else {
            Err(ParseIdentityError::new(text, "an interface name of 1 to 15 bytes, such as enp1s0f0"))
        }
    }
}

impl fmt::Display for LinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for LinkName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl PartialEq<str> for LinkName {
    fn eq(&self, other: &str) -> bool {
        self.0 == other
    }
}

impl PartialEq<&str> for LinkName {
    fn eq(&self, other: &&str) -> bool {
        self.0 == *other
    }
}

serde_as_text!(LinkName);

fn parse_array<const N: usize>(text: &str) -> Option<[u8; N]> {
    parse_bytes(text)?.try_into().ok()
}

/// Bytes of exactly two hexadecimal digits each, separated by colons.
fn parse_bytes(text: &str) -> Option<Vec<u8>> {
    if text.is_empty() {
        return Some(Vec::new());
    }
    text.split(':').map(|byte| hex_byte(byte.as_bytes())).collect()
}

pub(crate) fn hex_byte(digits: &[u8]) -> Option<u8> {
    let [high, low] = digits else { return None };
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(*high)? << 4 | digit(*low)?)
}

fn write_colons(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().enumerate().try_for_each(|(position, byte)| {
        if position > 0 {
            f.write_str(":")?;
        }
        write!(f, "{byte:02x}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_index_is_a_positive_number() {
        assert_eq!("7".parse(), Ok(IfIndex(7)));
        assert_eq!(" 12\n".parse(), Ok(IfIndex(12)), "as sysfs prints it");
        for text in ["", "0", "-1", "7x", "4294967296"] {
            assert!(text.parse::<IfIndex>().is_err(), "{text:?}");
        }
        assert_eq!(serde_json::to_string(&IfIndex(7)).unwrap(), "7");
    }

    #[test]
    fn addresses_have_their_exact_length() {
        assert_eq!("02:00:00:00:00:0A".parse(), Ok(MacAddress([2, 0, 0, 0, 0, 10])));
        for text in [
            "",
            "02:00:00:00:00",
            "02:00:00:00:00:0a:0b",
            "2:0:0:0:0:a",
            "02:00:00:00:00:+a",
            "02-00-00-00-00-0a",
        ] {
            assert!(text.parse::<MacAddress>().is_err(), "{text:?}");
        }
        assert_eq!(
            "00:11:22:33:44:55:66:77".parse(),
            Ok(Guid([0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77]))
        );
        assert!("00:11:22:33:44:55".parse::<Guid>().is_err());
        assert!(MacAddress([0; 6]).is_zero() && !MacAddress([0, 0, 0, 0, 0, 1]).is_zero());
        assert!(Guid([0; 8]).is_zero() && !Guid([0, 0, 0, 0, 0, 0, 0, 1]).is_zero());
    }

    #[test]
    fn only_an_address_of_six_bytes_is_a_mac() {
        let infiniband: LinkAddress =
            "00:00:10:49:fe:80:00:00:00:00:00:00:0c:42:a1:03:00:b4:a5:f2".parse().unwrap();
        assert_eq!(infiniband.as_mac(), None);
        assert_eq!(infiniband.as_port_guid().unwrap().to_string(), "0c:42:a1:03:00:b4:a5:f2");
        let ethernet = LinkAddress::from(MacAddress([2, 0, 0, 0, 0, 1]));
        assert_eq!(
            (ethernet.as_mac(), ethernet.as_port_guid()),
            (Some(MacAddress([2, 0, 0, 0, 0, 1])), None)
        );
        assert_eq!(LinkAddress::default().to_string().parse(), Ok(LinkAddress::default()));
    }

    #[test]
    fn a_switch_identity_is_plain_hexadecimal() {
        assert_eq!("0c42".parse(), Ok(PhysSwitchId(vec![0x0c, 0x42])));
        for text in ["", "0c4", "0c:42", "zz"] {
            assert!(text.parse::<PhysSwitchId>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_name_is_what_the_kernel_takes() {
        for text in ["a", "enp1s0f0np0v0", "123456789012345", "...", "eth0.100", "ü"] {
            assert!(text.parse::<LinkName>().is_ok(), "{text:?}");
        }
        for text in ["", ".", "..", "1234567890123456", "a/b", "a:b", "a b", "a\tb", "a\u{b}b", "à", "a\0"] {
            assert!(text.parse::<LinkName>().is_err(), "{text:?}");
        }
        assert_eq!(LinkName::from_kernel(b"eth\xff\xfe").unwrap(), "eth??");
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(bytes: [u8; 6], guid: [u8; 8], any in proptest::collection::vec(any::<u8>(), 0..32)) {
            prop_assert_eq!(MacAddress(bytes).to_string().parse(), Ok(MacAddress(bytes)));
            prop_assert_eq!(Guid(guid).to_string().parse(), Ok(Guid(guid)));
            let address = LinkAddress(any);
            prop_assert_eq!(address.to_string().parse(), Ok(address.clone()));
            let json = serde_json::to_string(&address).unwrap();
            prop_assert_eq!(serde_json::from_str::<LinkAddress>(&json).unwrap(), address);
        }
    }
}

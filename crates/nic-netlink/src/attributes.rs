//! Reading netlink attributes (`include/uapi/linux/netlink.h`): length, type and value, each padded to 4 bytes.
//!
//! Only what is asked for is looked at. A whole-message decoder refuses a link because of one attribute it does not
//! know the newest form of, and a node's links include those of other software.

/// Bytes from the kernel that are not of the form they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed netlink message: {0}")]
pub struct MalformedError(pub(crate) String);

#[derive(Debug, Clone, Copy)]
pub(crate) struct Attribute<'a> {
    pub(crate) kind: u16,
    pub(crate) value: &'a [u8],
    /// Everything from the start of the value to the end of the message.
    pub(crate) onward: &'a [u8],
}

/// The attributes in a stretch of bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attributes<'a> {
    rest: &'a [u8],
}

const HEADER: usize = 4;
/// The flags "nested" and "network byte order" share the type's 16 bits.
const TYPE_MASK: u16 = 0x3fff;

impl<'a> Attributes<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The value of the first attribute of this type.
    pub(crate) fn find(self, kind: u16) -> Result<Option<Attribute<'a>>, MalformedError> {
        for attribute in self {
            let attribute = attribute?;
            if attribute.kind == kind {
                return Ok(Some(attribute));
            }
        }
        Ok(None)
    }

    fn read(&mut self) -> Option<Attribute<'a>> {
        let (length, tail) = self.rest.split_first_chunk::<2>()?;
        let (kind, onward) = tail.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_ne_bytes(*length));
        let value = onward.get(..length.checked_sub(HEADER)?)?;
        self.rest = self.rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Attribute { kind: u16::from_ne_bytes(*kind) & TYPE_MASK, value, onward })
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<Attribute<'a>, MalformedError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let found = self.read().ok_or_else(|| {
            let left = self.rest.len();
            self.rest = &[];
            MalformedError(format!("no attribute fits into the last {left} bytes"))
        });
        Some(found)
    }
}

impl<'a> Attribute<'a> {
    pub(crate) fn nested(&self) -> Attributes<'a> {
        Attributes::new(self.value)
    }

    pub(crate) fn u8(&self) -> Result<u8, MalformedError> {
        self.number(0).map(u8::from_ne_bytes)
    }

    pub(crate) fn u16(&self) -> Result<u16, MalformedError> {
        self.number(0).map(u16::from_ne_bytes)
    }

    pub(crate) fn u32(&self) -> Result<u32, MalformedError> {
        self.u32_at(0)
    }

    pub(crate) fn i32(&self) -> Result<i32, MalformedError> {
        self.number(0).map(i32::from_ne_bytes)
    }

    /// A field of a structure.
    pub(crate) fn u32_at(&self, offset: usize) -> Result<u32, MalformedError> {
        self.number(offset).map(u32::from_ne_bytes)
    }

    /// A field of a structure.
    pub(crate) fn number<const N: usize>(&self, offset: usize) -> Result<[u8; N], MalformedError> {
        self.value.get(offset..).and_then(|bytes| bytes.first_chunk()).copied().ok_or_else(|| {
            let (kind, length) = (self.kind, self.value.len());
            MalformedError(format!("attribute {kind} has {length} bytes, {} were expected", offset + N))
        })
    }

    /// A text, up to its terminating zero byte if it has one.
    pub(crate) fn bytes(&self) -> &'a [u8] {
        self.value.split(|&byte| byte == 0).next().unwrap_or_default()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(self.bytes()).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(value.len() + HEADER).unwrap();
        let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend_from_slice(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn attributes_are_padded_and_flags_are_no_part_of_the_type() {
        let bytes = [
            attribute(3, b"eth0\0"),
            attribute(0x8012, &attribute(1, b"bond")),
            attribute(4, &[0xdc, 5, 0, 0]),
        ]
        .concat();
        let all: Vec<_> = Attributes::new(&bytes).collect::<Result<_, _>>().unwrap();
        assert_eq!(all.iter().map(|attribute| attribute.kind).collect::<Vec<_>>(), [3, 0x12, 4]);
        assert_eq!(all[0].text(), "eth0");
        assert_eq!(all[1].nested().find(1).unwrap().unwrap().text(), "bond");
        assert_eq!(all[2].u32().unwrap(), u32::from_ne_bytes([0xdc, 5, 0, 0]));
    }

    #[test]
    fn a_value_that_is_too_short_is_an_error() {
        let bytes = attribute(4, &[1, 2]);
        let error = Attributes::new(&bytes).find(4).unwrap().unwrap().u32().unwrap_err();
        assert_eq!(error.to_string(), "malformed netlink message: attribute 4 has 2 bytes, 4 were expected");
    }

    #[test]
    fn a_length_beyond_the_end_is_an_error_and_ends_the_reading() {
        for bytes in [&[9, 0, 1, 0, 0, 0, 0, 0][..], &[3, 0, 1, 0], &[4, 0]] {
            let mut attributes = Attributes::new(bytes);
            assert!(attributes.next().unwrap().is_err(), "{bytes:?}");
            assert!(attributes.next().is_none());
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_to_an_end(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            prop_assert!(Attributes::new(&bytes).count() <= bytes.len() / HEADER + 1);
        }
    }
}

//! Sets of bits with names (`net/ethtool/bitset.c`), in the form that lists them one by one. Names outlive a change of driver, numbers do not.

use std::collections::BTreeMap;

use super::NESTED;
use crate::attributes::{Attribute, MalformedError};
use crate::body::Body;

const NOMASK: u16 = 1;
const BITS: u16 = 3;
const BIT: u16 = 1;
const BIT_NAME: u16 = 2;
const BIT_VALUE: u16 = 3;

/// The bits that the kernel lists: those of the mask, on or off; or of a set without a mask those that are on.
pub(super) fn read(set: &Attribute<'_>) -> Result<BTreeMap<String, bool>, MalformedError> {
    let without_mask = set.nested().find(NOMASK)?.is_some();
    let Some(bits) = set.nested().find(BITS)? else {
        return Err(MalformedError("a set of bits without a list".to_owned()));
    };
    let mut read = BTreeMap::new();
    for bit in bits.nested() {
        let bit = bit?;
        // A bit that has no name has a number alone, which says nothing under another driver.
        let Some(name) = bit.nested().find(BIT_NAME)? else { continue };
        let on = without_mask || bit.nested().find(BIT_VALUE)?.is_some();
        read.insert(name.text(), on);
    }
    Ok(read)
}

/// Writes these bits and no others: what is not named stays as it is.
pub(super) fn write(bits: &BTreeMap<String, bool>, number: u16, body: &mut Body) {
    list(bits, number, body, false);
}

/// Writes a set that holds the bits that are on, and nothing else.
pub(super) fn write_whole(bits: &BTreeMap<String, bool>, number: u16, body: &mut Body) {
    list(bits, number, body, true);
}

fn list(bits: &BTreeMap<String, bool>, number: u16, body: &mut Body, whole: bool) {
    body.nested(number | NESTED, |set| {
        if whole {
            set.bytes(NOMASK, &[]);
        }
        set.nested(BITS | NESTED, |list| {
            for (name, on) in bits.iter().filter(|(_, on)| **on || !whole) {
                list.nested(BIT | NESTED, |bit| {
                    bit.text(BIT_NAME, name);
                    if *on && !whole {
                        bit.bytes(BIT_VALUE, &[]);
                    }
                });
            }
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attributes::Attributes;

    fn round(bits: &BTreeMap<String, bool>, whole: bool) -> BTreeMap<String, bool> {
        let mut body = Body::new(&[]);
        list(bits, 7, &mut body, whole);
        let bytes = body.finish();
        read(&Attributes::new(&bytes).find(7).unwrap().unwrap()).unwrap()
    }

    #[test]
    fn what_is_written_is_read() {
        let bits = BTreeMap::from([("RS".to_owned(), true), ("BASER".to_owned(), false)]);
        assert_eq!(round(&bits, false), bits);
        assert_eq!(round(&bits, true), BTreeMap::from([("RS".to_owned(), true)]));
    }

    #[test]
    fn a_set_without_a_list_is_malformed() {
        let mut body = Body::new(&[]);
        body.nested(7, |set| {
            set.u32(2, 64);
        });
        let bytes = body.finish();
        assert!(read(&Attributes::new(&bytes).find(7).unwrap().unwrap()).is_err());
    }
}

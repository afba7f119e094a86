//! Sets of bits with names (`net/ethtool/bitset.c`), in the form that lists them one by one. Names outlive a change of driver, numbers do not.

use std::collections::{BTreeMap, BTreeSet};

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
    body.nested(number | NESTED, |set| {
        set.nested(BITS | NESTED, |list| {
            for (name, on) in bits {
                list.nested(BIT | NESTED, |bit| {
                    bit.text(BIT_NAME, name);
                    if *on {
                        bit.bytes(BIT_VALUE, &[]);
                    }
                });
            }
        });
    });
}

/// Writes a set that holds these and nothing else.
pub(super) fn write_whole(names: &BTreeSet<String>, number: u16, body: &mut Body) {
    body.nested(number | NESTED, |set| {
        set.bytes(NOMASK, &[]).nested(BITS | NESTED, |list| {
            for name in names {
                list.nested(BIT | NESTED, |bit| {
                    bit.text(BIT_NAME, name);
                });
            }
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attributes::Attributes;

    fn round(write: impl FnOnce(&mut Body)) -> BTreeMap<String, bool> {
        let mut body = Body::new(&[]);
        write(&mut body);
        let bytes = body.finish();
        read(&Attributes::new(&bytes).find(7).unwrap().unwrap()).unwrap()
    }

    #[test]
    fn what_is_written_is_read() {
        let bits = BTreeMap::from([("RS".to_owned(), true), ("BASER".to_owned(), false)]);
        assert_eq!(round(|body| write(&bits, 7, body)), bits);
        let names = BTreeSet::from(["RS".to_owned()]);
        assert_eq!(round(|body| write_whole(&names, 7, body)), BTreeMap::from([("RS".to_owned(), true)]));
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

//! Offloads. The kernel tells four sets: what the device can, what is wanted, what is active, and what cannot be changed
//! (`features_fill_reply` in `net/ethtool/features.c`). What somebody has asked for is what is wanted; what is active comes of it.

use super::bitset;
use super::value::{EthtoolSettings, EthtoolValue};
use crate::attributes::{Attributes, MalformedError};

const HW: u16 = 2;
pub(super) const WANTED: u16 = 3;
const NOCHANGE: u16 = 5;

pub(super) fn decode(attributes: &[u8]) -> Result<EthtoolSettings, MalformedError> {
    let set = |kind| match Attributes::new(attributes).find(kind)? {
        Some(set) => bitset::read(&set),
        None => Err(MalformedError(format!("the features lack attribute {kind}"))),
    };
    let (hardware, wanted, fixed) = (set(HW)?, set(WANTED)?, set(NOCHANGE)?);
    let changeable = hardware.into_iter().filter(|(name, can)| *can && !fixed.contains_key(name));
    let features = changeable.map(|(name, _)| {
        let on = wanted.contains_key(&name);
        (name, on)
    });
    let mut settings = EthtoolSettings::default();
    settings.set("features", EthtoolValue::Bits(features.collect()));
    Ok(settings)
}

//! Whether settings can be at all: those that were written down may have been edited since, or damaged.

use std::collections::BTreeSet;

use nic_netlink::{HIGHEST_INT, IfIndex};

use crate::DeviceSettings;

/// Two statements that cannot both be true, or one that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} ({device}): {what}")]
pub struct Contradiction {
    /// The field's path, such as `[3].ethtool.rings`.
    pub field: String,
    /// The name that the device had.
    pub device: String,
    /// What speaks against it.
    pub what: String,
}

impl DeviceSettings {
    /// Looks whether these devices and what is set of them can be: no device is there twice, and each setting is one of its group.
    ///
    /// # Errors
    /// The first contradiction; its field begins with the device's place among these.
    pub fn check(devices: &[Self]) -> Result<(), Contradiction> {
        let mut seen = BTreeSet::new();
        for (place, device) in devices.iter().enumerate() {
            let wrong = |field: &str, what: String| Contradiction {
                field: format!("[{place}].{field}"),
                device: device.name.to_string(),
                what,
            };
            let IfIndex(index) = device.index;
            if !(1..=HIGHEST_INT).contains(&index) {
                return Err(wrong("index", format!("{index} is no interface's index")));
            }
            if !seen.insert(index) {
                return Err(wrong("index", format!("{index} is there twice")));
            }
            for (group, settings) in &device.ethtool {
                let fits = settings.as_set().map_or(Ok(()), |settings| group.ensure_fits(settings));
                fits.map_err(|what| wrong(&format!("ethtool.{}", group.key()), what))?;
            }
        }
        Ok(())
    }
}

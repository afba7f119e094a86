//! What is set of network devices and goes with their driver: offloads, private flags, channels, rings, interrupt coalescing, forward error
//! correction, link modes, pause frames, Energy-Efficient Ethernet, Wake-on-LAN.
//!
//! observe → plan → apply, and observe again:
//! - [`observe`] reads what some devices have, with one question for each group of settings;
//! - [`plan`] says what of a device is not as it was and was set by somebody, in the order in which a device takes it: channels before rings;
//! - [`restore`] carries that out, all devices at once, and compares.
//!
//! A driver's default is nobody's setting, and is not to outlive the driver: [`plan`] is told what the device had when its driver had
//! just come up, where that is known, and leaves alone what still was that.
//!
//! What it is not: it knows no driver, no PCI and no VF. Which old interface is which new one is for the caller to say.
//!
//! Start reading at [`DeviceSettings`] and [`plan`].

mod check;
mod compare;
mod device;
mod observe;
mod plan;
mod restore;

#[cfg(test)]
mod tests;

pub use check::Contradiction;
pub use compare::{Gravity, SettingDifference, compare};
pub use device::DeviceSettings;
pub use observe::observe;
pub use plan::{SettingChange, plan};
pub use restore::{Owed, SettingsOutcome, restore};

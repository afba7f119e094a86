//! The devices of the family that no driver has: after a reset in mid-swap, or with the inbox driver not installed.

use nic_host::Host;
use nic_kmod::{ModuleFileError, ModuleIndex, OnDisk};
use nic_sriov::{BusDevice, DeviceAddress, ObserveError, bus_devices};

use crate::context::Context;

/// The devices of the family could not be found.
#[derive(Debug, thiserror::Error)]
pub enum FamilyDevicesError {
    /// The bus could not be looked at.
    #[error(transparent)]
    Observe(#[from] ObserveError),
    /// The driver's file could not be read.
    #[error(transparent)]
    File(#[from] ModuleFileError),
}

/// The devices that the installed driver is made for and that no driver has. Those that another driver holds are
/// left to it; VFs come with their PF.
///
/// The driver is the first of the family's `identity`; what it is made for its aliases say, as they say it to modprobe.
pub(crate) fn driverless_devices(
    context: &Context,
    index: &ModuleIndex,
) -> Result<Vec<DeviceAddress>, FamilyDevicesError> {
    let host: &Host = &context.host;
    let Some(driver) = context.family.modules.identity.first() else { return Ok(Vec::new()) };
    let OnDisk::File(file) = OnDisk::read(host, index, driver)? else { return Ok(Vec::new()) };
    let is_waiting = |device: &BusDevice| {
        let serves = |modalias: &String| file.serves(modalias);
        !device.is_vf && device.driver.is_none() && device.modalias.as_ref().is_some_and(serves)
    };
    let devices = bus_devices(host, &context.family.devices)?;
    Ok(devices.into_iter().filter(is_waiting).map(|device| device.address).collect())
}

//! The writes to sysfs that make VFs and bind them, each with a deadline.

use std::time::Duration;

use nic_host::{DeadlineWriteError, ForeignWord, Host};

use crate::observe::driver_of;
use crate::{DeviceAddress, ObserveError, PciAddress, Usage};

/// A VF operation refused because the device is no VF, or failed in the kernel.
#[derive(Debug, thiserror::Error)]
pub enum VfWriteError {
    /// The device is not a VF: nothing was written to it.
    #[error("{0} is not a VF (it has no physfn): left alone")]
    NotVf(PciAddress),
    /// Somebody uses the device, or may: nothing was written to it.
    #[error("{address} {usage}; left alone")]
    InUse {
        /// The device.
        address: DeviceAddress,
        /// Who uses it, or why that cannot be told.
        usage: Usage,
    },
    /// The device is bound to a driver, and was to have none by now.
    #[error("{address} is still bound to {}", ForeignWord(driver))]
    StillBound {
        /// The device.
        address: PciAddress,
        /// Its driver.
        driver: String,
    },
    /// Which VFs there are, or whose they are, could not be read.
    #[error(transparent)]
    Observe(#[from] ObserveError),
    /// The kernel refused, or did not answer in time.
    #[error(transparent)]
    Write(#[from] DeadlineWriteError),
}

/// Writes `sriov_numvfs`. Blocks in the kernel while VFs are created and, with autoprobe on, probed.
pub async fn set_num_vfs(
    host: &Host,
    pf: &DeviceAddress,
    count: u32,
    deadline: Duration,
) -> Result<(), DeadlineWriteError> {
    host.write_attribute_within(format!("{}/sriov_numvfs", pf.sysfs()), &count.to_string(), deadline).await
}

/// Writes `sriov_drivers_autoprobe`.
pub(crate) async fn set_autoprobe(
    host: &Host,
    pf: &DeviceAddress,
    on: bool,
    deadline: Duration,
) -> Result<(), DeadlineWriteError> {
    let path = format!("{}/sriov_drivers_autoprobe", pf.sysfs());
    host.write_attribute_within(path, if on { "1" } else { "0" }, deadline).await
}

/// Binds a VF to a driver. Returns when the driver has probed it, unless the driver probes asynchronously.
pub(crate) async fn bind(
    host: &Host,
    vf: PciAddress,
    driver: &str,
    deadline: Duration,
) -> Result<(), VfWriteError> {
    check_is_vf(host, vf)?;
    let path = format!("/sys/bus/pci/drivers/{driver}/bind");
    Ok(host.write_attribute_within(path, &vf.to_string(), deadline).await?)
}

/// Unbinds a VF from its driver. That nobody uses it is asked before: the kernel would wait for the user to let go, and take the device
/// from a machine that runs.
pub(crate) async fn unbind(
    host: &Host,
    vf: PciAddress,
    driver: &str,
    deadline: Duration,
) -> Result<(), VfWriteError> {
    check_is_vf(host, vf)?;
    let path = format!("/sys/bus/pci/drivers/{driver}/unbind");
    Ok(host.write_attribute_within(path, &vf.to_string(), deadline).await?)
}

impl VfWriteError {
    /// The error when somebody uses the PF or VF, or when that cannot be told.
    pub(crate) fn of_usage(device: &DeviceAddress, usage: Usage) -> Option<Self> {
        match usage {
            Usage::Free => None,
            usage => Some(Self::InUse { address: device.clone(), usage }),
        }
    }
}

/// An error when the VF still has a driver.
pub(crate) fn check_has_no_driver(host: &Host, vf: PciAddress) -> Result<(), VfWriteError> {
    match driver_of(host, &vf.into())? {
        None => Ok(()),
        Some(driver) => Err(VfWriteError::StillBound { address: vf, driver }),
    }
}

/// Sets or clears a VF's `driver_override`. A newline clears it (drivers/base/driver.c, `driver_set_override`).
pub(crate) async fn set_driver_override(
    host: &Host,
    vf: PciAddress,
    driver: Option<&str>,
    deadline: Duration,
) -> Result<(), VfWriteError> {
    check_is_vf(host, vf)?;
    let path = format!("{}/driver_override", DeviceAddress::from(vf).sysfs());
    Ok(host.write_attribute_within(path, driver.unwrap_or("\n"), deadline).await?)
}

/// Unbinding a PF in place of a VF takes the whole NIC down.
fn check_is_vf(host: &Host, vf: PciAddress) -> Result<(), VfWriteError> {
    if host.exists(format!("{}/physfn", DeviceAddress::from(vf).sysfs())) {
        Ok(())
    } else {
        Err(VfWriteError::NotVf(vf))
    }
}

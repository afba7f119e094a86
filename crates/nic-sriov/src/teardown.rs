//! Taking VFs away before a driver is unloaded, and waiting for PFs after one is loaded.

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use nic_host::Host;

use crate::observe::vf_addresses;
use crate::sysfs::{VfWriteError, set_num_vfs, unbind};
use crate::vfio::vfio_user;
use crate::{Arrival, ArrivalError, Arrivals, DeviceAddress, ObserveError, PciAddress};

/// VFs of a PF that were not removed.
#[derive(Debug, thiserror::Error)]
#[error("cannot remove the VFs of {pf}")]
pub struct RemoveVfsError {
    /// The PF.
    pub pf: DeviceAddress,
    /// What the kernel said, or who uses a VF.
    #[source]
    pub source: VfWriteError,
}

/// Removes the VFs of all these PFs at once. A PF without VFs, or without SR-IOV, is left alone.
///
/// Unloading the PF's driver would remove them too, one PF after the other, and writing 0 to `sriov_numvfs` takes the
/// drivers from a PF's VFs one after the other (drivers/pci/iov.c, `sriov_del_vfs`). Unbinding them all at once before,
/// at most `jobs` at the same time, takes both out of serial paths.
///
/// While somebody uses one of the VFs, nothing is written to any PF: the kernel would wait for the user with the PF's lock held, and then
/// take the device from a machine that runs. VFs that were unbound by then stay so, for a restore to bind.
///
/// # Errors
/// Each PF whose VFs are still there.
pub async fn remove_vfs(
    host: &Host,
    pfs: &[DeviceAddress],
    jobs: usize,
    deadline: Duration,
) -> Vec<RemoveVfsError> {
    let used = unbind_vfs(host, pfs, jobs, deadline).await;
    if !used.is_empty() {
        return used;
    }
    // Again right before: it may have come to be used since it was unbound.
    let used: Vec<RemoveVfsError> = pfs.iter().filter_map(|pf| used_vf(host, pf)).collect();
    if !used.is_empty() {
        return used;
    }
    let remove = |pf: &DeviceAddress| {
        let pf = pf.clone();
        async move {
            match host.attribute(format!("{}/sriov_numvfs", pf.sysfs())) {
                Ok(Some(count)) if count != "0" => {}
                // Absent, 0, or unreadable: in the last case the unload that follows meets the reason and names it.
                Ok(_) | Err(_) => return None,
            }
            let removed = set_num_vfs(host, &pf, 0, deadline).await;
            removed.err().map(|source| RemoveVfsError { pf, source: source.into() })
        }
    };
    join_all(pfs.iter().map(remove)).await.into_iter().flatten().collect()
}

/// The first VF of the PF that somebody uses.
fn used_vf(host: &Host, pf: &DeviceAddress) -> Option<RemoveVfsError> {
    let used = vfs_of(host, pf)
        .into_iter()
        .find_map(|address| vfio_user(host, address).map(|user| VfWriteError::InUse { address, user }))?;
    Some(RemoveVfsError { pf: pf.clone(), source: used })
}

fn vfs_of(host: &Host, pf: &DeviceAddress) -> Vec<PciAddress> {
    vf_addresses(host, pf).unwrap_or_else(|error| {
        tracing::warn!(%pf, %error, "cannot list the VFs of this PF");
        Vec::new()
    })
}

/// Takes the drivers from all VFs. Returns those that somebody uses; what else cannot be unbound here meets its reason again when the
/// VFs are removed.
async fn unbind_vfs(
    host: &Host,
    pfs: &[DeviceAddress],
    jobs: usize,
    deadline: Duration,
) -> Vec<RemoveVfsError> {
    let mut bound = Vec::new();
    for pf in pfs {
        for vf in vfs_of(host, pf) {
            match host.link_name(format!("{}/driver", DeviceAddress::from(vf).sysfs())) {
                Ok(driver) => bound.extend(driver.map(|driver| (pf, vf, driver))),
                Err(error) => tracing::warn!(%vf, %error, "cannot read the driver of this VF"),
            }
        }
    }
    let unbind_one = |(pf, vf, driver): (&DeviceAddress, PciAddress, String)| {
        let pf = pf.clone();
        async move {
            let source = unbind(host, vf, &driver, deadline).await.err()?;
            tracing::warn!(%vf, driver, error = %source, "cannot unbind the VF from its driver");
            matches!(source, VfWriteError::InUse { .. }).then_some(RemoveVfsError { pf, source })
        }
    };
    let unbound = futures_util::stream::iter(bound).map(unbind_one).buffer_unordered(jobs.max(1));
    unbound.filter_map(std::future::ready).collect().await
}

/// How often a PF without a driver is looked at. The kernel tells nobody that a probe has failed.
const PROBE_CHECK: Duration = Duration::from_millis(500);

/// How often a PF that has no driver is offered to the drivers before it is given up.
const PROBES: usize = 3;

/// Waits until each of these PFs has its netdev and udev is done with it. `arrivals` must have begun to listen
/// before the driver was loaded, and the driver must be loaded.
///
/// A PF whose probe fails is not waited for until the deadline: see [`ArrivalError::NoDriver`].
pub async fn await_pfs(
    arrivals: &Arrivals,
    pfs: &[DeviceAddress],
    deadline: Duration,
) -> Vec<(DeviceAddress, Result<Arrival, ArrivalError>)> {
    let wait = |pf: &DeviceAddress| {
        let pf = pf.clone();
        async move {
            let arrival = tokio::select! {
                // A device that has its netdev is not asked about its driver.
                biased;
                arrival = arrivals.wait(&pf, deadline) => arrival,
                failed = probe_fails(arrivals.host(), &pf, deadline, PROBE_CHECK) => Err(failed),
            };
            (pf, arrival)
        }
    };
    join_all(pfs.iter().map(wait)).await
}

/// Ends when no driver takes the device.
///
/// A driver's probe may be under way without the device showing it, since it may be asynchronous. Writing to
/// `drivers_probe` probes the device in the writing thread, behind a probe that is under way (drivers/base/dd.c,
/// `__device_attach`): what has no driver afterwards gets none.
async fn probe_fails(
    host: &Host,
    device: &DeviceAddress,
    deadline: Duration,
    pause: Duration,
) -> ArrivalError {
    let mut failed = 0;
    loop {
        match has_driver(host, device) {
            Ok(true) => {}
            Ok(false) if failed == PROBES => {
                return ArrivalError::NoDriver { device: device.clone(), probes: PROBES };
            }
            Ok(false) => {
                failed += 1;
                let path = format!("/sys/bus/{}/drivers_probe", device.bus());
                if let Err(error) = host.write_attribute_within(path, device.name(), deadline).await {
                    tracing::warn!(
                        %device,
                        %error,
                        "cannot offer the device to the drivers: writing drivers_probe failed"
                    );
                }
            }
            Err(error) => return error.into(),
        }
        tokio::time::sleep(pause).await;
    }
}

fn has_driver(host: &Host, device: &DeviceAddress) -> Result<bool, ObserveError> {
    Ok(host.link_name(format!("{}/driver", device.sysfs()))?.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PF: &str = "sys/bus/pci/devices/0000:01:00.0";

    fn tree() -> (tempfile::TempDir, DeviceAddress) {
        let tree = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(tree.path().join(PF)).unwrap();
        std::fs::write(tree.path().join("sys/bus/pci/drivers_probe"), "").unwrap();
        (tree, DeviceAddress::new("pci", "0000:01:00.0").unwrap())
    }

    const LONG: Duration = Duration::from_secs(600);
    const SHORT: Duration = Duration::from_millis(5);

    #[tokio::test]
    async fn a_device_that_no_driver_takes_is_given_up_before_the_deadline() {
        let (tree, pf) = tree();
        let begun = std::time::Instant::now();
        let error = probe_fails(&Host::at(tree.path()), &pf, LONG, SHORT).await;
        assert_eq!(error.to_string(), "no driver has taken 0000:01:00.0, which was probed 3 times");
        assert!(begun.elapsed() < LONG / 10, "{:?}", begun.elapsed());
        let offered = std::fs::read_to_string(tree.path().join("sys/bus/pci/drivers_probe")).unwrap();
        assert_eq!(offered, "0000:01:00.0");
    }

    #[tokio::test]
    async fn a_device_with_a_driver_is_waited_for_and_not_probed() {
        let (tree, pf) = tree();
        std::os::unix::fs::symlink("../igb", tree.path().join(PF).join("driver")).unwrap();
        let host = Host::at(tree.path());
        let ended = tokio::time::timeout(10 * SHORT, probe_fails(&host, &pf, LONG, SHORT));
        assert!(ended.await.is_err());
        let offered = std::fs::read_to_string(tree.path().join("sys/bus/pci/drivers_probe")).unwrap();
        assert_eq!(offered, "");
    }
}

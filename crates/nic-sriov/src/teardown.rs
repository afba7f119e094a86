//! Taking VFs away before a driver is unloaded, and waiting for PFs after one is loaded.

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use nic_host::{DeadlineWriteError, Host};

use crate::observe::vf_addresses;
use crate::sysfs::{set_num_vfs, unbind};
use crate::{Arrival, ArrivalError, Arrivals, DeviceAddress, PciAddress};

/// VFs of a PF that could not be removed.
#[derive(Debug, thiserror::Error)]
#[error("cannot remove the VFs of {pf}")]
pub struct RemoveVfsError {
    /// The PF.
    pub pf: DeviceAddress,
    /// What the kernel said.
    #[source]
    pub source: DeadlineWriteError,
}

/// Removes the VFs of all these PFs at once. A PF without VFs, or without SR-IOV, is left alone.
///
/// Unloading the PF's driver would remove them too, one PF after the other, and writing 0 to `sriov_numvfs` takes the
/// drivers from a PF's VFs one after the other (drivers/pci/iov.c, `sriov_del_vfs`). Unbinding them all at once before,
/// at most `jobs` at the same time, takes both out of serial paths.
pub async fn remove_vfs(
    host: &Host,
    pfs: &[DeviceAddress],
    jobs: usize,
    deadline: Duration,
) -> Vec<RemoveVfsError> {
    unbind_vfs(host, pfs, jobs, deadline).await;
    let remove = |pf: &DeviceAddress| {
        let pf = pf.clone();
        async move {
            match host.attribute(format!("{}/sriov_numvfs", pf.sysfs())) {
                Ok(Some(count)) if count != "0" => {}
                // Absent, 0, or unreadable: in the last case the unload that follows meets the reason and names it.
                Ok(_) | Err(_) => return None,
            }
            set_num_vfs(host, &pf, 0, deadline).await.err().map(|source| RemoveVfsError { pf, source })
        }
    };
    join_all(pfs.iter().map(remove)).await.into_iter().flatten().collect()
}

/// Takes the drivers from all VFs. What cannot be unbound here meets its reason again when the VFs are removed.
async fn unbind_vfs(host: &Host, pfs: &[DeviceAddress], jobs: usize, deadline: Duration) {
    let mut bound = Vec::new();
    for pf in pfs {
        let vfs = vf_addresses(host, pf).unwrap_or_else(|error| {
            tracing::warn!(%pf, %error, "its VFs could not be listed");
            Vec::new()
        });
        for vf in vfs {
            match host.link_name(format!("{}/driver", DeviceAddress::from(vf).sysfs())) {
                Ok(driver) => bound.extend(driver.map(|driver| (vf, driver))),
                Err(error) => tracing::warn!(%vf, %error, "its driver could not be read"),
            }
        }
    }
    let unbind_one = |(vf, driver): (PciAddress, String)| async move {
        if let Err(error) = unbind(host, vf, &driver, deadline).await {
            tracing::warn!(%vf, driver, %error, "not unbound");
        }
    };
    futures_util::stream::iter(bound).map(unbind_one).buffer_unordered(jobs.max(1)).collect::<()>().await;
}

/// Waits until each of these PFs has its netdev and udev is done with it. `arrivals` must have begun to listen
/// before the driver was loaded.
pub async fn await_pfs(
    arrivals: &Arrivals,
    pfs: &[DeviceAddress],
    deadline: Duration,
) -> Vec<(DeviceAddress, Result<Arrival, ArrivalError>)> {
    let wait = |pf: &DeviceAddress| {
        let pf = pf.clone();
        async move {
            let arrival = arrivals.wait(&pf, deadline).await;
            (pf, arrival)
        }
    };
    join_all(pfs.iter().map(wait)).await
}

//! Taking VFs away before a driver is unloaded, and waiting for PFs after one is loaded.

use std::time::Duration;

use futures_util::future::join_all;
use nic_host::{DeadlineWriteError, Host};

use crate::sysfs::set_num_vfs;
use crate::{Arrival, ArrivalError, Arrivals, DeviceAddress};

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
/// Unloading the PF's driver would remove them too, one PF after the other; doing it before, concurrently, takes
/// that out of a serial path.
pub async fn remove_vfs(host: &Host, pfs: &[DeviceAddress], deadline: Duration) -> Vec<RemoveVfsError> {
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

//! Waiting for PFs.

use std::time::Duration;

use nic_host::ReadError;
use nic_sriov::{ArrivalError, Arrivals, DeviceAddress, KernelLinks, await_pfs};

use crate::context::Context;
use crate::state::{PhaseRecord, Snapshot, Step};

/// A PF whose driver makes no netdev is not waited for.
pub(crate) fn pfs_with_netdevs(snapshot: &Snapshot) -> Vec<DeviceAddress> {
    let pfs = snapshot.nics.pfs.iter().filter(|pf| pf.netdev.is_some());
    pfs.map(|pf| pf.address.clone()).collect()
}

/// The PFs whose netdev a snapshot knows and whose netdev may still be on its way.
///
/// One that is gone, or that another driver has, is not waited for: the restore names it at once. One without a
/// driver is waited for only after a reload (`armed`), when it may be about to be probed.
pub(crate) fn pfs_on_their_way(
    context: &Context,
    snapshot: &Snapshot,
) -> Result<Vec<DeviceAddress>, ReadError> {
    let mut pfs = Vec::new();
    for pf in snapshot.nics.pfs.iter().filter(|pf| pf.netdev.is_some()) {
        let sysfs = pf.address.sysfs();
        let driver = context.host.link_name(format!("{sysfs}/driver"))?;
        let may_come = match &driver {
            None => snapshot.is_armed(),
            Some(_) => driver == pf.driver,
        };
        if may_come && context.host.exists(sysfs) {
            pfs.push(pf.address.clone());
        }
    }
    Ok(pfs)
}

/// A PF that did not come back.
#[derive(Debug, thiserror::Error)]
#[error("the PF {pf} has not come up")]
pub struct PfMissing {
    /// The PF.
    pub pf: DeviceAddress,
    /// What is known of it.
    #[source]
    pub source: Box<ArrivalError>,
}

/// Waits until these PFs have their netdevs and udev is done with them.
pub(crate) async fn wait_for_pfs(
    phase: &PhaseRecord,
    arrivals: &Arrivals,
    pfs: &[DeviceAddress],
    deadline: Duration,
) -> Result<(), PfMissing> {
    let step = phase.step(Step::AwaitPfs);
    for (pf, arrival) in await_pfs(arrivals, pfs, deadline).await {
        if let Err(source) = arrival {
            let error = PfMissing { pf, source: Box::new(source) };
            step.failed(&error);
            return Err(error);
        }
    }
    step.ok(Some(format!("{} PFs", pfs.len())));
    Ok(())
}

/// Like [`wait_for_pfs`], listening from now on.
pub(crate) async fn listen_and_wait_for_pfs(
    context: &Context,
    phase: &PhaseRecord,
    kernel: &KernelLinks,
    pfs: &[DeviceAddress],
    deadline: Duration,
) -> Result<(), PfMissing> {
    let Some(first) = pfs.first() else { return Ok(()) };
    let arrivals = Arrivals::listen(&context.host, kernel).await;
    let arrivals = arrivals.map_err(|error| PfMissing { pf: first.clone(), source: Box::new(error) })?;
    wait_for_pfs(phase, &arrivals, pfs, deadline).await
}

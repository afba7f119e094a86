//! Waiting for PFs.

use std::time::Duration;

use nic_host::ReadError;
use nic_sriov::{ArrivalError, DeviceAddress};

use crate::context::Context;
use crate::machine::{Nics, PfsToCome};
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

/// Waits until these PFs have their netdevs and udev is done with them. Returns those that have not come: one PF's failure
/// is that PF's failure.
pub(crate) async fn wait_for_pfs(
    phase: &PhaseRecord,
    to_come: &dyn PfsToCome,
    pfs: &[DeviceAddress],
    deadline: Duration,
) -> Vec<PfMissing> {
    let step = phase.step(Step::AwaitPfs { pfs: pfs.to_vec() });
    let missing = |(pf, arrival): (DeviceAddress, Result<_, ArrivalError>)| {
        let source = Box::new(arrival.err()?);
        Some(PfMissing { pf, source })
    };
    let arrived = to_come.wait(pfs, deadline).await.into_iter();
    let missing: Vec<PfMissing> = arrived.filter_map(missing).collect();
    for pf in &missing {
        tracing::error!(pf = %pf.pf, error = crate::error_chain(pf), "a PF has not come up");
    }
    match missing.first() {
        None => step.ok(Some(format!("{} PFs", pfs.len()))),
        Some(first) => step.failed(first),
    }
    missing
}

/// Like [`wait_for_pfs`], listening from now on.
pub(crate) async fn listen_and_wait_for_pfs(
    phase: &PhaseRecord,
    nics: &dyn Nics,
    pfs: &[DeviceAddress],
    deadline: Duration,
) -> Result<Vec<PfMissing>, ArrivalError> {
    if pfs.is_empty() {
        return Ok(Vec::new());
    }
    let to_come = nics.listen().await?;
    Ok(wait_for_pfs(phase, &*to_come, pfs, deadline).await)
}

/// Of the PFs that have not come, the first one that counts against the driver: a device that is gone from its bus no
/// driver can bring up.
pub(crate) fn drivers_fault(context: &Context, missing: Vec<PfMissing>) -> Option<PfMissing> {
    missing.into_iter().find(|pf| context.host.exists(pf.pf.sysfs()))
}

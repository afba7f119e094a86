//! Packages to install: those of the inventory, or newly built ones.

use std::time::Duration;

use jiff::Timestamp;
use nic_build::{BuildKey, InventoryEntry, InventoryLock, Stored};
use nic_host::Host;

use super::job::Job;
use super::make::{make, prepare};
use super::own_packages::OwnPackages;
use super::request::PackagesFrom;
use crate::context::{BeginError, Context};
use crate::phase::error::PhaseError;
use crate::phase::obtain_error::ObtainError;
use crate::state::{PhaseRecord, Step};

/// How long another process may build for this kernel: a build's own deadline, and some for what comes before and after it.
pub const OTHERS_BUILD_DEADLINE: Duration = Duration::from_secs(3 * 60 * 60);

/// Has packages, from wherever they are had the soonest.
pub(in crate::phase) async fn obtain(
    context: &Context,
    phase: &PhaseRecord,
    job: &Job,
) -> Result<(OwnPackages, PackagesFrom), PhaseError> {
    let Some(entry) = &job.entry else { return make(context, phase, job).await };
    entry.remove_leftovers(&context.host, &holder(&context.host));
    let key = job.key(&context.host)?;
    if let Some(taken) = take(context, phase, job, entry, &key)? {
        prepare(context, phase, &job.preparation(job.work(true)).map_err(ObtainError::from)?).await?;
        return Ok(taken);
    }
    let lock = lock(context, phase, entry).await?;
    // Whoever held the lock may have stored what is asked for.
    if let Some(taken) = take(context, phase, job, entry, &key)? {
        drop(lock);
        prepare(context, phase, &job.preparation(job.work(true)).map_err(ObtainError::from)?).await?;
        return Ok(taken);
    }
    let step = phase.step(Step::WipePackages { folder: entry.folder.clone() });
    let wiped = entry.remove_unfinished(&context.host, &lock).and_then(|_| entry.wipe(&context.host, &lock));
    step.record(wiped).map_err(ObtainError::from)?;
    // What is not for this node does not come as far as being stored, where the next start would find it.
    let (packages, from) = make(context, phase, job).await?;
    let step = phase.step(Step::StorePackages { folder: entry.folder.clone() });
    let stored = entry.store(&context.host, &lock, &packages.paths(), &key);
    step.record(stored).map_err(ObtainError::from)?;
    Ok((packages, from))
}

/// Takes what is stored, where a build would make the same.
fn take(
    context: &Context,
    phase: &PhaseRecord,
    job: &Job,
    entry: &InventoryEntry,
    key: &BuildKey,
) -> Result<Option<(OwnPackages, PackagesFrom)>, PhaseError> {
    let step = phase.step(Step::LookUpPackages { folder: entry.folder.clone() });
    let (packages, trust) = match entry.look_up(&context.host, key) {
        Ok(Stored::Valid { packages, trust }) => (packages, trust),
        Ok(Stored::Absent) => {
            step.ok(Some("there are none".to_owned()));
            return Ok(None);
        }
        Ok(Stored::Outdated(outdated)) => {
            step.ok(Some(format!("the packages are built anew: {}", crate::error_chain(&outdated))));
            return Ok(None);
        }
        Err(error) => {
            step.failed(&error);
            return Err(ObtainError::from(error).into());
        }
    };
    match OwnPackages::take(context, &packages, &job.observed.node.kernel) {
        Ok(Ok(taken)) => {
            step.ok(Some(format!("{} packages, verified by {trust}", packages.len())));
            Ok(Some((taken, PackagesFrom::Inventory { verified_by: trust.to_string() })))
        }
        Ok(Err(unusable)) => {
            step.ok(Some(format!("the packages are built anew: {}", crate::error_chain(&unusable))));
            Ok(None)
        }
        Err(error) => {
            step.failed(&error);
            Err(error)
        }
    }
}

async fn lock(
    context: &Context,
    phase: &PhaseRecord,
    entry: &InventoryEntry,
) -> Result<InventoryLock, PhaseError> {
    let step = phase.step(Step::LockInventory { folder: entry.kernel_folder.clone() });
    let holder = holder(&context.host);
    let waiting = InventoryLock::acquire(&context.host, entry, &holder, OTHERS_BUILD_DEADLINE);
    match context.stop.or_stop_request(waiting).await {
        Ok(lock) => Ok(step.record(lock).map_err(ObtainError::from)?),
        Err(interrupted) => {
            step.failed(&interrupted);
            Err(BeginError::from(interrupted).into())
        }
    }
}

/// How this process names itself to those who wait for it, on this node or on another one.
pub(super) fn holder(host: &Host) -> String {
    let node = host.attribute("/proc/sys/kernel/hostname").ok().flatten();
    let node = node.map(|node| format!(" on {node}")).unwrap_or_default();
    format!("nic-driver{node}, process {}, since {:.0}", std::process::id(), Timestamp::now())
}

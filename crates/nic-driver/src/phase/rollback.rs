//! Rolling back: the previous driver again, and the NICs restored under it.

use nic_kmod::ModuleIndex;
use nic_sriov::{ObserveError, Operation};

use super::error::PhaseError;
use super::restore::{Restored, restore_within_phase};
use crate::context::Context;
use crate::node::{listen_and_wait_for_pfs, pfs_on_their_way};
use crate::state::{PhaseRecord, RolledBack, Snapshot};
use crate::swap::{current_attempt, load_backup_modules, record_rollback, remove_leftover_blacklist};

/// Rolls back because of `cause`, and returns what the reload ends with. `asked_for` says whether a module of the
/// installed driver had been asked for: only then is that driver not tried again.
pub(super) async fn roll_back(
    context: &Context,
    phase: &PhaseRecord,
    index: &ModuleIndex,
    snapshot: &Snapshot,
    asked_for: bool,
    cause: PhaseError,
) -> PhaseError {
    tracing::error!(error = crate::error_chain(&cause), "rolling back to the previous driver");
    let attempt = current_attempt(context, index);
    let reason = crate::error_chain(&cause);
    let record = RolledBack::now(context.boot_id.clone(), snapshot, attempt, asked_for, reason);
    record_rollback(context, phase, &record);
    finish_rollback(context, phase, snapshot, asked_for, cause).await
}

/// Ends a rollback that is recorded.
pub(super) async fn finish_rollback(
    context: &Context,
    phase: &PhaseRecord,
    snapshot: &Snapshot,
    asked_for: bool,
    cause: PhaseError,
) -> PhaseError {
    let cause = Box::new(cause);
    match roll_back_and_restore(context, phase, snapshot).await {
        Ok(restored) => {
            PhaseError::RolledBack { vfs: restored.outcome.vfs.len(), tried_again: !asked_for, cause }
        }
        Err(going_back) => PhaseError::RollbackFailed { going_back: Box::new(going_back), cause },
    }
}

/// Loads the previous modules, and restores the NICs under them. Can be begun anew at any point.
async fn roll_back_and_restore(
    context: &Context,
    phase: &PhaseRecord,
    snapshot: &Snapshot,
) -> Result<Restored, PhaseError> {
    let deadline = context.settings.patience().of(Operation::Driver { vfs: snapshot.nics.vf_count() });
    let loaded = load_backup_modules(context, phase, snapshot, deadline).await;
    // Also when they could not be loaded: nobody swaps modules any more, and who comes next finds what is loaded by then.
    let removed = remove_leftover_blacklist(context, phase);
    loaded?;
    removed?;
    if let Some(nics) = context.machine.nics(context.settings.timeout).await? {
        let pfs = pfs_on_their_way(context, snapshot).map_err(ObserveError::from)?;
        // Those that have not come are named by the restore, which gives the others back what they had.
        let arrival = context.settings.patience().of(Operation::PfArrival);
        listen_and_wait_for_pfs(phase, &*nics, &pfs, arrival).await?;
    }
    let restored = restore_within_phase(context).await?;
    if restored.is_verified() { Ok(restored) } else { Err(PhaseError::NotVerified(restored.summary())) }
}

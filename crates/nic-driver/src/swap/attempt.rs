//! Attempts that failed: a driver that was asked for and rolled back is not tried again until something of the attempt
//! changes.

use nic_host::Host;
use nic_kmod::{ModuleIndex, OnDisk};

use crate::context::Context;
use crate::state::{
    Attempt, AttemptedModule, PhaseRecord, RecordError, RolledBack, Snapshot, Step, sha256, sha256_of_file,
};

/// What is tried, for recognising it when it is to be tried again.
pub(crate) fn current_attempt(context: &Context, index: &ModuleIndex) -> Attempt {
    let modules = &context.family.modules;
    let sha256_of = |host: &Host, module| match OnDisk::read(host, index, module) {
        Ok(OnDisk::File(file)) => sha256_of_file(host, &file.path).ok(),
        // What cannot be read cannot be loaded either; the comparison of identities has said so.
        Ok(OnDisk::Builtin | OnDisk::Absent) | Err(_) => None,
    };
    let modules = modules
        .identity
        .iter()
        .map(|module| AttemptedModule { module: module.clone(), sha256: sha256_of(&context.host, module) });
    Attempt {
        // A family is plain data, and serialises always.
        family: serde_json::to_vec(&context.family).map(|bytes| sha256(&bytes)).unwrap_or_default(),
        timeout_s: context.settings.timeout.as_secs(),
        modules: modules.collect(),
    }
}

/// The record of the same attempt, if it was rolled back before, or is still to be.
///
/// It forbids another attempt only when the driver had been asked for ([`RolledBack::asked_for`]).
pub(crate) fn earlier_rollback(
    context: &Context,
    index: &ModuleIndex,
) -> Result<Option<RolledBack>, RecordError> {
    if context.settings.retry_rolled_back {
        return Ok(None);
    }
    let Some(record) = context.store.rolled_back()? else { return Ok(None) };
    let attempt = current_attempt(context, index);
    Ok(Some(record).filter(|record| record.is_same_attempt(&context.boot_id, &attempt)))
}

/// Whether the swap for which this snapshot is armed is being rolled back: the driver before it is meant.
pub(crate) fn is_being_rolled_back(context: &Context, armed: &Snapshot) -> bool {
    let record = context.store.rolled_back().unwrap_or_else(|error| {
        tracing::warn!(
            error = crate::error_chain(&error),
            "cannot read the rollback record; assuming that there was none"
        );
        None
    });
    record.is_some_and(|record| record.is_of(armed))
}

/// Records that a swap is rolled back, before it is: a process that is killed meanwhile is followed by one that ends
/// the rollback.
pub(crate) fn record_rollback(context: &Context, phase: &PhaseRecord, record: &RolledBack) {
    // A failure is in the journal, and going back matters more.
    let _ = phase.step(Step::RecordRollback).record(context.store.write_rolled_back(record));
}

//! Attempts that failed: a driver that was rolled back is not tried again until something of the attempt changes.

use nic_host::Host;
use nic_kmod::{ModuleIndex, OnDisk};

use crate::context::Context;
use crate::state::{Attempt, AttemptedModule, PhaseRecord, RecordError, RolledBack, Step, sha256};

/// What is tried, for recognising it when it is to be tried again.
pub(crate) fn current_attempt(context: &Context, index: &ModuleIndex) -> Attempt {
    let modules = &context.family.modules;
    let sha256_of = |host: &Host, module| match OnDisk::read(host, index, module) {
        Ok(OnDisk::File(file)) => host.read_bytes(&file.path).ok().map(|bytes| sha256(&bytes)),
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

/// The record that forbids to try the installed driver again, if there is one.
pub(crate) fn earlier_rollback(
    context: &Context,
    index: &ModuleIndex,
) -> Result<Option<RolledBack>, RecordError> {
    if context.settings.retry_rolled_back {
        return Ok(None);
    }
    let Some(record) = context.store.rolled_back()? else { return Ok(None) };
    Ok(Some(record).filter(|record| record.refuses(&context.boot_id, &current_attempt(context, index))))
}

/// Records that the driver is taken back, before it is: a process that is killed meanwhile must not try it again.
pub(crate) fn record_rollback(
    context: &Context,
    phase: &PhaseRecord,
    attempt: Attempt,
    cause: &dyn std::error::Error,
) {
    let record = RolledBack::now(context.boot_id.clone(), attempt, crate::error_chain(cause));
    // A failure is in the journal, and going back matters more.
    let _ = phase.step(Step::RecordRollback).record(context.store.write_rolled_back(&record));
}

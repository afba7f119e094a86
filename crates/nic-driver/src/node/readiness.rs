//! The readiness file, by which other containers and the kubelet know that the node's NICs are what they should be.
//!
//! It never exists while the machine differs from the snapshot: it goes before the first change, and comes when the
//! machine was read back and found equal.

use nic_host::WriteError;

use crate::context::Context;
use crate::state::{PhaseRecord, Step};

/// Removes the file: from here on the node is not ready.
pub(crate) fn take_readiness_away(context: &Context, phase: &PhaseRecord) -> Result<(), WriteError> {
    let step = phase.step(Step::TakeReadinessAway);
    step.record(context.host.remove_file(&context.settings.readiness_file)).map(|_| ())
}

/// Creates the file. Only its existence has a meaning.
pub(crate) fn give_readiness(context: &Context, phase: &PhaseRecord) -> Result<(), WriteError> {
    let step = phase.step(Step::GiveReadiness);
    step.record(context.host.write_durably(&context.settings.readiness_file, b""))
}

//! The readiness file, by which other containers and the kubelet know that the node's NICs are what they should be.
//!
//! It never exists while the machine differs from the snapshot: it goes before the first change, and comes when the
//! machine was read back and found equal.

use nic_host::WriteError;

use super::Context;
use crate::state::PhaseRecord;

/// Removes the file: from here on the node is not ready.
pub(super) fn take_readiness_away(context: &Context, phase: &PhaseRecord) -> Result<(), WriteError> {
    let step = phase.step("take readiness away");
    step.record(context.host.remove_file(&context.settings.readiness_file)).map(|_| ())
}

/// Creates the file. Only its existence has a meaning.
pub(super) fn give_readiness(context: &Context, phase: &PhaseRecord) -> Result<(), WriteError> {
    let step = phase.step("give readiness");
    step.record(context.host.write_durably(&context.settings.readiness_file, b""))
}

//! What keeps a reload from its first change.

use nic_host::WriteError;
use nic_kmod::ModuleIndex;

use crate::context::Context;
use crate::phase::blockers::look_for_blockers;
use crate::phase::error::PhaseError;
use crate::state::{PhaseRecord, Step};
use crate::swap::{Blocker, BlockersFound, FoundBlockers, Look};

/// Blockers are looked for at the start and again right before the first change: an hour may lie between the two. What is passed over
/// and what will be lost is in the journal.
pub(super) async fn ensure_unblocked(
    context: &Context,
    phase: &PhaseRecord,
    index: &ModuleIndex,
    look: Look,
) -> Result<FoundBlockers, PhaseError> {
    let step = phase.step(Step::FindBlockers);
    let found = look_for_blockers(context, index, look).await.and_then(|(found, _)| {
        let told = found.foreseen.told();
        if let Some(told) = told.as_ref().filter(|_| look == Look::Whole) {
            tracing::warn!(told, "what a reload passes over, takes away for its time, or does not give back");
        }
        if found.blockers.is_empty() {
            Ok((found, told))
        } else {
            Err(BlockersFound { blockers: found.blockers }.into())
        }
    });
    match found {
        Ok((found, told)) => {
            step.ok(told);
            Ok(found)
        }
        Err(error) => {
            step.blocked(&error, error.blockers().iter().map(Blocker::seen).collect());
            Err(error)
        }
    }
}

/// A state directory that takes nothing blocks the reload, whatever was to be written to it.
pub(super) fn state_dir(context: &Context, source: WriteError) -> PhaseError {
    PhaseError::StateDir { folder: context.store.folder().to_path_buf(), source }
}

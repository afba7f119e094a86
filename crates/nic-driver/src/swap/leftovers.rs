//! What a swap that was killed has left behind.

use nic_host::{ReadError, WriteError};
use nic_kmod::Blacklist;

use crate::context::Context;
use crate::state::{PhaseRecord, Step};

/// A blacklist that was left behind and stays.
#[derive(Debug, thiserror::Error)]
pub enum LeftoverError {
    /// It could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It could not be removed.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Removes a blacklist that a killed process has left behind: modules would not be loaded for new devices.
pub(crate) fn remove_leftover_blacklist(context: &Context, phase: &PhaseRecord) -> Result<(), LeftoverError> {
    let Some(found) = Blacklist::find(&context.host, &context.settings.blacklist_file)? else {
        return Ok(());
    };
    tracing::warn!(path = %found.blacklist.path.display(), "a blacklist was left behind");
    let step = phase.step(Step::RemoveLeftoverBlacklist);
    step.record(found.blacklist.remove(&context.host))?;
    Ok(())
}

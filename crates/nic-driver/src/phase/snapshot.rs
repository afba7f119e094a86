//! `snapshot`: an administrator's snapshot, for a swap that somebody else makes.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::Serialize;

use super::error::PhaseError;
use crate::context::Context;
use crate::node::take_snapshot;
use crate::state::{Snapshot, SnapshotError, SnapshotStage};

/// A snapshot that was taken by hand.
#[derive(Debug, Clone, Serialize)]
pub struct TakenSnapshot {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// Where it is stored.
    pub path: PathBuf,
    /// Where the one before it is now, when that could not be read or was of another boot.
    pub set_aside: Option<PathBuf>,
}

/// Takes a snapshot and stores it. It is used by an explicit `restore-sriov`; a reload takes its own.
pub async fn snapshot(context: &Context) -> Result<TakenSnapshot, PhaseError> {
    let _lock = context.begin("snapshot")?;
    let set_aside = match context.store.snapshot() {
        Ok(Some(old)) if old.is_armed() && old.boot_id == context.boot_id => {
            return Err(PhaseError::Armed { path: context.store.snapshot_path() });
        }
        // Its VFs went with its boot; the file is kept for inspection.
        Ok(Some(old)) if old.boot_id != context.boot_id => {
            Some(context.store.set_snapshot_aside(Timestamp::now())?)
        }
        Ok(_) => None,
        Err(error) => {
            tracing::warn!(error = crate::error_chain(&error), "the stored snapshot is set aside");
            // Not readable at all may also mean that it cannot be moved; then the write below says why.
            if matches!(error, SnapshotError::Read(_)) {
                None
            } else {
                Some(context.store.set_snapshot_aside(Timestamp::now())?)
            }
        }
    };
    let snapshot = take_snapshot(context, SnapshotStage::Stored).await?;
    context.store.write_snapshot(&snapshot)?;
    Ok(TakenSnapshot { snapshot, path: context.store.snapshot_path(), set_aside })
}

//! `snapshot`: an administrator's snapshot, for a swap that somebody else makes.

use std::path::PathBuf;

use jiff::Timestamp;
use nic_sriov::{NotKnown, find_pfs};
use serde::Serialize;

use super::error::PhaseError;
use crate::context::{Assumption, Context};
use crate::node::observe_node;
use crate::state::{Snapshot, SnapshotError, SnapshotState};

/// A snapshot that was taken by hand.
#[derive(Debug, Clone, Serialize)]
pub struct TakenSnapshot {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// Where it is stored.
    pub path: PathBuf,
    /// What is not known of the NICs: it is in the snapshot as that, and nothing can give it back.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_known: Vec<NotKnown>,
    /// Where the one before it is now, when that could not be read or was of another boot.
    pub set_aside: Option<PathBuf>,
}

/// Takes a snapshot and stores it. It is used by an explicit `restore-sriov`; a reload takes its own.
pub async fn snapshot(context: &Context) -> Result<TakenSnapshot, PhaseError> {
    let _lock = context.begin_reading("snapshot").await?;
    let set_aside = make_room(context)?;
    ensure_pf(context)?;
    let mut observed = observe_node(context).await?;
    let mut not_known = observed.nics.not_known();
    let on_them = observed.network.not_known();
    not_known
        .extend(on_them.map(|entry| NotKnown { path: entry.what.clone(), why: entry.not_known.to_string() }));
    if context.settings.assume_ok.contains(&Assumption::NotKnown) {
        observed.accept_not_known();
    }
    let snapshot = Snapshot::by_hand(observed);
    context.store.write_snapshot(&snapshot)?;
    Ok(TakenSnapshot { snapshot, path: context.store.snapshot_path(), not_known, set_aside })
}

/// Makes sure that the stored snapshot may be replaced. One that cannot be used is moved aside, not destroyed: somebody
/// may want to read it.
fn make_room(context: &Context) -> Result<Option<PathBuf>, PhaseError> {
    let now = Timestamp::now();
    match context.store.snapshot() {
        Ok(None) => Ok(None),
        Ok(Some(old)) if old.boot_id != context.boot_id => Ok(Some(context.store.set_snapshot_aside(now)?)),
        Ok(Some(old)) => {
            if SnapshotState::of(Some(old), &context.boot_id).may_be_replaced() {
                Ok(None)
            } else {
                Err(PhaseError::Armed { path: context.store.snapshot_path() })
            }
        }
        Err(error) => {
            tracing::warn!(
                error = crate::error_chain(&error),
                "the stored snapshot cannot be used: it is kept aside for inspection"
            );
            // Not readable at all may also mean that it cannot be moved; then the write says why.
            if matches!(error, SnapshotError::Read(_)) {
                Ok(None)
            } else {
                Ok(Some(context.store.set_snapshot_aside(now)?))
            }
        }
    }
}

/// A snapshot of nothing would give back nothing.
fn ensure_pf(context: &Context) -> Result<(), PhaseError> {
    let selector = &context.family.devices;
    let pfs = find_pfs(&context.host, selector)?;
    if pfs.is_empty() {
        return Err(PhaseError::NoPf {
            family: context.family.name.clone(),
            bus: selector.bus.clone(),
            vendor: selector.vendor.clone(),
            drivers: selector.pf_drivers.clone(),
        });
    }
    Ok(())
}

//! `plan restore-sriov`: what `restore-sriov` would do now. Nothing is changed.

use std::fmt;

use nic_sriov::{LinkSource, RestorePlan, observe, obstacles, plan_restore};
use serde::Serialize;

use super::error::PhaseError;
use crate::context::Context;
use crate::state::RestoreDuty;

/// What `restore-sriov` would do now.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum PlannedRestore {
    /// Nothing is owed: nothing would be compared, and nothing changed.
    NothingOwed {
        /// What the stored snapshot is: `none` or `record`.
        nothing_owed: String,
    },
    /// These steps.
    Steps(RestorePlan),
}

impl fmt::Display for PlannedRestore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NothingOwed { nothing_owed } => {
                writeln!(f, "nothing to do: nothing is owed to the NICs (snapshot: {nothing_owed})")
            }
            Self::Steps(plan) => plan.fmt(f),
        }
    }
}

/// What `restore-sriov` would do now.
pub async fn plan_restore_sriov(context: &Context, from_record: bool) -> Result<PlannedRestore, PhaseError> {
    let state = context.snapshot_state()?;
    let stored = state.to_string();
    let snapshot = match state.restore_duty(from_record) {
        RestoreDuty::Restore(snapshot) => snapshot,
        RestoreDuty::NothingOwed => return Ok(PlannedRestore::NothingOwed { nothing_owed: stored }),
        RestoreDuty::NoRecord => {
            return Err(PhaseError::NoSnapshot {
                folder: context.store.family_folder().to_path_buf(),
                stored,
            });
        }
    };
    let pfs: Vec<_> = snapshot.nics.pfs.iter().map(|pf| pf.address.clone()).collect();
    let source = LinkSource::open(&context.host).await?;
    let found = observe(&context.host, &source, &context.family.devices, &pfs).await?;
    if let Some(obstacle) = obstacles(&snapshot.nics, &found).into_iter().next() {
        return Err(PhaseError::Obstacle(obstacle));
    }
    Ok(PlannedRestore::Steps(plan_restore(&snapshot.nics, &found)))
}

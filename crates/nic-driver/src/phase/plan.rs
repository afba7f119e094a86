//! `plan restore-sriov`: what `restore-sriov` would do now. Nothing is changed.

use std::fmt;

use nic_sriov::{
    DeviceUsers, Inquiry, LinkSource, Operation, RestorePlan, devices_to_ask, observe, plan_restore,
};
use serde::Serialize;

use super::error::PhaseError;
use super::first_of::first_of;
use crate::Exit;
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

impl PlannedRestore {
    /// The exit code: a PF that would be left alone is named by it, although the others' plan is shown.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Steps(plan) if !plan.obstacles.is_empty() => Exit::PfUnsuitable,
            Self::Steps(_) | Self::NothingOwed { .. } => Exit::Success,
        }
    }

    /// What a restore would leave alone, in one sentence; `None` when nothing.
    #[must_use]
    pub fn why_not(&self) -> Option<String> {
        match self {
            Self::Steps(plan) => first_of("left alone", plan.obstacles.iter()),
            Self::NothingOwed { .. } => None,
        }
    }
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
    let saved = &snapshot.nics;
    let pfs: Vec<_> = saved.pfs.iter().map(|pf| pf.address.clone()).collect();
    let source = LinkSource::open(&context.host).await?;
    let selector = &context.family.devices;
    let deadline = context.settings.patience().of(Operation::Observe { vfs: saved.most_vfs() });
    let found = observe(&context.host, &source, selector, &pfs, deadline).await?;
    let devices = devices_to_ask(saved, &found);
    let usages = Inquiry::gentle(&context.host, selector).usages(&devices, deadline).await;
    let users: DeviceUsers = devices.into_iter().zip(usages).collect();
    Ok(PlannedRestore::Steps(plan_restore(saved, &found, &users)))
}

//! What a reload goes by to know what is due: it is read here, and nothing is decided.

use nic_kmod::{IdentityReport, IdentityVerdict, ModuleIndex, ModuleName};

use crate::context::Context;
use crate::phase::error::PhaseError;
use crate::state::{RolledBack, Snapshot, SnapshotState};
use crate::swap::{decide, earlier_rollback, leftover_blacklist, runs_what_is_gone_back_to};

/// What is known before it is known whether anything is due.
#[derive(Debug)]
pub(super) struct Facts {
    /// The loaded modules beside the installed ones.
    pub(super) identity: IdentityReport,
    /// Whether other modules run than the installed ones, or a swap was asked for all the same.
    pub(super) is_due: bool,
    /// What is missing beside the driver that runs.
    pub(super) missing: Vec<ModuleName>,
    /// What is owed to the NICs.
    pub(super) state: SnapshotState,
    /// The rollback of the same driver under the same circumstances, where there was one.
    pub(super) same_attempt: Option<RolledBack>,
    /// Whether a blacklist was left behind.
    pub(super) has_leftover_blacklist: bool,
    /// Whether the driver that runs is the way back, and is to be kept.
    pub(super) runs_way_back: bool,
}

impl Facts {
    pub(super) fn read(
        context: &Context,
        index: &ModuleIndex,
        identity: IdentityReport,
    ) -> Result<Self, PhaseError> {
        let decision = decide(context, &identity);
        let state = context.snapshot_state().map_err(PhaseError::SnapshotNeeded)?;
        Ok(Self {
            is_due: context.settings.force || decision.is_swap(),
            missing: decision.missing(),
            runs_way_back: runs_what_is_gone_back_to(context, state.clone().armed().as_ref())?,
            state,
            same_attempt: earlier_rollback(context, index)?,
            has_leftover_blacklist: leftover_blacklist(context)
                .map_err(|source| PhaseError::Blacklist(source.into()))?
                .is_some(),
            identity,
        })
    }

    /// The snapshot of a swap that is under way.
    pub(super) fn armed(&self) -> Option<&Snapshot> {
        match &self.state {
            SnapshotState::Armed(armed) => Some(armed),
            SnapshotState::None | SnapshotState::ByHand(_) | SnapshotState::Record(_) => None,
        }
    }
}

/// Compares the loaded modules with those of a tree.
///
/// # Errors
/// Also when the tree lacks the driver itself.
pub(super) fn compare_modules(context: &Context, index: &ModuleIndex) -> Result<IdentityReport, PhaseError> {
    let identity = IdentityReport::read(&context.host, index, &context.family.modules.identity)?;
    if let Some(driver) = identity.modules.first()
        && matches!(driver.verdict, IdentityVerdict::AbsentOnDisk | IdentityVerdict::OnlyBehind)
    {
        return Err(PhaseError::NoModule {
            module: driver.module.clone(),
            kernel: context.kernel.to_string(),
            folder: index.folder().to_path_buf(),
        });
    }
    Ok(identity)
}

#[cfg(test)]
pub(super) mod tests {
    use nic_host::BootId;
    use nic_sriov::NicState;
    use nic_topology::NetworkState;

    use super::*;
    use crate::state::{Attempt, ModuleParameters, Observed, SavedSettings};

    pub(in crate::phase::reload) fn snapshot() -> Snapshot {
        let mut snapshot = Snapshot::by_hand(Observed {
            boot_id: BootId("boot-1".into()),
            kernel: "6.12.1".parse().unwrap(),
            family: "igb".into(),
            modules: vec!["igb".parse().unwrap()],
            lost: Vec::new(),
            parameters: ModuleParameters::new(),
            nics: NicState::default(),
            settings: SavedSettings::default(),
            network: NetworkState::default(),
        });
        snapshot.taken_at = "2026-01-02T03:04:05Z".parse().unwrap();
        snapshot
    }

    pub(in crate::phase::reload) fn rolled_back(asked_for: bool) -> RolledBack {
        let attempt = Attempt { family: String::new(), timeout_s: 60, modules: Vec::new() };
        RolledBack::now(BootId("boot-1".into()), &snapshot(), attempt, asked_for, "no PF came".into())
    }

    pub(in crate::phase::reload) fn facts(
        state: SnapshotState,
        same_attempt: Option<RolledBack>,
        is_due: bool,
        is_missing: bool,
    ) -> Facts {
        let missing = is_missing.then(|| "mlx5_ib".parse().unwrap()).into_iter().collect();
        let identity = IdentityReport { modules: Vec::new() };
        let runs_way_back = !matches!(state, SnapshotState::Armed(_));
        Facts { identity, is_due, missing, state, same_attempt, has_leftover_blacklist: false, runs_way_back }
    }
}

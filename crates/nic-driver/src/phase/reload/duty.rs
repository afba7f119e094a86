//! What a reload has to do: pure.

use serde::Serialize;

use super::facts::Facts;
use crate::state::{RollbackMeaning, RolledBack, Snapshot};

/// What a reload has to do.
#[derive(Debug)]
pub(super) enum Duty<'facts> {
    /// Nothing: the installed modules run, or the driver that runs is what a rollback has left.
    Nothing,
    /// Modules are missing beside the driver that runs: they are loaded, and no NIC is touched.
    LoadMissing,
    /// A process was killed during a rollback, which is ended.
    EndRollback {
        /// The rollback.
        record: &'facts RolledBack,
        /// What is owed to the NICs.
        armed: &'facts Snapshot,
    },
    /// The installed driver did not come up before, and is not tried again.
    Refused(&'facts RolledBack),
    /// The modules are swapped.
    Swap,
    /// A process was killed after the new driver was loaded, or half of it: what is missing is loaded, and the PFs are waited for.
    EndSwap(&'facts Snapshot),
}

/// The name of what a reload has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ReloadDuty {
    /// Nothing.
    Nothing,
    /// Modules are loaded beside the driver that runs.
    LoadMissing,
    /// A rollback that was cut off is ended.
    EndRollback,
    /// The installed driver was taken back before, and is not tried again.
    Refused,
    /// The modules are swapped.
    Swap,
    /// A swap that was cut off is ended.
    EndSwap,
}

impl Duty<'_> {
    pub(super) fn name(&self) -> ReloadDuty {
        match self {
            Self::Nothing => ReloadDuty::Nothing,
            Self::LoadMissing => ReloadDuty::LoadMissing,
            Self::EndRollback { .. } => ReloadDuty::EndRollback,
            Self::Refused(_) => ReloadDuty::Refused,
            Self::Swap => ReloadDuty::Swap,
            Self::EndSwap(_) => ReloadDuty::EndSwap,
        }
    }
}

/// Goes by what is: an earlier process may have been killed at any point.
pub(super) fn duty<'facts>(facts: &'facts Facts) -> Duty<'facts> {
    let armed = facts.armed();
    if let Some(record) = &facts.same_attempt {
        match (record.meaning(armed, facts.is_due), armed) {
            (RollbackMeaning::Unfinished, Some(armed)) => return Duty::EndRollback { record, armed },
            (RollbackMeaning::Refused, _) => return Duty::Refused(record),
            (RollbackMeaning::Ended, _) => return Duty::Nothing,
            (RollbackMeaning::Nothing | RollbackMeaning::Unfinished, _) => {}
        }
    }
    match armed {
        _ if facts.is_due => Duty::Swap,
        Some(armed) => Duty::EndSwap(armed),
        None if facts.missing.is_empty() => Duty::Nothing,
        None => Duty::LoadMissing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phase::reload::facts::tests::{facts, rolled_back, snapshot};
    use crate::state::SnapshotState;

    #[test]
    fn what_is_to_be_done() {
        use ReloadDuty::{EndRollback, EndSwap, LoadMissing, Nothing, Refused, Swap};
        let by_hand = || SnapshotState::ByHand(Box::new(snapshot()));
        let armed = || SnapshotState::Armed(Box::new(snapshot().arm()));
        let record = || SnapshotState::Record(Box::new(snapshot().verify()));
        for (state, asked_for, is_due, is_missing, expected) in [
            (SnapshotState::None, None, false, false, Nothing),
            (record(), None, false, false, Nothing),
            (SnapshotState::None, None, false, true, LoadMissing),
            (record(), None, false, true, LoadMissing),
            (SnapshotState::None, None, true, false, Swap),
            (by_hand(), None, true, true, Swap),
            (record(), None, true, false, Swap),
            // Killed before the first module went, and after the last one came.
            (armed(), None, true, false, Swap),
            (armed(), None, false, true, EndSwap),
            (armed(), None, false, false, EndSwap),
            // Taken back, or not yet wholly.
            (record(), Some(true), true, false, Refused),
            (record(), Some(true), false, true, Nothing),
            (record(), Some(false), true, false, Swap),
            (record(), Some(false), false, true, LoadMissing),
            (armed(), Some(true), true, false, EndRollback),
            (armed(), Some(false), false, false, EndRollback),
        ] {
            let facts = facts(state, asked_for.map(rolled_back), is_due, is_missing);
            let found = duty(&facts).name();
            assert_eq!(found, expected, "{} {asked_for:?} {is_due} {is_missing}", facts.state);
        }
    }
}

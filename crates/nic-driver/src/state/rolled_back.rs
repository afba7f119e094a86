//! The record of a swap that was rolled back, and whether its driver is tried again.

use std::path::PathBuf;

use jiff::Timestamp;
use nic_host::{BootId, WriteError};
use nic_kmod::ModuleName;
use serde::{Deserialize, Serialize};

use super::contradiction::{Checked, Contradiction, once};
use super::record::RecordError;
use super::schema_error::VERSION;
use super::snapshot::Snapshot;
use super::store::StateStore;

/// The version of the record's form.
const SCHEMA: u32 = 3;

/// A swap that is being rolled back, or was.
///
/// It says two things, which must not be taken for each other. While the snapshot that it names is armed, the rollback
/// is to be ended, whoever comes next. Its driver is not tried again only when one of that driver's modules was asked
/// for: what went wrong before that is not the driver's fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RolledBack {
    /// The version of the file's form.
    pub schema: u32,
    /// The version of this program that wrote it. Forms before the third do not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writer: Option<String>,
    /// The time of the rollback.
    pub at: Timestamp,
    /// In which boot.
    pub boot_id: BootId,
    /// When the snapshot was taken that was armed for the swap; `None` in the first form, which does not tell.
    #[serde(default)]
    pub snapshot: Option<Timestamp>,
    /// What was tried.
    pub attempt: Attempt,
    /// Whether one of the driver's modules was asked for. The first form is of such drivers alone.
    #[serde(default = "asked_for")]
    pub asked_for: bool,
    /// Why it was rolled back.
    pub reason: String,
}

fn asked_for() -> bool {
    true
}

/// All that an attempt's outcome can depend on. One that is equal is not worth taking the NIC down for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attempt {
    /// SHA-256 of the NIC family's description.
    pub family: String,
    /// The base deadline in seconds: with a longer one slow PFs may come up.
    pub timeout_s: u64,
    /// The modules on the disk whose identity decides a reload.
    pub modules: Vec<AttemptedModule>,
}

/// A module on the disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttemptedModule {
    /// The module.
    pub module: ModuleName,
    /// SHA-256 of its file; `None` where there is none.
    pub sha256: Option<String>,
}

impl RolledBack {
    /// The record of a swap that is rolled back from now on.
    #[must_use]
    pub fn now(
        boot_id: BootId,
        snapshot: &Snapshot,
        attempt: Attempt,
        asked_for: bool,
        reason: String,
    ) -> Self {
        let (snapshot, writer) = (Some(snapshot.taken_at), Some(VERSION.to_owned()));
        Self { schema: SCHEMA, writer, at: Timestamp::now(), boot_id, snapshot, attempt, asked_for, reason }
    }

    /// Whether it is the swap for which this snapshot is armed.
    #[must_use]
    pub fn is_of(&self, snapshot: &Snapshot) -> bool {
        self.boot_id == snapshot.boot_id && self.snapshot.is_none_or(|taken_at| taken_at == snapshot.taken_at)
    }

    /// What it means for a reload whose attempt is the same; `due` says whether other modules than the installed ones
    /// run.
    #[must_use]
    pub fn meaning(&self, armed: Option<&Snapshot>, due: bool) -> RollbackMeaning {
        match armed {
            Some(armed) if self.is_of(armed) => RollbackMeaning::Unfinished,
            // Another swap is under way, which goes on.
            Some(_) => RollbackMeaning::Nothing,
            None if !self.asked_for => RollbackMeaning::Nothing,
            None if due => RollbackMeaning::Refused,
            None => RollbackMeaning::Ended,
        }
    }

    /// Whether an attempt in this boot would be the same again.
    #[must_use]
    pub fn is_same_attempt(&self, boot_id: &BootId, attempt: &Attempt) -> bool {
        self.boot_id == *boot_id && self.attempt == *attempt
    }
}

impl Checked for RolledBack {
    /// Its digests are compared alone.
    fn check(&self) -> Result<(), Contradiction> {
        once("attempt.modules", self.attempt.modules.iter().map(|AttemptedModule { module, .. }| module))
    }
}

/// What the record of a rollback means for a reload of the same driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RollbackMeaning {
    /// It was cut off, and is to be ended before all else.
    Unfinished,
    /// The driver was asked for and did not come up: it is not tried again.
    Refused,
    /// The driver did not come up, and now the installed modules run all the same: there is nothing to do.
    Ended,
    /// The driver had not been asked for, or another swap is under way: it is tried.
    Nothing,
}

impl StateStore {
    pub(super) fn rolled_back_path(&self) -> PathBuf {
        self.family_folder().join("rolled-back.json")
    }

    /// The swap that was rolled back last, if one was.
    pub fn rolled_back(&self) -> Result<Option<RolledBack>, RecordError> {
        self.record(self.rolled_back_path(), SCHEMA)
    }

    /// Records a swap that is rolled back.
    pub fn write_rolled_back(&self, record: &RolledBack) -> Result<(), WriteError> {
        self.put(&self.rolled_back_path(), record)
    }

    /// Forgets it: another attempt begins.
    pub fn remove_rolled_back(&self) -> Result<bool, WriteError> {
        self.files().remove_file(self.rolled_back_path())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::store::tests::snapshot;

    fn attempt() -> Attempt {
        Attempt {
            family: "f".into(),
            timeout_s: 60,
            modules: vec![AttemptedModule { module: "igb".parse().unwrap(), sha256: Some("a".into()) }],
        }
    }

    #[test]
    fn the_same_attempt_is_known_again_and_no_other() {
        let (boot, attempt) = (BootId("boot-1".into()), attempt());
        let record = RolledBack::now(boot.clone(), &snapshot(), attempt.clone(), true, "no PF came".into());
        assert!(record.is_same_attempt(&boot, &attempt));
        assert!(!record.is_same_attempt(&BootId("boot-2".into()), &attempt));
        for other in [
            Attempt { family: "g".into(), ..attempt.clone() },
            Attempt { timeout_s: 120, ..attempt.clone() },
            Attempt { modules: Vec::new(), ..attempt.clone() },
        ] {
            assert!(!record.is_same_attempt(&boot, &other), "{other:?}");
        }
    }

    #[test]
    fn only_an_asked_for_driver_is_refused_and_every_rollback_is_ended() {
        use RollbackMeaning::{Ended, Nothing, Refused, Unfinished};
        let armed = snapshot();
        let mut other = armed.clone();
        other.taken_at = "2026-01-02T04:04:05Z".parse().unwrap();
        for asked_for in [true, false] {
            let boot = armed.boot_id.clone();
            let record = RolledBack::now(boot, &armed, attempt(), asked_for, "no PF came".into());
            for due in [true, false] {
                assert_eq!(record.meaning(Some(&armed), due), Unfinished, "{asked_for} {due}");
                assert_eq!(record.meaning(Some(&other), due), Nothing, "{asked_for} {due}");
            }
            let (when_due, else_) = if asked_for { (Refused, Ended) } else { (Nothing, Nothing) };
            assert_eq!(record.meaning(None, true), when_due);
            assert_eq!(record.meaning(None, false), else_);
        }
    }

    #[test]
    fn a_rollback_belongs_to_one_armed_snapshot() {
        let folder = tempfile::tempdir().unwrap();
        let store = StateStore::new(folder.path());
        assert_eq!(store.rolled_back().unwrap(), None);
        let snapshot = snapshot();
        let record = RolledBack::now(snapshot.boot_id.clone(), &snapshot, attempt(), false, "busy".into());
        store.write_rolled_back(&record).unwrap();
        assert_eq!(store.rolled_back().unwrap(), Some(record.clone()));
        assert!(record.is_of(&snapshot));
        let mut later = snapshot.clone();
        later.taken_at = "2026-01-02T04:04:05Z".parse().unwrap();
        assert!(!record.is_of(&later));
        let mut other = snapshot.clone();
        other.boot_id = BootId("boot-2".into());
        assert!(!record.is_of(&other));

        // The first form: of drivers that had been asked for, and without a snapshot.
        let first = "{\"schema\":1,\"at\":\"2026-01-02T03:04:05Z\",\"boot_id\":\"boot-1\",\
            \"attempt\":{\"family\":\"f\",\"timeout_s\":60,\"modules\":[]},\"reason\":\"no PF came\"}";
        std::fs::write(folder.path().join("rolled-back.json"), first).unwrap();
        let first = store.rolled_back().unwrap().unwrap();
        assert!(first.asked_for && first.is_of(&snapshot));

        std::fs::write(folder.path().join("rolled-back.json"), "{").unwrap();
        let error = store.rolled_back().unwrap_err();
        assert!(error.to_string().contains("rolled-back.json"), "{error}");
        assert!(store.remove_rolled_back().unwrap());
        assert_eq!(store.rolled_back().unwrap(), None);
    }
}

//! What is kept on disk between processes: the snapshot, the journal, and what was installed.

mod backups;
mod failpoint;
mod journal;
mod journal_file;
mod life;
mod named;
mod record;
mod rolled_back;
mod saved_settings;
mod schema;
mod schema_2;
mod snapshot;
mod step;
mod store;

pub use backups::{BackupFileError, ModuleBackup, ModuleBackups};
pub(crate) use backups::{sha256, sha256_of_file};
pub use failpoint::KILL_AT_LINE;
#[cfg(test)]
pub(crate) use failpoint::kill_after_lines;
pub use journal::{
    Entry, Journal, JournalError, JournalEvent, ModuleCheckpoint, Moment, PhaseRecord, StepOutcome,
    StepRecord, Uptime,
};
pub use life::{RestoreDuty, SnapshotState};
pub use named::Named;
pub use record::RecordError;
pub use rolled_back::{Attempt, AttemptedModule, RollbackMeaning, RolledBack};
pub use saved_settings::SavedSettings;
pub use snapshot::{ModuleParameters, Observed, SNAPSHOT_SCHEMA, Snapshot, SnapshotError, SnapshotStage};
pub(crate) use step::form::StepForm;
pub use step::{Effect, Phase, Purpose, Step};
pub use store::{InstalledError, StateStore};

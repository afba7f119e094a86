//! What is kept on disk between processes: the snapshot, the journal, and what was installed.

mod backups;
mod failpoint;
mod journal;
mod life;
mod snapshot;
mod step;
mod store;

pub(crate) use backups::sha256;
pub use backups::{Attempt, AttemptedModule, ModuleBackup, ModuleBackups, RecordError, RolledBack};
pub use journal::{
    Entry, Journal, JournalError, JournalEvent, ModuleCheckpoint, PhaseRecord, StepOutcome, StepRecord,
};
pub use life::{RestoreDuty, SnapshotState};
pub use snapshot::{ModuleParameters, Observed, SNAPSHOT_SCHEMA, Snapshot, SnapshotError, SnapshotStage};
pub use step::{Phase, Step};
pub use store::{InstalledError, StateStore};

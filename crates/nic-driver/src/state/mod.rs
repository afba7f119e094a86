//! What is kept on disk between processes: the snapshot, the journal, and what was installed.

mod failpoint;
mod journal;
mod previous;
mod snapshot;
mod store;

pub use journal::{
    Entry, Journal, JournalError, JournalEvent, ModuleCheckpoint, PhaseRecord, StepOutcome, StepRecord,
};
pub(crate) use previous::sha256;
pub use previous::{Attempt, AttemptedModule, PreviousModule, PreviousModules, RecordError, RolledBack};
pub use snapshot::{ModuleParameters, SNAPSHOT_SCHEMA, Snapshot, SnapshotError, SnapshotStage};
pub use store::{InstalledError, StateStore};

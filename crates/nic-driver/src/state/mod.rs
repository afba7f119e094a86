//! What is kept on disk between processes: the snapshot, the journal, and what was installed.

mod backups;
mod check;
mod contradiction;
mod failpoint;
mod installed;
mod journal;
mod journal_entry;
mod journal_facts;
mod journal_file;
mod journal_line;
mod life;
mod named;
mod record;
#[cfg(test)]
mod recorded_folders;
mod rolled_back;
mod saved_settings;
mod schema;
mod schema_2;
mod schema_error;
mod snapshot;
mod step;
mod store;
mod unique_keys;

pub use backups::{BackupFileError, ModuleBackup, ModuleBackups};
pub(crate) use backups::{sha256, sha256_of_file};
pub use contradiction::{Contradiction, SnapshotContradiction};
pub use failpoint::KILL_AT_LINE;
#[cfg(test)]
pub(crate) use failpoint::kill_after_lines;
pub use journal::{Journal, JournalError, PhaseRecord, StepRecord};
pub use journal_entry::{Entry, ModuleCheckpoint, Moment, StepOutcome, UnknownEntry};
pub(crate) use journal_facts::pfs_about_to_go;
pub use journal_facts::{AddressCheckpoint, BlockerSeen, NodeFacts, PfCheckpoint};
pub use journal_line::{JournalEvent, LineOrigin, RunId, Uptime};
pub use life::{RestoreDuty, SnapshotState};
pub use named::Named;
pub use record::RecordError;
pub use rolled_back::{Attempt, AttemptedModule, RollbackMeaning, RolledBack};
pub use saved_settings::SavedSettings;
pub use schema_error::{Readable, SchemaError};
pub use snapshot::{ModuleParameters, Observed, SNAPSHOT_SCHEMA, Snapshot, SnapshotError, SnapshotStage};
pub(crate) use step::form::StepForm;
pub use step::{Effect, Phase, Purpose, Step};
pub use store::StateStore;

use std::path::PathBuf;

use jiff::Timestamp;
use nic_host::WriteError;
use nic_kmod::{IdentityError, LoadError, ModuleIndexError, ModuleName, ReadLoadedError};
use nic_sriov::{ArrivalError, ObserveError, RemoveVfsError};

use super::super::Context;
use super::super::init_script::InitScriptError;
use super::super::keep::KeepError;
use super::super::modules::UnloadStackError;
use super::super::network::ManagementError;
use super::super::preflight::{PreflightBlocked, PreflightError};
use super::super::restore::RestorePhaseError;
use super::super::resume::{LeftoverError, PfMissing};
use super::super::rollback::GoBackError;
use super::super::snapshot::TakeSnapshotError;
use crate::state::{RecordError, SnapshotError};
use crate::{Exit, Interrupted, LockError};

/// A reload that failed.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The process is not root.
    #[error("reloading kernel modules needs root")]
    NotRoot,
    /// The host is a tree.
    #[error("only the running machine's modules can be reloaded; {0} is a tree")]
    NotRunningMachine(String),
    /// The index of installed modules could not be read.
    #[error(transparent)]
    Index(#[from] ModuleIndexError),
    /// The modules' identities could not be compared.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The driver itself is not installed.
    #[error("the module {module} is not installed for kernel {kernel} (looked in {})", folder.display())]
    NoModule {
        /// The module.
        module: ModuleName,
        /// The kernel.
        kernel: String,
        /// Where it was looked for.
        folder: PathBuf,
    },
    /// Another instance is at work.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// It was asked to stop.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
    /// The loaded modules could not be read.
    #[error(transparent)]
    Loaded(#[from] ReadLoadedError),
    /// Something stands in the way.
    #[error(transparent)]
    Blocked(#[from] PreflightBlocked),
    /// It could not be seen whether something stands in the way.
    #[error(transparent)]
    Preflight(#[from] PreflightError),
    /// The node itself is reached through the NICs, or that cannot be told.
    #[error(transparent)]
    Management(#[from] ManagementError),
    /// The stored snapshot cannot be used, and may be needed.
    #[error("the stored snapshot cannot be used; `nic-driver snapshot` sets it aside and takes a new one")]
    Snapshot(#[from] SnapshotError),
    /// No snapshot could be taken.
    #[error(transparent)]
    TakeSnapshot(#[from] TakeSnapshotError),
    /// The state directory takes nothing.
    #[error("nothing is unloaded before the snapshot is on disk, and {} cannot take it", folder.display())]
    StateDir {
        /// The state directory.
        folder: PathBuf,
        /// What the kernel said.
        #[source]
        source: WriteError,
    },
    /// The files of the running driver could not be kept.
    #[error(transparent)]
    Keep(KeepError),
    /// A record of the state directory cannot be read.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A blacklist that was left behind stays.
    #[error("a blacklist was left behind and stays")]
    Leftover(#[from] LeftoverError),
    /// The installed driver did not come up before.
    #[error(
        "the installed driver was tried at {at:.0} and taken back: {reason}. It is tried again when it, its settings \
         or the NIC family change, or with --retry-rolled-back"
    )]
    RolledBackBefore {
        /// When.
        at: Timestamp,
        /// Why.
        reason: String,
    },
    /// It failed half way, and the machine was put back.
    #[error("put back: the previous driver runs again, and {vfs} VFs are verified. What had failed")]
    PutBack {
        /// How many VFs.
        vfs: usize,
        /// What failed.
        #[source]
        cause: Box<ReloadError>,
    },
    /// It failed half way, and so did the going back.
    #[error("the going back to the previous driver failed, too ({}). What had failed first", crate::error_chain(going_back.as_ref()))]
    NotPutBack {
        /// Why the going back failed.
        going_back: Box<GoBackError>,
        /// What failed first.
        #[source]
        cause: Box<ReloadError>,
    },
    /// Readiness could not be taken away, or the blacklist not be written.
    #[error("the machine could not be made ready for the reload")]
    Prepare(#[source] WriteError),
    /// The machine could not be observed.
    #[error(transparent)]
    Observe(#[from] ObserveError),
    /// The events could not be listened to.
    #[error(transparent)]
    Listen(#[from] ArrivalError),
    /// The VFs of a PF could not be removed.
    #[error(transparent)]
    RemoveVfs(#[from] RemoveVfsError),
    /// The modules could not be unloaded.
    #[error(transparent)]
    Unload(#[from] UnloadStackError),
    /// A module could not be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The init script did not exchange the modules.
    #[error(transparent)]
    InitScript(#[from] InitScriptError),
    /// A PF did not come back.
    #[error("the new driver is loaded, and not all PFs have come back")]
    PfMissing(#[from] PfMissing),
    /// It was asked to stop after the first change, and what it then did at once failed.
    #[error("the driver was reloaded, and the NICs cannot be restored")]
    Restore(#[from] RestorePhaseError),
}

impl ReloadError {
    /// The exit code.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::NotRoot => Exit::NotRoot,
            Self::Lock(error) => error.exit(),
            Self::Interrupted(_) => Exit::Interrupted,
            Self::Index(_) | Self::Identity(_) | Self::NoModule { .. } => Exit::NoModule,
            Self::Blocked(_)
            | Self::Management(ManagementError::Blocked(_))
            | Self::StateDir { .. }
            | Self::Record(_)
            | Self::RolledBackBefore { .. } => Exit::Blocked,
            Self::Preflight(error) => error.exit(),
            Self::Snapshot(_) => Exit::BadSnapshot,
            Self::TakeSnapshot(error) => error.exit(),
            Self::NotRunningMachine(_)
            | Self::Loaded(_)
            | Self::Management(ManagementError::Read(_))
            | Self::Keep(_)
            | Self::Leftover(_)
            | Self::Prepare(_)
            | Self::Observe(_)
            | Self::Listen(_) => Exit::Failed,
            Self::PutBack { .. } => Exit::PutBack,
            Self::RemoveVfs(_)
            | Self::Unload(_)
            | Self::Load(_)
            | Self::InitScript(_)
            | Self::PfMissing(_)
            | Self::Restore(_)
            | Self::NotPutBack { .. } => Exit::Degraded,
        }
    }

    /// A state directory that takes nothing blocks the reload, whatever was to be written to it.
    pub(super) fn of_state(context: &Context, source: WriteError) -> Self {
        Self::StateDir { folder: context.store.folder().to_path_buf(), source }
    }
}

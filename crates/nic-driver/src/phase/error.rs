//! The one error of all phases: it wraps those of the layers below, and the exit code is asked here alone.

use std::path::PathBuf;

use jiff::Timestamp;
use nic_host::{ForeignWord, ForeignWords, WriteError};
use nic_kmod::{BlacklistError, IdentityError, LoadError, ModuleIndexError, ModuleName, ReadLoadedError};
use nic_sriov::{ArrivalError, DeviceAddress, ObserveError, RestoreError};

use super::obtain_error::ObtainError;
use super::package_error::PackageError;
use crate::Exit;
use crate::context::BeginError;
use crate::node::{
    FamilyDevicesError, HeadersError, ManagementError, NamesRuleError, NetworkError, NoTimeLeft,
    ObserveNodeError, PfMissing, SettingsError,
};
use crate::state::{RecordError, SnapshotError};
use crate::swap::{
    BackupError, Blocker, BlockersFound, CompareModulesError, DriverError, FindBlockersError, InboxTreeError,
    RollbackError, SwapError,
};

/// A phase that failed.
#[derive(Debug, thiserror::Error)]
pub enum PhaseError {
    /// It was not begun.
    #[error(transparent)]
    Begin(#[from] BeginError),

    /// The index of installed modules could not be read.
    #[error(transparent)]
    Index(#[from] ModuleIndexError),
    /// The modules' identities could not be compared.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The loaded modules could not be compared with the installed ones.
    #[error(transparent)]
    Compare(#[from] CompareModulesError),
    /// The driver itself is not installed.
    #[error("the module {module} is not installed for kernel {} (looked in {})", ForeignWord(kernel), folder.display())]
    NoModule {
        /// The module.
        module: ModuleName,
        /// The kernel.
        kernel: String,
        /// Where it was looked for.
        folder: PathBuf,
    },
    /// There is no inbox driver to go back to.
    #[error(transparent)]
    Inbox(#[from] InboxTreeError),
    /// The loaded modules could not be read.
    #[error(transparent)]
    Loaded(#[from] ReadLoadedError),
    /// Packages could not be installed or removed.
    #[error(transparent)]
    Packages(#[from] PackageError),
    /// Packages could not be built, taken or registered.
    #[error(transparent)]
    Obtain(Box<ObtainError>),

    /// Something stands in the way.
    #[error(transparent)]
    Blocked(#[from] BlockersFound),
    /// It could not be seen whether something stands in the way.
    #[error(transparent)]
    FindBlockers(#[from] FindBlockersError),
    /// Whether the node itself is reached through the NICs cannot be told.
    #[error(transparent)]
    Management(#[from] ManagementError),
    /// The return to the inbox driver would have been cut off.
    #[error("the driver stays")]
    NoTimeLeft(#[from] NoTimeLeft),
    /// The state directory takes nothing.
    #[error("nothing is unloaded before the snapshot is on disk, and {} cannot take it", folder.display())]
    StateDir {
        /// The state directory.
        folder: PathBuf,
        /// What the kernel said.
        #[source]
        source: WriteError,
    },
    /// The files of the running driver could not be backed up.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// The installed driver did not come up before.
    #[error(
        "the installed driver was tried at {at:.0} and taken back: {reason}. It is tried again when it, its settings \
         or the NIC family change, or with --retry-rolled-back"
    )]
    RolledBackBefore {
        /// The time of the attempt.
        at: Timestamp,
        /// What had failed.
        reason: String,
    },
    /// A swap was cut off while it was rolled back.
    #[error("the swap of {at:.0} was still to be taken back: {reason}")]
    RollbackUnfinished {
        /// The time of the attempt.
        at: Timestamp,
        /// What had failed.
        reason: String,
    },

    /// The stored snapshot cannot be used.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The stored snapshot cannot be used, and may be needed.
    #[error("the stored snapshot cannot be used; `nic-driver snapshot` sets it aside and takes a new one")]
    SnapshotNeeded(#[source] SnapshotError),
    /// There is none that could be restored from.
    #[error("there is no snapshot in {} that could be restored from (snapshot: {stored})", folder.display())]
    NoSnapshot {
        /// The family's folder in the state directory.
        folder: PathBuf,
        /// What is there instead.
        stored: String,
    },
    /// A snapshot that still has to be restored is in the place.
    #[error(
        "{} is armed: the machine has not been restored from it yet, and a snapshot taken now would be of a \
         half-restored machine. Run `nic-driver restore-sriov` first",
        path.display()
    )]
    Armed {
        /// The file.
        path: PathBuf,
    },
    /// A record of the state directory cannot be read.
    #[error(transparent)]
    Record(#[from] RecordError),

    /// There is nothing to take a snapshot of.
    #[error(
        "there is no PF of the NIC family {}: no device on the bus {}{} is bound to {}",
        ForeignWord(family), ForeignWord(bus),
        vendor.as_ref().map(|vendor| format!(" of vendor {}", ForeignWord(vendor))).unwrap_or_default(),
        ForeignWords(drivers).joined(" or ")
    )]
    NoPf {
        /// The family.
        family: String,
        /// The family's bus, such as `pci`.
        bus: String,
        /// The family's vendor, such as `0x15b3`.
        vendor: Option<String>,
        /// The family's PF drivers.
        drivers: Vec<String>,
    },
    /// The node could not be observed.
    #[error(transparent)]
    ObserveNode(#[from] ObserveNodeError),
    /// The machine could not be observed.
    #[error(transparent)]
    Observe(#[from] ObserveError),
    /// The events could not be listened to.
    #[error(transparent)]
    Listen(#[from] ArrivalError),
    /// A blacklist could not be written, or one that was left behind stays.
    #[error("the blacklist could not be written or removed")]
    Blacklist(#[from] BlacklistError),
    /// A file could not be written or removed.
    #[error(transparent)]
    File(#[from] WriteError),
    /// A file could not be written or removed, which means more than that.
    #[error("{what}")]
    Write {
        /// What this means.
        what: &'static str,
        /// What the kernel said.
        #[source]
        source: WriteError,
    },

    /// The modules could not be swapped.
    #[error(transparent)]
    Swap(#[from] SwapError),
    /// The devices that wait for a driver could not be found.
    #[error(transparent)]
    FamilyDevices(#[from] FamilyDevicesError),
    /// It cannot be told whether a udev rule is to keep the interfaces' names.
    #[error(transparent)]
    NamesRule(#[from] NamesRuleError),
    /// The headers could not be mounted where others find them, or unmounted.
    #[error(transparent)]
    Headers(#[from] HeadersError),
    /// A module without which the driver does not work cannot be loaded beside it. The driver stays.
    #[error("the driver runs, and a module without which it does not work cannot be loaded")]
    MissingModule(#[source] LoadError),
    /// A PF did not come back.
    #[error("the new driver is loaded, and not all PFs have come back")]
    NewPfMissing(#[source] PfMissing),
    /// No driver ran before, and the installed one does not come up: there is nothing to roll back to.
    #[error("no driver of the family ran, and the installed one has not come up")]
    NoDriver(#[source] Box<PhaseError>),
    /// It failed half way, and was rolled back.
    #[error(
        "rolled back: the previous driver runs again, and {vfs} VFs are verified{}. What had failed",
        if *tried_again { "; the installed driver was not asked for yet, and the next reload tries it again" } else { "" }
    )]
    RolledBack {
        /// How many VFs.
        vfs: usize,
        /// Whether it failed before the installed driver was asked for, which is therefore tried again.
        tried_again: bool,
        /// What failed.
        #[source]
        cause: Box<PhaseError>,
    },
    /// It failed half way, and the rollback did not put everything back.
    #[error("the rollback did not put everything back ({}). What had failed first", crate::error_chain(going_back.as_ref()))]
    RollbackFailed {
        /// What the rollback could not do, or give back.
        going_back: Box<PhaseError>,
        /// What failed first.
        #[source]
        cause: Box<PhaseError>,
    },
    /// The previous modules could not be loaded again.
    #[error(transparent)]
    Rollback(#[from] RollbackError),
    /// The NICs were restored under the previous driver, and are not what they were.
    #[error("the previous driver runs again, and not all VFs are what they were: {0}")]
    NotVerified(String),
    /// The modules that a killed reload has not loaded any more cannot be loaded.
    #[error("{} is not loaded, and cannot be", which_driver(.0))]
    Driver(#[from] DriverError),
    /// A PF that is to be let go is not owed anything.
    #[error(
        "PF {pf} cannot be let go: it is not in the snapshot that is to be restored from (PFs in it: {})",
        list(known)
    )]
    UnknownPf {
        /// The PF.
        pf: DeviceAddress,
        /// Those that are in the snapshot.
        known: Vec<DeviceAddress>,
    },
    /// A PF that is to be let go is there.
    #[error("PF {pf} cannot be let go: it is there, and nothing is in the way of giving it back what it had")]
    PfNotLost {
        /// The PF.
        pf: DeviceAddress,
    },
    /// The restore was not begun.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// What stood on the NICs could not be restored.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// What was set of the NICs could not be given back.
    #[error(transparent)]
    Settings(#[from] SettingsError),

    /// All was done, and the node is not ready.
    #[error("the node is not ready: {0}")]
    NotReady(String),

    /// A part of the phase failed.
    #[error("{what}")]
    Part {
        /// Which part.
        what: &'static str,
        /// How it failed.
        #[source]
        source: Box<PhaseError>,
    },
    /// A part of the phase failed on a node that was not what it was already: it is no better now.
    #[error("{what}")]
    HalfDone {
        /// Which part.
        what: &'static str,
        /// How it failed.
        #[source]
        source: Box<PhaseError>,
    },
}

fn list(pfs: &[DeviceAddress]) -> String {
    let pfs: Vec<String> = pfs.iter().map(ToString::to_string).collect();
    if pfs.is_empty() { "none".to_owned() } else { pfs.join(", ") }
}

fn which_driver(error: &DriverError) -> &'static str {
    match error {
        DriverError::Rollback(_) => "the previous driver",
        DriverError::Loaded(_) | DriverError::Index(_) | DriverError::Load(_) => "the driver",
    }
}

impl PhaseError {
    /// What stands in the way, where it says that.
    pub(super) fn blockers(&self) -> &[Blocker] {
        match self {
            Self::Blocked(found) => &found.blockers,
            _ => &[],
        }
    }

    /// The exit code.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Begin(error) => error.exit(),
            Self::Packages(error) => error.exit(),
            Self::Index(_)
            | Self::Identity(_)
            | Self::Compare(_)
            | Self::Inbox(_)
            | Self::NoModule { .. } => Exit::NoModule,
            Self::Blocked(_)
            | Self::NoTimeLeft(_)
            | Self::StateDir { .. }
            | Self::Record(_)
            | Self::RolledBackBefore { .. }
            | Self::RollbackUnfinished { .. }
            | Self::PfNotLost { .. }
            | Self::Blacklist(BlacklistError::Foreign { .. })
            | Self::Armed { .. } => Exit::Blocked,
            Self::Snapshot(_) | Self::SnapshotNeeded(_) => Exit::BadSnapshot,
            Self::NoSnapshot { .. } => Exit::NoSnapshot,
            Self::UnknownPf { .. } => Exit::Usage,
            Self::NoPf { .. } => Exit::NoPf,
            Self::ObserveNode(_)
            | Self::FamilyDevices(_)
            | Self::FindBlockers(_)
            | Self::Loaded(_)
            | Self::Management(_)
            | Self::Backup(_)
            | Self::Blacklist(BlacklistError::Read(_) | BlacklistError::Write(_))
            | Self::File(_)
            | Self::Write { .. }
            | Self::Observe(_)
            | Self::MissingModule(_)
            | Self::Listen(_)
            | Self::Network(NetworkError::Observe(_))
            | Self::Settings(SettingsError::Observe(_) | SettingsError::Write(_))
            | Self::NamesRule(_)
            | Self::Headers(_)
            | Self::Restore(_) => Exit::Failed,
            Self::RolledBack { .. } => Exit::RolledBack,
            Self::Swap(_)
            | Self::NewPfMissing(_)
            | Self::NoDriver(_)
            | Self::RollbackFailed { .. }
            | Self::Rollback(_)
            | Self::NotVerified(_)
            | Self::NotReady(_)
            | Self::Driver(_)
            | Self::Network(NetworkError::Topology(_))
            | Self::Settings(SettingsError::Connect(_)) => Exit::Degraded,
            Self::Obtain(error) => error.exit(),
            Self::Part { source, .. } => source.exit(),
            Self::HalfDone { source, .. } => match source.exit() {
                Exit::Failed | Exit::PfUnsuitable | Exit::NoModule => Exit::Degraded,
                exit => exit,
            },
        }
    }

    /// Says which part of a phase failed.
    pub(super) fn part(what: &'static str) -> impl FnOnce(Self) -> Self {
        move |source| Self::Part { what, source: Box::new(source) }
    }

    /// Says which part failed of a phase that had changed the node before.
    pub(super) fn half_done(what: &'static str) -> impl FnOnce(Self) -> Self {
        move |source| Self::HalfDone { what, source: Box::new(source) }
    }

    /// Says what a write that failed means.
    pub(super) fn write(what: &'static str) -> impl FnOnce(WriteError) -> Self {
        move |source| Self::Write { what, source }
    }
}

use std::path::PathBuf;

use jiff::Timestamp;
use nic_host::WriteError;
use nic_kmod::{LoadedModules, ModuleName, ReadLoadedError};
use nic_sriov::{LinkSource, ObserveError, find_pfs, observe};
use serde::Serialize;

use super::Context;
use super::network::observe_network;
use crate::state::{ModuleParameters, SNAPSHOT_SCHEMA, Snapshot, SnapshotError, SnapshotStage};
use crate::{Exit, LockError};

/// A snapshot that was not taken.
#[derive(Debug, thiserror::Error)]
pub enum TakeSnapshotError {
    /// Another instance is at work.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The NICs could not be observed.
    #[error(transparent)]
    Observe(#[from] ObserveError),
    /// What stands on the NICs could not be observed.
    #[error(transparent)]
    Network(#[from] nic_topology::ObserveError),
    /// The loaded modules could not be read.
    #[error(transparent)]
    Modules(#[from] ReadLoadedError),
    /// There is nothing to take one of.
    #[error(
        "there is no PF of the NIC family {family}: no device on the bus {bus}{} is bound to {}",
        vendor.as_ref().map(|vendor| format!(" of vendor {vendor}")).unwrap_or_default(),
        drivers.join(" or ")
    )]
    NoPf {
        /// The family.
        family: String,
        /// Its bus.
        bus: String,
        /// Its vendor.
        vendor: Option<String>,
        /// Its PF drivers.
        drivers: Vec<String>,
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
    /// It could not be stored.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl TakeSnapshotError {
    /// The exit code.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Lock(error) => error.exit(),
            Self::NoPf { .. } => Exit::NoPf,
            Self::Armed { .. } => Exit::Blocked,
            Self::Observe(_) | Self::Network(_) | Self::Modules(_) | Self::Write(_) => Exit::Failed,
        }
    }
}

/// A snapshot that was taken by hand.
#[derive(Debug, Clone, Serialize)]
pub struct TakenSnapshot {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// Where it is stored.
    pub path: PathBuf,
    /// Where the one before it is now, when that could not be read or was of another boot.
    pub set_aside: Option<PathBuf>,
}

/// Takes a snapshot and stores it. It is used by an explicit `restore-sriov`; a reload takes its own.
pub async fn snapshot(context: &Context) -> Result<TakenSnapshot, TakeSnapshotError> {
    let _lock = context.begin("snapshot")?;
    let set_aside = match context.store.snapshot() {
        Ok(Some(old)) if old.is_armed() && old.boot_id == context.boot_id => {
            return Err(TakeSnapshotError::Armed { path: context.store.snapshot_path() });
        }
        // Its VFs went with its boot; yet it is not for this command to destroy what somebody may want to read.
        Ok(Some(old)) if old.boot_id != context.boot_id => {
            Some(context.store.set_snapshot_aside(Timestamp::now())?)
        }
        Ok(_) => None,
        Err(error) => {
            tracing::warn!(error = crate::error_chain(&error), "the stored snapshot is set aside");
            // Not readable at all may also mean that it cannot be moved; then the write below says why.
            if matches!(error, SnapshotError::Read(_)) {
                None
            } else {
                Some(context.store.set_snapshot_aside(Timestamp::now())?)
            }
        }
    };
    let snapshot = observe_now(context, SnapshotStage::Stored).await?;
    context.store.put_snapshot(&snapshot)?;
    Ok(TakenSnapshot { snapshot, path: context.store.snapshot_path(), set_aside })
}

/// Observes the machine; stores nothing.
pub(super) async fn observe_now(
    context: &Context,
    stage: SnapshotStage,
) -> Result<Snapshot, TakeSnapshotError> {
    let selector = &context.family.devices;
    let pfs = find_pfs(&context.host, selector)?;
    if pfs.is_empty() {
        return Err(TakeSnapshotError::NoPf {
            family: context.family.name.clone(),
            bus: selector.bus.clone(),
            vendor: selector.vendor.clone(),
            drivers: selector.pf_drivers.clone(),
        });
    }
    let source = LinkSource::open(&context.host).await?;
    let nics = observe(&context.host, &source, selector, &pfs).await?;
    let network = observe_network(context, &source, &nics).await?;
    Ok(Snapshot {
        schema: SNAPSHOT_SCHEMA,
        checksum: None,
        taken_at: Timestamp::now(),
        boot_id: context.boot_id.clone(),
        kernel: context.kernel.clone(),
        family: context.family.name.clone(),
        stage,
        modules: loaded_stack(context)?,
        parameters: ModuleParameters::new(),
        lost: Vec::new(),
        nics,
        network,
    })
}

/// What an exchange before has cost: the modules that its driver lacks, as far as nobody has loaded them since.
pub(super) fn lost_before(context: &Context) -> Result<Vec<ModuleName>, TakeSnapshotError> {
    // One that was not verified is armed, which is another matter, or was taken by hand.
    let earlier = context.store.snapshot_of(&context.boot_id, &context.family.name);
    let Ok(Some(earlier)) = earlier else { return Ok(Vec::new()) };
    if !earlier.is_verified() {
        return Ok(Vec::new());
    }
    let loaded = LoadedModules::read_graph(&context.host)?;
    Ok(earlier.lost.into_iter().filter(|module| !loaded.contains(module)).collect())
}

/// The modules of the family that are loaded now, in the kernel's order.
fn loaded_stack(context: &Context) -> Result<Vec<ModuleName>, ReadLoadedError> {
    let modules = &context.family.modules;
    let mut stack = modules.unloaded();
    let others = modules.peers.iter().chain(&modules.storage).chain(&modules.third_party);
    stack.extend(others.cloned());
    let loaded = LoadedModules::read(&context.host)?;
    Ok(loaded.iter().map(|module| module.name.clone()).filter(|name| stack.contains(name)).collect())
}

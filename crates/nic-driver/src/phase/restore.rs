use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use nic_host::{Host, WriteError};
use nic_kmod::{LoadError, LoadedModules, ModuleName, ReadLoadedError, load};
use nic_sriov::{
    DeviceAddress, Difference, Gravity, LinkSource, NicState, ObserveError, RestoreError, RestoreOutcome,
    compare, observe_within, restore,
};
use nic_topology::RestoreOutcome as NetworkOutcome;
use serde::Serialize;

use super::Context;
use super::network::{network_differs, restore_network, summary};
use super::readiness::{give_readiness, take_readiness_away};
use super::reload::ModuleTree;
use super::resume::{
    DriverError, LeftoverError, PfMissing, listen_and_wait_for_pfs, load_missing_modules, load_request,
    pfs_on_their_way, remove_leftover_blacklist,
};
use super::rollback::{GoBackError, drop_previous_unless_running, put_modules_back};
use crate::state::{Entry, PhaseRecord, Snapshot, SnapshotError, SnapshotStage};
use crate::{Exit, Interrupted, LockError};

/// A restore that failed.
#[derive(Debug, thiserror::Error)]
pub enum RestorePhaseError {
    /// The process is not root.
    #[error("restoring SR-IOV needs root")]
    NotRoot,
    /// The host is a tree.
    #[error("only the running machine can be restored; {0} is a tree")]
    NotRunningMachine(String),
    /// Another instance is at work.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// It was asked to stop.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
    /// A blacklist that was left behind stays.
    #[error("a blacklist was left behind and stays")]
    Leftover(#[from] LeftoverError),
    /// The modules that a killed reload has not loaded any more cannot be loaded.
    #[error("the driver is not loaded, and cannot be")]
    Modules(#[from] DriverError),
    /// The driver that was gone back to cannot be loaded.
    #[error("the previous driver is not loaded, and cannot be")]
    GoBack(#[source] Box<GoBackError>),
    /// A PF did not come up.
    #[error(transparent)]
    PfMissing(#[from] PfMissing),
    /// The stored snapshot cannot be used.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// There is none.
    #[error("there is no snapshot in {0}: nothing is known that could be restored")]
    NoSnapshot(String),
    /// The machine could not be observed.
    #[error(transparent)]
    Observe(#[from] ObserveError),
    /// What stood on the NICs could not be looked at.
    #[error("what stood on the NICs cannot be restored")]
    Network(#[from] nic_topology::TopologyError),
    /// The loaded modules could not be read.
    #[error(transparent)]
    Loaded(#[from] ReadLoadedError),
    /// The restore was not begun.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// The driver of a VF could not be loaded.
    #[error("the driver {driver}, which VFs had, cannot be loaded")]
    Driver {
        /// The driver.
        driver: String,
        /// Why.
        #[source]
        source: LoadError,
    },
    /// The readiness file could not be removed or created, or the snapshot not be marked as verified.
    #[error("what stands on disk about the node is not as it should be")]
    Write(#[from] WriteError),
}

impl RestorePhaseError {
    /// The exit code.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::NotRoot => Exit::NotRoot,
            Self::Lock(error) => error.exit(),
            Self::Interrupted(_) => Exit::Interrupted,
            // It was so before, and is no better now.
            Self::Modules(_) | Self::GoBack(_) | Self::PfMissing(_) | Self::Network(_) => Exit::Degraded,
            Self::Snapshot(_) => Exit::BadSnapshot,
            Self::NoSnapshot(_) => Exit::NoSnapshot,
            Self::Restore(RestoreError::Obstacles(_)) => Exit::PfUnsuitable,
            Self::Driver { .. } => Exit::NoModule,
            Self::Leftover(_)
            | Self::NotRunningMachine(_)
            | Self::Observe(_)
            | Self::Loaded(_)
            | Self::Restore(_)
            | Self::Write(_) => Exit::Failed,
        }
    }
}

/// What came of a restore.
#[derive(Debug, Clone, Serialize)]
pub struct Restored {
    /// The NICs.
    pub outcome: RestoreOutcome,
    /// What stood on them; `None` where nothing did, and from a snapshot that was verified before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkOutcome>,
}

impl Restored {
    /// The exit code: a VF that is not what it was leaves the node degraded.
    #[must_use]
    pub fn exit(&self) -> Exit {
        if self.is_verified() { Exit::Success } else { Exit::Degraded }
    }

    /// Whether the NICs and what stood on them are what the snapshot says.
    #[must_use]
    pub fn is_verified(&self) -> bool {
        self.outcome.is_verified() && self.network.as_ref().is_none_or(NetworkOutcome::is_verified)
    }

    /// In one sentence.
    #[must_use]
    pub fn summary(&self) -> String {
        let nics = self.nics_summary();
        self.network.as_ref().map_or_else(|| nics.clone(), |network| format!("{nics}; {}", summary(network)))
    }

    fn nics_summary(&self) -> String {
        let vfs = self.outcome.vfs.len();
        let verified = self.outcome.vfs.iter().filter(|vf| vf.verified).count();
        if self.outcome.steps == 0 && self.outcome.is_verified() {
            return format!("nothing to do: all {vfs} VFs are what the snapshot says");
        }
        let races = self.outcome.renamed_after_arrival();
        let lacking = self.outcome.differences.iter();
        let lacking = match lacking.filter(|difference| difference.gravity == Gravity::Unsupported).count() {
            0 => String::new(),
            count => format!("; the driver lacks {count} attributes that were set"),
        };
        format!(
            "{verified} of {vfs} VFs verified after {} steps; {races} were first seen under another name{lacking}",
            self.outcome.steps
        )
    }
}

/// Gives the NICs back what the stored snapshot says, and verifies it.
pub async fn restore_sriov(context: &Context) -> Result<Restored, RestorePhaseError> {
    if !Host::is_privileged() {
        return Err(RestorePhaseError::NotRoot);
    }
    if !context.host.is_running_machine() {
        return Err(RestorePhaseError::NotRunningMachine(context.host.root().display().to_string()));
    }
    let _lock = context.begin("restore-sriov")?;
    context.stop.check()?;
    restore_phase(context, Readiness::Give).await
}

/// What becomes of readiness when all is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Readiness {
    /// The node is ready.
    Give,
    /// That is for the caller to decide.
    Leave,
}

/// The same as a part of another phase, on a machine that was found to be the running one. Readiness is not given.
pub(super) async fn restore_held(context: &Context) -> Result<Restored, RestorePhaseError> {
    restore_phase(context, Readiness::Leave).await
}

async fn restore_phase(context: &Context, readiness: Readiness) -> Result<Restored, RestorePhaseError> {
    let _lock = context.begin("restore-sriov")?;
    let snapshot = context.store.snapshot_of(&context.boot_id, &context.family.name)?;
    let Some(snapshot) = snapshot else {
        return Err(RestorePhaseError::NoSnapshot(context.store.folder().display().to_string()));
    };
    let phase = context.journal.phase("restore-sriov");
    let result = carry_out(context, &phase, snapshot, readiness).await;
    match &result {
        Ok(restored) => phase.end(&restored.summary(), restored.exit()),
        Err(error) => phase.end(&crate::error_chain(error), error.exit()),
    }
    result
}

async fn carry_out(
    context: &Context,
    phase: &PhaseRecord,
    mut snapshot: Snapshot,
    readiness: Readiness,
) -> Result<Restored, RestorePhaseError> {
    let source = LinkSource::open(&context.host).await?;
    let LinkSource::Kernel(kernel) = source.clone() else {
        return Err(RestorePhaseError::NotRunningMachine(context.host.root().display().to_string()));
    };
    let options = context.settings.restore_options();
    let deadline = options.deadline(snapshot.nics.vf_count());
    remove_leftover_blacklist(context, phase)?;
    if context.host.exists(&context.settings.readiness_file)
        && (snapshot.is_armed()
            || differs(context, &source, &snapshot.nics, deadline).await?
            || network_differs(context, &kernel, &snapshot).await?)
    {
        take_readiness_away(context, phase)?;
    }
    if snapshot.is_armed() {
        bring_driver_back(context, phase, &snapshot, deadline).await?;
    }
    let pfs = pfs_on_their_way(context, &snapshot).map_err(ObserveError::from)?;
    listen_and_wait_for_pfs(context, phase, &kernel, &pfs, deadline).await?;
    load_vf_drivers(context, phase, &snapshot.nics).await?;
    let step = phase.step("restore and verify");
    let on_event = |event| phase.write(Entry::Restore { restore: event });
    let restored =
        restore(&context.host, &kernel, &context.family.devices, &snapshot.nics, options, &on_event).await;
    let outcome = match restored {
        Ok(outcome) => outcome,
        Err(error) => {
            step.failed(&error);
            return Err(error.into());
        }
    };
    let mut restored = Restored { outcome, network: None };
    step.ok(Some(restored.summary()));
    phase.write(Entry::RestoreResult {
        renamed_after_arrival: restored.outcome.renamed_after_arrival(),
        result: Box::new(restored.outcome.clone()),
    });
    restored.network = restore_network(context, phase, &kernel, &snapshot).await?;
    if restored.is_verified() {
        snapshot.lost = snapshot.lost_under(&LoadedModules::read_graph(&context.host)?);
        snapshot.stage = SnapshotStage::Verified { at: Timestamp::now() };
        phase.step("mark the snapshot as verified").record(context.store.put_snapshot(&snapshot))?;
        drop_previous_unless_running(context, phase);
        if readiness == Readiness::Give && !context.host.exists(&context.settings.readiness_file) {
            give_readiness(context, phase)?;
        }
    }
    Ok(restored)
}

/// Whether the machine is another than the snapshot says.
async fn differs(
    context: &Context,
    source: &LinkSource,
    saved: &NicState,
    deadline: Duration,
) -> Result<bool, ObserveError> {
    let pfs: Vec<DeviceAddress> = saved.pfs.iter().map(|pf| pf.address.clone()).collect();
    let found = observe_within(&context.host, source, &context.family.devices, &pfs, deadline).await?;
    Ok(compare(saved, &found).iter().any(Difference::is_wrong))
}

/// Makes the driver run that a process killed in the midst of a reload has not loaded any more.
async fn bring_driver_back(
    context: &Context,
    phase: &PhaseRecord,
    snapshot: &Snapshot,
    deadline: Duration,
) -> Result<(), RestorePhaseError> {
    let rolled_back = context.store.rolled_back().unwrap_or_else(|error| {
        tracing::warn!(error = crate::error_chain(&error), "taken for: no driver was taken back");
        None
    });
    // The installed driver did not come up: the one before it is meant.
    if rolled_back.is_some_and(|record| record.boot_id == context.boot_id) {
        let back = put_modules_back(context, phase, snapshot, deadline).await;
        return back.map_err(|error| RestorePhaseError::GoBack(Box::new(error)));
    }
    load_missing_modules(context, phase, snapshot, deadline).await?;
    Ok(())
}

/// Loads the drivers that VFs had and that are not there: a VF can be bound only to a driver that is registered.
async fn load_vf_drivers(
    context: &Context,
    phase: &PhaseRecord,
    nics: &NicState,
) -> Result<(), RestorePhaseError> {
    let vfs = nics.pfs.iter().flat_map(|pf| &pf.vfs).filter(|vf| vf.address.is_some());
    let drivers: BTreeSet<&String> = vfs.filter_map(|vf| vf.driver.as_ref()).collect();
    for driver in drivers {
        if context.host.exists(format!("/sys/bus/pci/drivers/{driver}")) {
            continue;
        }
        // The PCI driver's name is the module's, up to `-` and `_` (`vfio-pci`); for others modprobe says so.
        let Ok(module) = driver.parse::<ModuleName>() else { continue };
        let step = phase.step(format!("load {module}"));
        let request = load_request(context, &ModuleTree::Own, &module);
        step.record(load(&context.host, &request, context.settings.timeout).await)
            .map_err(|source| RestorePhaseError::Driver { driver: driver.clone(), source })?;
    }
    Ok(())
}

//! Looking without touching: what is, and what would be done.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use nic_kmod::{
    IdentityError, IdentityReport, LoadPlan, LoadedModules, ModuleIndexError, ModuleName, ReadLoadedError,
};
use nic_netlink::DriverInfo;
use nic_sriov::{
    Difference, LinkSource, NetdevState, NicState, ObserveError, PfState, RestoreObstacle, RestorePlan,
    compare, find_pfs, observe, obstacles, plan_restore,
};
use serde::Serialize;

use super::Context;
use super::machine::MachineStatus;
use super::preflight::{Blocker, PreflightError, look};
use super::reload::ModuleTree;
use super::rollback::refusal;
use crate::Exit;
use crate::state::{RecordError, SnapshotError, SnapshotStage};

/// A plan that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The stored snapshot cannot be used.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// There is none.
    #[error("there is no snapshot in {0}: nothing is known that could be restored")]
    NoSnapshot(String),
    /// The machine could not be observed.
    #[error(transparent)]
    Observe(#[from] ObserveError),
    /// The snapshot does not fit the machine.
    #[error("the snapshot cannot be restored on this machine")]
    Obstacle(#[source] RestoreObstacle),
    /// The index of installed modules could not be read.
    #[error(transparent)]
    Index(#[from] ModuleIndexError),
    /// The modules' identities could not be compared.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The loaded modules could not be read.
    #[error(transparent)]
    Loaded(#[from] ReadLoadedError),
    /// It could not be seen what stands in the way.
    #[error(transparent)]
    Preflight(#[from] PreflightError),
    /// Whether the driver was taken back cannot be read.
    #[error(transparent)]
    Record(#[from] RecordError),
}

impl PlanError {
    /// The exit code.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Snapshot(_) => Exit::BadSnapshot,
            Self::NoSnapshot(_) => Exit::NoSnapshot,
            Self::Obstacle(_) => Exit::PfUnsuitable,
            Self::Index(_) | Self::Identity(_) => Exit::NoModule,
            Self::Observe(_) | Self::Loaded(_) => Exit::Failed,
            Self::Preflight(error) => error.exit(),
            Self::Record(_) => Exit::Blocked,
        }
    }
}

/// What `restore-sriov` would do now.
pub async fn plan_restore_sriov(context: &Context) -> Result<RestorePlan, PlanError> {
    let snapshot = context.store.snapshot_of(&context.boot_id, &context.family.name)?;
    let Some(snapshot) = snapshot else {
        return Err(PlanError::NoSnapshot(context.store.folder().display().to_string()));
    };
    let pfs: Vec<_> = snapshot.nics.pfs.iter().map(|pf| pf.address.clone()).collect();
    let source = LinkSource::open(&context.host).await?;
    let found = observe(&context.host, &source, &context.family.devices, &pfs).await?;
    if let Some(obstacle) = obstacles(&snapshot.nics, &found).into_iter().next() {
        return Err(PlanError::Obstacle(obstacle));
    }
    Ok(plan_restore(&snapshot.nics, &found))
}

/// What `reload` would do now.
#[derive(Debug, Clone, Serialize)]
pub struct ReloadForecast {
    /// Whether a reload is due.
    pub due: bool,
    /// The comparison that decides it.
    pub identity: IdentityReport,
    /// What would be unloaded, in order.
    pub unload: Vec<ModuleName>,
    /// What would be loaded, in order.
    pub load: Vec<ModuleName>,
    /// What stands in the way.
    pub blockers: Vec<Blocker>,
    /// Why the installed driver would not be tried: it was taken back before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub taken_back: Option<String>,
}

/// What `reload` would do now.
pub fn plan_reload(context: &Context) -> Result<ReloadForecast, PlanError> {
    let modules = &context.family.modules;
    let index = ModuleTree::Own.index(context)?;
    let identity = IdentityReport::read(&context.host, &index, &modules.identity)?;
    let loaded = LoadedModules::read_graph(&context.host)?;
    let due = context.settings.force || identity.reload_due().due;
    let (unload, blockers) = if due {
        let found = look(context)?;
        (found.unload, found.blockers)
    } else {
        (Vec::new(), Vec::new())
    };
    let before: Vec<ModuleName> = loaded
        .iter()
        .map(|module| module.name.clone())
        .filter(|name| modules.unloaded().contains(name))
        .collect();
    let load = LoadPlan::compute(&before, &modules.load, &BTreeSet::new(), &index);
    let taken_back =
        refusal(context, &index)?.map(|record| format!("at {:.0}: {}", record.at, record.reason));
    Ok(ReloadForecast {
        due,
        taken_back,
        identity,
        unload,
        load: load.load.into_iter().map(|step| step.module).collect(),
        blockers,
    })
}

impl fmt::Display for ReloadForecast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for module in &self.identity.modules {
            writeln!(f, "{}: {}", module.module, module.verdict)?;
        }
        if !self.due {
            return writeln!(f, "nothing to do: the loaded modules are the installed ones");
        }
        if let Some(taken_back) = &self.taken_back {
            writeln!(f, "blocked: it was tried and taken back {taken_back}")?;
        }
        for blocker in &self.blockers {
            writeln!(f, "blocked: {blocker}")?;
        }
        for module in &self.unload {
            writeln!(f, "unload {module}")?;
        }
        for module in &self.load {
            writeln!(f, "load {module}")?;
        }
        Ok(())
    }
}

/// A status that could not be told.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// The machine could not be observed.
    #[error(transparent)]
    Observe(#[from] ObserveError),
}

/// What there is.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// The machine looked at.
    pub machine: MachineStatus,
    /// The NIC family looked at.
    pub family: String,
    /// The kernel.
    pub kernel: String,
    /// Whether the readiness file exists.
    pub ready: bool,
    /// The PFs.
    pub pfs: Vec<PfStatus>,
    /// The modules, or why they cannot be compared.
    pub modules: ModulesStatus,
    /// What the drivers of the family's netdevs say of themselves; nothing on a tree, where none runs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reported: Vec<ReportedVersion>,
    /// The stored snapshot.
    pub snapshot: SnapshotStatus,
}

/// A PF in a line.
#[derive(Debug, Clone, Serialize)]
pub struct PfStatus {
    /// Its address.
    pub address: String,
    /// Its driver.
    pub driver: String,
    /// Its netdev.
    pub netdev: Option<String>,
    /// How many VFs it has.
    pub num_vfs: u32,
    /// How many it can have.
    pub total_vfs: Option<u32>,
    /// Its eswitch mode, where it has one.
    pub eswitch_mode: Option<String>,
    /// How many of its VFs have a netdev here.
    pub vf_netdevs: usize,
}

/// The version that a driver gives its netdevs, as `ethtool -i` shows it. It tells people which driver runs, and decides
/// nothing: a driver that declares none has the kernel's release here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReportedVersion {
    /// The driver.
    pub driver: String,
    /// Its version.
    pub version: String,
    /// The PFs' and VFs' netdevs that report it.
    pub netdevs: Vec<String>,
}

/// How the loaded modules compare with the installed ones.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ModulesStatus {
    /// This is how.
    Compared {
        /// Whether a reload is due.
        reload_due: bool,
        /// Module by module.
        identity: IdentityReport,
    },
    /// It cannot be told.
    Unknown(String),
}

/// The stored snapshot.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SnapshotStatus {
    /// There is none.
    Absent,
    /// There is one, but it cannot be used.
    Unusable(String),
    /// There is one.
    Present {
        /// When it was taken.
        taken_at: String,
        /// How far it has come.
        stage: SnapshotStage,
        /// How the machine differs from it.
        differences: Vec<Difference>,
    },
}

/// Tells what there is. Only what cannot be observed at all is an error; the rest is part of the answer.
pub async fn status(context: &Context) -> Result<Status, StatusError> {
    let host = &context.host;
    let selector = &context.family.devices;
    let source = LinkSource::open(host).await?;
    let found = observe(host, &source, selector, &find_pfs(host, selector)?).await?;
    let reported = if host.is_running_machine() { reported_versions(&found) } else { Vec::new() };
    let pfs = found.pfs.iter().map(|pf| PfStatus {
        address: pf.address.to_string(),
        driver: pf.driver.clone().unwrap_or_else(|| "none".to_owned()),
        netdev: pf.netdev.as_ref().map(|netdev| netdev.name.to_string()),
        num_vfs: pf.num_vfs,
        total_vfs: pf.total_vfs,
        eswitch_mode: pf.eswitch.as_ref().map(|eswitch| eswitch.mode.to_string()),
        vf_netdevs: pf.vfs.iter().filter(|vf| vf.netdev.here().is_some()).count(),
    });
    let snapshot = match context.store.snapshot_of(&context.boot_id, &context.family.name) {
        Ok(None) => SnapshotStatus::Absent,
        Err(error) => SnapshotStatus::Unusable(crate::error_chain(&error)),
        Ok(Some(snapshot)) => SnapshotStatus::Present {
            taken_at: format!("{:.0}", snapshot.taken_at),
            differences: compare(&snapshot.nics, &found),
            stage: snapshot.stage,
        },
    };
    Ok(Status {
        machine: MachineStatus::read(host),
        family: context.family.name.clone(),
        kernel: context.kernel.to_string(),
        ready: host.exists(&context.settings.readiness_file),
        pfs: pfs.collect(),
        modules: modules_status(context),
        reported,
        snapshot,
    })
}

fn reported_versions(found: &NicState) -> Vec<ReportedVersion> {
    let mut netdevs: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    let of_pf = |pf: &PfState| {
        pf.netdev.iter().chain(pf.vfs.iter().filter_map(|vf| vf.netdev.here())).cloned().collect()
    };
    for netdev in found.pfs.iter().flat_map::<Vec<NetdevState>, _>(of_pf) {
        match DriverInfo::read(netdev.index) {
            Ok(Some(info)) => {
                netdevs.entry((info.driver, info.version)).or_default().push(netdev.name.to_string());
            }
            Ok(None) => {}
            // It may have gone since; the rest is still worth telling.
            Err(error) => tracing::info!(error = crate::error_chain(&error), "its version is not told"),
        }
    }
    let reported = netdevs.into_iter();
    reported.map(|((driver, version), netdevs)| ReportedVersion { driver, version, netdevs }).collect()
}

fn modules_status(context: &Context) -> ModulesStatus {
    let compare = || -> Result<IdentityReport, PlanError> {
        let index = ModuleTree::Own.index(context)?;
        Ok(IdentityReport::read(&context.host, &index, &context.family.modules.identity)?)
    };
    match compare() {
        Ok(identity) => ModulesStatus::Compared { reload_due: identity.reload_due().due, identity },
        Err(error) => ModulesStatus::Unknown(crate::error_chain(&error)),
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.machine)?;
        writeln!(
            f,
            "family {}, kernel {}, {}",
            self.family,
            self.kernel,
            if self.ready { "ready" } else { "not ready" }
        )?;
        if self.pfs.is_empty() {
            writeln!(f, "no PF of this family")?;
        }
        for pf in &self.pfs {
            let netdev = pf.netdev.as_deref().unwrap_or("no netdev");
            let total =
                pf.total_vfs.map_or_else(|| "no SR-IOV".to_owned(), |total| format!("of at most {total}"));
            let mode = pf.eswitch_mode.as_ref().map(|mode| format!(", eswitch {mode}")).unwrap_or_default();
            writeln!(
                f,
                "PF {} ({netdev}, {}): {} VFs {total}, {} with a netdev here{mode}",
                pf.address, pf.driver, pf.num_vfs, pf.vf_netdevs
            )?;
        }
        match &self.modules {
            ModulesStatus::Unknown(why) => writeln!(f, "modules: cannot be compared: {why}")?,
            ModulesStatus::Compared { reload_due, identity } => {
                writeln!(f, "modules: {}", if *reload_due { "a reload is due" } else { "no reload is due" })?;
                for module in &identity.modules {
                    writeln!(f, "  {}: {}", module.module, module.verdict)?;
                }
            }
        }
        for reported in &self.reported {
            let ReportedVersion { driver, version, netdevs } = reported;
            writeln!(f, "  {driver} reports version {version} on {} netdevs", netdevs.len())?;
        }
        match &self.snapshot {
            SnapshotStatus::Absent => writeln!(f, "snapshot: none"),
            SnapshotStatus::Unusable(why) => writeln!(f, "snapshot: cannot be used: {why}"),
            SnapshotStatus::Present { taken_at, stage, differences } => {
                writeln!(f, "snapshot: taken at {taken_at}, {stage}; {} differences", differences.len())?;
                differences.iter().try_for_each(|difference| writeln!(f, "  {difference}"))
            }
        }
    }
}

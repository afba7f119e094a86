use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use nic_host::{Host, WriteError};
use nic_kmod::{
    Blacklist, IdentityError, IdentityReport, IdentityVerdict, LoadError, LoadPlan, LoadRequest,
    LoadedModules, ModuleIndex, ModuleIndexError, ModuleName, ReadLoadedError, UnloadBlocked, UnloadError,
    UnloadPlan, UnloadPolicy, load, page_in, unload,
};
use nic_sriov::{
    ArrivalError, Arrivals, DeviceAddress, LinkSource, ObserveError, PciAddress, RemoveVfsError, await_pfs,
    find_pfs, remove_vfs, vf_addresses, vfio_group_in_use,
};
use serde::Serialize;

use super::Context;
use super::snapshot::{TakeSnapshotError, observe_now};
use crate::Exit;
use crate::state::{Entry, ModuleCheckpoint, PhaseRecord, Snapshot, SnapshotError, SnapshotStage};

/// Where the modules to load are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModuleTree {
    /// `/lib/modules` of this process's own tree.
    Own,
    /// `lib/modules` below another root, such as `/host`.
    Below(PathBuf),
}

impl ModuleTree {
    fn folder(&self) -> PathBuf {
        match self {
            Self::Own => PathBuf::from("/lib/modules"),
            Self::Below(root) => root.join("lib/modules"),
        }
    }

    fn root(&self) -> Option<&Path> {
        match self {
            Self::Own => None,
            Self::Below(root) => Some(root),
        }
    }
}

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
    /// The loaded modules could not be read.
    #[error(transparent)]
    Loaded(#[from] ReadLoadedError),
    /// Something stands in the way.
    #[error(transparent)]
    Blocked(#[from] UnloadBlocked),
    /// VFs are in use through VFIO, and removing them would take them from whoever uses them.
    #[error("{vf} is in use: {group} is open. Stop the virtual machine or process that uses it")]
    VfInUse {
        /// The first such VF.
        vf: PciAddress,
        /// Its device file.
        group: String,
    },
    /// The stored snapshot cannot be used, and may be needed.
    #[error("the stored snapshot cannot be used; `nic-driver snapshot` sets it aside and takes a new one")]
    Snapshot(#[from] SnapshotError),
    /// No snapshot could be taken.
    #[error(transparent)]
    TakeSnapshot(#[from] TakeSnapshotError),
    /// The snapshot could not be stored.
    #[error("nothing is unloaded before the snapshot is on disk")]
    Store(#[source] WriteError),
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
    /// A module could not be unloaded.
    #[error(transparent)]
    Unload(#[from] UnloadError),
    /// A module could not be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A PF did not come back.
    #[error("the PF {pf} has not come back with the new driver")]
    PfMissing {
        /// The PF.
        pf: DeviceAddress,
        /// What is known of it.
        #[source]
        source: Box<ArrivalError>,
    },
}

impl ReloadError {
    /// The exit code.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::NotRoot => Exit::NotRoot,
            Self::Index(_) | Self::Identity(_) | Self::NoModule { .. } => Exit::NoModule,
            Self::Blocked(_) | Self::VfInUse { .. } => Exit::Blocked,
            Self::Snapshot(_) => Exit::BadSnapshot,
            Self::TakeSnapshot(error) => error.exit(),
            Self::NotRunningMachine(_)
            | Self::Loaded(_)
            | Self::Store(_)
            | Self::Prepare(_)
            | Self::Observe(_)
            | Self::Listen(_) => Exit::Failed,
            Self::RemoveVfs(_) | Self::Unload(_) | Self::Load(_) | Self::PfMissing { .. } => Exit::Degraded,
        }
    }
}

/// What came of a reload.
#[derive(Debug, Clone, Serialize)]
pub struct Reloaded {
    /// Whether the modules were reloaded; `false` when they already were the installed ones.
    pub reloaded: bool,
    /// The comparison that decided it.
    pub identity: IdentityReport,
    /// The PFs whose VFs are now to be restored.
    pub pfs: Vec<DeviceAddress>,
}

/// All that is known before the first change.
struct Prepared {
    identity: IdentityReport,
    unload: UnloadPlan,
    index: ModuleIndex,
}

/// Compares the loaded modules with the installed ones and, only when they differ, swaps them.
///
/// Leaves an armed snapshot: until a restore from it has been verified, it is the truth about the NICs.
pub async fn reload(context: &Context, tree: &ModuleTree) -> Result<Reloaded, ReloadError> {
    if !Host::is_privileged() {
        return Err(ReloadError::NotRoot);
    }
    if !context.host.is_running_machine() {
        return Err(ReloadError::NotRunningMachine(context.host.root().display().to_string()));
    }
    let prepared = prepare(context, tree)?;
    let phase = context.journal.phase("reload");
    checkpoint(context, &phase, "before the reload");
    if !prepared.identity.reload_due().due {
        phase.end("not due: the loaded modules are the installed ones", Exit::Success);
        return Ok(Reloaded { reloaded: false, identity: prepared.identity, pfs: Vec::new() });
    }
    let result = carry_out(context, &phase, tree, &prepared).await;
    checkpoint(context, &phase, "after the reload");
    match result {
        Ok(pfs) => {
            phase.end(&format!("reloaded; {} PFs are back", pfs.len()), Exit::Success);
            Ok(Reloaded { reloaded: true, identity: prepared.identity, pfs })
        }
        Err(error) => {
            phase.end(&crate::error_chain(&error), error.exit());
            Err(error)
        }
    }
}

fn prepare(context: &Context, tree: &ModuleTree) -> Result<Prepared, ReloadError> {
    let modules = &context.family.modules;
    let index = ModuleIndex::read(&context.host, &tree.folder(), &context.kernel)?;
    let identity = IdentityReport::read(&context.host, &index, &modules.identity)?;
    if let Some(driver) = identity.modules.first()
        && driver.verdict == IdentityVerdict::AbsentOnDisk
    {
        return Err(ReloadError::NoModule {
            module: driver.module.clone(),
            kernel: context.kernel.to_string(),
            folder: index.folder().to_path_buf(),
        });
    }
    let unload = if identity.reload_due().due {
        let loaded = LoadedModules::read(&context.host)?;
        refuse_vfs_in_use(context)?;
        UnloadPlan::compute(&loaded, &modules.unloaded(), &unload_policy(context))?
    } else {
        UnloadPlan::default()
    };
    Ok(Prepared { identity, unload, index })
}

fn refuse_vfs_in_use(context: &Context) -> Result<(), ReloadError> {
    let host = &context.host;
    for pf in find_pfs(host, &context.family.devices)? {
        for vf in vf_addresses(host, &pf)? {
            if let Some(group) = vfio_group_in_use(host, vf) {
                return Err(ReloadError::VfInUse { vf, group });
            }
        }
    }
    Ok(())
}

pub(super) fn unload_policy(context: &Context) -> UnloadPolicy {
    UnloadPolicy {
        may_unload: context.family.modules.auxiliary.iter().cloned().collect::<BTreeSet<_>>(),
        ..UnloadPolicy::default()
    }
}

async fn carry_out(
    context: &Context,
    phase: &PhaseRecord,
    tree: &ModuleTree,
    prepared: &Prepared,
) -> Result<Vec<DeviceAddress>, ReloadError> {
    let host = &context.host;
    let step = phase.step("arm the snapshot");
    let snapshot = step.record(arm(context).await)?;
    let pfs: Vec<DeviceAddress> = snapshot.nics.pfs.iter().map(|pf| pf.address.clone()).collect();
    let deadline = context.settings.restore_options().deadline(snapshot.nics.vf_count());

    let load_plan = LoadPlan::compute(&snapshot.modules, &context.family.modules.load, &prepared.index);
    for missing in &load_plan.missing {
        tracing::warn!(module = %missing.module, because = %missing.because, "not installed: it will not be loaded");
    }
    for file in prepared.identity.modules.iter().filter_map(|module| module.file.as_ref()) {
        // Only speed is lost when a file cannot be read ahead; loading it meets the reason and names it.
        if let Err(error) = page_in(host, file) {
            tracing::info!(%error, "a module file could not be read ahead");
        }
    }
    let LinkSource::Kernel(kernel) = LinkSource::open(host).await? else {
        return Err(ReloadError::NotRunningMachine(host.root().display().to_string()));
    };
    let arrivals = Arrivals::listen(host, &kernel).await?;
    take_readiness_away(context, phase).map_err(ReloadError::Prepare)?;
    let blacklist = Blacklist {
        path: context.settings.blacklist_file.clone(),
        modules: context.family.modules.blacklist.clone(),
    };
    let step = phase.step("write the blacklist");
    step.record(blacklist.write(host)).map_err(ReloadError::Prepare)?;

    let swapped = swap(context, phase, prepared, tree, &load_plan, &pfs, deadline).await;
    // A failure is in the journal; the next run removes what was left behind.
    let _ = phase.step("remove the blacklist").record(blacklist.remove(host));
    swapped?;

    let step = phase.step("wait for the PFs");
    for (pf, arrival) in await_pfs(&arrivals, &pfs, deadline).await {
        if let Err(source) = arrival {
            let error = ReloadError::PfMissing { pf, source: Box::new(source) };
            step.failed(&error);
            return Err(error);
        }
    }
    step.ok(Some(format!("{} PFs", pfs.len())));
    Ok(pfs)
}

/// Takes the readiness file away: from here on the node is not ready.
pub(super) fn take_readiness_away(context: &Context, phase: &PhaseRecord) -> Result<(), WriteError> {
    let step = phase.step("take readiness away");
    step.record(context.host.remove_file(&context.settings.readiness_file)).map(|_| ())
}

/// The critical part: from here until the restore has ended, the node is without its NIC.
async fn swap(
    context: &Context,
    phase: &PhaseRecord,
    prepared: &Prepared,
    tree: &ModuleTree,
    load_plan: &LoadPlan,
    pfs: &[DeviceAddress],
    deadline: std::time::Duration,
) -> Result<(), ReloadError> {
    let host = &context.host;
    let step = phase.step("remove the VFs");
    if let Some(error) = remove_vfs(host, pfs, context.settings.jobs, deadline).await.into_iter().next() {
        step.failed(&error);
        return Err(error.into());
    }
    step.ok(None);
    for module in prepared.unload.groups.iter().flatten() {
        let step = phase.step(format!("unload {module}"));
        step.record(unload(host, module, deadline).await)?;
    }
    for wanted in &load_plan.load {
        let step = phase.step(format!("load {}", wanted.module));
        let mut request = LoadRequest::new(wanted.module.clone());
        if let Some(root) = tree.root() {
            request = request.root(root);
        }
        if context.family.modules.async_probe.contains(&wanted.module) {
            request = request.parameter("async_probe", "1");
        }
        step.record(load(host, &request, deadline).await)?;
    }
    Ok(())
}

/// The snapshot that is the truth during the reload: an armed one of this boot, or a new one.
async fn arm(context: &Context) -> Result<Snapshot, ReloadError> {
    let stored = match context.store.snapshot_of(&context.boot_id, &context.family.name) {
        Ok(stored) => stored,
        // Its VFs went with its boot.
        Err(SnapshotError::OtherBoot { .. }) => {
            let aside = context.store.set_snapshot_aside(Timestamp::now()).map_err(ReloadError::Store)?;
            tracing::warn!(aside = %aside.display(), "the stored snapshot is of another boot: set aside");
            None
        }
        Err(error) => return Err(error.into()),
    };
    if let Some(armed) = stored.filter(Snapshot::is_armed) {
        tracing::info!(taken_at = %armed.taken_at, "an armed snapshot is there: no new one of a half-restored machine");
        return Ok(armed);
    }
    let snapshot = observe_now(context, SnapshotStage::Armed { at: Timestamp::now() }).await?;
    context.store.put_snapshot(&snapshot).map_err(ReloadError::Store)?;
    Ok(snapshot)
}

/// Writes down which modules are loaded now.
pub(super) fn checkpoint(context: &Context, phase: &PhaseRecord, label: &str) {
    let loaded = match LoadedModules::read(&context.host) {
        Ok(loaded) => loaded,
        Err(error) => {
            tracing::warn!(error = crate::error_chain(&error), label, "no checkpoint");
            return;
        }
    };
    let of_module = |name: &ModuleName| {
        let module = loaded.get(name);
        ModuleCheckpoint {
            module: name.to_string(),
            loaded: module.is_some(),
            version: module.and_then(|module| module.version.clone()),
            srcversion: module.and_then(|module| module.srcversion.as_ref()).map(ToString::to_string),
            build_id: module.and_then(|module| module.build_id.as_ref()).map(ToString::to_string),
        }
    };
    let modules = context.family.modules.identity.iter().map(of_module).collect();
    phase.write(Entry::Checkpoint { label: label.to_owned(), modules });
}

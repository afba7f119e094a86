mod error;

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use nic_host::Host;
use nic_kmod::{Blacklist, IdentityReport, IdentityVerdict, LoadedModules, ModuleIndex, ModuleName, load};
use nic_sriov::{Arrivals, DeviceAddress, LinkSource, ObserveError};
use serde::Serialize;

use super::Context;
use super::keep::{KeepError, keep_previous};
use super::modules::{given_parameters, prepare_loads};
use super::network::check_management;
use super::preflight::{PreflightBlocked, look};
use super::readiness::take_readiness_away;
use super::restore::{Restored, restore_held};
use super::resume::{
    armed_snapshot, listen_and_wait_for_pfs, pfs_on_their_way, remove_leftover_blacklist, wait_for_pfs,
};
use super::rollback::{attempt, go_back, record, refusal};
use super::snapshot::{lost_before, observe_now};
use super::swap::{Swap, swap};
use crate::Exit;
use crate::state::{Entry, ModuleCheckpoint, PhaseRecord, Snapshot, SnapshotStage};

pub use error::ReloadError;

/// Where the modules to load are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModuleTree {
    /// `/lib/modules` of this process's own tree.
    Own,
    /// `lib/modules` below another root, such as `/host`.
    Below(PathBuf),
}

impl ModuleTree {
    pub(super) fn folder(&self) -> PathBuf {
        match self {
            Self::Own => PathBuf::from("/lib/modules"),
            Self::Below(root) => root.join("lib/modules"),
        }
    }

    pub(super) fn root(&self) -> Option<&Path> {
        match self {
            Self::Own => None,
            Self::Below(root) => Some(root),
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
    /// Whether a snapshot is armed: `restore-sriov` is due.
    pub restore_due: bool,
    /// The PFs whose VFs are now to be restored.
    pub pfs: Vec<DeviceAddress>,
    /// Modules that were loaded before and are not any more: the installed driver has none, or they did not load.
    pub lost: Vec<ModuleName>,
    /// The restore, where this command was asked to stop too late to stop before the first change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restored: Option<Restored>,
}

impl Reloaded {
    /// The exit code.
    #[must_use]
    pub fn exit(&self) -> Exit {
        self.restored.as_ref().map_or(Exit::Success, Restored::exit)
    }
}

/// Compares the loaded modules with the installed ones and, only when they differ, swaps them.
///
/// Leaves an armed snapshot: until a restore from it has been verified, it is the truth about the NICs. When the
/// installed modules do not load, or their PFs do not come up, the previous ones are loaded again and the NICs
/// restored under them.
///
/// Asked to stop after the first change, it restores the NICs itself: nobody may come to do it.
pub async fn reload(context: &Context, tree: &ModuleTree) -> Result<Reloaded, ReloadError> {
    if !Host::is_privileged() {
        return Err(ReloadError::NotRoot);
    }
    if !context.host.is_running_machine() {
        return Err(ReloadError::NotRunningMachine(context.host.root().display().to_string()));
    }
    let _lock = context.begin("reload")?;
    let modules = &context.family.modules;
    let index = tree.index(context)?;
    let identity = IdentityReport::read(&context.host, &index, &modules.identity)?;
    if let Some(driver) = identity.modules.first()
        && (driver.verdict == IdentityVerdict::AbsentOnDisk || index.root_of(&driver.module).is_some())
    {
        return Err(ReloadError::NoModule {
            module: driver.module.clone(),
            kernel: context.kernel.to_string(),
            folder: index.folder().to_path_buf(),
        });
    }
    context.stop.check()?;
    let phase = context.journal.phase("reload");
    checkpoint(context, &phase, "before the reload");
    let result = go_on(context, &phase, tree, &index, &identity).await;
    checkpoint(context, &phase, "after the reload");
    match &result {
        Ok(Done { reloaded: true, pfs, .. }) => {
            phase.end(&format!("reloaded; {} PFs are back", pfs.len()), Exit::Success);
        }
        Ok(Done { restore_due, .. }) => {
            let also = if *restore_due { "; restore-sriov is due" } else { "" };
            phase.end(&format!("not due: the loaded modules are the installed ones{also}"), Exit::Success);
        }
        Err(error) => phase.end(&crate::error_chain(error), error.exit()),
    }
    let Done { reloaded, restore_due, pfs, lost } = result?;
    let mut reloaded = Reloaded { reloaded, identity, restore_due, pfs, lost, restored: None };
    if restore_due && context.stop.since().is_some() {
        let restored = restore_held(context).await?;
        reloaded.restore_due = !restored.is_verified();
        reloaded.restored = Some(restored);
    }
    Ok(reloaded)
}

#[derive(Default)]
struct Done {
    reloaded: bool,
    restore_due: bool,
    pfs: Vec<DeviceAddress>,
    lost: Vec<ModuleName>,
}

/// Goes on from what is: an earlier process may have been killed at any point.
async fn go_on(
    context: &Context,
    phase: &PhaseRecord,
    tree: &ModuleTree,
    index: &ModuleIndex,
    identity: &IdentityReport,
) -> Result<Done, ReloadError> {
    remove_leftover_blacklist(context, phase)?;
    let armed = armed_snapshot(context)?;
    let due = context.settings.force || identity.reload_due().due;
    if let Some(record) = refusal(context, index)? {
        let refused = ReloadError::RolledBackBefore { at: record.at, reason: record.reason };
        return match armed {
            // Somebody was killed while going back.
            Some(snapshot) => Err(end_going_back(context, phase, &snapshot, refused).await),
            None if due => Err(refused),
            None => Ok(Done::default()),
        };
    }
    if due {
        let (pfs, lost) = exchange(context, phase, tree, index, armed).await?;
        return Ok(Done { reloaded: true, restore_due: true, pfs, lost });
    }
    let Some(snapshot) = armed else {
        return Ok(Done::default());
    };
    // Somebody was killed between the load and the restore; whether the PFs come up was not yet known.
    let LinkSource::Kernel(kernel) = LinkSource::open(&context.host).await? else {
        return Err(ReloadError::NotRunningMachine(context.host.root().display().to_string()));
    };
    let pfs = pfs_on_their_way(context, &snapshot).map_err(ObserveError::from)?;
    let deadline = context.settings.restore_options().deadline(snapshot.nics.vf_count());
    if let Err(error) = listen_and_wait_for_pfs(context, phase, &kernel, &pfs, deadline).await {
        return Err(take_back(context, phase, index, &snapshot, error.into()).await);
    }
    Ok(Done { reloaded: false, restore_due: true, pfs, lost: Vec::new() })
}

/// Goes back because of `cause`, and returns what the reload ends with.
async fn take_back(
    context: &Context,
    phase: &PhaseRecord,
    index: &ModuleIndex,
    snapshot: &Snapshot,
    cause: ReloadError,
) -> ReloadError {
    tracing::error!(error = crate::error_chain(&cause), "going back to the previous driver");
    record(context, phase, attempt(context, index), &cause);
    end_going_back(context, phase, snapshot, cause).await
}

async fn end_going_back(
    context: &Context,
    phase: &PhaseRecord,
    snapshot: &Snapshot,
    cause: ReloadError,
) -> ReloadError {
    let cause = Box::new(cause);
    match go_back(context, phase, snapshot).await {
        Ok(restored) => ReloadError::PutBack { vfs: restored.outcome.vfs.len(), cause },
        Err(going_back) => ReloadError::NotPutBack { going_back: Box::new(going_back), cause },
    }
}

/// Everything that stands in the way, looked for at the start and again right before the first change: an hour may lie
/// between the two.
fn ensure_nothing_in_the_way(context: &Context, phase: &PhaseRecord) -> Result<(), ReloadError> {
    let step = phase.step("look for what stands in the way");
    let found = look(context).map_err(ReloadError::from).and_then(|found| match found.blockers {
        blockers if blockers.is_empty() => Ok(()),
        blockers => Err(PreflightBlocked { blockers }.into()),
    });
    step.record(found)
}

async fn exchange(
    context: &Context,
    phase: &PhaseRecord,
    tree: &ModuleTree,
    index: &ModuleIndex,
    armed: Option<Snapshot>,
) -> Result<(Vec<DeviceAddress>, Vec<ModuleName>), ReloadError> {
    let host = &context.host;
    ensure_nothing_in_the_way(context, phase)?;
    keep_previous(context, phase).map_err(|error| match error {
        KeepError::Write(source) => ReloadError::of_state(context, source),
        error => ReloadError::Keep(error),
    })?;
    let LinkSource::Kernel(kernel) = LinkSource::open(host).await? else {
        return Err(ReloadError::NotRunningMachine(host.root().display().to_string()));
    };
    let arrivals = Arrivals::listen(host, &kernel).await?;
    let is_armed = armed.is_some();
    let snapshot = match armed {
        Some(armed) => {
            tracing::info!(taken_at = %armed.taken_at, "an armed snapshot is there: no new one of a half-restored machine");
            armed
        }
        None => {
            let mut snapshot = observe_now(context, SnapshotStage::Armed { at: Timestamp::now() }).await?;
            check_management(context, &kernel.netlink, &snapshot.nics).await?;
            snapshot.parameters = given_parameters(context, index, &snapshot.modules)?;
            snapshot.lost = lost_before(context)?;
            snapshot
        }
    };
    probe_state_directory(context, phase, &snapshot)?;
    let deadline = context.settings.restore_options().deadline(snapshot.nics.vf_count());
    let loads = prepare_loads(context, tree, index, &snapshot)?;
    for request in &loads.beforehand {
        let step = phase.step(format!("load {}, which the driver needs", request.module));
        // Its failure is in the journal; the driver that needs it says so, too.
        let _ = step.record(load(host, request, deadline).await);
    }
    loads.page_in(context, index);
    ensure_nothing_in_the_way(context, phase)?;

    // From here on it is finished, whoever asks to stop.
    context.stop.check()?;
    // This is another attempt than the one that was taken back, or was asked for. Should it be cut off, the next run
    // is to go on with it, and not to go back.
    context.store.forget_rolled_back().map_err(|source| ReloadError::of_state(context, source))?;
    let blacklist =
        Blacklist { path: context.settings.blacklist_file.clone(), modules: blacklisted(context) };
    phase.step("write the blacklist").record(blacklist.write(host)).map_err(ReloadError::Prepare)?;
    if let Err(error) = arm(context, phase, (!is_armed).then_some(&snapshot)) {
        // Nothing was changed yet but this file. A failure is in the journal.
        let _ = phase.step("remove the blacklist").record(blacklist.remove(host));
        return Err(error);
    }
    let swapped =
        match swap(context, phase, &Swap { tree, index, snapshot: &snapshot, deadline }, loads).await {
            Ok(()) => {
                // A failure is in the journal; the next run removes what was left behind.
                let _ = phase.step("remove the blacklist").record(blacklist.remove(host));
                let pfs = pfs_with_netdevs(&snapshot);
                wait_for_pfs(phase, &arrivals, &pfs, deadline).await.map_err(ReloadError::from)
            }
            Err(error) => Err(error),
        };
    if let Err(error) = swapped {
        return Err(take_back(context, phase, index, &snapshot, error).await);
    }
    let loaded = LoadedModules::read_graph(host)?;
    let lost = snapshot.lost_under(&loaded);
    Ok((snapshot.nics.pfs.into_iter().map(|pf| pf.address).collect(), lost))
}

/// What is not loaded by alias meanwhile: also what is unloaded for others, or it would come back by itself.
fn blacklisted(context: &Context) -> Vec<ModuleName> {
    let modules = &context.family.modules;
    let others = modules.third_party.iter().filter(|_| context.settings.may_unload.third_party);
    modules.blacklist.iter().chain(others).cloned().collect()
}

/// A PF whose driver makes no netdev is not waited for.
fn pfs_with_netdevs(snapshot: &Snapshot) -> Vec<DeviceAddress> {
    let pfs = snapshot.nics.pfs.iter().filter(|pf| pf.netdev.is_some());
    pfs.map(|pf| pf.address.clone()).collect()
}

/// A full disk or a read-only state directory is found here, and not half way.
fn probe_state_directory(
    context: &Context,
    phase: &PhaseRecord,
    snapshot: &Snapshot,
) -> Result<(), ReloadError> {
    const LEAST: usize = 256 << 10;
    let step = phase.step("make sure that the state directory takes what is to come");
    let size = context.store.size_of(snapshot);
    // The snapshot is written twice more, with the old one beside the new; the journal's lines on each VF are of the
    // same order.
    let probed = size.and_then(|size| context.store.probe((4 * size).max(LEAST)));
    step.record(probed).map_err(|source| ReloadError::of_state(context, source))
}

/// The last that is done before the first change: the snapshot becomes the truth, and the node is not ready.
fn arm(context: &Context, phase: &PhaseRecord, new: Option<&Snapshot>) -> Result<(), ReloadError> {
    if let Some(snapshot) = new {
        let step = phase.step("arm the snapshot");
        step.record(context.store.put_snapshot(snapshot))
            .map_err(|source| ReloadError::of_state(context, source))?;
    }
    take_readiness_away(context, phase).map_err(ReloadError::Prepare)
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

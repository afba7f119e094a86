//! `reload`: the loaded modules are compared with the installed ones and, when they differ, swapped. What is merely not
//! loaded is loaded, and nothing is unloaded for it.
//!
//! What may be killed where: up to [`Step::ArmSnapshot`] nothing that runs was changed, and a run that follows begins
//! anew. From there on the armed snapshot is the truth: the next `reload` goes on with the swap or with the rollback
//! ([`resume_or_swap`]), and `restore-sriov` loads what is missing and restores. A reload that is asked to stop after
//! the first change finishes it, and restores the NICs itself.

mod plan;

use jiff::Timestamp;
use nic_host::WriteError;
use nic_kmod::{BlacklistError, IdentityReport, IdentityVerdict, LoadedModules, ModuleIndex, ModuleName};
use nic_sriov::{DeviceAddress, NicState, ObserveError, Operation};
use serde::Serialize;

use super::blockers::{look_for_blockers, not_known};
use super::error::PhaseError;
use super::nics_to_change::nics_to_change;
use super::restore::{Restored, restore_within_phase};
use super::rollback::{finish_rollback, roll_back};
use crate::Exit;
use crate::context::{Assumption, Context};
use crate::node::{
    driverless_devices, drivers_fault, give_readiness, listen_and_wait_for_pfs, observe_node,
    pfs_on_their_way, pfs_with_netdevs, still_lost_modules, take_readiness_away, wait_for_pfs,
};
use crate::privileges;
use crate::state::{Moment, Phase, PhaseRecord, RollbackMeaning, RolledBack, Snapshot, SnapshotState, Step};
use crate::swap::{
    BackupError, BlockersFound, FailedSwap, Look, ModuleTree, Swap, back_up_running_modules,
    blacklist_of_swap, checkpoint, decide, earlier_rollback, given_parameters, list, load_missing_modules,
    prepare_loads, prepare_missing, remove_leftover_blacklist, size_of_next_backup, swap_driver,
};

pub use plan::{ReloadPlan, plan_reload};

const NOT_PREPARED: &str = "the machine could not be made ready for the reload";

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
    /// Modules that were missing beside the driver, and were loaded without a swap.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub loaded: Vec<ModuleName>,
    /// Modules that were missing beside the driver, and could not be loaded. The driver works without them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_loaded: Vec<ModuleName>,
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

/// Compares the loaded modules with the installed ones and, only when they differ, swaps them; loads what is missing.
///
/// Leaves an armed snapshot: until a restore from it has been verified, it is the truth about the NICs. When the
/// installed modules do not load, or their PFs do not come up, the previous ones are loaded again and the NICs
/// restored under them.
///
/// Asked to stop after the first change, it restores the NICs itself: nobody may come to do it.
pub async fn reload(context: &Context, tree: &ModuleTree) -> Result<Reloaded, PhaseError> {
    context.ensure_privileges(&privileges::RELOAD)?;
    context.ensure_running_machine("only the running machine's modules can be reloaded")?;
    let _lock = context.begin("reload").await?;
    context.check_stop()?;
    let phase = context.journal.phase(Phase::Reload);
    let result = compare_and_resume(context, &phase, tree).await;
    match &result {
        Ok((_, progress)) => phase.end(&progress.summary(), Exit::Success),
        Err(error) => phase.end(&crate::error_chain(error), error.exit()),
    }
    let (identity, progress) = result?;
    let ReloadProgress { reloaded, restore_due, pfs, lost, loaded, not_loaded } = progress;
    let mut reloaded =
        Reloaded { reloaded, identity, restore_due, pfs, lost, loaded, not_loaded, restored: None };
    if restore_due && context.stop.since().is_some() {
        let restored = restore_within_phase(context)
            .await
            .map_err(PhaseError::half_done("the driver was reloaded, and the NICs cannot be restored"))?;
        reloaded.restore_due = !restored.is_verified();
        reloaded.restored = Some(restored);
    }
    Ok(reloaded)
}

#[derive(Default)]
struct ReloadProgress {
    reloaded: bool,
    restore_due: bool,
    pfs: Vec<DeviceAddress>,
    lost: Vec<ModuleName>,
    loaded: Vec<ModuleName>,
    not_loaded: Vec<ModuleName>,
}

impl ReloadProgress {
    /// In one sentence.
    fn summary(&self) -> String {
        if self.reloaded {
            return format!("reloaded; {} PFs are back", self.pfs.len());
        }
        let mut text = "not due: the loaded modules are the installed ones".to_owned();
        if !self.loaded.is_empty() {
            text.push_str(&format!("; loaded what was missing: {}", list(&self.loaded)));
        }
        if !self.not_loaded.is_empty() {
            text.push_str(&format!("; could not be loaded: {}", list(&self.not_loaded)));
        }
        if self.restore_due {
            text.push_str("; restore-sriov is due");
        }
        text
    }
}

async fn compare_and_resume(
    context: &Context,
    phase: &PhaseRecord,
    tree: &ModuleTree,
) -> Result<(IdentityReport, ReloadProgress), PhaseError> {
    remove_leftover_blacklist(context, phase)?;
    let index = tree.index(context)?;
    let identity = IdentityReport::read(&context.host, &index, &context.family.modules.identity)?;
    if let Some(driver) = identity.modules.first()
        && matches!(driver.verdict, IdentityVerdict::AbsentOnDisk | IdentityVerdict::OnlyBehind)
    {
        return Err(PhaseError::NoModule {
            module: driver.module.clone(),
            kernel: context.kernel.to_string(),
            folder: index.folder().to_path_buf(),
        });
    }
    checkpoint(context, phase, Moment::BeforeReload);
    let result = resume_or_swap(context, phase, tree, &index, &identity).await;
    checkpoint(context, phase, Moment::AfterReload);
    Ok((identity, result?))
}

/// Goes on from what is: an earlier process may have been killed at any point.
async fn resume_or_swap(
    context: &Context,
    phase: &PhaseRecord,
    tree: &ModuleTree,
    index: &ModuleIndex,
    identity: &IdentityReport,
) -> Result<ReloadProgress, PhaseError> {
    let state = context.snapshot_state().map_err(PhaseError::SnapshotNeeded)?;
    let armed = state.clone().armed();
    let decision = decide(context, identity);
    let due = context.settings.force || decision.is_swap();
    if let Some(record) = earlier_rollback(context, index)? {
        let meaning = record.meaning(armed.as_ref(), due);
        let RolledBack { at, asked_for, reason, .. } = record;
        match (meaning, &armed) {
            // An earlier process was killed during its rollback.
            (RollbackMeaning::Unfinished, Some(snapshot)) => {
                let cause = PhaseError::RollbackUnfinished { at, reason };
                return Err(finish_rollback(context, phase, snapshot, asked_for, cause).await);
            }
            (RollbackMeaning::Refused, _) => return Err(PhaseError::RolledBackBefore { at, reason }),
            (RollbackMeaning::Ended, _) => return Ok(ReloadProgress::default()),
            (RollbackMeaning::Nothing | RollbackMeaning::Unfinished, _) => {}
        }
    }
    if due {
        let (pfs, lost) = swap_and_await_pfs(context, phase, tree, index, state).await?;
        let progress = ReloadProgress { reloaded: true, restore_due: true, pfs, lost, ..Default::default() };
        return Ok(progress);
    }
    let missing = decision.missing();
    let Some(snapshot) = armed else {
        return load_beside_driver(context, phase, tree, index, missing).await;
    };
    if !missing.is_empty() {
        // An earlier process was killed between two loads.
        let deadline = context.settings.patience().of(Operation::Driver { vfs: snapshot.nics.vf_count() });
        if let Err(error) = load_missing_modules(context, phase, tree, &snapshot, deadline).await {
            return Err(roll_back(context, phase, index, &snapshot, true, error.into()).await);
        }
    }
    // An earlier process was killed between load and restore; whether the PFs come up was not yet known.
    let nics = nics_to_change(context, "only the running machine's modules can be reloaded").await?;
    let pfs = pfs_on_their_way(context, &snapshot).map_err(ObserveError::from)?;
    let deadline = context.settings.patience().of(Operation::PfArrival);
    let missing = listen_and_wait_for_pfs(phase, &*nics, &pfs, deadline).await?;
    if let Some(missing) = drivers_fault(context, missing) {
        let cause = PhaseError::NewPfMissing(missing);
        // Its modules are loaded.
        return Err(roll_back(context, phase, index, &snapshot, true, cause).await);
    }
    Ok(ReloadProgress { restore_due: true, pfs, ..Default::default() })
}

/// Loads what is missing beside the driver that runs: nothing is unloaded, no NIC is touched, and nothing is owed.
async fn load_beside_driver(
    context: &Context,
    phase: &PhaseRecord,
    tree: &ModuleTree,
    index: &ModuleIndex,
    missing: Vec<ModuleName>,
) -> Result<ReloadProgress, PhaseError> {
    if missing.is_empty() {
        return Ok(ReloadProgress::default());
    }
    let deadline = context.settings.timeout;
    let loads = prepare_missing(context, tree, index, &missing)?;
    context.check_stop()?;
    loads.load_beforehand(context, phase, deadline).await;
    let not_loaded = loads.load(context, phase, deadline).await.map_err(PhaseError::MissingModule)?;
    let loaded = missing.into_iter().filter(|module| !not_loaded.contains(module)).collect();
    Ok(ReloadProgress { loaded, not_loaded, ..Default::default() })
}

/// Blockers are looked for at the start and again right before the first change: an hour may lie between the two. What is passed over
/// and what will be lost is in the journal.
async fn ensure_unblocked(
    context: &Context,
    phase: &PhaseRecord,
    index: &ModuleIndex,
    look: Look,
) -> Result<(), PhaseError> {
    let step = phase.step(Step::FindBlockers);
    let found = look_for_blockers(context, index, look).await.and_then(|found| {
        let told = found.foreseen.told();
        if let Some(told) = told.as_ref().filter(|_| look == Look::Whole) {
            tracing::warn!(told, "what a reload passes over, takes away for its time, or does not give back");
        }
        match found.blockers {
            blockers if blockers.is_empty() => Ok(told),
            blockers => Err(BlockersFound { blockers }.into()),
        }
    });
    match found {
        Ok(told) => {
            step.ok(told);
            Ok(())
        }
        Err(error) => {
            step.failed(&error);
            Err(error)
        }
    }
}

/// What is not known of the NICs blocks also where it has become so since the blockers were looked for; where it is passed over, the
/// snapshot says so, for whoever restores from it.
fn accept_not_known(context: &Context, nics: NicState) -> Result<NicState, PhaseError> {
    let blockers = not_known(&nics);
    if blockers.is_empty() {
        return Ok(nics);
    }
    if context.settings.assume_ok.contains(&Assumption::NotKnown) {
        return Ok(nics.accepting_not_known());
    }
    Err(BlockersFound { blockers }.into())
}

async fn swap_and_await_pfs(
    context: &Context,
    phase: &PhaseRecord,
    tree: &ModuleTree,
    index: &ModuleIndex,
    state: SnapshotState,
) -> Result<(Vec<DeviceAddress>, Vec<ModuleName>), PhaseError> {
    let host = &context.host;
    ensure_unblocked(context, phase, index, Look::Whole).await?;
    back_up_running_modules(context, phase).map_err(|error| match error {
        BackupError::Write(source) => state_dir(context, source),
        error => error.into(),
    })?;
    let nics = nics_to_change(context, "only the running machine's modules can be reloaded").await?;
    let to_come = nics.listen().await?;
    // No driver is not "no PF": such devices come up with the driver, and have nothing that would be owed to them.
    let driverless = driverless_devices(context, index)?;
    let (snapshot, is_new) = match state {
        SnapshotState::Armed(armed) => {
            tracing::info!(
                taken_at = %armed.taken_at,
                "an armed snapshot is there: no new one of a half-restored machine"
            );
            (*armed, false)
        }
        state => {
            let mut observed = observe_node(context).await?;
            observed.nics = accept_not_known(context, observed.nics)?;
            observed.parameters = given_parameters(context, index, &observed.modules)?;
            observed.lost = still_lost_modules(context, state)?;
            (Snapshot::by_hand(observed).arm(), true)
        }
    };
    probe_state_directory(context, phase, index, &snapshot)?;
    let deadline = context.settings.patience().of(Operation::Driver { vfs: snapshot.nics.vf_count() });
    let loads = prepare_loads(context, tree, index, &snapshot)?;
    loads.load_beforehand(context, phase, deadline).await;
    loads.page_in(context, index);
    let blacklist = blacklist_of_swap(context).map_err(BlacklistError::from)?;
    ensure_unblocked(context, phase, index, Look::Again).await?;

    // From here on it is finished, whoever asks to stop.
    context.begin_change()?;
    // The rollback record goes now: if this run is killed, the next one must resume it, not roll it back.
    context.store.remove_rolled_back().map_err(|source| state_dir(context, source))?;
    phase.step(Step::WriteBlacklist).record(blacklist.write(host))?;
    if let Err(error) = arm(context, phase, is_new.then_some(&snapshot)) {
        // Nothing was changed yet but this file. A failure is in the journal.
        let _ = phase.step(Step::RemoveBlacklist).record(blacklist.remove(host));
        return Err(error);
    }
    let swapped = match swap_driver(
        context,
        phase,
        &Swap { tree, index, snapshot: &snapshot, deadline },
        loads,
    )
    .await
    {
        Ok(()) => {
            // A failure is in the journal; the next run removes what was left behind.
            let _ = phase.step(Step::RemoveBlacklist).record(blacklist.remove(host));
            let mut pfs = pfs_with_netdevs(&snapshot);
            pfs.extend(driverless.into_iter().filter(|_| snapshot.nics.pfs.is_empty()));
            let arrival = context.settings.patience().of(Operation::PfArrival);
            let missing = wait_for_pfs(phase, &*to_come, &pfs, arrival).await;
            match drivers_fault(context, missing) {
                Some(missing) => Err((true, PhaseError::NewPfMissing(missing))),
                None => Ok(()),
            }
        }
        Err(FailedSwap { error, asked_for }) => Err((asked_for, error.into())),
    };
    if let Err((asked_for, error)) = swapped {
        let driver = context.family.modules.identity.first();
        if driver.is_none_or(|driver| !snapshot.modules.contains(driver)) {
            // What could be loaded is better than nothing; the snapshot stays armed, and the next run tries again.
            let _ = phase.step(Step::RemoveBlacklist).record(blacklist.remove(host));
            return Err(PhaseError::NoDriver(Box::new(error)));
        }
        return Err(roll_back(context, phase, index, &snapshot, asked_for, error).await);
    }
    let loaded = LoadedModules::read_graph(host)?;
    let lost = snapshot.lost_under(&loaded);
    Ok((snapshot.nics.pfs.into_iter().map(|pf| pf.address).collect(), lost))
}

/// A full disk or a read-only state directory is found here, and not half way.
fn probe_state_directory(
    context: &Context,
    phase: &PhaseRecord,
    index: &ModuleIndex,
    snapshot: &Snapshot,
) -> Result<(), PhaseError> {
    const LEAST: usize = 256 << 10;
    let backup = usize::try_from(size_of_next_backup(context, index)?).unwrap_or(usize::MAX);
    let step = phase.step(Step::EnsureSpace);
    let size = context.store.size_of(snapshot);
    // The snapshot is written twice more, with the old one beside the new; the journal's lines on each VF are of the
    // same order. When the new driver is verified its files are kept, with the old ones beside them.
    let probed =
        size.and_then(|size| context.store.ensure_space((4 * size).max(LEAST).saturating_add(backup)));
    step.record(probed).map_err(|source| state_dir(context, source))
}

/// The last that is done before the first change: the node is not ready, and the snapshot becomes the truth. A process that
/// is killed between the two leaves a node on which nothing is owed, and which gets ready again.
fn arm(context: &Context, phase: &PhaseRecord, new: Option<&Snapshot>) -> Result<(), PhaseError> {
    let was_ready = context.host.exists(&context.settings.readiness_file);
    take_readiness_away(context, phase).map_err(PhaseError::write(NOT_PREPARED))?;
    let Some(snapshot) = new else { return Ok(()) };
    let step = phase.step(Step::ArmSnapshot);
    let armed = set_history_aside(context).and_then(|()| context.store.arm(snapshot));
    step.record(armed).map_err(|source| {
        // Nothing was changed after all. A failure is in the journal; the next run gives it.
        if was_ready {
            let _ = give_readiness(context, phase);
        }
        state_dir(context, source)
    })
}

/// Another boot's snapshot is not written over: somebody may want to read it.
fn set_history_aside(context: &Context) -> Result<(), WriteError> {
    match context.store.snapshot() {
        Ok(Some(stored)) if stored.boot_id != context.boot_id => {
            let aside = context.store.set_snapshot_aside(Timestamp::now())?;
            tracing::info!(aside = %aside.display(), "the stored snapshot is of another boot: set aside");
            Ok(())
        }
        // One that cannot be read has ended this reload before.
        Ok(_) | Err(_) => Ok(()),
    }
}

/// A state directory that takes nothing blocks the reload, whatever was to be written to it.
fn state_dir(context: &Context, source: WriteError) -> PhaseError {
    PhaseError::StateDir { folder: context.store.folder().to_path_buf(), source }
}

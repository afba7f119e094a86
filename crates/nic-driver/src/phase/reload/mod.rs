//! `reload`: the loaded modules are compared with the installed ones and, when they differ, swapped. What is merely not
//! loaded is loaded, and nothing is unloaded for it.
//!
//! `facts.rs` and `seen.rs` read, `duty.rs` and `plan.rs` decide, `carry_out.rs` carries out; `plan reload` and `preflight` stop before the last.
//!
//! What may be killed where: up to [`Step::ArmSnapshot`] nothing that runs was changed, and a run that follows begins
//! anew. From there on the armed snapshot is the truth: the next `reload` goes on with the swap or with the rollback
//! (`duty.rs`), and `restore-sriov` loads what is missing and restores. A reload that is asked to stop after
//! the first change finishes it, and restores the NICs itself.

mod carry_out;
mod duty;
mod facts;
mod plan;
mod seen;
mod steps;
mod text;
mod unblocked;

use nic_kmod::{IdentityReport, LoadedModules, ModuleIndex, ModuleName};
use nic_sriov::DeviceAddress;
use serde::Serialize;

use self::carry_out::Swapping;
use self::duty::{Duty, duty};
use self::facts::{Facts, compare_modules};
use self::plan::plan;
use self::seen::{Seen, SwapFacts, new_snapshot};
use self::steps::PlannedStep;
use self::unblocked::{ensure_unblocked, state_dir};
use super::error::PhaseError;
use super::nics_to_change::nics_to_change;
use super::restore::{Restored, restore_within_phase};
use super::rollback::{finish_rollback, roll_back};
use crate::Exit;
use crate::context::Context;
use crate::node::observe_node;
use crate::privileges;
use crate::state::{Moment, Phase, PhaseRecord};
use crate::swap::{
    BackupError, Look, ModuleTree, back_up_running_modules, checkpoint, list, load_beforehand,
    remove_leftover_blacklist,
};

pub use self::duty::ReloadDuty;
pub use self::plan::ReloadPlan;

const ONLY_RUNNING: &str = "only the running machine's modules can be reloaded";

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

    /// Why the exit code is no success, in one sentence; `None` when it is one.
    #[must_use]
    pub fn why_not(&self) -> Option<String> {
        self.restored.as_ref().and_then(Restored::why_not)
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
    context.ensure_running_machine(ONLY_RUNNING)?;
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
    let identity = compare_modules(context, &index)?;
    checkpoint(context, phase, Moment::BeforeReload);
    let result = resume_or_swap(context, phase, (tree, &index), identity.clone()).await;
    checkpoint(context, phase, Moment::AfterReload);
    Ok((identity, result?))
}

/// Does what is to be done, as it is planned.
async fn resume_or_swap(
    context: &Context,
    phase: &PhaseRecord,
    (tree, index): (&ModuleTree, &ModuleIndex),
    identity: IdentityReport,
) -> Result<ReloadProgress, PhaseError> {
    let facts = Facts::read(context, index, identity)?;
    match duty(&facts) {
        Duty::Nothing => Ok(ReloadProgress::default()),
        Duty::EndRollback { record, armed } => {
            let cause = PhaseError::RollbackUnfinished { at: record.at, reason: record.reason.clone() };
            Err(finish_rollback(context, phase, armed, record.asked_for, cause).await)
        }
        Duty::Refused(record) => {
            Err(PhaseError::RolledBackBefore { at: record.at, reason: record.reason.clone() })
        }
        Duty::LoadMissing => {
            let seen = Seen::observe(context, tree, index, &facts).await?;
            load_beside_driver(context, phase, &plan(&facts, &seen), facts.missing).await
        }
        Duty::Swap => swap(context, phase, (tree, index), &facts).await,
        Duty::EndSwap(armed) => {
            let nics = nics_to_change(context, ONLY_RUNNING).await?;
            let to_come = nics.listen().await?;
            let seen = match Seen::observe(context, tree, index, &facts).await {
                Ok(seen) => seen,
                // The driver is half loaded.
                Err(error) => return Err(roll_back(context, phase, index, armed, true, error).await),
            };
            let planned = plan(&facts, &seen);
            for left_out in &planned.foreseen.left_out {
                tracing::warn!(%left_out, "a module that was loaded before is not loaded, or a hook not run");
            }
            let swapping = Swapping::whole(context, phase, (tree, index), armed, &*to_come).half_done();
            swapping.carry_out(&planned.steps).await?;
            let pfs = planned.awaited().to_vec();
            Ok(ReloadProgress { restore_due: true, pfs, ..Default::default() })
        }
    }
}

/// Loads what is missing beside the driver that runs: nothing is unloaded, no NIC is touched, and nothing is owed.
async fn load_beside_driver(
    context: &Context,
    phase: &PhaseRecord,
    plan: &ReloadPlan,
    missing: Vec<ModuleName>,
) -> Result<ReloadProgress, PhaseError> {
    let deadline = context.settings.timeout;
    context.check_stop()?;
    let mut not_loaded = Vec::new();
    for step in &plan.steps {
        match step {
            PlannedStep::LoadNeeded(needed) => load_beforehand(context, phase, needed, deadline).await,
            PlannedStep::Load(loads) => {
                let loaded = loads.load(context, phase, deadline).await;
                not_loaded.extend(loaded.map_err(PhaseError::MissingModule)?);
            }
            // Nothing else is planned for this duty.
            _ => {}
        }
    }
    let loaded = missing.into_iter().filter(|module| !not_loaded.contains(module)).collect();
    Ok(ReloadProgress { loaded, not_loaded, ..Default::default() })
}

/// Swaps the modules. The first steps are looks, of which the plan is made that is carried out: what it unloads, loads and waits for is of the
/// node as its snapshot has it.
async fn swap(
    context: &Context,
    phase: &PhaseRecord,
    (tree, index): (&ModuleTree, &ModuleIndex),
    facts: &Facts,
) -> Result<ReloadProgress, PhaseError> {
    let found = ensure_unblocked(context, phase, index, Look::Whole).await?;
    back_up_running_modules(context, phase).map_err(|error| match error {
        BackupError::Write(source) => state_dir(context, source),
        error => error.into(),
    })?;
    let nics = nics_to_change(context, ONLY_RUNNING).await?;
    let to_come = nics.listen().await?;
    let snapshot = match facts.armed() {
        Some(armed) => {
            tracing::info!(
                taken_at = %armed.taken_at,
                "an armed snapshot is there: no new one of a half-restored machine"
            );
            armed.clone()
        }
        None => new_snapshot(context, index, facts, observe_node(context).await?)?,
    };
    let told = found.foreseen.left_out.len();
    let seen = Seen::Swap(found, SwapFacts::of_swap(context, tree, index, snapshot.clone())?);
    let planned = plan(facts, &seen);
    for left_out in planned.foreseen.left_out.iter().skip(told) {
        tracing::warn!(%left_out, "a module is not loaded, or a hook not run");
    }
    let swapping = Swapping::whole(context, phase, (tree, index), &snapshot, &*to_come);
    swapping.carry_out(&planned.steps).await?;
    let lost = snapshot.lost_under(&LoadedModules::read_graph(&context.host)?);
    let pfs = snapshot.nics.pfs.into_iter().map(|pf| pf.address).collect();
    Ok(ReloadProgress { reloaded: true, restore_due: true, pfs, lost, ..Default::default() })
}

/// What `reload` would do now. Changes nothing.
pub async fn plan_reload(context: &Context) -> Result<ReloadPlan, PhaseError> {
    let tree = ModuleTree::Own;
    let index = tree.index(context)?;
    let facts = Facts::read(context, &index, compare_modules(context, &index)?)?;
    let seen = Seen::observe(context, &tree, &index, &facts).await?;
    Ok(plan(&facts, &seen))
}

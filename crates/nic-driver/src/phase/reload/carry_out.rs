//! A planned swap, carried out step by step. What is done, and in which order, the plan has decided; what is decided here is what a failure
//! means, by how far the swap has come.

use std::time::Duration;

use jiff::Timestamp;
use nic_host::WriteError;
use nic_kmod::{Blacklist, BlacklistError, LoadedModules, ModuleIndex, ModuleName};
use nic_sriov::Operation;

use super::steps::{PlannedStep, pfs};
use super::unblocked::{ensure_unblocked, state_dir};
use crate::context::Context;
use crate::machine::PfsToCome;
use crate::node::{drivers_fault, give_readiness, take_readiness_away, wait_for_pfs};
use crate::phase::error::PhaseError;
use crate::phase::rollback::roll_back;
use crate::state::{Entry, Moment, PhaseRecord, Snapshot, Step, pfs_about_to_go};
use crate::swap::{
    Leaving, Look, ModuleTree, SwapError, blacklist_of_swap, ensure_swapped, load_beforehand,
    load_latecomers, remove_all_vfs, restart_by_init_script, run_script, size_of_next_backup, unload_stack,
};

const NOT_PREPARED: &str = "the machine could not be made ready for the reload";

/// How far a swap has come, by which a failure is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reached {
    /// Nothing was changed.
    Nothing,
    /// The blacklist is written, and readiness may be taken away: both are undone.
    Begun {
        /// Whether the node was ready, and is not any more.
        was_ready: bool,
    },
    /// The NICs are away: the driver before is gone back to.
    Away {
        /// Whether a module of the installed driver had been asked for. Before that, nothing that fails is that driver's fault. What an init
        /// script does cannot be told apart: it counts from the script's start.
        asked_for: bool,
    },
}

/// A swap under way.
pub(super) struct Swapping<'a> {
    context: &'a Context,
    phase: &'a PhaseRecord,
    tree: &'a ModuleTree,
    index: &'a ModuleIndex,
    snapshot: &'a Snapshot,
    to_come: &'a dyn PfsToCome,
    /// What unloading or loading may take, a hook or an init script.
    deadline: Duration,
    reached: Reached,
    blacklist: Option<Blacklist>,
    /// What was unloaded.
    gone: Vec<ModuleName>,
    /// Whether there may have been no driver that could be gone back to.
    may_lack_driver: bool,
}

impl<'a> Swapping<'a> {
    /// A swap of which nothing is done that changes anything.
    pub(super) fn whole(
        context: &'a Context,
        phase: &'a PhaseRecord,
        (tree, index): (&'a ModuleTree, &'a ModuleIndex),
        snapshot: &'a Snapshot,
        to_come: &'a dyn PfsToCome,
    ) -> Self {
        let deadline = context.settings.patience().of(Operation::Driver { vfs: snapshot.nics.vf_count() });
        Self {
            context,
            phase,
            tree,
            index,
            snapshot,
            to_come,
            deadline,
            reached: Reached::Nothing,
            blacklist: None,
            gone: Vec::new(),
            may_lack_driver: true,
        }
    }

    /// The end of one that was cut off while its modules were loaded.
    pub(super) fn half_done(self) -> Self {
        Self { reached: Reached::Away { asked_for: true }, may_lack_driver: false, ..self }
    }

    /// Carries these steps out.
    pub(super) async fn carry_out(mut self, steps: &[PlannedStep]) -> Result<(), PhaseError> {
        for step in steps {
            if let Err(error) = self.take(step).await {
                return Err(self.failed(error).await);
            }
        }
        Ok(())
    }

    async fn take(&mut self, step: &PlannedStep) -> Result<(), PhaseError> {
        let (context, phase, deadline) = (self.context, self.phase, self.deadline);
        match step {
            // They are what this plan was made of.
            PlannedStep::RemoveLeftoverBlacklist
            | PlannedStep::FindBlockers
            | PlannedStep::BackUpModules
            | PlannedStep::Observe => {}
            PlannedStep::EnsureSpace => ensure_space(context, phase, self.index, self.snapshot)?,
            PlannedStep::LoadNeeded(needed) => load_beforehand(context, phase, needed, deadline).await,
            PlannedStep::ReadAhead(loads) => loads.page_in(context, self.index),
            PlannedStep::FindBlockersAgain => {
                ensure_unblocked(context, phase, self.index, Look::Again).await?;
            }
            PlannedStep::WriteBlacklist => self.begin()?,
            PlannedStep::TakeReadinessAway => {
                let was_ready = context.host.exists(&context.settings.readiness_file);
                take_readiness_away(context, phase).map_err(PhaseError::write(NOT_PREPARED))?;
                self.reached = Reached::Begun { was_ready };
            }
            PlannedStep::ArmSnapshot => {
                let step = phase.step(Step::ArmSnapshot);
                let armed = set_history_aside(context).and_then(|()| context.store.arm(self.snapshot));
                step.record(armed).map_err(|source| state_dir(context, source))?;
            }
            PlannedStep::RemoveVfs(going) => {
                // From here on it is finished, whoever asks to stop.
                self.reached = Reached::Away { asked_for: false };
                let nics = pfs_about_to_go(self.snapshot);
                phase.write(Entry::Checkpoint { label: Moment::Armed.into(), modules: Vec::new(), nics });
                let removed = remove_all_vfs(context, phase, Leaving::Running, &pfs(going)).await;
                removed.map_err(SwapError::from)?;
            }
            PlannedStep::RunHook(script) => run_script(context, phase, script, deadline).await,
            PlannedStep::Unload { scope, modules: _ } => {
                let gone = unload_stack(context, phase, Leaving::Running, *scope, deadline).await;
                self.gone = gone.map_err(SwapError::from)?;
            }
            PlannedStep::Restart(restart) => {
                self.reached = Reached::Away { asked_for: true };
                let restarted = restart_by_init_script(context, phase, restart, deadline).await;
                restarted.map_err(SwapError::from)?;
            }
            PlannedStep::Load(loads) => {
                self.reached = Reached::Away { asked_for: true };
                loads.load(context, phase, deadline).await.map_err(SwapError::from)?;
            }
            PlannedStep::LoadWhatScriptHasNot(loads) => {
                // It loads what its configuration names, and nothing of what was loaded besides.
                let loaded = LoadedModules::read_graph(&context.host).map_err(SwapError::from)?;
                let loads = loads.clone().without_loaded(&loaded);
                loads.load(context, phase, deadline).await.map_err(SwapError::from)?;
                ensure_swapped(context, self.index).map_err(SwapError::from)?;
            }
            PlannedStep::LoadLatecomers => {
                let came_late = self.gone.iter().filter(|module| !self.snapshot.modules.contains(module));
                load_latecomers(context, phase, self.tree, self.index, came_late, deadline).await;
            }
            PlannedStep::RemoveBlacklist => self.remove_blacklist(),
            PlannedStep::AwaitPfs(pfs) => {
                let arrival = context.settings.patience().of(Operation::PfArrival);
                let missing = wait_for_pfs(phase, self.to_come, pfs, arrival).await;
                if let Some(missing) = drivers_fault(context, missing) {
                    return Err(PhaseError::NewPfMissing(missing));
                }
            }
        }
        Ok(())
    }

    /// The first change.
    fn begin(&mut self) -> Result<(), PhaseError> {
        let context = self.context;
        let blacklist = blacklist_of_swap(context).map_err(BlacklistError::from)?;
        context.begin_change()?;
        // The rollback record goes now: if this run is killed, the next one must resume it, not roll it back.
        context.store.remove_rolled_back().map_err(|source| state_dir(context, source))?;
        self.phase.step(Step::WriteBlacklist).record(blacklist.write(&context.host))?;
        self.blacklist = Some(blacklist);
        self.reached = Reached::Begun { was_ready: false };
        Ok(())
    }

    /// A failure is in the journal; the next run removes what was left behind.
    fn remove_blacklist(&self) {
        if let Some(blacklist) = &self.blacklist {
            let _ = self.phase.step(Step::RemoveBlacklist).record(blacklist.remove(&self.context.host));
        }
    }

    /// What a failure means.
    async fn failed(self, error: PhaseError) -> PhaseError {
        let Self { context, phase, index, snapshot, .. } = self;
        match self.reached {
            Reached::Nothing => error,
            Reached::Begun { was_ready } => {
                // Nothing was changed after all. A failure is in the journal; the next run gives it.
                if was_ready {
                    let _ = give_readiness(context, phase);
                }
                self.remove_blacklist();
                error
            }
            Reached::Away { asked_for } => {
                let driver = context.family.modules.identity.first();
                if self.may_lack_driver && driver.is_none_or(|driver| !snapshot.modules.contains(driver)) {
                    // What could be loaded is better than nothing; the snapshot stays armed, and the next run tries again.
                    self.remove_blacklist();
                    return PhaseError::NoDriver(Box::new(error));
                }
                roll_back(context, phase, index, snapshot, asked_for, error).await
            }
        }
    }
}

/// A full disk or a read-only state directory is found here, and not half way.
fn ensure_space(
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

//! The plan of a reload: pure. `plan reload` and `preflight` tell it, and `reload` carries it out.

use nic_kmod::{IdentityReport, ModuleName};
use nic_sriov::DeviceAddress;
use serde::{Serialize, Serializer};

use super::duty::{ReloadDuty, duty};
use super::facts::Facts;
use super::seen::{Seen, SwapFacts};
use super::steps::{GoingVfs, PlannedStep, ToldStep};
use crate::swap::{Blocker, Foreseen, FoundBlockers, Hook, LeftOut, Loads, PreparedLoads, UnloadScope};

/// What `reload` does now.
#[derive(Debug, Clone)]
pub struct ReloadPlan {
    /// Whether other modules run than the installed ones, or a swap was asked for all the same. Where neither is so, what is missing is
    /// loaded, and nothing unloaded.
    pub due: bool,
    /// What is done about it.
    pub duty: ReloadDuty,
    /// The comparison that decides it.
    pub identity: IdentityReport,
    /// What is missing beside the driver.
    pub missing: Vec<ModuleName>,
    /// What stands in the way: then nothing is changed.
    pub blockers: Vec<Blocker>,
    /// What is told beside that: what is passed over, left out, lost or away.
    pub foreseen: Foreseen,
    /// Whether the processes of the whole machine were seen, and not of one container alone.
    pub sees_all_processes: bool,
    /// When and why the installed driver was taken back before.
    pub rolled_back: Option<String>,
    /// What is done, in order.
    pub(super) steps: Vec<PlannedStep>,
}

/// Plans a reload.
pub(super) fn plan(facts: &Facts, seen: &Seen) -> ReloadPlan {
    let mut plan = ReloadPlan {
        due: facts.is_due,
        duty: duty(facts).name(),
        identity: facts.identity.clone(),
        missing: facts.missing.clone(),
        blockers: Vec::new(),
        foreseen: Foreseen::default(),
        sees_all_processes: false,
        rolled_back: facts
            .same_attempt
            .as_ref()
            .filter(|record| record.asked_for)
            .map(|record| format!("at {:.0}: {}", record.at, record.reason)),
        steps: Vec::new(),
    };
    if facts.has_leftover_blacklist {
        plan.steps.push(PlannedStep::RemoveLeftoverBlacklist);
    }
    match seen {
        Seen::Nothing => {}
        Seen::Missing(loads) => plan.load_beside_driver(loads),
        Seen::Blocked(found) => {
            plan.tell(found);
            plan.steps.push(PlannedStep::FindBlockers);
        }
        Seen::Swap(found, swap) => plan.swap(found, swap, facts),
        Seen::EndSwap(swap) => plan.end_swap(swap),
    }
    plan
}

impl ReloadPlan {
    fn tell(&mut self, found: &FoundBlockers) {
        self.blockers.clone_from(&found.blockers);
        self.foreseen = found.foreseen.clone();
        self.sees_all_processes = found.sees_all_processes;
    }

    /// What is left out is told once, with the first reason that was found.
    fn leave_out(&mut self, left_out: &[LeftOut]) {
        for one in left_out {
            if !self.foreseen.left_out.iter().any(|told| told.what == one.what) {
                self.foreseen.left_out.push(one.clone());
            }
        }
    }

    fn load_beside_driver(&mut self, loads: &PreparedLoads) {
        self.leave_out(&loads.left_out);
        if !loads.beforehand.is_empty() {
            self.steps.push(PlannedStep::LoadNeeded(loads.beforehand.clone()));
        }
        self.steps.push(PlannedStep::Load(loads.loads.clone()));
    }

    /// What is destroyed is written down before, and what can fail is tried before. Where no swap is under way, the way back and the snapshot
    /// are those of the driver that runs. Else they are kept: what runs has not proved itself.
    fn swap(&mut self, found: &FoundBlockers, swap: &SwapFacts, facts: &Facts) {
        let is_new = facts.armed().is_none();
        self.tell(found);
        self.leave_out(&swap.loads.left_out);
        let PreparedLoads { beforehand, loads, .. } = &swap.loads;
        self.steps.push(PlannedStep::FindBlockers);
        if facts.runs_way_back {
            self.steps.push(PlannedStep::BackUpModules);
        }
        self.steps.extend([PlannedStep::Observe, PlannedStep::EnsureSpace]);
        if !beforehand.is_empty() {
            self.steps.push(PlannedStep::LoadNeeded(beforehand.clone()));
        }
        self.steps.extend([
            PlannedStep::ReadAhead(loads.clone()),
            PlannedStep::FindBlockersAgain,
            PlannedStep::WriteBlacklist,
            PlannedStep::TakeReadinessAway,
        ]);
        if is_new {
            self.steps.push(PlannedStep::ArmSnapshot);
        }
        let pfs = swap.snapshot.nics.pfs.iter();
        let going = pfs.map(|pf| GoingVfs { pf: pf.address.clone(), vfs: pf.vfs.len() }).collect();
        self.steps.push(PlannedStep::RemoveVfs(going));
        let modules = found.unload.clone();
        match &swap.restart {
            None => {
                self.run_hook(swap, Hook::PreStop);
                self.steps.push(PlannedStep::Unload { scope: UnloadScope::Stack, modules });
                self.run_hook(swap, Hook::PostStop);
                self.load_between_hooks(swap);
            }
            Some(restart) => self.steps.extend([
                PlannedStep::Unload { scope: UnloadScope::DependentsOnly, modules },
                PlannedStep::Restart(restart.clone()),
                PlannedStep::LoadWhatScriptHasNot(loads.clone()),
            ]),
        }
        self.steps.extend([
            PlannedStep::LoadLatecomers,
            PlannedStep::RemoveBlacklist,
            PlannedStep::AwaitPfs(swap.awaited.clone()),
        ]);
        if swap.restart.is_none() {
            self.leave_out(&swap.hooks.left_out);
        }
    }

    fn load_between_hooks(&mut self, swap: &SwapFacts) {
        self.run_hook(swap, Hook::PreStart);
        self.steps.push(PlannedStep::Load(swap.loads.loads.clone()));
        self.run_hook(swap, Hook::PostStart);
    }

    fn run_hook(&mut self, swap: &SwapFacts, hook: Hook) {
        self.steps.extend(swap.hooks.script(hook).map(|script| PlannedStep::RunHook(script.to_path_buf())));
    }

    fn end_swap(&mut self, swap: &SwapFacts) {
        if !self.missing.is_empty() {
            self.leave_out(&swap.loads.left_out);
            self.leave_out(&swap.hooks.left_out);
            self.load_between_hooks(swap);
        }
        if !swap.awaited.is_empty() {
            self.steps.push(PlannedStep::AwaitPfs(swap.awaited.clone()));
        }
    }

    /// The PFs that are waited for.
    pub(super) fn awaited(&self) -> &[DeviceAddress] {
        let awaited = self.steps.iter().find_map(|step| match step {
            PlannedStep::AwaitPfs(pfs) => Some(pfs.as_slice()),
            _ => None,
        });
        awaited.unwrap_or_default()
    }

    /// What is unloaded, in order.
    pub fn unloaded(&self) -> impl Iterator<Item = &ModuleName> {
        self.steps.iter().flat_map(|step| match step {
            PlannedStep::Unload { modules, .. } => modules.as_slice(),
            _ => &[],
        })
    }

    /// What is loaded, in order.
    pub fn loaded(&self) -> impl Iterator<Item = &ModuleName> {
        let loads = self.steps.iter().filter_map(|step| match step {
            PlannedStep::Load(loads) | PlannedStep::LoadWhatScriptHasNot(loads) => Some(loads),
            _ => None,
        });
        loads.flat_map(Loads::modules)
    }
}

impl Serialize for ReloadPlan {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Form<'plan> {
            due: bool,
            duty: ReloadDuty,
            identity: &'plan IdentityReport,
            unload: Vec<&'plan ModuleName>,
            load: Vec<&'plan ModuleName>,
            blockers: &'plan [Blocker],
            #[serde(flatten)]
            foreseen: &'plan Foreseen,
            #[serde(skip_serializing_if = "Option::is_none")]
            taken_back: Option<&'plan str>,
            steps: Vec<ToldStep>,
        }
        let form = Form {
            due: self.due,
            duty: self.duty,
            identity: &self.identity,
            unload: self.unloaded().collect(),
            load: self.loaded().collect(),
            blockers: &self.blockers,
            foreseen: &self.foreseen,
            taken_back: self.rolled_back.as_deref(),
            steps: self.steps.iter().flat_map(PlannedStep::told).collect(),
        };
        form.serialize(serializer)
    }
}

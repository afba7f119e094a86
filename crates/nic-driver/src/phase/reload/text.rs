//! What people read of a plan.

use std::fmt;

use super::duty::ReloadDuty;
use super::plan::ReloadPlan;
use super::steps::{GoingVfs, PlannedStep, SCRIPT_HAS_LOADED_IT};

impl fmt::Display for ReloadPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for module in &self.identity.modules {
            writeln!(f, "{}: {}", module.module, module.verdict)?;
        }
        for blocker in &self.blockers {
            writeln!(f, "blocked: {blocker}")?;
        }
        for line in self.foreseen.assumptions() {
            writeln!(f, "{line}")?;
        }
        for step in &self.steps {
            fmt_step(step, f)?;
        }
        for line in self.foreseen.outcome() {
            writeln!(f, "{line}")?;
        }
        self.fmt_outcome(f)
    }
}

impl ReloadPlan {
    /// In one line, what comes of it.
    fn fmt_outcome(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rolled_back = self.rolled_back.as_deref().unwrap_or_default();
        match self.duty {
            ReloadDuty::Nothing if self.due => writeln!(f, "nothing to do"),
            ReloadDuty::Nothing => writeln!(f, "nothing to do: the loaded modules are the installed ones"),
            ReloadDuty::LoadMissing => {
                writeln!(f, "{} modules in beside the driver; no NIC is touched", self.loaded().count())
            }
            ReloadDuty::EndRollback => {
                writeln!(
                    f,
                    "a rollback that was cut off is ended: the driver before is loaded, and the NICs restored"
                )
            }
            ReloadDuty::Refused => writeln!(f, "blocked: it was tried and taken back {rolled_back}"),
            ReloadDuty::Swap if !self.blockers.is_empty() => {
                writeln!(f, "{} in the way: nothing is changed", self.blockers.len())
            }
            ReloadDuty::Swap => {
                let going: Vec<&GoingVfs> = self.steps.iter().flat_map(going).collect();
                let vfs: usize = going.iter().map(|pf| pf.vfs).sum();
                let pfs = going.iter().filter(|pf| pf.vfs > 0).count();
                let (out, loaded) = (self.unloaded().count(), self.loaded().count());
                write!(f, "{out} modules out, {loaded} in with what they need, ")?;
                writeln!(f, "{vfs} VFs of {pfs} PFs go and come back; restore-sriov is due afterwards")
            }
            ReloadDuty::EndSwap => {
                let loaded = self.loaded().count();
                writeln!(
                    f,
                    "a swap that was cut off is ended: {loaded} modules in; restore-sriov is due afterwards"
                )
            }
        }
    }
}

fn going(step: &PlannedStep) -> &[GoingVfs] {
    match step {
        PlannedStep::RemoveVfs(going) => going,
        _ => &[],
    }
}

fn fmt_step(step: &PlannedStep, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match step {
        PlannedStep::Observe => writeln!(f, "observe the NICs and what stands on them"),
        PlannedStep::FindBlockersAgain => writeln!(f, "look once more for what stands in the way"),
        PlannedStep::ReadAhead(_) => writeln!(f, "read the modules' files ahead"),
        PlannedStep::LoadLatecomers => Ok(()),
        PlannedStep::RemoveVfs(going) => {
            let of_pfs: Vec<String> = going.iter().map(|of| format!("{} of PF {}", of.vfs, of.pf)).collect();
            let of_pfs = if of_pfs.is_empty() { "there is no PF".to_owned() } else { of_pfs.join(", ") };
            writeln!(f, "remove the VFs: {of_pfs}")
        }
        PlannedStep::AwaitPfs(pfs) => {
            let pfs: Vec<String> = pfs.iter().map(ToString::to_string).collect();
            writeln!(
                f,
                "wait for the PFs: {}",
                if pfs.is_empty() { "none".to_owned() } else { pfs.join(", ") }
            )
        }
        PlannedStep::LoadWhatScriptHasNot(_) => {
            step.in_journal().iter().try_for_each(|step| writeln!(f, "{step}, unless {SCRIPT_HAS_LOADED_IT}"))
        }
        _ => step.in_journal().iter().try_for_each(|step| writeln!(f, "{step}")),
    }
}

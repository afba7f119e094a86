//! `plan reload`: what `reload` would do now. Nothing is changed.

use std::collections::BTreeSet;
use std::fmt;

use nic_kmod::{IdentityReport, LoadPlan, LoadedModules, ModuleName};
use serde::Serialize;

use crate::context::Context;
use crate::phase::blockers::look_for_blockers;
use crate::phase::error::PhaseError;
use crate::swap::{Blocker, Foreseen, Look, ModuleTree, decide, earlier_rollback};

/// What `reload` would do now.
#[derive(Debug, Clone, Serialize)]
pub struct ReloadPlan {
    /// Whether a swap is due. Where it is not, what is missing is loaded, and nothing unloaded.
    pub due: bool,
    /// The comparison that decides it.
    pub identity: IdentityReport,
    /// What would be unloaded, in order.
    pub unload: Vec<ModuleName>,
    /// What would be loaded, in order.
    pub load: Vec<ModuleName>,
    /// What stands in the way.
    pub blockers: Vec<Blocker>,
    /// What is told beside that.
    #[serde(flatten)]
    pub foreseen: Foreseen,
    /// Why the installed driver would not be tried: it was taken back before.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(rename = "taken_back")]
    pub rolled_back: Option<String>,
}

/// What `reload` would do now.
pub async fn plan_reload(context: &Context) -> Result<ReloadPlan, PhaseError> {
    let modules = &context.family.modules;
    let index = ModuleTree::Own.index(context)?;
    let identity = IdentityReport::read(&context.host, &index, &modules.identity)?;
    let loaded = LoadedModules::read_graph(&context.host)?;
    let decision = decide(context, &identity);
    let missing = decision.missing();
    let due = context.settings.force || decision.is_swap();
    let found = if due { Some(look_for_blockers(context, &index, Look::Whole).await?) } else { None };
    let found = found.unwrap_or_default();
    let before: Vec<ModuleName> = loaded
        .iter()
        .map(|module| module.name.clone())
        .filter(|name| modules.unloaded().contains(name))
        .collect();
    let load = if due {
        LoadPlan::compute(&before, &modules.load, &BTreeSet::new(), &index)
            .with_auxiliary(&modules.auxiliary, &index)
    } else {
        LoadPlan::compute(&[], &missing, &BTreeSet::new(), &index)
    };
    let rolled_back = earlier_rollback(context, &index)?
        .filter(|record| record.asked_for)
        .map(|record| format!("at {:.0}: {}", record.at, record.reason));
    Ok(ReloadPlan {
        due,
        rolled_back,
        identity,
        unload: found.unload,
        load: load.load.into_iter().map(|step| step.module).collect(),
        blockers: found.blockers,
        foreseen: found.foreseen,
    })
}

impl fmt::Display for ReloadPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for module in &self.identity.modules {
            writeln!(f, "{}: {}", module.module, module.verdict)?;
        }
        if !self.due && self.load.is_empty() {
            return writeln!(f, "nothing to do: the loaded modules are the installed ones");
        }
        if let Some(rolled_back) = self.rolled_back.as_ref().filter(|_| self.due) {
            writeln!(f, "blocked: it was tried and taken back {rolled_back}")?;
        }
        for blocker in &self.blockers {
            writeln!(f, "blocked: {blocker}")?;
        }
        for line in self.foreseen.assumptions() {
            writeln!(f, "{line}")?;
        }
        for module in &self.unload {
            writeln!(f, "unload {module}")?;
        }
        for module in &self.load {
            writeln!(f, "load {module}")?;
        }
        for line in self.foreseen.outcome() {
            writeln!(f, "{line}")?;
        }
        Ok(())
    }
}

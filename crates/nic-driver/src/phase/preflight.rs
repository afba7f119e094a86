//! `preflight`: everything that stands in the way of a reload, before anything is changed.

use std::fmt;

use comfy_table::{Table, presets};
use nic_kmod::ModuleName;
use serde::Serialize;

use super::error::PhaseError;
use super::first_of::first_of;
use super::reload::{ReloadDuty, plan_reload};
use crate::Exit;
use crate::context::Context;
use crate::swap::{Blocker, Foreseen, list};

/// What a preflight has found.
#[derive(Debug, Clone, Serialize)]
pub struct Preflight {
    /// Whether a swap is due, or was asked about although it is not. Otherwise nothing can stand in its way.
    pub due: bool,
    /// What a reload does about it.
    pub duty: ReloadDuty,
    /// Modules that a reload would load beside the driver that runs, without a swap.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<ModuleName>,
    /// What would be unloaded, in order; nothing when something stands in the way.
    pub unload: Vec<ModuleName>,
    /// What stands in the way.
    pub blockers: Vec<Blocker>,
    /// What is told beside that.
    #[serde(flatten)]
    pub foreseen: Foreseen,
    /// Why the installed driver is not tried: it was taken back before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub taken_back: Option<String>,
    /// Whether the processes of the whole machine were seen, and not of one container alone.
    pub sees_all_processes: bool,
}

impl Preflight {
    /// The exit code.
    #[must_use]
    pub fn exit(&self) -> Exit {
        if self.blockers.is_empty() && self.taken_back.is_none() { Exit::Success } else { Exit::Blocked }
    }

    /// Why a reload would not be begun, in one sentence; `None` when it would.
    #[must_use]
    pub fn why_not(&self) -> Option<String> {
        if let Some(taken_back) = &self.taken_back {
            return Some(format!("the installed driver was tried and taken back {taken_back}"));
        }
        first_of("in the way", self.blockers.iter().map(|blocker| &blocker.what))
    }
}

impl fmt::Display for Preflight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(taken_back) = &self.taken_back {
            return writeln!(f, "blocked: the installed driver was tried and taken back {taken_back}");
        }
        match self.duty {
            ReloadDuty::EndRollback => return writeln!(f, "a rollback that was cut off is to be ended"),
            ReloadDuty::EndSwap => return writeln!(f, "a swap that was cut off is to be ended"),
            ReloadDuty::Nothing | ReloadDuty::LoadMissing | ReloadDuty::Refused | ReloadDuty::Swap => {}
        }
        if !self.due {
            if !self.missing.is_empty() {
                return writeln!(
                    f,
                    "no swap is due; to be loaded, and nothing unloaded: {}",
                    list(&self.missing)
                );
            }
            return writeln!(f, "no reload is due: the loaded modules are the installed ones");
        }
        for line in self.foreseen.assumptions().chain(self.foreseen.outcome()) {
            writeln!(f, "{line}")?;
        }
        if self.blockers.is_empty() {
            return writeln!(f, "nothing stands in the way; to be unloaded: {}", list(&self.unload));
        }
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(["in the way", "keeps", "what to do"]);
        for blocker in &self.blockers {
            table.add_row([&blocker.what, &list(&blocker.modules), &blocker.what_to_do()]);
        }
        writeln!(f, "{table}")?;
        writeln!(f, "blocked: {} in the way; nothing was changed", self.blockers.len())
    }
}

/// Looks for everything that stands in the way of a reload. Changes nothing.
///
/// When no swap is due, and [`crate::Settings::force`] does not ask for one, nothing is looked for.
pub async fn preflight(context: &Context) -> Result<Preflight, PhaseError> {
    let plan = plan_reload(context).await?;
    Ok(Preflight {
        due: plan.due,
        duty: plan.duty,
        missing: if plan.due { Vec::new() } else { plan.missing.clone() },
        unload: plan.unloaded().cloned().collect(),
        taken_back: plan.rolled_back.filter(|_| plan.duty == ReloadDuty::Refused),
        blockers: plan.blockers,
        foreseen: plan.foreseen,
        sees_all_processes: plan.sees_all_processes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swap::{BlockerKind, LeftOut};

    #[test]
    fn a_table_for_people() {
        let blockers = vec![Blocker {
            kind: BlockerKind::StorageModule,
            what: "the storage module rpcrdma is loaded".to_owned(),
            modules: vec!["ib_core".parse().unwrap()],
            remedy: "allow its unloading with UNLOAD_STORAGE_MODULES=true (--unload-storage-modules), or `modprobe -r rpcrdma`".to_owned(),
            user: None,
        }];
        let found = Preflight {
            due: true,
            duty: ReloadDuty::Swap,
            missing: Vec::new(),
            unload: Vec::new(),
            taken_back: None,
            blockers,
            foreseen: Foreseen {
                assumed: Vec::new(),
                left_out: vec![LeftOut::new("mlx5_vdpa", "the module tree has no such module")],
                lost: vec!["macsec macsec0 on pf2 goes with it, and cannot be made again".to_owned()],
                meanwhile: vec![
                    "the node itself is reached through NICs that go: route default via 192.0.2.1 dev pf2"
                        .to_owned(),
                ],
            },
            sees_all_processes: true,
        };
        assert_eq!(found.exit(), Exit::Blocked);
        insta::assert_snapshot!(found, @r"
        left out: mlx5_vdpa: the module tree has no such module
        lost: macsec macsec0 on pf2 goes with it, and cannot be made again
        meanwhile away: the node itself is reached through NICs that go: route default via 192.0.2.1 dev pf2
         in the way                            keeps    what to do                                                                                                
         the storage module rpcrdma is loaded  ib_core  allow its unloading with UNLOAD_STORAGE_MODULES=true (--unload-storage-modules), or `modprobe -r rpcrdma` 
        blocked: 1 in the way; nothing was changed
        ");
    }
}

//! `preflight`: everything that stands in the way of a reload, before anything is changed.

use std::fmt;

use comfy_table::{Table, presets};
use nic_kmod::{IdentityReport, ModuleName};
use serde::Serialize;

use super::blockers::look_for_blockers;
use super::error::PhaseError;
use crate::Exit;
use crate::context::Context;
use crate::swap::{Blocker, Foreseen, Look, ModuleTree, decide, list};

/// What a preflight has found.
#[derive(Debug, Clone, Serialize)]
pub struct Preflight {
    /// Whether a swap is due, or was asked about although it is not. Otherwise nothing can stand in its way.
    pub due: bool,
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
    /// Whether the processes of the whole machine were seen, and not of one container alone.
    pub sees_all_processes: bool,
}

impl Preflight {
    /// The exit code.
    #[must_use]
    pub fn exit(&self) -> Exit {
        if self.blockers.is_empty() { Exit::Success } else { Exit::Blocked }
    }
}

impl fmt::Display for Preflight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
    let index = ModuleTree::Own.index(context)?;
    let identity = IdentityReport::read(&context.host, &index, &context.family.modules.identity)?;
    let decision = decide(context, &identity);
    if !context.settings.force && !decision.is_swap() {
        return Ok(Preflight {
            due: false,
            missing: decision.missing(),
            unload: Vec::new(),
            blockers: Vec::new(),
            foreseen: Foreseen::default(),
            sees_all_processes: false,
        });
    }
    let found = look_for_blockers(context, &index, Look::Whole).await?;
    Ok(Preflight {
        due: true,
        missing: Vec::new(),
        unload: found.unload,
        blockers: found.blockers,
        foreseen: found.foreseen,
        sees_all_processes: found.sees_all_processes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swap::BlockerKind;

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
            missing: Vec::new(),
            unload: Vec::new(),
            blockers,
            foreseen: Foreseen {
                assumed: Vec::new(),
                left_out: vec!["mlx5_vdpa: the module tree has no such module".to_owned()],
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
        not loaded: mlx5_vdpa: the module tree has no such module
        lost: macsec macsec0 on pf2 goes with it, and cannot be made again
        meanwhile away: the node itself is reached through NICs that go: route default via 192.0.2.1 dev pf2
         in the way                            keeps    what to do                                                                                                
         the storage module rpcrdma is loaded  ib_core  allow its unloading with UNLOAD_STORAGE_MODULES=true (--unload-storage-modules), or `modprobe -r rpcrdma` 
        blocked: 1 in the way; nothing was changed
        ");
    }
}

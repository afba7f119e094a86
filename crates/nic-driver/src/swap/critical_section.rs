//! The critical part of a reload: from here until the restore has ended, the node is without its NIC.

use std::time::Duration;

use nic_kmod::{LoadError, LoadedModules, ModuleIndex, ReadLoadedError};
use nic_sriov::{DeviceAddress, RemoveVfsError, remove_vfs};

use super::hooks::{Hook, run_hook};
use super::init_script::{InitScriptError, ensure_exchanged, restart_by_init_script};
use super::load::{PreparedLoads, load_latecomers};
use super::module_tree::ModuleTree;
use super::unload::{UnloadScope, UnloadStackError, unload_stack};
use crate::context::{Context, ReloadWith};
use crate::state::{PhaseRecord, Snapshot, Step};

/// The modules could not be swapped. What runs is not what ran before.
#[derive(Debug, thiserror::Error)]
pub enum SwapError {
    /// The VFs of a PF could not be removed.
    #[error(transparent)]
    RemoveVfs(#[from] RemoveVfsError),
    /// The modules could not be unloaded.
    #[error(transparent)]
    Unload(#[from] UnloadStackError),
    /// A module could not be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The init script did not exchange the modules.
    #[error(transparent)]
    InitScript(#[from] InitScriptError),
    /// The loaded modules could not be read.
    #[error(transparent)]
    Loaded(#[from] ReadLoadedError),
}

/// What is exchanged for what.
pub(crate) struct Swap<'a> {
    pub(crate) tree: &'a ModuleTree,
    pub(crate) index: &'a ModuleIndex,
    pub(crate) snapshot: &'a Snapshot,
    /// What one operation may take.
    pub(crate) deadline: Duration,
}

/// Takes the VFs and the loaded modules away, and loads the installed ones.
pub(crate) async fn swap_driver(
    context: &Context,
    phase: &PhaseRecord,
    swap: &Swap<'_>,
    loads: PreparedLoads,
) -> Result<(), SwapError> {
    let host = &context.host;
    let Swap { tree, index, snapshot, deadline } = *swap;
    let pfs: Vec<DeviceAddress> = snapshot.nics.pfs.iter().map(|pf| pf.address.clone()).collect();
    let step = phase.step(Step::RemoveVfs);
    if let Some(error) = remove_vfs(host, &pfs, context.settings.jobs, deadline).await.into_iter().next() {
        step.failed(&error);
        return Err(error.into());
    }
    step.ok(None);
    let gone = match context.settings.reload_with {
        ReloadWith::Native => {
            run_hook(context, phase, Hook::PreStop, deadline).await;
            let gone = unload_stack(context, phase, UnloadScope::Stack, deadline).await?;
            run_hook(context, phase, Hook::PostStop, deadline).await;
            run_hook(context, phase, Hook::PreStart, deadline).await;
            loads.load(context, phase, deadline).await?;
            run_hook(context, phase, Hook::PostStart, deadline).await;
            gone
        }
        ReloadWith::InitScript => {
            // The script refuses to stop with most of these loaded, and knows nothing of the others.
            let gone = unload_stack(context, phase, UnloadScope::DependentsOnly, deadline).await?;
            restart_by_init_script(context, phase, deadline).await?;
            // It loads what its configuration names, and nothing of what was loaded besides.
            let loaded = LoadedModules::read_graph(host)?;
            loads.without_loaded(&loaded).load(context, phase, deadline).await?;
            ensure_exchanged(context, index)?;
            gone
        }
    };
    let latecomers = gone.iter().filter(|module| !snapshot.modules.contains(module));
    load_latecomers(context, phase, tree, index, latecomers, deadline).await;
    Ok(())
}

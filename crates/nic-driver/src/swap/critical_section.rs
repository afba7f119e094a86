//! The critical part of a reload: from here until the restore has ended, the node is without its NIC.

use std::time::Duration;

use nic_kmod::{LoadError, LoadedModules, ModuleIndex, ReadLoadedError};
use nic_sriov::{DeviceAddress, RemoveVfsError};

use super::hooks::{Hook, run_hook};
use super::init_script::{InitScriptError, ensure_swapped, restart_by_init_script};
use super::load::{PreparedLoads, load_latecomers};
use super::module_tree::ModuleTree;
use super::unload::{
    Leaving, UnloadScope, UnloadStackError, remove_all_vfs, unload_stack, unload_stack_with_hooks,
};
use crate::context::{Context, ReloadWith};
use crate::state::{PhaseRecord, Snapshot};

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
    /// The init script did not swap the modules.
    #[error(transparent)]
    InitScript(#[from] InitScriptError),
    /// The loaded modules could not be read.
    #[error(transparent)]
    Loaded(#[from] ReadLoadedError),
}

/// A swap that failed, and how far it had come.
#[derive(Debug)]
pub(crate) struct FailedSwap {
    pub(crate) error: SwapError,
    /// Whether a module of the installed driver had been asked for. Before that, nothing that fails is that driver's
    /// fault. What an init script does cannot be told apart: it counts from the script's start.
    pub(crate) asked_for: bool,
}

impl FailedSwap {
    fn before_asking(error: impl Into<SwapError>) -> Self {
        Self { error: error.into(), asked_for: false }
    }

    fn after_asking(error: impl Into<SwapError>) -> Self {
        Self { error: error.into(), asked_for: true }
    }
}

/// What is swapped for what.
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
) -> Result<(), FailedSwap> {
    let host = &context.host;
    let Swap { tree, index, snapshot, deadline } = *swap;
    let pfs: Vec<DeviceAddress> = snapshot.nics.pfs.iter().map(|pf| pf.address.clone()).collect();
    let leaving = Leaving::Running;
    remove_all_vfs(context, phase, leaving, &pfs).await.map_err(FailedSwap::before_asking)?;
    let gone = match context.settings.reload_with {
        ReloadWith::Native => {
            let gone = unload_stack_with_hooks(context, phase, leaving, deadline).await;
            let gone = gone.map_err(FailedSwap::before_asking)?;
            run_hook(context, phase, Hook::PreStart, deadline).await;
            loads.load(context, phase, deadline).await.map_err(FailedSwap::after_asking)?;
            run_hook(context, phase, Hook::PostStart, deadline).await;
            gone
        }
        ReloadWith::InitScript => {
            // The script refuses to stop with most of these loaded, and knows nothing of the others.
            let scope = UnloadScope::DependentsOnly;
            let gone = unload_stack(context, phase, leaving, scope, deadline).await;
            let gone = gone.map_err(FailedSwap::before_asking)?;
            restart_by_init_script(context, phase, deadline).await.map_err(FailedSwap::after_asking)?;
            // It loads what its configuration names, and nothing of what was loaded besides.
            let loaded = LoadedModules::read_graph(host).map_err(FailedSwap::after_asking)?;
            let loads = loads.without_loaded(&loaded);
            loads.load(context, phase, deadline).await.map_err(FailedSwap::after_asking)?;
            ensure_swapped(context, index).map_err(FailedSwap::after_asking)?;
            gone
        }
    };
    let latecomers = gone.iter().filter(|module| !snapshot.modules.contains(module));
    load_latecomers(context, phase, tree, index, latecomers, deadline).await;
    Ok(())
}

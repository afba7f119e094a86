//! The critical part of a reload: from here until the restore has ended, the node is without its NIC.

use std::time::Duration;

use nic_kmod::{LoadedModules, ModuleIndex};
use nic_sriov::{DeviceAddress, remove_vfs};

use super::hooks::{Hook, run_hook};
use super::init_script::{ensure_exchanged, restart_by_init_script};
use super::modules::{Part, PreparedLoads, load_latecomers, unload_stack};
use super::reload::{ModuleTree, ReloadError};
use super::{Context, ReloadWith};
use crate::report::NIC_GOES;
use crate::state::{PhaseRecord, Snapshot};

/// What is exchanged for what.
pub(super) struct Swap<'a> {
    pub(super) tree: &'a ModuleTree,
    pub(super) index: &'a ModuleIndex,
    pub(super) snapshot: &'a Snapshot,
    /// What one operation may take.
    pub(super) deadline: Duration,
}

/// Takes the VFs and the loaded modules away, and loads the installed ones.
pub(super) async fn swap(
    context: &Context,
    phase: &PhaseRecord,
    swap: &Swap<'_>,
    loads: PreparedLoads,
) -> Result<(), ReloadError> {
    let host = &context.host;
    let Swap { tree, index, snapshot, deadline } = *swap;
    let pfs: Vec<DeviceAddress> = snapshot.nics.pfs.iter().map(|pf| pf.address.clone()).collect();
    let step = phase.step(NIC_GOES);
    if let Some(error) = remove_vfs(host, &pfs, context.settings.jobs, deadline).await.into_iter().next() {
        step.failed(&error);
        return Err(error.into());
    }
    step.ok(None);
    let gone = match context.settings.reload_with {
        ReloadWith::Native => {
            run_hook(context, phase, Hook::PreStop, deadline).await;
            let gone = unload_stack(context, phase, Part::Whole, deadline).await?;
            run_hook(context, phase, Hook::PostStop, deadline).await;
            run_hook(context, phase, Hook::PreStart, deadline).await;
            loads.load(context, phase, deadline).await?;
            run_hook(context, phase, Hook::PostStart, deadline).await;
            gone
        }
        ReloadWith::InitScript => {
            // The script refuses to stop with most of these loaded, and knows nothing of the others.
            let gone = unload_stack(context, phase, Part::OnTop, deadline).await?;
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

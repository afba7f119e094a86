//! Modules that should be loaded and are not: those of a swap that was killed, and the drivers of VFs.

use std::collections::BTreeSet;
use std::time::Duration;

use nic_kmod::{LoadError, LoadedModules, ModuleIndexError, ModuleName, ReadLoadedError};
use nic_sriov::NicState;

use super::attempt::is_being_rolled_back;
use super::hooks::{Hook, run_hook};
use super::load::{load_request, prepare_loads, request_of};
use super::module_tree::ModuleTree;
use super::rollback::{RollbackError, load_backup_modules};
use super::which_tree::tree_of_loaded_modules;
use crate::context::Context;
use crate::state::{PhaseRecord, Snapshot, Step};

/// The driver could not be made to run.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// The loaded modules could not be read.
    #[error(transparent)]
    Loaded(#[from] ReadLoadedError),
    /// The index of installed modules could not be read.
    #[error(transparent)]
    Index(#[from] ModuleIndexError),
    /// A module could not be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The driver that was rolled back to cannot be loaded.
    #[error(transparent)]
    Rollback(#[from] Box<RollbackError>),
}

/// Makes the driver run that a process killed in the midst of a reload has not loaded any more.
pub(crate) async fn ensure_driver_loaded(
    context: &Context,
    phase: &PhaseRecord,
    snapshot: &Snapshot,
    deadline: Duration,
) -> Result<(), DriverError> {
    // The installed driver did not come up: the one before it is meant.
    if is_being_rolled_back(context, snapshot) {
        let loaded = load_backup_modules(context, phase, snapshot, deadline).await;
        return loaded.map_err(|error| DriverError::Rollback(Box::new(error)));
    }
    let listed = &context.family.modules.load;
    let loaded = LoadedModules::read_graph(&context.host)?;
    if snapshot.modules.iter().chain(listed).all(|module| loaded.contains(module)) {
        return Ok(());
    }
    // It may have been on its way back to the host's driver.
    let tree = tree_of_loaded_modules(context);
    load_missing_modules(context, phase, &tree, snapshot, deadline).await
}

/// Loads from `tree` what a process that was killed between unload and load has not loaded any more.
async fn load_missing_modules(
    context: &Context,
    phase: &PhaseRecord,
    tree: &ModuleTree,
    snapshot: &Snapshot,
    deadline: Duration,
) -> Result<(), DriverError> {
    let loaded = LoadedModules::read_graph(&context.host)?;
    let index = tree.index(context)?;
    let prepared = prepare_loads(context, tree, &index, snapshot)?;
    for left_out in &prepared.left_out {
        tracing::warn!(%left_out, "a module that was loaded before, or is listed, is not loaded");
    }
    let loads = prepared.loads.without_loaded(&loaded);
    run_hook(context, phase, Hook::PreStart, deadline).await;
    // What the driver works without is named in the journal and in the log.
    let _ = loads.load(context, phase, deadline).await?;
    run_hook(context, phase, Hook::PostStart, deadline).await;
    Ok(())
}

/// Loads the drivers that VFs had and that are not there: a VF can be bound only to a driver that is registered. One that
/// cannot be loaded is those VFs' failure, which their restore names.
pub(crate) async fn load_vf_drivers(context: &Context, phase: &PhaseRecord, nics: &NicState) {
    let vfs = nics.pfs.iter().flat_map(|pf| &pf.vfs).filter(|vf| vf.address.is_some());
    let drivers: BTreeSet<&String> = vfs.filter_map(|vf| vf.driver.as_ref()).collect();
    let is_registered = |driver: &String| context.host.exists(format!("/sys/bus/pci/drivers/{driver}"));
    let missing: Vec<&String> = drivers.into_iter().filter(|driver| !is_registered(driver)).collect();
    if missing.is_empty() {
        return;
    }
    let tree = tree_of_loaded_modules(context);
    let index = tree.index(context).inspect_err(|error| {
        tracing::info!(error = crate::error_chain(error), "the module tree has no index");
    });
    for driver in missing {
        // The PCI driver's name is the module's, up to `-` and `_` (`vfio-pci`); for others modprobe says so.
        let Ok(module) = driver.parse::<ModuleName>() else { continue };
        let step = phase.step(Step::Load { module: module.clone() });
        let request = match &index {
            Ok(index) => request_of(context, &tree, index, &module),
            Err(_) => load_request(context, &tree, &module),
        };
        if let Err(error) = step.record(context.machine.load(&request, context.settings.timeout).await) {
            tracing::error!(
                driver,
                error = crate::error_chain(&error),
                "a driver that VFs had cannot be loaded"
            );
        }
    }
}

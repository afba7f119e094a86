//! The previous modules into the kernel again, when the new ones do not come up.

use std::time::Duration;

use nic_kmod::{
    LoadError, LoadedModules, ModuleFile, ModuleFileError, ReadLoadedError, UnloadBlocked, UnloadError,
    UnloadPlan, load, load_file, unload,
};
use nic_sriov::{ObserveError, RemoveVfsError, find_pfs, remove_vfs};

use super::hooks::{Hook, run_hook};
use super::load::load_request;
use super::module_tree::ModuleTree;
use super::unload_policy::unload_policy;
use crate::context::Context;
use crate::state::{ModuleBackup, ModuleBackups, PhaseRecord, RecordError, Snapshot, Step};

/// The previous modules could not be loaded again.
#[derive(Debug, thiserror::Error)]
pub enum RollbackError {
    /// What was kept cannot be read.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The loaded modules could not be read.
    #[error(transparent)]
    Loaded(#[from] ReadLoadedError),
    /// The new modules cannot be taken away.
    #[error(transparent)]
    Blocked(#[from] UnloadBlocked),
    /// VFs that the new driver has cannot be taken away.
    #[error(transparent)]
    RemoveVfs(#[from] RemoveVfsError),
    /// A new module could not be unloaded.
    #[error(transparent)]
    Unload(#[from] UnloadError),
    /// A kept file is damaged.
    #[error(transparent)]
    File(#[from] ModuleFileError),
    /// A previous module could not be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The PFs could not be found.
    #[error(transparent)]
    FindPfs(#[from] ObserveError),
}

/// What is to be done with the modules so that the previous ones run: pure.
#[derive(Debug, PartialEq, Eq)]
struct RollbackPlan<'previous> {
    /// Whether the family's modules that are loaded must go first: one of them is not what ran before.
    unload: bool,
    /// What is to be loaded then, in order.
    load: Vec<&'previous ModuleBackup>,
}

impl<'previous> RollbackPlan<'previous> {
    fn plan(previous: &'previous ModuleBackups, loaded: &LoadedModules) -> Self {
        let is_another = |kept: &&ModuleBackup| {
            // Without a file to go back to, what is loaded is better than nothing.
            kept.file.is_some() && loaded.get(&kept.module).is_some_and(|loaded| !kept.is_same_build(loaded))
        };
        let unload = previous.modules.iter().any(|kept| is_another(&kept));
        let load = previous.modules.iter().filter(|kept| unload || !loaded.contains(&kept.module)).collect();
        Self { unload, load }
    }
}

/// Makes the modules run that were kept; where nothing was kept, leaves those that are loaded.
pub(crate) async fn load_backup_modules(
    context: &Context,
    phase: &PhaseRecord,
    snapshot: &Snapshot,
    deadline: Duration,
) -> Result<(), RollbackError> {
    let host = &context.host;
    let Some(previous) = context.store.module_backups(&context.boot_id)? else {
        tracing::warn!("no previous modules were kept");
        return Ok(());
    };
    let plan = RollbackPlan::plan(&previous, &LoadedModules::read(host)?);
    if plan.unload {
        let pfs = find_pfs(host, &context.family.devices)?;
        let step = phase.step(Step::RemoveNewVfs);
        match remove_vfs(host, &pfs, context.settings.jobs, deadline).await.into_iter().next() {
            Some(error) => {
                step.failed(&error);
                return Err(error.into());
            }
            None => step.ok(None),
        }
        let loaded = LoadedModules::read(host)?;
        let own = context.family.modules.unloaded();
        let unload_plan = UnloadPlan::compute(&loaded, &own, &unload_policy(context))?;
        run_hook(context, phase, Hook::PreStop, deadline).await;
        for module in unload_plan.order() {
            let step = phase.step(Step::UnloadNew { module: module.clone() });
            step.record(unload(host, &module, deadline).await)?;
        }
        run_hook(context, phase, Hook::PostStop, deadline).await;
    }
    if plan.load.is_empty() {
        return Ok(());
    }
    run_hook(context, phase, Hook::PreStart, deadline).await;
    for kept in plan.load {
        let step = phase.step(Step::LoadPrevious { module: kept.module.clone() });
        match load_backup(context, &previous, kept, snapshot, deadline).await {
            Ok(()) => step.ok(None),
            Err(error) => {
                step.failed(&error);
                if context.family.modules.own().contains(&kept.module) {
                    return Err(error);
                }
                tracing::warn!(module = %kept.module, error = crate::error_chain(&error), "module not loaded; the driver works without this one");
            }
        }
    }
    run_hook(context, phase, Hook::PostStart, deadline).await;
    Ok(())
}

async fn load_backup(
    context: &Context,
    previous: &ModuleBackups,
    kept: &ModuleBackup,
    snapshot: &Snapshot,
    deadline: Duration,
) -> Result<(), RollbackError> {
    let host = &context.host;
    let Some(file) = &kept.file else {
        // The module that modprobe finds is the best there is.
        return Ok(load(host, &load_request(context, &ModuleTree::Own, &kept.module), deadline).await?);
    };
    let file = context.store.backup_folder().join(file);
    // What it needs and is not itself one of the previous modules has not changed: it is loaded from the tree.
    let loaded = LoadedModules::read(host)?;
    for needed in ModuleFile::read(host, &file)?.depends {
        if !loaded.contains(&needed) && !previous.modules.iter().any(|other| other.module == needed) {
            load(host, &load_request(context, &ModuleTree::Own, &needed), deadline).await?;
        }
    }
    let asynchronous = context.family.modules.async_probe.contains(&kept.module);
    let mut parameters: Vec<(&str, &str)> =
        asynchronous.then_some(("async_probe", "1")).into_iter().collect();
    let plain = parameters.len();
    let given = snapshot.parameters.get(&kept.module).into_iter().flatten();
    parameters.extend(given.map(|(name, value)| (name.as_str(), value.as_str())));
    match load_file(host, &kept.module, &file, &parameters, deadline).await {
        Err(error) if parameters.len() > plain => {
            // A value that was set later may be none that is taken at the load.
            tracing::warn!(module = %kept.module, error = crate::error_chain(&error), "loading the module with its earlier parameters failed; loading it with the driver's defaults");
            parameters.truncate(plain);
            Ok(load_file(host, &kept.module, &file, &parameters, deadline).await?)
        }
        loaded => Ok(loaded?),
    }
}

#[cfg(test)]
mod tests {
    use nic_host::BootId;
    use nic_kmod::LoadedModule;

    use super::*;

    fn kept(module: &str, build_id: u8, has_file: bool) -> ModuleBackup {
        ModuleBackup {
            module: module.parse().unwrap(),
            srcversion: None,
            build_id: Some(format!("{build_id:02x}").repeat(20).parse().unwrap()),
            file: has_file.then(|| format!("{module}.ko")),
            found_at: None,
        }
    }

    fn running(modules: &[(&str, u8)]) -> LoadedModules {
        modules
            .iter()
            .map(|(name, build_id)| LoadedModule {
                build_id: Some(format!("{build_id:02x}").repeat(20).parse().unwrap()),
                ..LoadedModule::new(name.parse().unwrap(), Vec::new())
            })
            .collect()
    }

    #[test]
    fn only_what_is_not_the_previous_driver_is_exchanged() {
        let previous = |files: bool| {
            let modules = vec![kept("igb", 1, files), kept("igbvf", 1, files)];
            ModuleBackups::now(BootId("boot".into()), "6.12.1".parse().unwrap(), modules)
        };
        for (files, loaded, unload, load) in [
            // The new driver, or half of it.
            (true, &[("igb", 2), ("igbvf", 2)][..], true, &["igb", "igbvf"][..]),
            (true, &[("igb", 2)], true, &["igb", "igbvf"]),
            // Half unloaded, wholly unloaded, or back already.
            (true, &[("igb", 1)], false, &["igbvf"]),
            (true, &[], false, &["igb", "igbvf"]),
            (true, &[("igb", 1), ("igbvf", 1)], false, &[]),
            // No way back: what is loaded stays, and what is not comes from the tree.
            (false, &[("igb", 2)], false, &["igbvf"]),
        ] {
            let previous = previous(files);
            let plan = RollbackPlan::plan(&previous, &running(loaded));
            let names: Vec<&str> = plan.load.iter().map(|kept| kept.module.as_str()).collect();
            assert_eq!((plan.unload, names.as_slice()), (unload, load), "{loaded:?}");
        }
    }
}

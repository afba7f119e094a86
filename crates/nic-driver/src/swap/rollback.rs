//! The previous modules into the kernel again, when the new ones do not come up.

use std::time::Duration;

use nic_kmod::{
    LoadError, LoadedModule, LoadedModules, ModuleFile, ModuleIndex, ModuleName, ParseModuleError,
    ReadLoadedError,
};
use nic_sriov::{ObserveError, RemoveVfsError, find_pfs};

use super::hooks::{Hook, run_hook};
use super::load::{load_request, parameters_taken};
use super::module_tree::ModuleTree;
use super::unload::{Leaving, UnloadStackError, remove_all_vfs, unload_stack_with_hooks};
use crate::context::{Context, ReloadWith};
use crate::state::{BackupFileError, ModuleBackup, ModuleBackups, PhaseRecord, RecordError, Snapshot, Step};

/// The previous modules could not be loaded again.
#[derive(Debug, thiserror::Error)]
pub enum RollbackError {
    /// What was kept cannot be read.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The loaded modules could not be read.
    #[error(transparent)]
    Loaded(#[from] ReadLoadedError),
    /// VFs that the new driver has cannot be taken away.
    #[error(transparent)]
    RemoveVfs(#[from] RemoveVfsError),
    /// The new modules could not be unloaded.
    #[error(transparent)]
    Unload(#[from] UnloadStackError),
    /// A kept file is damaged.
    #[error(transparent)]
    File(#[from] BackupFileError),
    /// A kept file is no module.
    #[error(transparent)]
    Module(#[from] ParseModuleError),
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
    /// Whether the family's modules that are loaded must go first: one of them is not what is gone back to.
    unload: bool,
    /// What is to be loaded then, in order.
    load: Vec<&'previous ModuleBackup>,
}

impl<'previous> RollbackPlan<'previous> {
    /// `own` are the family's modules that must be of one driver; what stands on top of them may be of any.
    fn plan(previous: &'previous ModuleBackups, own: &[ModuleName], loaded: &LoadedModules) -> Self {
        let is_loaded =
            |kept: &ModuleBackup| loaded.get(&kept.module).is_some_and(|loaded| kept.is_same_build(loaded));
        let (drivers, on_top): (Vec<_>, Vec<_>) =
            previous.modules.iter().partition(|kept| own.contains(&kept.module));
        let has_all_files = drivers.iter().all(|kept| kept.file.is_some());
        // It may have failed before anything of it was unloaded.
        let runs_still = drivers.iter().all(|kept| is_loaded(kept));
        if has_all_files || runs_still || previous.inbox.is_empty() {
            let is_another = |kept: &&ModuleBackup| {
                // Without a file to go back to, what is loaded is better than nothing.
                kept.file.is_some() && loaded.contains(&kept.module) && !is_loaded(kept)
            };
            let unload = previous.modules.iter().any(|kept| is_another(&kept));
            let is_due = |kept: &&ModuleBackup| unload || !loaded.contains(&kept.module);
            return Self { unload, load: previous.modules.iter().filter(is_due).collect() };
        }
        // Half of one driver and half of another do not fit each other: all that is loaded must be the distribution's.
        let is_inbox = |module: &LoadedModule| previous.inbox.iter().any(|kept| kept.is_same_build(module));
        let unload = loaded.iter().any(|module| own.contains(&module.name) && !is_inbox(module));
        let load = previous.inbox.iter().chain(on_top);
        Self { unload, load: load.filter(|kept| unload || !loaded.contains(&kept.module)).collect() }
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
        tracing::warn!("there is no backup of the previous modules");
        return Ok(());
    };
    let previous = without_damaged_files(context, previous);
    let own = context.family.modules.own();
    let plan = RollbackPlan::plan(&previous, &own, &LoadedModules::read(host)?);
    if plan.unload {
        let pfs = find_pfs(host, &context.family.devices)?;
        remove_all_vfs(context, phase, Leaving::New, &pfs).await?;
        unload_stack_with_hooks(context, phase, Leaving::New, deadline).await?;
    }
    // Also when nothing is to be loaded: what the hooks stopped before the unload must be started again. An init script
    // runs them itself.
    let has_loads = plan.unload || !plan.load.is_empty();
    let starts = has_loads || context.settings.reload_with == ReloadWith::Native;
    if starts {
        run_hook(context, phase, Hook::PreStart, deadline).await;
    }
    let tree = BackupTree::new(context, &plan);
    for kept in &plan.load {
        let step = phase.step(Step::LoadPrevious { module: kept.module.clone() });
        match tree.load(context, kept, snapshot, deadline).await {
            Ok(()) => step.ok(kept.found_at.as_ref().map(|path| format!("kept from {}", path.display()))),
            Err(error) => {
                step.failed(&error);
                if own.contains(&kept.module) {
                    return Err(error);
                }
                tracing::warn!(
                    module = %kept.module,
                    error = crate::error_chain(&error),
                    "module not loaded; the driver works without this one"
                );
            }
        }
    }
    if starts {
        run_hook(context, phase, Hook::PostStart, deadline).await;
    }
    Ok(())
}

/// A file that is not what was kept is as good as none.
fn without_damaged_files(context: &Context, previous: ModuleBackups) -> ModuleBackups {
    let checked = |kept: ModuleBackup| match context.store.read_module_file(&kept) {
        Ok(_) => kept,
        Err(error) => {
            tracing::warn!(
                module = %kept.module,
                error = crate::error_chain(&error),
                "the kept file of this module is not used"
            );
            ModuleBackup { file: None, found_at: None, ..kept }
        }
    };
    let modules = previous.modules.into_iter().map(checked).collect();
    let inbox: Option<Vec<_>> = previous
        .inbox
        .into_iter()
        .map(|kept| Some(checked(kept)).filter(|kept| kept.file.is_some()))
        .collect();
    ModuleBackups { modules, inbox: inbox.unwrap_or_default(), ..previous }
}

/// Where the modules that are gone back to are loaded from: their kept files and, for the kernel's own that they need,
/// the module tree.
struct BackupTree<'plan> {
    load: &'plan [&'plan ModuleBackup],
    index: Option<ModuleIndex>,
}

impl<'plan> BackupTree<'plan> {
    fn new(context: &Context, plan: &'plan RollbackPlan<'_>) -> Self {
        let index = ModuleTree::Own.index(context);
        let index = index.inspect_err(|error| {
            tracing::info!(error = crate::error_chain(error), "the module tree has no index");
        });
        Self { load: &plan.load, index: index.ok() }
    }

    async fn load_from_tree(
        &self,
        context: &Context,
        module: &ModuleName,
        deadline: Duration,
    ) -> Result<(), LoadError> {
        let request = load_request(context, &ModuleTree::Own, module);
        // A container's own tree lacks the kernel's modules; the host's has them.
        let request = match self.index.as_ref().and_then(|index| index.root_of(module)) {
            Some(root) => request.root(root),
            None => request,
        };
        context.machine.load(&request, deadline).await
    }

    async fn load(
        &self,
        context: &Context,
        kept: &ModuleBackup,
        snapshot: &Snapshot,
        deadline: Duration,
    ) -> Result<(), RollbackError> {
        let host = &context.host;
        // The bytes that are compared with their checksum are the ones that say what the module needs.
        let (Some(content), Some(file)) = (context.store.read_module_file(kept)?, &kept.file) else {
            // The module that modprobe finds is the best there is.
            return Ok(self.load_from_tree(context, &kept.module, deadline).await?);
        };
        let file = context.store.backup_folder().join(file);
        // What it needs and is not itself one of the previous modules has not changed: it is loaded from the tree.
        let loaded = LoadedModules::read(host)?;
        for needed in ModuleFile::parse(&file, &content)?.depends {
            if !loaded.contains(&needed) && !self.load.iter().any(|other| other.module == needed) {
                self.load_from_tree(context, &needed, deadline).await?;
            }
        }
        let asynchronous = context.family.modules.async_probe.contains(&kept.module);
        let mut parameters: Vec<(&str, &str)> =
            asynchronous.then_some(("async_probe", "1")).into_iter().collect();
        let plain = parameters.len();
        let given = snapshot.parameters.get(&kept.module).into_iter().flatten();
        parameters.extend(given.map(|(name, value)| (name.as_str(), value.as_str())));
        match context.machine.load_file(&kept.module, &file, &parameters, deadline).await {
            Err(error) if parameters.len() > plain => {
                // A value that was set later may be none that is taken at the load.
                tracing::warn!(
                    module = %kept.module,
                    error = crate::error_chain(&error),
                    "loading the module with its earlier parameters failed; loading it with the driver's defaults"
                );
                parameters.truncate(plain);
                context.machine.load_file(&kept.module, &file, &parameters, deadline).await?;
            }
            loaded => loaded?,
        }
        if let Some(given) = snapshot.parameters.get(&kept.module) {
            // What is not as before is in the log.
            let _ = parameters_taken(host, &kept.module, given);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use nic_host::BootId;

    use super::*;

    fn running(modules: &[(&str, u8)]) -> LoadedModules {
        modules.iter().map(|(name, build_id)| module(name, *build_id)).collect()
    }

    fn module(name: &str, build_id: u8) -> LoadedModule {
        LoadedModule {
            build_id: Some(format!("{build_id:02x}").repeat(20).parse().unwrap()),
            ..LoadedModule::new(name.parse().unwrap(), Vec::new())
        }
    }

    fn kept(name: &str, build_id: u8, has_file: bool) -> ModuleBackup {
        let file = has_file.then(|| format!("{name}-{build_id}.ko"));
        ModuleBackup { file, ..ModuleBackup::without_file(&module(name, build_id)) }
    }

    fn previous(modules: Vec<ModuleBackup>, inbox: Vec<ModuleBackup>) -> ModuleBackups {
        ModuleBackups::now(BootId("boot".into()), "6.12.1".parse().unwrap(), modules, inbox)
    }

    fn plan(previous: &ModuleBackups, loaded: &[(&str, u8)]) -> (bool, Vec<String>) {
        let own = ["igb", "igbvf"].map(|name| name.parse().unwrap());
        let plan = RollbackPlan::plan(previous, &own, &running(loaded));
        let text = |kept: &&ModuleBackup| {
            kept.file.clone().unwrap_or_else(|| format!("{} from the tree", kept.module))
        };
        (plan.unload, plan.load.iter().map(text).collect())
    }

    #[test]
    fn only_what_is_not_the_previous_driver_is_swapped() {
        for (files, loaded, unload, load) in [
            // The new driver, or half of it.
            (true, &[("igb", 2), ("igbvf", 2)][..], true, &["igb-1.ko", "igbvf-1.ko"][..]),
            (true, &[("igb", 2)], true, &["igb-1.ko", "igbvf-1.ko"]),
            // Half unloaded, wholly unloaded, or back already.
            (true, &[("igb", 1)], false, &["igbvf-1.ko"]),
            (true, &[], false, &["igb-1.ko", "igbvf-1.ko"]),
            (true, &[("igb", 1), ("igbvf", 1)], false, &[]),
            // No way back: what is loaded stays, and what is not comes from the tree.
            (false, &[("igb", 2)], false, &["igbvf from the tree"]),
        ] {
            let previous = previous(vec![kept("igb", 1, files), kept("igbvf", 1, files)], Vec::new());
            assert_eq!(
                plan(&previous, loaded),
                (unload, load.iter().map(ToString::to_string).collect()),
                "{loaded:?}"
            );
        }
    }

    #[test]
    fn the_inbox_driver_is_gone_back_to_as_a_whole_when_a_file_is_missing() {
        let inbox = || vec![kept("igb", 7, true), kept("igbvf", 7, true)];
        let modules = vec![kept("igb", 1, true), kept("igbvf", 1, false), kept("peer", 1, true)];
        let previous = previous(modules, inbox());
        for (loaded, unload, load) in [
            // Nothing of it was unloaded: it stays, and what stood on top comes back.
            (&[("igb", 1), ("igbvf", 1)][..], false, &["peer-1.ko"][..]),
            (&[("igb", 1), ("igbvf", 1), ("peer", 1)], false, &[]),
            // Half of it, or of the new one: neither fits the inbox driver.
            (&[("igb", 1)], true, &["igb-7.ko", "igbvf-7.ko", "peer-1.ko"]),
            (&[("igb", 2), ("igbvf", 2)], true, &["igb-7.ko", "igbvf-7.ko", "peer-1.ko"]),
            (&[], false, &["igb-7.ko", "igbvf-7.ko", "peer-1.ko"]),
            // Half of the inbox driver, or all of it, loaded by a process that was killed.
            (&[("igb", 7)], false, &["igbvf-7.ko", "peer-1.ko"]),
            (&[("igb", 7), ("igbvf", 7), ("peer", 1)], false, &[]),
        ] {
            assert_eq!(
                plan(&previous, loaded),
                (unload, load.iter().map(ToString::to_string).collect()),
                "{loaded:?}"
            );
        }
    }
}

//! Going back to the driver that ran before, when the new one does not come up.

use std::time::Duration;

use nic_host::{Host, ReadError};
use nic_kmod::{
    LoadError, LoadedModules, ModuleFile, ModuleFileError, ModuleIndex, ModuleName, OnDisk, ReadLoadedError,
    UnloadBlocked, UnloadError, UnloadPlan, load, load_file, unload,
};
use nic_sriov::{LinkSource, ObserveError, RemoveVfsError, find_pfs, remove_vfs};

use super::Context;
use super::hooks::{Hook, run_hook};
use super::preflight::unload_policy;
use super::reload::ModuleTree;
use super::restore::{RestorePhaseError, Restored, restore_held};
use super::resume::{
    LeftoverError, PfMissing, listen_and_wait_for_pfs, load_request, pfs_on_their_way,
    remove_leftover_blacklist,
};
use crate::state::{
    Attempt, AttemptedModule, PhaseRecord, PreviousModule, PreviousModules, RecordError, RolledBack,
    Snapshot, sha256,
};

/// The going back failed.
#[derive(Debug, thiserror::Error)]
pub enum GoBackError {
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
    /// The machine could not be observed.
    #[error(transparent)]
    Observe(#[from] ObserveError),
    /// The machine could not be looked at.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The blacklist stays.
    #[error(transparent)]
    Blacklist(#[from] LeftoverError),
    /// A PF did not come back under the previous driver either.
    #[error(transparent)]
    PfMissing(#[from] PfMissing),
    /// The NICs could not be restored under the previous driver.
    #[error(transparent)]
    Restore(#[from] RestorePhaseError),
    /// They were restored, and are not what they were.
    #[error("the previous driver runs again, and not all VFs are what they were: {0}")]
    NotVerified(String),
}

/// What is tried, for recognising it when it is to be tried again.
pub(super) fn attempt(context: &Context, index: &ModuleIndex) -> Attempt {
    let modules = &context.family.modules;
    let sha256_of = |host: &Host, module| match OnDisk::read(host, index, module) {
        Ok(OnDisk::File(file)) => host.read_bytes(&file.path).ok().map(|bytes| sha256(&bytes)),
        // What cannot be read cannot be loaded either; the comparison of identities has said so.
        Ok(OnDisk::Builtin | OnDisk::Absent) | Err(_) => None,
    };
    let modules = modules
        .identity
        .iter()
        .map(|module| AttemptedModule { module: module.clone(), sha256: sha256_of(&context.host, module) });
    Attempt {
        // A family is plain data, and serialises always.
        family: serde_json::to_vec(&context.family).map(|bytes| sha256(&bytes)).unwrap_or_default(),
        timeout_s: context.settings.timeout.as_secs(),
        modules: modules.collect(),
    }
}

/// The record that forbids to try the installed driver again, if there is one.
pub(super) fn refusal(context: &Context, index: &ModuleIndex) -> Result<Option<RolledBack>, RecordError> {
    if context.settings.retry_rolled_back {
        return Ok(None);
    }
    let Some(record) = context.store.rolled_back()? else { return Ok(None) };
    Ok(Some(record).filter(|record| record.refuses(&context.boot_id, &attempt(context, index))))
}

/// Records that the driver is taken back, before it is: a process that is killed meanwhile must not try it again.
pub(super) fn record(
    context: &Context,
    phase: &PhaseRecord,
    attempt: Attempt,
    cause: &dyn std::error::Error,
) {
    let record = RolledBack::now(context.boot_id.clone(), attempt, crate::error_chain(cause));
    // A failure is in the journal, and going back matters more.
    let _ = phase.step("record that the driver is taken back").record(context.store.put_rolled_back(&record));
}

/// Goes back to the previous modules, and restores the NICs under them. Can be begun anew at any point.
pub(super) async fn go_back(
    context: &Context,
    phase: &PhaseRecord,
    snapshot: &Snapshot,
) -> Result<Restored, GoBackError> {
    let deadline = context.settings.restore_options().deadline(snapshot.nics.vf_count());
    put_modules_back(context, phase, snapshot, deadline).await?;
    remove_leftover_blacklist(context, phase)?;
    if let LinkSource::Kernel(kernel) = LinkSource::open(&context.host).await? {
        let pfs = pfs_on_their_way(context, snapshot)?;
        listen_and_wait_for_pfs(context, phase, &kernel, &pfs, deadline).await?;
    }
    let restored = restore_held(context).await?;
    if restored.is_verified() { Ok(restored) } else { Err(GoBackError::NotVerified(restored.summary())) }
}

/// What is to be done with the modules so that the previous ones run: pure.
#[derive(Debug, PartialEq, Eq)]
struct ModulesBack<'previous> {
    /// Whether the family's modules that are loaded must go first: one of them is not what ran before.
    unload: bool,
    /// What is to be loaded then, in order.
    load: Vec<&'previous PreviousModule>,
}

impl<'previous> ModulesBack<'previous> {
    fn plan(previous: &'previous PreviousModules, loaded: &LoadedModules) -> Self {
        let is_another = |kept: &&PreviousModule| {
            // Without a file to go back to, what is loaded is better than nothing.
            kept.file.is_some() && loaded.get(&kept.module).is_some_and(|loaded| !kept.is(loaded))
        };
        let unload = previous.modules.iter().any(|kept| is_another(&kept));
        let load = previous.modules.iter().filter(|kept| unload || !loaded.contains(&kept.module)).collect();
        Self { unload, load }
    }
}

/// Makes the modules run that were kept; where nothing was kept, leaves those that are loaded.
pub(super) async fn put_modules_back(
    context: &Context,
    phase: &PhaseRecord,
    snapshot: &Snapshot,
    deadline: Duration,
) -> Result<(), GoBackError> {
    let host = &context.host;
    let Some(previous) = context.store.previous(&context.boot_id)? else {
        tracing::warn!("no previous modules were kept");
        return Ok(());
    };
    let back = ModulesBack::plan(&previous, &LoadedModules::read(host)?);
    if back.unload {
        let pfs = find_pfs(host, &context.family.devices)?;
        let step = phase.step("remove the VFs of the new driver");
        match remove_vfs(host, &pfs, context.settings.jobs, deadline).await.into_iter().next() {
            Some(error) => {
                step.failed(&error);
                return Err(error.into());
            }
            None => step.ok(None),
        }
        let loaded = LoadedModules::read(host)?;
        let own = context.family.modules.unloaded();
        let plan = UnloadPlan::compute(&loaded, &own, &unload_policy(context))?;
        run_hook(context, phase, Hook::PreStop, deadline).await;
        for module in plan.order() {
            let step = phase.step(format!("unload the new {module}"));
            step.record(unload(host, &module, deadline).await)?;
        }
        run_hook(context, phase, Hook::PostStop, deadline).await;
    }
    if back.load.is_empty() {
        return Ok(());
    }
    run_hook(context, phase, Hook::PreStart, deadline).await;
    for kept in back.load {
        let step = phase.step(format!("load the previous {}", kept.module));
        match load_previous(context, &previous, kept, snapshot, deadline).await {
            Ok(()) => step.ok(None),
            Err(error) => {
                step.failed(&error);
                if context.family.modules.own().contains(&kept.module) {
                    return Err(error);
                }
                tracing::warn!(error = crate::error_chain(&error), "the driver comes up without it");
            }
        }
    }
    run_hook(context, phase, Hook::PostStart, deadline).await;
    Ok(())
}

async fn load_previous(
    context: &Context,
    previous: &PreviousModules,
    kept: &PreviousModule,
    snapshot: &Snapshot,
    deadline: Duration,
) -> Result<(), GoBackError> {
    let host = &context.host;
    let Some(file) = &kept.file else {
        // The module that modprobe finds is the best there is.
        return Ok(load(host, &load_request(context, &ModuleTree::Own, &kept.module), deadline).await?);
    };
    let file = context.store.previous_folder().join(file);
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
            tracing::warn!(error = crate::error_chain(&error), "tried without the parameters it had");
            parameters.truncate(plain);
            Ok(load_file(host, &kept.module, &file, &parameters, deadline).await?)
        }
        loaded => Ok(loaded?),
    }
}

/// Drops the kept files when another driver than theirs has proved itself: it runs, and its NICs were verified.
///
/// While what runs is what was kept, the files may be all that is left of it: after a rollback, or when its packages
/// are removed already and its exchange is still to come.
pub(super) fn drop_previous_unless_running(context: &Context, phase: &PhaseRecord) {
    let runs = || -> Result<bool, GoBackError> {
        let Some(previous) = context.store.previous(&context.boot_id)? else { return Ok(false) };
        Ok(runs_still(&previous, &context.family.modules.identity, &LoadedModules::read(&context.host)?))
    };
    match runs() {
        Ok(true) => {}
        // A failure is in the journal; what stays is only space.
        Ok(false) if context.store.previous_folder().exists() => {
            let _ = phase.step("drop the previous modules").record(context.store.forget_previous());
        }
        Ok(false) => {}
        Err(error) => tracing::warn!(error = crate::error_chain(&error), "the kept files stay"),
    }
}

/// Whether one of the modules that make up the driver is the kept one. What only stood on top tells nothing.
fn runs_still(previous: &PreviousModules, driver: &[ModuleName], loaded: &LoadedModules) -> bool {
    let mut kept = previous.modules.iter().filter(|kept| driver.contains(&kept.module));
    kept.any(|kept| loaded.get(&kept.module).is_some_and(|loaded| kept.is(loaded)))
}

#[cfg(test)]
mod tests {
    use nic_host::BootId;
    use nic_kmod::LoadedModule;

    use super::*;

    fn kept(module: &str, build_id: u8, has_file: bool) -> PreviousModule {
        PreviousModule {
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
            PreviousModules::now(BootId("boot".into()), "6.12.1".parse().unwrap(), modules)
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
            let back = ModulesBack::plan(&previous, &running(loaded));
            let names: Vec<&str> = back.load.iter().map(|kept| kept.module.as_str()).collect();
            assert_eq!((back.unload, names.as_slice()), (unload, load), "{loaded:?}");
            let same = loaded.iter().any(|(_, build_id)| *build_id == 1);
            let driver = ["igb", "igbvf"].map(|name| name.parse().unwrap());
            assert_eq!(runs_still(&previous, &driver, &running(loaded)), same, "{loaded:?}");
            assert!(!runs_still(&previous, &[], &running(loaded)), "{loaded:?}");
        }
    }
}

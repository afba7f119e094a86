//! Backups of the modules that run: the way back, kept before others take their places.

use std::path::Path;

use nic_host::WriteError;
use nic_kmod::{
    LoadedModule, LoadedModules, ModuleFile, ModuleName, ReadLoadedError, file_of_loaded, find_module_files,
    read_unpacked,
};

use super::unload_policy::unload_policy;
use crate::context::{Context, HOST_ROOT};
use crate::state::{ModuleBackup, ModuleBackups, PhaseRecord, RecordError, SnapshotError, Step};

/// The way back could not be kept. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The loaded modules could not be read.
    #[error(transparent)]
    Loaded(#[from] ReadLoadedError),
    /// The stored snapshot cannot be used.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The record of an earlier backup cannot be read.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A file could not be written.
    #[error("the files of the running driver could not be kept")]
    Write(#[from] WriteError),
}

/// Keeps the files of the loaded modules that a reload may unload, so that they can be loaded again when others do not
/// come up.
///
/// While a snapshot is armed, what runs has not proved itself: then what is kept stays.
pub(crate) fn back_up_running_modules(context: &Context, phase: &PhaseRecord) -> Result<(), BackupError> {
    if context.snapshot_state()?.armed().is_some() {
        return Ok(());
    }
    let step = phase.step(Step::BackUpModules);
    match collect_backup(context) {
        Ok(detail) => {
            step.ok(detail);
            Ok(())
        }
        Err(error) => {
            step.failed(&error);
            Err(error)
        }
    }
}

fn collect_backup(context: &Context) -> Result<Option<String>, BackupError> {
    let family = context.family.modules.unloaded();
    let on_top = unload_policy(context).may_unload;
    let loaded = LoadedModules::read(&context.host)?;
    // The kernel lists the one loaded last first.
    let mut running: Vec<&LoadedModule> = loaded
        .iter()
        .filter(|module| family.contains(&module.name) || on_top.contains(&module.name))
        .collect();
    running.reverse();
    if running.is_empty() {
        return Ok(Some("none runs".to_owned()));
    }
    let known = context.store.module_backups(&context.boot_id).unwrap_or_else(|error| {
        tracing::warn!(
            error = crate::error_chain(&error),
            "what was kept before cannot be read, and is kept anew"
        );
        None
    });
    let known = known.map(|known| known.modules).unwrap_or_default();
    let names: Vec<_> = running.iter().map(|module| module.name.clone()).collect();
    let candidates: Vec<_> = ["/", HOST_ROOT]
        .iter()
        .map(|root| Path::new(root).join("lib/modules").join(context.kernel.as_str()))
        .filter(|folder| context.host.exists(folder))
        .flat_map(|folder| find_module_files(&context.host, &folder, &names))
        .collect();

    let mut modules = Vec::new();
    let mut lost = Vec::new();
    for module in running {
        let kept =
            known.iter().find(|kept| kept.is_same_build(module) && backup_exists(context, kept)).cloned();
        let kept = match kept {
            Some(kept) => kept,
            None => {
                let files = candidates.iter().filter(|(name, _)| *name == module.name);
                let files = files.filter_map(|(_, path)| {
                    let file = ModuleFile::read(&context.host, path);
                    file.inspect_err(|error| {
                        tracing::info!(path = %path.display(), error = crate::error_chain(error), "not a readable module, and no backup candidate");
                    })
                    .ok()
                });
                // One after the other: each of them is unpacked for it.
                back_up_module(context, module, file_of_loaded(module, files))?
            }
        };
        if kept.file.is_none() {
            lost.push(kept.module.to_string());
        }
        modules.push(kept);
    }
    context.store.write_module_backups(&ModuleBackups::now(
        context.boot_id.clone(),
        context.kernel.clone(),
        modules,
    ))?;
    if lost.is_empty() {
        return Ok(None);
    }
    let lost = lost.join(", ");
    tracing::warn!(lost, "no file is known to be the loaded one: there is no way back to it");
    Ok(Some(format!("no file found of {lost}")))
}

fn backup_exists(context: &Context, kept: &ModuleBackup) -> bool {
    kept.file.as_ref().is_some_and(|file| context.store.backup_folder().join(file).exists())
}

fn back_up_module(
    context: &Context,
    module: &LoadedModule,
    found: Option<ModuleFile>,
) -> Result<ModuleBackup, BackupError> {
    let mut kept = ModuleBackup {
        module: module.name.clone(),
        srcversion: module.srcversion.clone(),
        build_id: module.build_id.clone(),
        file: None,
        found_at: None,
    };
    let Some(found) = found else { return Ok(kept) };
    match read_unpacked(&context.host, &found.path) {
        Ok(content) => {
            let file = context.store.write_module_file(&module.name, &content)?;
            if let Err(error) = context.host.label_module_files([context.store.backup_folder().join(&file)]) {
                // Whether that matters is for the policy to say; loading the module tells.
                tracing::warn!(
                    error = crate::error_chain(&error),
                    "a kept module has another label than modules have"
                );
            }
            kept.file = Some(file);
            kept.found_at = Some(found.path);
        }
        // It was readable a moment ago.
        Err(error) => tracing::warn!(error = crate::error_chain(&error), "a module's file cannot be kept"),
    }
    Ok(kept)
}

/// Drops the kept files when another driver than theirs has proved itself: it runs, and its NICs were verified.
///
/// While what runs is what was kept, the files may be all that is left of it: after a rollback, or when its packages
/// are removed already and its exchange is still to come.
pub(crate) fn drop_backup_unless_running(context: &Context, phase: &PhaseRecord) {
    match backup_still_runs(context) {
        Ok(true) => {}
        // A failure is in the journal; what stays is only space.
        Ok(false) if context.store.backup_folder().exists() => {
            let _ = phase.step(Step::DropBackup).record(context.store.remove_module_backups());
        }
        Ok(false) => {}
        Err(error) => tracing::warn!(
            error = crate::error_chain(&error),
            "whether the backup of modules is still needed cannot be told: it stays"
        ),
    }
}

fn backup_still_runs(context: &Context) -> Result<bool, BackupError> {
    let Some(backups) = context.store.module_backups(&context.boot_id)? else { return Ok(false) };
    Ok(runs_still(&backups, &context.family.modules.identity, &LoadedModules::read(&context.host)?))
}

/// Whether one of the modules that make up the driver is the kept one. What only stood on top tells nothing.
fn runs_still(previous: &ModuleBackups, driver: &[ModuleName], loaded: &LoadedModules) -> bool {
    let mut kept = previous.modules.iter().filter(|kept| driver.contains(&kept.module));
    kept.any(|kept| loaded.get(&kept.module).is_some_and(|loaded| kept.is_same_build(loaded)))
}

#[cfg(test)]
mod tests {
    use nic_host::BootId;

    use super::*;

    #[test]
    fn a_backup_still_runs_while_one_module_of_the_driver_is_the_kept_one() {
        let build_id = |byte: u8| Some(format!("{byte:02x}").repeat(20).parse().unwrap());
        let backup = |module: &str| ModuleBackup {
            module: module.parse().unwrap(),
            srcversion: None,
            build_id: build_id(1),
            file: None,
            found_at: None,
        };
        let modules = vec![backup("igb"), backup("igbvf")];
        let backups = ModuleBackups::now(BootId("boot".into()), "6.12.1".parse().unwrap(), modules);
        let driver = ["igb", "igbvf"].map(|name| name.parse().unwrap());
        for (loaded, still) in [
            (&[("igb", 2), ("igbvf", 2)][..], false),
            (&[("igb", 1)], true),
            (&[("igb", 2), ("igbvf", 1)], true),
            (&[], false),
        ] {
            let loaded: LoadedModules = loaded
                .iter()
                .map(|(name, byte)| LoadedModule {
                    build_id: build_id(*byte),
                    ..LoadedModule::new(name.parse().unwrap(), Vec::new())
                })
                .collect();
            assert_eq!(runs_still(&backups, &driver, &loaded), still, "{loaded:?}");
            assert!(!runs_still(&backups, &[], &loaded), "{loaded:?}");
        }
    }
}

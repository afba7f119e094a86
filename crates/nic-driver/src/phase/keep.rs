//! Keeping the way back: the files of the modules that run, before others take their places.

use std::path::Path;

use nic_host::WriteError;
use nic_kmod::{
    LoadedModule, LoadedModules, ModuleFile, ReadLoadedError, file_of_loaded, find_module_files,
    read_unpacked,
};

use super::Context;
use super::preflight::unload_policy;
use super::resume::armed_snapshot;
use crate::state::{PhaseRecord, PreviousModule, PreviousModules, SnapshotError};

/// The way back could not be kept. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// The loaded modules could not be read.
    #[error(transparent)]
    Loaded(#[from] ReadLoadedError),
    /// The stored snapshot cannot be used.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// A file could not be written.
    #[error("the files of the running driver could not be kept")]
    Write(#[from] WriteError),
}

/// Keeps the files of the loaded modules that a reload may unload, so that they can be loaded again when others do not
/// come up.
///
/// While a snapshot is armed, what runs has not proved itself: then what is kept stays.
pub(super) fn keep_previous(context: &Context, phase: &PhaseRecord) -> Result<(), KeepError> {
    if armed_snapshot(context)?.is_some() {
        return Ok(());
    }
    let step = phase.step("keep the modules that run");
    match keep(context) {
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

fn keep(context: &Context) -> Result<Option<String>, KeepError> {
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
    let known = context.store.previous(&context.boot_id).unwrap_or_else(|error| {
        tracing::warn!(
            error = crate::error_chain(&error),
            "what was kept before cannot be read, and is kept anew"
        );
        None
    });
    let known = known.map(|known| known.modules).unwrap_or_default();
    let names: Vec<_> = running.iter().map(|module| module.name.clone()).collect();
    let candidates: Vec<_> = ["/lib/modules", "/host/lib/modules"]
        .iter()
        .map(|tree| Path::new(tree).join(context.kernel.as_str()))
        .filter(|folder| context.host.exists(folder))
        .flat_map(|folder| find_module_files(&context.host, &folder, &names))
        .collect();

    let mut modules = Vec::new();
    let mut lost = Vec::new();
    for module in running {
        let kept = known.iter().find(|kept| kept.is(module) && is_there(context, kept)).cloned();
        let kept = match kept {
            Some(kept) => kept,
            None => {
                let files = candidates.iter().filter(|(name, _)| *name == module.name);
                let files = files.filter_map(|(_, path)| {
                    let file = ModuleFile::read(&context.host, path);
                    file.inspect_err(|error| {
                        tracing::info!(error = crate::error_chain(error), "not considered");
                    })
                    .ok()
                });
                // One after the other: each of them is unpacked for it.
                keep_one(context, module, file_of_loaded(module, files))?
            }
        };
        if kept.file.is_none() {
            lost.push(kept.module.to_string());
        }
        modules.push(kept);
    }
    context.store.put_previous(&PreviousModules::now(
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

fn is_there(context: &Context, kept: &PreviousModule) -> bool {
    kept.file.as_ref().is_some_and(|file| context.store.previous_folder().join(file).exists())
}

fn keep_one(
    context: &Context,
    module: &LoadedModule,
    found: Option<ModuleFile>,
) -> Result<PreviousModule, KeepError> {
    let mut kept = PreviousModule {
        module: module.name.clone(),
        srcversion: module.srcversion.clone(),
        build_id: module.build_id.clone(),
        file: None,
        found_at: None,
    };
    let Some(found) = found else { return Ok(kept) };
    match read_unpacked(&context.host, &found.path) {
        Ok(content) => {
            let file = context.store.keep_module(&module.name, &content)?;
            if let Err(error) = context.host.label_module_files([context.store.previous_folder().join(&file)])
            {
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

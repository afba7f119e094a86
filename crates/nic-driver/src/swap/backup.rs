//! Backups: the files of the modules that run, kept so that these can be loaded again when others do not come up.
//!
//! They are kept twice in a driver's life. When it is verified, since the next driver may come with another container,
//! and this one's files are gone by then; and before it is swapped, when they are looked for again, and the
//! distribution's own are kept where they are not found.

use nic_host::WriteError;
use nic_kmod::{LoadedModules, ModuleIndex, ReadLoadedError, Resolution, read_unpacked};

use super::backup_plan::{BackupPlan, LIMIT, PlannedBackup};
use super::found_module::{FoundModule, described};
use super::way_back::WayBack;
use crate::context::Context;
use crate::state::{ModuleBackup, ModuleBackups, PhaseRecord, SnapshotError, Step};

/// The way back could not be kept. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
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

/// Keeps the way back: the files of the loaded modules that a reload may unload or, where they are not found, those of
/// the distribution's own driver.
///
/// While a snapshot is armed, what runs has not proved itself: then what is kept stays.
pub(crate) fn back_up_running_modules(context: &Context, phase: &PhaseRecord) -> Result<(), BackupError> {
    if context.snapshot_state()?.armed().is_some() {
        return Ok(());
    }
    let step = phase.step(Step::BackUpModules);
    match collect_backup(context) {
        Ok(way_back) => {
            let mut detail = format!("way back: {way_back}");
            if matches!(way_back, WayBack::None { .. }) {
                if context.settings.without_way_back {
                    detail.push_str("; --without-way-back allows that");
                }
                tracing::warn!(%way_back, "there is no way back to the driver that runs");
            }
            step.ok(Some(detail));
            Ok(())
        }
        Err(error) => {
            step.failed(&error);
            Err(error)
        }
    }
}

fn collect_backup(context: &Context) -> Result<WayBack, BackupError> {
    let plan = BackupPlan::observe(context)?;
    let way_back = WayBack::of(context, &plan);
    if way_back != WayBack::NotNeeded {
        let BackupPlan { modules, inbox, .. } = plan;
        write_backup(context, keep_all(context, modules)?, keep_all(context, inbox)?)?;
    }
    Ok(way_back)
}

/// Keeps the files of the driver that has proved itself, for the next swap, and drops all others. Says and writes
/// nothing when they are kept already.
///
/// The node is what it should be, whatever comes of this: the next swap looks for a way back by itself.
pub(crate) fn back_up_verified_driver(context: &Context, phase: &PhaseRecord) {
    let plan = match BackupPlan::observe(context) {
        Ok(plan) => plan,
        Err(error) => {
            tracing::warn!(
                error = crate::error_chain(&error),
                "the loaded modules cannot be read: the files of the verified driver are not kept"
            );
            return;
        }
    };
    if plan.modules.is_empty() || is_kept(context, &plan) {
        return;
    }
    let step = phase.step(Step::BackUpVerifiedDriver);
    let way_back = WayBack::of(context, &plan);
    let kept = keep_all(context, plan.modules).and_then(|modules| write_backup(context, modules, Vec::new()));
    match kept {
        Ok(()) => step.ok(Some(format!("way back: {way_back}"))),
        Err(error) => {
            step.failed(&error);
            tracing::warn!(
                error = crate::error_chain(&error),
                "the files of the verified driver are not kept: the next swap may be without a way back to it"
            );
        }
    }
}

/// Whether the record says what the plan says, and nothing is left to be written.
fn is_kept(context: &Context, plan: &BackupPlan) -> bool {
    let Ok(Some(record)) = context.store.module_backups(&context.boot_id) else { return false };
    let planned = plan.modules.iter().map(|planned| match planned {
        PlannedBackup::Kept(module) | PlannedBackup::Missing(module) => Some(module),
        PlannedBackup::Found(_) => None,
    });
    record.inbox.is_empty() && planned.eq(record.modules.iter().map(Some))
}

fn keep_all(context: &Context, planned: Vec<PlannedBackup>) -> Result<Vec<ModuleBackup>, WriteError> {
    planned
        .into_iter()
        .map(|planned| match planned {
            PlannedBackup::Kept(module) | PlannedBackup::Missing(module) => Ok(module),
            PlannedBackup::Found(found) => keep_one(context, &found),
        })
        .collect()
}

fn keep_one(context: &Context, found: &FoundModule) -> Result<ModuleBackup, WriteError> {
    let (file, _) = context.store.write_module_file(&found.file.name, &found.content)?;
    if let Err(error) = context.host.label_module_files([context.store.backup_folder().join(&file)]) {
        // Whether that matters is for the policy to say; loading the module tells.
        tracing::warn!(
            error = crate::error_chain(&error),
            "a kept module has another label than modules have"
        );
    }
    let kept = ModuleBackup { file: Some(file), ..ModuleBackup::of_file(&found.file) };
    Ok(described(kept, &found.content))
}

fn write_backup(
    context: &Context,
    modules: Vec<ModuleBackup>,
    inbox: Vec<ModuleBackup>,
) -> Result<(), WriteError> {
    let record = ModuleBackups::now(context.boot_id.clone(), context.kernel.clone(), modules, inbox);
    context.store.write_module_backups(&record)
}

/// How many bytes the files of the installed driver take when they are kept, beside those of the one that runs.
pub(crate) fn size_of_next_backup(context: &Context, index: &ModuleIndex) -> Result<usize, ReadLoadedError> {
    let loaded = LoadedModules::read_graph(&context.host)?;
    let wanted = context
        .family
        .modules
        .unloaded()
        .into_iter()
        .filter(|module| context.family.modules.load.contains(module) || loaded.contains(module));
    let size = |module| match index.resolve(&module) {
        // One that cannot be read cannot be loaded either; that says so.
        Resolution::File(path) => read_unpacked(&context.host, path).map_or(0, |content| content.len()),
        Resolution::Builtin | Resolution::Absent => 0,
    };
    Ok(wanted.map(size).sum::<usize>().min(LIMIT))
}

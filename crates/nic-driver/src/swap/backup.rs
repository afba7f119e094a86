//! Backups: the files of the modules that run, kept so that these can be loaded again when others do not come up.
//!
//! They are kept twice in a driver's life. When it is verified, since the next driver may come with another container,
//! and this one's files are gone by then; and before it is swapped, when they are looked for again, and the
//! distribution's own are kept where they are not found.

use nic_host::WriteError;
use nic_kmod::{LoadedModules, ModuleFile, ModuleIndex, ReadLoadedError, Resolution};

use super::backup_plan::{BackupPlan, LIMIT, PlannedBackup, not_kept};
use super::found_module::{FoundModule, described};
use super::way_back::{WayBack, runs_what_is_gone_back_to};
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
pub(crate) fn back_up_running_modules(context: &Context, phase: &PhaseRecord) -> Result<(), BackupError> {
    if !runs_what_is_gone_back_to(context, context.snapshot_state()?.armed().as_ref())? {
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
        write_backup(context, back_up_modules(context, modules)?, back_up_modules(context, inbox)?)?;
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
    let kept =
        back_up_modules(context, plan.modules).and_then(|modules| write_backup(context, modules, Vec::new()));
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

fn back_up_modules(context: &Context, planned: Vec<PlannedBackup>) -> Result<Vec<ModuleBackup>, WriteError> {
    planned
        .into_iter()
        .map(|planned| match planned {
            PlannedBackup::Kept(module) | PlannedBackup::Missing(module) => Ok(module),
            PlannedBackup::Found(found) => back_up_module(context, &found),
        })
        .collect()
}

fn back_up_module(context: &Context, found: &FoundModule) -> Result<ModuleBackup, WriteError> {
    let content = match found.content(context) {
        Ok(content) => content,
        Err(error) => {
            tracing::warn!(
                module = %found.file.name,
                path = %found.file.path.display(),
                error = crate::error_chain(&error),
                "the module's file cannot be read a second time, and is not kept"
            );
            return Ok(not_kept(found));
        }
    };
    let (file, _) = context.store.write_module_file(&found.file.name, &content)?;
    if let Err(error) = context.host.label_module_files([context.store.backup_folder().join(&file)]) {
        // Whether that matters is for the policy to say; loading the module tells.
        tracing::warn!(
            error = crate::error_chain(&error),
            "a kept module has another label than modules have"
        );
    }
    let kept = ModuleBackup { file: Some(file), ..ModuleBackup::of_file(&found.file) };
    Ok(described(kept, &content))
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
pub(crate) fn size_of_next_backup(context: &Context, index: &ModuleIndex) -> Result<u64, ReadLoadedError> {
    let loaded = LoadedModules::read_graph(&context.host)?;
    let wanted = context
        .family
        .modules
        .unloaded()
        .into_iter()
        .filter(|module| context.family.modules.load.contains(module) || loaded.contains(module));
    let size = |module| match index.resolve(&module) {
        // One that cannot be read cannot be loaded either; that says so.
        Resolution::File(path) => ModuleFile::read_with_size(&context.host, path).map_or(0, |(_, size)| size),
        Resolution::Builtin | Resolution::Absent => 0,
    };
    Ok(wanted.map(size).fold(0, u64::saturating_add).min(LIMIT))
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use nic_host::Host;

    use super::*;
    use crate::fixture;
    use crate::state::{Journal, Phase};
    use crate::swap::find_way_back;

    const BEFORE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/documented-node/before");

    /// The documented node, with its state in a folder of its own.
    fn context() -> (tempfile::TempDir, Context) {
        let dir = tempfile::tempdir().unwrap();
        let context = fixture::context(Host::at(BEFORE), &dir.path().join("state"));
        (dir, context)
    }

    fn steps(context: &Context) -> usize {
        Journal::read(&context.store).unwrap().len()
    }

    fn kept_file(context: &Context, module: &str) -> PathBuf {
        let kept = context.store.module_backups(&context.boot_id).unwrap().unwrap();
        let kept = kept.modules.into_iter().find(|kept| kept.module.as_str() == module).unwrap();
        context.store.backup_folder().join(kept.file.unwrap())
    }

    #[test]
    fn a_verified_driver_is_kept_once() {
        let (_dir, context) = context();
        let phase = context.journal.phase(Phase::RestoreSriov);
        back_up_verified_driver(&context, &phase);
        let (kept, lines) =
            (context.store.module_backups(&context.boot_id).unwrap().unwrap(), steps(&context));
        assert_eq!((kept.modules.len(), kept.inbox.len()), (11, 0));
        assert!(kept.modules.iter().all(|kept| kept.file.is_some() && kept.sha256.is_some()));
        // The order of loading, which is not that of /proc/modules.
        assert_eq!(kept.modules.first().unwrap().module.as_str(), "mlxfw");
        back_up_verified_driver(&context, &phase);
        assert_eq!(steps(&context), lines, "nothing is written a second time");
        assert_eq!(context.store.module_backups(&context.boot_id).unwrap(), Some(kept));
    }

    #[test]
    fn a_damaged_file_is_kept_anew_where_there_is_another() {
        let (_dir, context) = context();
        let phase = context.journal.phase(Phase::RestoreSriov);
        back_up_verified_driver(&context, &phase);
        let file = kept_file(&context, "mlx5_core");
        let whole = std::fs::read(&file).unwrap();
        std::fs::write(&file, [&whole[..], b"!"].concat()).unwrap();
        back_up_running_modules(&context, &phase).unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), whole);
    }

    #[test]
    fn what_is_kept_outlives_the_tree_that_it_is_from() {
        let (dir, context) = context();
        let phase = context.journal.phase(Phase::RestoreSriov);
        back_up_verified_driver(&context, &phase);
        // The next container sees the same kernel, and no module tree.
        let next = dir.path().join("next");
        for folder in ["proc", "sys"] {
            let (from, to) = (Path::new(BEFORE).join(folder), next.join(folder));
            std::fs::create_dir_all(&next).unwrap();
            std::os::unix::fs::symlink(from, to).unwrap();
        }
        let next = fixture::context(Host::at(&next), &dir.path().join("state"));
        assert!(matches!(find_way_back(&next).unwrap(), WayBack::Backup { modules: 11, .. }));
        back_up_running_modules(&next, &phase).unwrap();
        assert!(matches!(find_way_back(&next).unwrap(), WayBack::Backup { modules: 11, .. }));
        std::fs::write(kept_file(&next, "ib_core"), "damage").unwrap();
        let WayBack::None { because } = find_way_back(&next).unwrap() else {
            panic!("a damaged file is used")
        };
        assert!(
            because.contains("no file of ib_core is known") && because.contains("is damaged"),
            "{because}"
        );
    }
}

//! Which files of modules are to be kept for the way back, and which of them already are. Nothing is written here.

use std::path::{Path, PathBuf};

use nic_host::HOST_MOUNT;
use nic_kmod::{
    LONGEST_WHOLE, LoadedModule, LoadedModules, ModuleName, ReadLoadedError, file_of_loaded,
    find_module_files,
};

use super::found_module::{FoundModule, described};
use super::inbox::find_inbox_modules;
use super::unload_policy::unload_policy;
use crate::context::Context;
use crate::state::{ModuleBackup, ModuleBackups};

/// What is kept of one driver at most, in bytes. The state directory lies in memory.
pub(super) const LIMIT: u64 = 256 << 20;

/// What is known of a module's file.
pub(super) enum PlannedBackup {
    /// It is kept, and whole.
    Kept(ModuleBackup),
    /// It was found, and is to be kept.
    Found(FoundModule),
    /// No file is known to be that module's.
    Missing(ModuleBackup),
}

/// The files that are the way back.
pub(super) struct BackupPlan {
    /// The modules that run, or ran before the swap that is under way, in the order in which they were loaded.
    pub(super) modules: Vec<PlannedBackup>,
    /// The distribution's own, where one of those is missing.
    pub(super) inbox: Vec<PlannedBackup>,
    /// What is wrong with files that were kept.
    pub(super) damaged: Vec<String>,
}

impl PlannedBackup {
    pub(super) fn module(&self) -> &ModuleName {
        match self {
            Self::Kept(kept) | Self::Missing(kept) => &kept.module,
            Self::Found(found) => &found.file.name,
        }
    }

    pub(super) fn found(&self) -> Option<&FoundModule> {
        match self {
            Self::Found(found) => Some(found),
            Self::Kept(_) | Self::Missing(_) => None,
        }
    }

    pub(super) fn is_missing(&self) -> bool {
        matches!(self, Self::Missing(_))
    }

    fn size(&self) -> u64 {
        match self {
            Self::Found(found) => found.size,
            Self::Kept(_) | Self::Missing(_) => 0,
        }
    }
}

impl BackupPlan {
    /// Looks at the modules that run and that a reload may unload.
    pub(super) fn observe(context: &Context) -> Result<Self, ReadLoadedError> {
        let family = context.family.modules.unloaded();
        let on_top = unload_policy(context).may_unload;
        let loaded = LoadedModules::read(&context.host)?;
        // The kernel lists the one loaded last first.
        let mut running: Vec<&LoadedModule> = loaded
            .iter()
            .filter(|module| family.contains(&module.name) || on_top.contains(&module.name))
            .collect();
        running.reverse();
        let known = known_backups(context);
        let mut plan = Self { modules: Vec::new(), inbox: Vec::new(), damaged: Vec::new() };
        let names: Vec<_> = running.iter().map(|module| module.name.clone()).collect();
        let mut candidates = None;
        for module in running {
            let same_build = |kept: &&ModuleBackup| kept.is_same_build(module);
            let before = known.iter().flat_map(|known| &known.modules).find(same_build);
            let kept = before.and_then(|kept| plan.whole(context, kept));
            plan.modules.push(kept.unwrap_or_else(|| {
                // All trees are walked only when something is not kept yet.
                let candidates = candidates.get_or_insert_with(|| candidate_files(context, &names));
                find_file(context, module, candidates).map_or_else(
                    || PlannedBackup::Missing(without_file(module, before)),
                    PlannedBackup::Found,
                )
            }));
        }
        plan.keep_within_limit();
        if plan.lacks_file(&context.family.modules.own()) {
            plan.inbox = plan.observe_inbox(context, known.as_ref());
        }
        Ok(plan)
    }

    /// What was kept when the swap that is under way began.
    pub(super) fn of_record(context: &Context, record: &ModuleBackups) -> Self {
        let mut plan = Self { modules: Vec::new(), inbox: Vec::new(), damaged: Vec::new() };
        let mut all = |list: &[ModuleBackup]| {
            let one = |kept: &ModuleBackup| {
                plan.whole(context, kept)
                    .unwrap_or_else(|| PlannedBackup::Missing(ModuleBackup { file: None, ..kept.clone() }))
            };
            list.iter().map(one).collect::<Vec<_>>()
        };
        let (modules, inbox) = (all(&record.modules), all(&record.inbox));
        Self { modules, inbox, ..plan }
    }

    /// Whether one of these modules runs without a file of it.
    pub(super) fn lacks_file(&self, own: &[ModuleName]) -> bool {
        self.modules.iter().any(|planned| planned.is_missing() && own.contains(planned.module()))
    }

    fn observe_inbox(&mut self, context: &Context, known: Option<&ModuleBackups>) -> Vec<PlannedBackup> {
        let kept: Option<Vec<_>> = known
            .filter(|known| !known.inbox.is_empty())
            .and_then(|known| known.inbox.iter().map(|kept| self.whole(context, kept)).collect());
        kept.unwrap_or_else(|| {
            let running: Vec<_> = self.modules.iter().map(|planned| planned.module().clone()).collect();
            find_inbox_modules(context, &running).into_iter().map(PlannedBackup::Found).collect()
        })
    }

    /// A module that is kept, when its file is what was kept.
    fn whole(&mut self, context: &Context, kept: &ModuleBackup) -> Option<PlannedBackup> {
        match context.store.read_module_file(kept) {
            Ok(Some(content)) if kept.sha256.is_none() => {
                // The first form lacks what is told from the content.
                Some(PlannedBackup::Kept(described(kept.clone(), &content)))
            }
            Ok(content) => content.map(|_| PlannedBackup::Kept(kept.clone())),
            Err(error) => {
                let error = crate::error_chain(&error);
                tracing::warn!(module = %kept.module, error, "the kept file of this module is not used");
                self.damaged.push(error);
                None
            }
        }
    }

    /// Leaves out what is too much to be kept in memory.
    fn keep_within_limit(&mut self) {
        let mut size = 0_u64;
        for planned in &mut self.modules {
            size = size.saturating_add(planned.size());
            if (size > LIMIT || planned.size() > LONGEST_WHOLE)
                && let PlannedBackup::Found(found) = planned
            {
                tracing::warn!(
                    module = %found.file.name,
                    limit = LIMIT,
                    "the files of the running driver are too large to be kept"
                );
                *planned = PlannedBackup::Missing(not_kept(found));
            }
        }
    }
}

fn known_backups(context: &Context) -> Option<ModuleBackups> {
    context.store.module_backups(&context.boot_id).unwrap_or_else(|error| {
        tracing::warn!(
            error = crate::error_chain(&error),
            "the earlier backup of the running driver cannot be read; the files are backed up anew"
        );
        None
    })
}

/// The module without its file, and with what is known of it from when there was one.
fn without_file(module: &LoadedModule, before: Option<&ModuleBackup>) -> ModuleBackup {
    let defaults = before.map(|kept| kept.defaults.clone()).unwrap_or_default();
    ModuleBackup { defaults, ..ModuleBackup::without_file(module) }
}

/// A module whose file was found, and is not kept.
pub(super) fn not_kept(found: &FoundModule) -> ModuleBackup {
    ModuleBackup { found_at: None, ..ModuleBackup::of_file(&found.file) }
}

pub(super) fn candidate_files(context: &Context, names: &[ModuleName]) -> Vec<(ModuleName, PathBuf)> {
    ["/", HOST_MOUNT]
        .iter()
        .map(|root| Path::new(root).join("lib/modules").join(context.kernel.as_str()))
        .filter(|folder| context.host.exists(folder))
        .flat_map(|folder| find_module_files(&context.host, &folder, names))
        .collect()
}

pub(super) fn find_file(
    context: &Context,
    module: &LoadedModule,
    candidates: &[(ModuleName, PathBuf)],
) -> Option<FoundModule> {
    let paths = candidates.iter().filter(|(name, _)| *name == module.name).map(|(_, path)| path);
    paths
        .filter_map(|path| FoundModule::read(context, path))
        .find(|found| file_of_loaded(module, [found.file.clone()]).is_some())
}

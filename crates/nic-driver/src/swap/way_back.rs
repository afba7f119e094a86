//! What is gone back to when the installed driver does not come up.

use std::fmt;

use nic_kmod::{LoadedModules, ModuleName, ReadLoadedError};
use serde::Serialize;

use super::backup_plan::{BackupPlan, PlannedBackup};
use super::blocker::{Blocker, BlockerKind, list};
use super::refused_modules::Refusals;
use crate::context::Context;
use crate::state::{ModuleBackup, Snapshot, SnapshotState};

/// What is gone back to when the installed driver does not come up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum WayBack {
    /// No driver of the family runs that could be lost.
    NotNeeded,
    /// The driver that runs, or ran before the swap that is under way.
    Backup {
        /// Its version, or else what identifies its build.
        driver: String,
        /// How many modules.
        modules: usize,
    },
    /// The distribution's own.
    Inbox {
        /// How many modules.
        modules: usize,
        /// Why not the driver that runs.
        because: String,
    },
    /// No driver could be gone back to.
    None {
        /// Why neither the driver that runs nor the inbox driver would do.
        because: String,
    },
}

impl fmt::Display for WayBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotNeeded => f.write_str("not needed: no driver runs"),
            Self::Backup { driver, modules } => write!(f, "backup of {driver} ({modules} modules)"),
            Self::Inbox { modules, because } => {
                write!(f, "inbox driver of this kernel ({modules} modules), since {because}")
            }
            Self::None { because } => write!(f, "none: {because}"),
        }
    }
}

impl WayBack {
    pub(super) fn of(context: &Context, plan: &BackupPlan) -> Self {
        let family = &context.family.modules;
        let own = family.own();
        if !plan.modules.iter().any(|planned| own.contains(planned.module())) {
            return Self::NotNeeded;
        }
        if !plan.lacks_file(&own) {
            let modules = plan.modules.iter().filter(|planned| !planned.is_missing());
            return Self::Backup { driver: driver_text(&family.identity, plan), modules: modules.count() };
        }
        let lacking = plan.modules.iter().filter(|planned| planned.is_missing());
        let lacking = lacking.map(|planned| planned.module().clone()).collect::<Vec<_>>();
        let mut because = format!("no file of {} is known to be the loaded one", list(&lacking));
        for damaged in &plan.damaged {
            because = format!("{because}; {damaged}");
        }
        if plan.inbox.is_empty() || plan.inbox.iter().any(PlannedBackup::is_missing) {
            let driver = family.identity.first().map(ToString::to_string).unwrap_or_default();
            return Self::None {
                because: format!("{because}; and the distribution's modules have no {driver}"),
            };
        }
        Self::Inbox { modules: plan.inbox.len(), because }
    }
}

/// The version of the first of these modules that has one, or else the identity of the first that runs.
fn driver_text(identity: &[ModuleName], plan: &BackupPlan) -> String {
    let described = |planned: &PlannedBackup| match planned {
        PlannedBackup::Kept(kept) | PlannedBackup::Missing(kept) => kept.clone(),
        PlannedBackup::Found(found) => ModuleBackup::of_file(&found.file),
    };
    let of_driver = |name: &ModuleName| plan.modules.iter().find(|planned| planned.module() == name);
    let modules: Vec<ModuleBackup> = identity.iter().filter_map(of_driver).map(described).collect();
    if let Some(version) = modules.iter().find_map(|module| module.version.clone()) {
        return version;
    }
    let Some(module) = modules.first() else { return "the modules that run".to_owned() };
    match (&module.srcversion, &module.build_id) {
        (Some(srcversion), _) => format!("{} with srcversion {srcversion}", module.module),
        (None, Some(build_id)) => format!("{} with build-id {build_id}", module.module),
        (None, None) => module.module.to_string(),
    }
}

/// Whether the driver that runs is the way back, and its files are to be kept before it is unloaded.
///
/// It is not while a swap is under way: what runs then has not proved itself, and what ran before was kept. A snapshot that a restore has
/// armed is no swap's: nothing is kept, and the driver that it was taken under runs whole.
pub(crate) fn runs_what_is_gone_back_to(
    context: &Context,
    armed: Option<&Snapshot>,
) -> Result<bool, ReadLoadedError> {
    let Some(armed) = armed else { return Ok(true) };
    let is_kept = context.store.module_backups(&context.boot_id).map(|kept| kept.is_some());
    let is_kept = is_kept.unwrap_or_else(|error| {
        tracing::warn!(
            error = crate::error_chain(&error),
            "the backup of the previous driver cannot be read"
        );
        // What is there is not written over.
        true
    });
    let driver = context.family.modules.identity.first();
    let had_driver = driver.is_some_and(|driver| armed.modules.contains(driver));
    Ok(!is_kept && had_driver && armed.lost_under(&LoadedModules::read_graph(&context.host)?).is_empty())
}

/// Whether a swap is under way. A snapshot that cannot be read is none that is armed, and the commands that go by it say so.
pub(crate) fn is_swap_under_way(context: &Context) -> Result<bool, ReadLoadedError> {
    let armed = context.snapshot_state().ok().and_then(SnapshotState::armed);
    Ok(!runs_what_is_gone_back_to(context, armed.as_ref())?)
}

/// Finds out what would be gone back to now. Changes nothing.
pub(crate) fn find_way_back(context: &Context) -> Result<WayBack, ReadLoadedError> {
    if is_swap_under_way(context)? {
        // What runs has not proved itself; what ran before it was kept.
        let record = context.store.module_backups(&context.boot_id).unwrap_or_else(|error| {
            tracing::warn!(
                error = crate::error_chain(&error),
                "the backup of the previous driver cannot be read"
            );
            None
        });
        if let Some(record) = record {
            return Ok(WayBack::of(context, &BackupPlan::of_record(context, &record)));
        }
        return Ok(WayBack::None { because: "nothing was kept when the swap began".to_owned() });
    }
    Ok(WayBack::of(context, &BackupPlan::observe(context)?))
}

/// Whoever swaps the driver must be able to go back, or have said that it may be without.
pub(super) fn no_way_back(
    context: &Context,
    refusals: &Refusals,
) -> Result<Option<Blocker>, ReadLoadedError> {
    if context.settings.without_way_back {
        return Ok(None);
    }
    let plan = BackupPlan::observe(context)?;
    let because = match WayBack::of(context, &plan) {
        WayBack::None { because } => because,
        // Of the files of the driver that runs, the kernel has taken each; of the distribution's, nobody knows.
        WayBack::Inbox { because, .. } => {
            let files = plan.inbox.iter().filter_map(PlannedBackup::found);
            let Some(refused) = refusals.of_way_back(files) else { return Ok(None) };
            format!("{because}; and of the distribution's modules the kernel would refuse {refused}")
        }
        WayBack::NotNeeded | WayBack::Backup { .. } => return Ok(None),
    };
    Ok(Some(Blocker {
        kind: BlockerKind::NoWayBack,
        what: format!("there is no way back to the driver that runs: {because}"),
        modules: Vec::new(),
        remedy:
            "put the files of the running driver into the module tree again, or go without a way back with \
                 NIC_DRIVER_WITHOUT_WAY_BACK=true (--without-way-back)"
                .to_owned(),
        user: None,
    }))
}

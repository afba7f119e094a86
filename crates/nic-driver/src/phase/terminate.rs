//! `terminate`: readiness away, and on demand back to the driver that the distribution brought.
//!
//! It can be killed anywhere, and run again: the packages that were removed are not looked for again, and the return to
//! the inbox driver is a reload like any other.

use std::path::PathBuf;
use std::time::Instant;

use nic_packages::{HostTree, RemovalPlan};
use serde::Serialize;

use super::error::PhaseError;
use super::package_error::PackageError;
use super::reload::{Reloaded, reload};
use super::restore::{Restored, restore_within_phase};
use crate::Exit;
use crate::context::{Context, ReloadWith, Settings};
use crate::node::{reload_fits, take_readiness_away};
use crate::privileges;
use crate::state::{Phase, PhaseRecord, Step};
use crate::stop::time_left;
use crate::swap::{back_up_running_modules, remove_leftover_blacklist, tree_of_inbox_driver};

const NOT_RESTORED: &str = "the NICs could not be restored";

/// What came of a termination.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Terminated {
    /// The packages that were removed, and what was taken out of DKMS.
    pub removed: Vec<String>,
    /// The folders that were taken out of the host's module tree.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub withdrawn: Vec<PathBuf>,
    /// The return to the inbox driver, where it was asked for.
    pub reloaded: Option<Reloaded>,
    /// The restore after it.
    pub restored: Option<Restored>,
}

impl Terminated {
    /// The exit code.
    #[must_use]
    pub fn exit(&self) -> Exit {
        self.restored.as_ref().map_or(Exit::Success, Restored::exit)
    }

    /// Why the exit code is no success, in one sentence; `None` when it is one.
    #[must_use]
    pub fn why_not(&self) -> Option<String> {
        self.restored.as_ref().and_then(Restored::why_not)
    }
}

/// Which driver runs when the command has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DriverAfterwards {
    /// The one that runs now.
    Same,
    /// The one that the distribution brought.
    Inbox,
}

impl DriverAfterwards {
    /// The inbox driver where that is asked for.
    #[must_use]
    pub fn of(restore_driver: bool) -> Self {
        if restore_driver { Self::Inbox } else { Self::Same }
    }
}

/// Takes readiness away and cleans up; on demand goes back to the inbox driver, and restores the NICs under it.
pub async fn terminate(context: &Context, afterwards: DriverAfterwards) -> Result<Terminated, PhaseError> {
    context.ensure_privileges(&privileges::TERMINATE)?;
    let begun = Instant::now();
    let _lock = context.begin("terminate").await?;
    context.begin_change()?;
    let phase = context.journal.phase(Phase::Terminate);
    let result = run_terminate(context, &phase, afterwards, begun).await;
    match &result {
        Ok(terminated) => {
            let how = match &terminated.reloaded {
                None if terminated.restored.is_some() => {
                    "restored what was still to be restored; the driver stays"
                }
                None => "the driver stays",
                Some(reloaded) if reloaded.reloaded => "back to the inbox driver",
                Some(_) => "the inbox driver was running already",
            };
            phase.end(how, terminated.exit());
        }
        Err(error) => phase.end(&crate::error_chain(error), error.exit()),
    }
    result
}

async fn run_terminate(
    context: &Context,
    phase: &PhaseRecord,
    afterwards: DriverAfterwards,
    begun: Instant,
) -> Result<Terminated, PhaseError> {
    take_readiness_away(context, phase)?;
    remove_leftover_blacklist(context, phase)?;
    let mut terminated = Terminated::default();
    if afterwards == DriverAfterwards::Same {
        // Nobody comes after this command to restore what an earlier one has left undone.
        if context.snapshot_state()?.armed().is_some() {
            terminated.restored =
                Some(restore_within_phase(context).await.map_err(PhaseError::half_done(NOT_RESTORED))?);
        }
        return Ok(terminated);
    }
    // The period runs from the request to stop; for this command, which is how one stops, at the latest from its start.
    let elapsed = context.stop.since().unwrap_or(begun).min(begun).elapsed();
    reload_fits(context, time_left(context.settings.grace, elapsed))?;
    // What is about to be removed holds the files of what runs.
    back_up_running_modules(context, phase)?;
    match HostTree::find(&context.host, &context.kernel) {
        Some(host_tree) => {
            terminated.withdrawn = take_out_of_host_tree(context, phase, &host_tree).await?;
        }
        None => terminated.removed = remove_packages(context, phase).await?,
    }
    let tree = tree_of_inbox_driver(context)?;
    // The init script is the driver's that is left, and knows this container's modules alone.
    let settings = Settings { reload_with: ReloadWith::Native, ..context.settings.clone() };
    let mut natively = Context { settings, ..context.clone() };
    // What is gone back to is the inbox driver as the distribution loads it.
    natively.family.modules.disable_nfsrdma();
    let mut reloaded =
        reload(&natively, &tree).await.map_err(PhaseError::part("the return to the inbox driver failed"))?;
    terminated.restored = reloaded.restored.take();
    // Also when nothing had to be reloaded: an earlier run may have been cut off between the two.
    let restore_due = reloaded.restore_due;
    terminated.reloaded = Some(reloaded);
    if restore_due {
        terminated.restored =
            Some(restore_within_phase(&natively).await.map_err(PhaseError::half_done(NOT_RESTORED))?);
    }
    Ok(terminated)
}

/// Takes out what `install` has put into the host's tree: it stands in front of the inbox driver there.
async fn take_out_of_host_tree(
    context: &Context,
    phase: &PhaseRecord,
    tree: &HostTree,
) -> Result<Vec<PathBuf>, PhaseError> {
    let step = phase.step(Step::TakeOutOfHostTree);
    let withdrawn = step.record(tree.take_out(&context.host).await).map_err(PackageError::TakeOut)?;
    for file in &withdrawn.left {
        tracing::warn!(
            file = %file.display(),
            "the file was not put there by this program, or was changed: it stays"
        );
    }
    Ok(withdrawn.folders)
}

async fn remove_packages(context: &Context, phase: &PhaseRecord) -> Result<Vec<String>, PhaseError> {
    let Some(record) = context.store.installed().map_err(PackageError::Installed)? else {
        return Ok(Vec::new());
    };
    let plan = RemovalPlan::observe(&context.host, &record).await.map_err(PackageError::Query)?;
    let packages = plan.packages().map(|package| format!("{} {}", package.name, package.version));
    let removed = plan.dkms_modules().map(|module| format!("{module} (DKMS)")).chain(packages).collect();
    let step = phase.step(Step::RemovePackages);
    step.record(plan.apply(&context.host).await).map_err(PackageError::Remove)?;
    context.store.remove_installed()?;
    Ok(removed)
}

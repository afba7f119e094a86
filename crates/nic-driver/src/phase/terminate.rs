use std::path::PathBuf;
use std::time::Instant;

use nic_host::{Host, WriteError};
use nic_packages::{HostTree, HostTreeError, InstalledError as QueryError, RemovalError, RemovalPlan};
use serde::Serialize;

use super::grace::{NoTimeLeft, reload_fits};
use super::keep::{KeepError, keep_previous};
use super::readiness::take_readiness_away;
use super::reload::{ModuleTree, ReloadError, Reloaded, reload};
use super::restore::{RestorePhaseError, Restored, restore_held};
use super::resume::{LeftoverError, armed_snapshot, remove_leftover_blacklist};
use super::{Context, ReloadWith, Settings};
use crate::state::{InstalledError, PhaseRecord, SnapshotError};
use crate::stop::time_left;
use crate::{Exit, Interrupted, LockError};

/// A termination that failed.
#[derive(Debug, thiserror::Error)]
pub enum TerminateError {
    /// The process is not root.
    #[error("terminating needs root")]
    NotRoot,
    /// Another instance is at work.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// It was asked to stop.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
    /// The return to the inbox driver would have been cut off.
    #[error("the driver stays")]
    NoTimeLeft(#[from] NoTimeLeft),
    /// The files of the running driver could not be kept.
    #[error(transparent)]
    Keep(#[from] KeepError),
    /// The stored snapshot cannot be used.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// A file could not be removed.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A blacklist that was left behind stays.
    #[error("a blacklist was left behind and stays")]
    Leftover(#[from] LeftoverError),
    /// What was installed is not known.
    #[error(transparent)]
    Installed(#[from] InstalledError),
    /// What is installed could not be seen.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The packages could not be removed.
    #[error(transparent)]
    Removal(#[from] RemovalError),
    /// The host's module tree could not be changed.
    #[error("what was put into the host's modules could not be taken out")]
    HostTree(#[from] HostTreeError),
    /// The inbox driver could not be loaded.
    #[error("the return to the inbox driver failed")]
    Reload(#[from] ReloadError),
    /// The NICs could not be restored.
    #[error("the NICs could not be restored")]
    Restore(#[from] RestorePhaseError),
}

impl TerminateError {
    /// The exit code.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::NotRoot => Exit::NotRoot,
            Self::Lock(error) => error.exit(),
            Self::Interrupted(_) => Exit::Interrupted,
            Self::NoTimeLeft(_) => Exit::Blocked,
            Self::Snapshot(_) => Exit::BadSnapshot,
            Self::Reload(error) => error.exit(),
            Self::Restore(error) => match error.exit() {
                // A snapshot was armed: the node was not what it was, and is no better now.
                Exit::Failed | Exit::PfUnsuitable | Exit::NoModule => Exit::Degraded,
                exit => exit,
            },
            Self::Write(_)
            | Self::Leftover(_)
            | Self::Keep(_)
            | Self::Installed(_)
            | Self::Query(_)
            | Self::HostTree(_)
            | Self::Removal(_) => Exit::Failed,
        }
    }
}

/// What came of a termination.
#[derive(Debug, Clone, Serialize)]
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
}

/// Takes readiness away and cleans up; with `to_inbox`, goes back to the driver that the distribution brought, and
/// restores the NICs under it.
pub async fn terminate(context: &Context, to_inbox: bool) -> Result<Terminated, TerminateError> {
    if !Host::is_privileged() {
        return Err(TerminateError::NotRoot);
    }
    let begun = Instant::now();
    let _lock = context.begin("terminate")?;
    context.stop.check()?;
    let phase = context.journal.phase("terminate");
    let result = carry_out(context, &phase, to_inbox, begun).await;
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

async fn carry_out(
    context: &Context,
    phase: &PhaseRecord,
    to_inbox: bool,
    begun: Instant,
) -> Result<Terminated, TerminateError> {
    take_readiness_away(context, phase)?;
    remove_leftover_blacklist(context, phase)?;
    let mut terminated =
        Terminated { removed: Vec::new(), withdrawn: Vec::new(), reloaded: None, restored: None };
    if !to_inbox {
        // Nobody comes after this command to restore what an earlier one has left undone.
        if context.host.is_running_machine() && armed_snapshot(context)?.is_some() {
            terminated.restored = Some(restore_held(context).await?);
        }
        return Ok(terminated);
    }
    // The period runs from the request to stop; for this command, which is how one stops, at the latest from its start.
    let elapsed = context.stop.since().unwrap_or(begun).min(begun).elapsed();
    reload_fits(context, time_left(context.settings.grace, elapsed))?;
    // What is about to be removed holds the files of what runs.
    keep_previous(context, phase)?;
    let tree = match HostTree::find(&context.host, &context.kernel) {
        Some(host_tree) => {
            terminated.withdrawn = take_out_of_host_tree(context, phase, &host_tree).await?;
            ModuleTree::Below("/host".into())
        }
        None => {
            terminated.removed = remove_packages(context, phase).await?;
            ModuleTree::Own
        }
    };
    // The init script is the driver's that is left, and knows this container's modules alone.
    let settings = Settings { reload_with: ReloadWith::Native, ..context.settings.clone() };
    let natively = Context { settings, ..context.clone() };
    let mut reloaded = reload(&natively, &tree).await?;
    terminated.restored = reloaded.restored.take();
    // Also when nothing had to be reloaded: an earlier run may have been cut off between the two.
    let restore_due = reloaded.restore_due;
    terminated.reloaded = Some(reloaded);
    if restore_due {
        terminated.restored = Some(restore_held(context).await?);
    }
    Ok(terminated)
}

/// Takes out what `install` has put into the host's tree: it stands in front of the inbox driver there.
async fn take_out_of_host_tree(
    context: &Context,
    phase: &PhaseRecord,
    tree: &HostTree,
) -> Result<Vec<PathBuf>, TerminateError> {
    let step = phase.step("take the modules out of the host's tree");
    let withdrawn = step.record(tree.take_out(&context.host).await)?;
    for file in &withdrawn.left {
        tracing::warn!(file = %file.display(), "it was not put there by this program, or was changed: it stays");
    }
    Ok(withdrawn.folders)
}

async fn remove_packages(context: &Context, phase: &PhaseRecord) -> Result<Vec<String>, TerminateError> {
    let Some(record) = context.store.installed()? else { return Ok(Vec::new()) };
    let plan = RemovalPlan::observe(&context.host, &record).await?;
    let packages = plan.packages().map(|package| format!("{} {}", package.name, package.version));
    let removed = plan.dkms_modules().map(|module| format!("{module} (DKMS)")).chain(packages).collect();
    let step = phase.step("remove the installed packages");
    step.record(plan.apply(&context.host).await)?;
    context.store.forget_installed()?;
    Ok(removed)
}

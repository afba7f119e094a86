use std::path::Path;

use nic_host::{Host, WriteError};
use nic_kmod::Blacklist;
use nic_packages::{InstalledError as QueryError, RemovalError, RemovalPlan};
use serde::Serialize;

use super::Context;
use super::reload::{ModuleTree, ReloadError, Reloaded, reload, take_readiness_away};
use super::restore::{RestorePhaseError, Restored, restore_sriov};
use crate::Exit;
use crate::state::{InstalledError, PhaseRecord};

/// A termination that failed.
#[derive(Debug, thiserror::Error)]
pub enum TerminateError {
    /// The process is not root.
    #[error("terminating needs root")]
    NotRoot,
    /// A file could not be removed.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A blacklist that may be left over could not be read.
    #[error(transparent)]
    Read(#[from] nic_host::ReadError),
    /// What was installed is not known.
    #[error(transparent)]
    Installed(#[from] InstalledError),
    /// What is installed could not be seen.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The packages could not be removed.
    #[error(transparent)]
    Removal(#[from] RemovalError),
    /// The inbox driver could not be loaded.
    #[error("the return to the inbox driver failed")]
    Reload(#[from] ReloadError),
    /// The NICs could not be restored under the inbox driver.
    #[error("the restore under the inbox driver failed")]
    Restore(#[from] RestorePhaseError),
}

impl TerminateError {
    /// The exit code.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::NotRoot => Exit::NotRoot,
            Self::Reload(error) => error.exit(),
            Self::Restore(error) => match error.exit() {
                // The modules have been swapped by then: the node is not what it was.
                Exit::Failed | Exit::PfUnsuitable | Exit::NoModule => Exit::Degraded,
                exit => exit,
            },
            Self::Write(_) | Self::Read(_) | Self::Installed(_) | Self::Query(_) | Self::Removal(_) => {
                Exit::Failed
            }
        }
    }
}

/// What came of a termination.
#[derive(Debug, Clone, Serialize)]
pub struct Terminated {
    /// The packages that were removed.
    pub removed: Vec<String>,
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
    let phase = context.journal.phase("terminate");
    let result = carry_out(context, &phase, to_inbox).await;
    match &result {
        Ok(terminated) => {
            let how = match &terminated.reloaded {
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
) -> Result<Terminated, TerminateError> {
    let host = &context.host;
    take_readiness_away(context, phase)?;
    if let Some(found) = Blacklist::find(host, &context.settings.blacklist_file)? {
        tracing::warn!(path = %found.blacklist.path.display(), "a blacklist was left behind: removed");
        phase.step("remove the blacklist that was left behind").record(found.blacklist.remove(host))?;
    }
    let mut terminated = Terminated { removed: Vec::new(), reloaded: None, restored: None };
    if !to_inbox {
        return Ok(terminated);
    }
    let tree = inbox_tree(context);
    if tree == ModuleTree::Own {
        terminated.removed = remove_packages(context, phase).await?;
    }
    let reloaded = reload(context, &tree).await?;
    // Also when nothing had to be reloaded: an earlier run may have been cut off between the two.
    let armed = context
        .store
        .snapshot_of(&context.boot_id, &context.family.name)
        .map_err(ReloadError::from)?
        .is_some_and(|snapshot| snapshot.is_armed());
    terminated.reloaded = Some(reloaded);
    if armed {
        terminated.restored = Some(restore_sriov(context).await?);
    }
    Ok(terminated)
}

/// Where the inbox driver is: in the host's tree when this is a container that sees it, else in this tree, once the
/// packages that stand in front of it are gone.
fn inbox_tree(context: &Context) -> ModuleTree {
    let host_modules = Path::new("/host/lib/modules").join(context.kernel.as_str());
    if context.host.exists(host_modules) { ModuleTree::Below("/host".into()) } else { ModuleTree::Own }
}

async fn remove_packages(context: &Context, phase: &PhaseRecord) -> Result<Vec<String>, TerminateError> {
    let Some(record) = context.store.installed()? else { return Ok(Vec::new()) };
    let plan = RemovalPlan::observe(&context.host, &record).await?;
    let removed: Vec<String> =
        plan.packages().map(|package| format!("{} {}", package.name, package.version)).collect();
    let step = phase.step("remove the installed packages");
    step.record(plan.apply(&context.host).await)?;
    context.store.forget_installed()?;
    Ok(removed)
}

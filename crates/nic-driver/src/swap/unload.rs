//! The family's modules out of the kernel.

use std::time::{Duration, Instant};

use nic_kmod::{
    ForeignReferences, LoadedModules, ModuleName, ReadLoadedError, UnloadBlocked, UnloadBlocker, UnloadError,
    UnloadPlan, UnloadPolicy,
};
use nic_sriov::{DeviceAddress, RemoveVfsError};

use super::hooks::{Hook, run_hook};
use super::unload_policy::unload_policy;
use crate::context::{Context, ReloadWith};
use crate::family::FamilyModules;
use crate::state::{PhaseRecord, Step};

/// How often the unload is planned anew when modules come up under it.
const ROUNDS: usize = 5;
/// How often a module that somebody else is loading is looked at.
const RE_CHECK: Duration = Duration::from_millis(50);

/// Which of the two drivers of a swap goes. Both go in the same way; only the journal tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leaving {
    /// The one that runs, for the installed one.
    Running,
    /// The one that did not come up, for the one before it.
    New,
}

impl Leaving {
    pub(crate) fn remove_vfs(self, pfs: &[DeviceAddress]) -> Step {
        let pfs = pfs.to_vec();
        match self {
            Self::Running => Step::RemoveVfs { pfs },
            Self::New => Step::RemoveNewVfs { pfs },
        }
    }

    pub(crate) fn unload(self, module: ModuleName) -> Step {
        match self {
            Self::Running => Step::Unload { module },
            Self::New => Step::UnloadNew { module },
        }
    }
}

/// How much of the stack is unloaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UnloadScope {
    /// All of it, with everything on top.
    Stack,
    /// What stands on top of the family's own modules, which stay.
    DependentsOnly,
}

impl UnloadScope {
    /// What is unloaded by this program, and not by the init script, which refuses to stop with most of what stands on top loaded, and knows
    /// nothing of the rest.
    pub(crate) fn of(reload_with: ReloadWith) -> Self {
        match reload_with {
            ReloadWith::Native => Self::Stack,
            ReloadWith::InitScript => Self::DependentsOnly,
        }
    }
}

/// The modules could not be taken out of the kernel.
#[derive(Debug, thiserror::Error)]
pub enum UnloadStackError {
    /// The loaded modules could not be read.
    #[error(transparent)]
    Loaded(#[from] ReadLoadedError),
    /// Something has come up since the preflight.
    #[error("something has come up since the preflight")]
    Raced(#[from] UnloadBlocked),
    /// A module could not be unloaded.
    #[error(transparent)]
    Unload(#[from] UnloadError),
    /// Somebody loads modules again as fast as they are unloaded.
    #[error("somebody loads modules while they are unloaded: {}", modules.iter().map(ModuleName::as_str).collect::<Vec<_>>().join(", "))]
    Reloaded {
        /// Those that are there again.
        modules: Vec<ModuleName>,
    },
}

/// What of the family's modules, and of what may go with them, is unloaded, in order: pure. A plan prints what comes of it, and each round
/// of an unload goes by it.
pub(super) fn unload_order(
    family: &FamilyModules,
    policy: &UnloadPolicy,
    scope: UnloadScope,
    loaded: &LoadedModules,
) -> Result<Vec<ModuleName>, UnloadBlocked> {
    let staying = match scope {
        UnloadScope::Stack => Vec::new(),
        UnloadScope::DependentsOnly => family.own(),
    };
    let plan = UnloadPlan::compute(loaded, &family.unloaded(), policy)?;
    Ok(plan.order().into_iter().filter(|module| !staying.contains(module)).collect())
}

/// Removes the VFs of these PFs: while there are any, a PF's driver does not go.
pub(crate) async fn remove_all_vfs(
    context: &Context,
    phase: &PhaseRecord,
    leaving: Leaving,
    pfs: &[DeviceAddress],
) -> Result<(), RemoveVfsError> {
    let step = phase.step(leaving.remove_vfs(pfs));
    let devices = &context.family.devices;
    let (jobs, patience) = (context.settings.jobs, context.settings.patience());
    let failures = context.machine.remove_vfs(devices, pfs, jobs, patience).await;
    step.record(failures.into_iter().next().map_or(Ok(()), Err))
}

/// Unloads the family's modules and what may go with them, with the hooks around it. Returns what it unloaded.
pub(super) async fn unload_stack_with_hooks(
    context: &Context,
    phase: &PhaseRecord,
    leaving: Leaving,
    deadline: Duration,
) -> Result<Vec<ModuleName>, UnloadStackError> {
    run_hook(context, phase, Hook::PreStop, deadline).await;
    let gone = unload_stack(context, phase, leaving, UnloadScope::Stack, deadline).await?;
    run_hook(context, phase, Hook::PostStop, deadline).await;
    Ok(gone)
}

/// Unloads the family's modules and what may go with them. Returns what it unloaded.
///
/// It is planned from what is loaded now, and again whenever a module is held by one that has come up meanwhile: that
/// one goes too, or, when it may not, is named.
pub(crate) async fn unload_stack(
    context: &Context,
    phase: &PhaseRecord,
    leaving: Leaving,
    scope: UnloadScope,
    deadline: Duration,
) -> Result<Vec<ModuleName>, UnloadStackError> {
    // What drains is waited for, module by module.
    let policy = UnloadPolicy { foreign_references: ForeignReferences::Expect, ..unload_policy(context) };
    let started = Instant::now();
    let mut gone = Vec::new();
    let mut left = Vec::new();
    let mut round = 0;
    while round < ROUNDS {
        let loaded = LoadedModules::read_graph(&context.host)?;
        left = match unload_order(&context.family.modules, &policy, scope, &loaded) {
            Ok(order) => order,
            Err(blocked) if is_passing(&blocked) && started.elapsed() < deadline => {
                tokio::time::sleep(RE_CHECK).await;
                continue;
            }
            Err(blocked) => return Err(blocked.into()),
        };
        if left.is_empty() {
            return Ok(gone);
        }
        round += 1;
        for module in &left {
            let step = phase.step(leaving.unload(module.clone()));
            let unloaded = context.machine.unload(module, deadline).await;
            if let Err(error @ UnloadError::Held { .. }) = &unloaded {
                tracing::warn!(
                    %module,
                    error = crate::error_chain(error),
                    "a module has come up on top of this one: the unload is planned anew"
                );
                step.failed(error);
                break;
            }
            step.record(unloaded)?;
            gone.push(module.clone());
        }
    }
    Err(UnloadStackError::Reloaded { modules: left })
}

/// Whether nothing is in the way but modules that somebody is just loading or unloading.
fn is_passing(blocked: &UnloadBlocked) -> bool {
    blocked.blockers.iter().all(|blocker| matches!(blocker, UnloadBlocker::NotLive { .. }))
}

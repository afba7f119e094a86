//! `run`: the driver container from its start to its end, composed of the other phases. Readiness goes first; packages are had and
//! installed, modules compared and swapped, the NICs restored; then the node is ready, and a request to stop is waited for.
//!
//! What is wrong with the node may pass: it is waited for inside ([`patience`]), and said once for each change. What is wrong with the
//! container ends it ([`ends`]). Whoever reads only why a container has ended finds it in the [`termination_message`].
//!
//! What may be killed where: the phases say it for themselves. A container that is started again begins at the beginning, and
//! does only what is due.

mod ends;
mod obstacle;
mod patience;
mod restarted;
mod termination_message;

use std::path::PathBuf;

use nic_host::DriverVersion;

use super::error::PhaseError;
use super::install::{InstallRequest, PackageOrigin, clean_up_inventory, install};
use super::obtain_error::ObtainError;
use super::reload::reload;
use super::restore::{RestoreOrNothing, restore_sriov, restore_within_phase};
use super::terminate::{DriverAfterwards, Terminated, terminate};
use crate::Exit;
use crate::context::{BeginError, Context, Settings};
use crate::node::{
    mount_headers, plan_names_rule, remove_names_rule, take_readiness_away, tell_reported_versions,
    unmount_headers, write_names_rule,
};
use crate::privileges;
use crate::state::{Phase, PhaseRecord};
use crate::stop::{StopRequest, time_left};
use crate::swap::ModuleTree;
use obstacle::Obstacle;
use patience::Ended;
use termination_message::TerminationMessage;

const NOT_BEGUN: &str = "the driver container cannot begin";

/// What a driver container is to do.
#[derive(Debug, Clone)]
pub struct RunRequest {
    /// Where its packages come from.
    pub install: InstallRequest,
    /// Which driver runs when it has ended after a request to stop.
    pub afterwards: DriverAfterwards,
    /// Interfaces' names.
    pub names: NamesRule,
    /// Headers for others.
    pub headers: SharedHeaders,
    /// The file in which the kubelet looks for why a container has ended.
    pub termination_message: PathBuf,
}

/// The udev rule that keeps interfaces' names.
#[derive(Debug, Clone)]
pub struct NamesRule {
    /// The file. One that is there when the container starts, was left behind.
    pub path: PathBuf,
    /// Whether the rule is written where it is wanted.
    pub keep_names: bool,
}

/// Headers for containers that build modules against the driver.
#[derive(Debug, Clone)]
pub struct SharedHeaders {
    /// The folder below which others find them.
    pub mount: PathBuf,
    /// The folder they are in.
    pub headers: PathBuf,
}

/// What came of a driver container that was told to stop, or could not go on.
#[derive(Debug)]
pub struct RunEnded {
    /// Why it could not go on; `None` when it was told to stop.
    pub failure: Option<PhaseError>,
    /// How it ended: what was taken away, and what was still to be restored.
    pub terminated: Result<Terminated, PhaseError>,
}

impl RunEnded {
    /// The exit code.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match (&self.failure, &self.terminated) {
            (Some(failure), _) => failure.exit(),
            (None, Ok(terminated)) => terminated.exit(),
            (None, Err(error)) => error.exit(),
        }
    }
}

/// Runs the driver container until it is told to stop, or cannot go on.
///
/// # Errors
/// The process may not do all that is needed, or the host is a tree: nothing was done.
pub async fn run(context: &Context, request: &RunRequest) -> Result<RunEnded, PhaseError> {
    let message = TerminationMessage::new(&context.host, &request.termination_message);
    let privileges =
        if request.install.has_packages() { &privileges::RUN } else { &privileges::RUN_PRECOMPILED };
    if let Err(error) = privileges.ensure(&context.host, Some(&request.headers.mount)) {
        message.write(&crate::error_chain(&error));
        return Err(BeginError::from(error).into());
    }
    context.ensure_running_machine("only the running machine can have a driver container")?;
    // Who does not hold the lock touches nothing, and has nothing to clean up.
    let locked = patience::persist(context, &message, "the lock", Obstacle::passes, async || {
        Ok(context.begin("run").await?)
    });
    let _lock = match locked.await {
        Ok(lock) => lock,
        Err(Ended::Stopped) => {
            return Ok(RunEnded { failure: None, terminated: Ok(Terminated::default()) });
        }
        Err(Ended::Failed(error)) => return Err(error),
    };
    let is_restarted = restarted::is_restarted(context);
    let phase = context.journal.phase(Phase::Run);
    let ready = get_ready(context, &phase, request, &message, is_restarted).await;
    let failure = match ready {
        Ok(()) => {
            ends::forget(context);
            message.clear();
            tell_reported_versions(context).await;
            crate::memory::give_back();
            tracing::info!("ready; waiting to be told to stop");
            context.stop.requested().await;
            None
        }
        Err(Ended::Stopped) => None,
        Err(Ended::Failed(error)) => Some(error),
    };
    if let Some(error) = &failure {
        tracing::error!(error = crate::error_chain(error), "the driver container cannot go on");
        message.write(&crate::error_chain(error));
    }
    let afterwards = if failure.is_some() { DriverAfterwards::Same } else { request.afterwards };
    let terminated = end(context, &phase, request, afterwards).await;
    if let (None, Err(error)) = (&failure, &terminated) {
        message.write(&crate::error_chain(error));
    }
    let ended = RunEnded { failure, terminated };
    let how = match (&ended.failure, &ended.terminated) {
        (Some(error), _) | (None, Err(error)) => crate::error_chain(error),
        (None, Ok(_)) => "stopped as asked".to_owned(),
    };
    phase.end(&how, ended.exit());
    Ok(ended)
}

/// Everything up to readiness.
async fn get_ready(
    context: &Context,
    phase: &PhaseRecord,
    request: &RunRequest,
    message: &TerminationMessage,
    is_restarted: bool,
) -> Result<(), Ended> {
    patience::persist(context, message, "what was left behind", Obstacle::passes, async || {
        // A container that was killed has left it on the host, where the next one's startup probe would find it.
        take_readiness_away(context, phase).map_err(PhaseError::write(NOT_BEGUN))?;
        settle_names_rule(context, phase, &request.names).await
    })
    .await?;
    let of_packages = |error: &PhaseError| match ends::is_of_container(error) {
        true => ends::decide(context, error),
        false => Obstacle::passes(error),
    };
    patience::persist(context, message, "the packages", of_packages, async || {
        install(context, &request.install).await
    })
    .await?;
    if is_restarted {
        restarted::tell_of_new_reload(context);
    }
    patience::persist(context, message, "the driver", of_packages, async || swap(context).await).await?;
    patience::persist(context, message, "the headers", of_packages, async || {
        let SharedHeaders { mount, headers } = &request.headers;
        Ok(mount_headers(&context.host, phase, mount, headers)?)
    })
    .await?;
    clean_up(context, &request.install).await;
    // Nothing is owed any more: the node is ready when the installed modules run and the PFs are up.
    patience::persist(context, message, "readiness", Obstacle::passes, async || {
        match restore_sriov(context, false, &[]).await? {
            RestoreOrNothing::NothingOwed(nothing) => match nothing.not_ready {
                None => Ok(()),
                Some(reason) => Err(PhaseError::NotReady(reason.to_string())),
            },
            RestoreOrNothing::Restored(restored) if restored.exit() == Exit::Success => Ok(()),
            RestoreOrNothing::Restored(restored) => Err(PhaseError::NotReady(restored.summary())),
        }
    })
    .await
}

/// Writes the rule where it is wanted, before the driver is swapped, whose netdevs get their names by it. Elsewhere one that was left
/// behind goes; not before that is judged, which may rest on it.
async fn settle_names_rule(
    context: &Context,
    phase: &PhaseRecord,
    names: &NamesRule,
) -> Result<(), PhaseError> {
    let (host, devices) = (&context.host, &context.family.devices);
    if names.keep_names {
        let plan = plan_names_rule(host, &names.path, devices).await?;
        tracing::info!(rule = %names.path.display(), "interfaces' names: {plan}");
        if plan.is_wanted() {
            return write_names_rule(host, phase, &names.path, devices)
                .map_err(PhaseError::write("interfaces' names cannot be kept"));
        }
    }
    remove_names_rule(host, phase, &names.path).map_err(PhaseError::write(NOT_BEGUN))?;
    Ok(())
}

/// The modules, and right behind them the NICs: between the two the node is without them.
async fn swap(context: &Context) -> Result<(), PhaseError> {
    let reloaded = reload(context, &ModuleTree::Own).await?;
    let restored = match reloaded.restored {
        Some(restored) => restored,
        None if reloaded.restore_due => restore_within_phase(context).await?,
        None => return Ok(()),
    };
    if restored.is_verified() { Ok(()) } else { Err(PhaseError::NotReady(restored.summary())) }
}

/// The inventory keeps what this node needs. What cannot be removed is no reason for anything.
async fn clean_up(context: &Context, request: &InstallRequest) {
    let sources = match &request.origin {
        PackageOrigin::Sources(sources) | PackageOrigin::Sidecar { sources, .. } => sources,
        PackageOrigin::Folder(_) | PackageOrigin::Precompiled => return,
    };
    let Some(inventory) = &sources.inventory else { return };
    let version: &DriverVersion = &sources.version;
    match clean_up_inventory(context, inventory, version).await {
        Ok(cleaned) => cleaned.failed.iter().for_each(|failure| {
            tracing::warn!(failure = crate::error_chain(failure), "the inventory keeps what is superfluous");
        }),
        Err(error) => {
            let error: &ObtainError = &error;
            tracing::warn!(error = crate::error_chain(error), "the inventory cannot be cleaned up");
        }
    }
}

/// The end, which is finished: from here on only a second request ends it, at once.
async fn end(
    context: &Context,
    phase: &PhaseRecord,
    request: &RunRequest,
    afterwards: DriverAfterwards,
) -> Result<Terminated, PhaseError> {
    let elapsed = context.stop.since().map(|since| since.elapsed()).unwrap_or_default();
    let grace = time_left(context.settings.grace, elapsed);
    let settings = Settings { grace, ..context.settings.clone() };
    let undisturbed = Context { settings, stop: StopRequest::default(), ..context.clone() };
    // Readiness first, whatever comes then. What is left of the others is no reason to end otherwise: the next container takes it away.
    if let Err(error) = take_readiness_away(&undisturbed, phase) {
        tracing::error!(error = crate::error_chain(&error), "the node stays marked as ready");
    }
    if let Err(error) = remove_names_rule(&context.host, phase, &request.names.path) {
        tracing::warn!(error = crate::error_chain(&error), "the names rule stays");
    }
    let terminated = terminate(&undisturbed, afterwards).await;
    let SharedHeaders { mount, headers } = &request.headers;
    if let Err(error) = unmount_headers(&context.host, phase, mount, headers) {
        tracing::warn!(error = crate::error_chain(&error), "the headers stay mounted");
    }
    terminated
}

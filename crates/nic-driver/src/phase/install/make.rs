//! Building packages, here or by the sidecar, and what that needs.

use std::path::Path;

use nic_build::{Plan, Preparation, Progress, Work, build, built_packages};

use super::job::{Builder, Job};
use super::own_folder::{OwnFolder, remove_folder};
use super::own_packages::OwnPackages;
use super::request::PackagesFrom;
use super::sidecar::build_in_sidecar;
use crate::build_progress::{BuildPlace, BuildProgress};
use crate::context::{BeginError, Context};
use crate::default_paths;
use crate::phase::error::PhaseError;
use crate::phase::obtain_error::ObtainError;
use crate::state::{PhaseRecord, Step};

/// Has packages built, and makes sure that they are for the kernel.
pub(super) async fn make(
    context: &Context,
    phase: &PhaseRecord,
    job: &Job,
) -> Result<(OwnPackages, PackagesFrom), PhaseError> {
    let (host, node) = (&context.host, &job.observed.node);
    match &job.builder {
        Builder::Here => {
            let preparation = job.preparation(Work::Packages).map_err(ObtainError::from)?;
            prepare(context, phase, &preparation).await?;
            build_here(context, phase, job, &preparation).await?;
            let built = built_packages(host, &job.sources.folder, &node.architecture);
            let paths = built.map_err(ObtainError::from)?;
            Ok((OwnPackages::copy(context, phase, &paths, &node.kernel)?, PackagesFrom::Build))
        }
        Builder::Sidecar(request) => {
            let own = OwnFolder::empty(host, Path::new(default_paths::FETCHED_PACKAGES))?;
            build_in_sidecar(context, phase, request, own.path()).await?;
            Ok((OwnPackages::fetched(context, own, &node.kernel)?, PackagesFrom::Sidecar))
        }
    }
}

/// Installs what a build needs.
pub(super) async fn prepare(
    context: &Context,
    phase: &PhaseRecord,
    preparation: &Preparation,
) -> Result<(), PhaseError> {
    carry_out(context, phase, Step::InstallCompiler, &preparation.compiler).await?;
    carry_out(context, phase, Step::InstallPrerequisites, &preparation.prerequisites).await
}

/// Carries a plan out as one step. A package manager is not interrupted: the request to stop is looked at before it.
pub(super) async fn carry_out(
    context: &Context,
    phase: &PhaseRecord,
    step: Step,
    plan: &Plan,
) -> Result<(), PhaseError> {
    context.check_stop()?;
    if plan.steps.is_empty() {
        plan.notes.iter().for_each(|note| tracing::info!("{note}"));
        return Ok(());
    }
    let step = phase.step(step);
    Ok(step.record(plan.apply(&context.host).await).map_err(ObtainError::from)?)
}

async fn build_here(
    context: &Context,
    phase: &PhaseRecord,
    job: &Job,
    preparation: &Preparation,
) -> Result<(), PhaseError> {
    let Some(command) = &preparation.build else { return Ok(()) };
    // What an earlier build has left would be taken for this one's.
    for outputs in ["DEBS", "RPMS"] {
        remove_folder(&context.host, &job.sources.folder.join(outputs))?;
    }
    context.check_stop()?;
    let step = phase.step(Step::BuildPackages { sources: job.sources.folder.clone() });
    let log = Path::new(nic_build::BUILD_LOG);
    // A build that is given up is killed with all that it has started.
    let shown = context.builds.begin();
    let building = build(&context.host, command, log, |progress| shown.show(&told(progress)));
    let ended = context.stop.or_stop_request(building).await;
    drop(shown);
    match ended {
        Ok(Ok(built)) => {
            step.ok(Some(format!("the output is in {}", built.log.display())));
            Ok(())
        }
        Ok(Err(error)) => {
            step.failed(&error);
            Err(ObtainError::from(error).into())
        }
        Err(interrupted) => {
            step.failed(&interrupted);
            Err(BeginError::from(interrupted).into())
        }
    }
}

fn told(progress: &Progress) -> BuildProgress {
    BuildProgress {
        place: BuildPlace::Here,
        done: progress.done,
        known: progress.known,
        package: progress.package.clone(),
        elapsed: progress.elapsed,
        line: progress.line.clone(),
    }
}

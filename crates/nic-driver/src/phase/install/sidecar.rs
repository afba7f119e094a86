//! The driver container's side of the handshake with the build sidecar.

use std::path::Path;
use std::time::Instant;

use nic_dtk::{
    BuildRequest, DriverEvent, DriverSideError, FetchedPackages, PackageLimits, Proof, SidecarState,
    WaitError, WaitOptions,
};

use crate::build_progress::{BuildPlace, BuildProgress};
use crate::context::{BeginError, Context};
use crate::phase::error::PhaseError;
use crate::phase::obtain_error::ObtainError;
use crate::state::{PhaseRecord, Step};
use crate::stop::Interrupted;

/// Has the packages built by the sidecar, and copies them into `into`, a folder of this container's own.
pub(super) async fn build_in_sidecar(
    context: &Context,
    phase: &PhaseRecord,
    request: &BuildRequest,
    into: &Path,
) -> Result<FetchedPackages, PhaseError> {
    context.check_stop()?;
    let step = phase.step(Step::BuildInSidecar { folder: request.folder.path().to_path_buf() });
    let (options, limits) = (WaitOptions::default(), PackageLimits::default());
    let stop = context.stop.requested();
    let (begun, shown) = (Instant::now(), context.builds.begin());
    let tell = |event| match event {
        DriverEvent::Progress { state: SidecarState::Building, progress } => {
            shown.show(&told(progress, begun));
        }
        event => tell(event),
    };
    let built = nic_dtk::build_in_sidecar(&context.host, request, &options, &limits, into, tell, stop).await;
    drop(shown);
    match built {
        Ok(fetched) => {
            let (count, proof) = (fetched.packages.len(), proven(fetched.proof));
            step.ok(Some(format!("{count} packages; {proof}")));
            Ok(fetched)
        }
        Err(DriverSideError::Stopped) => {
            step.failed(&Interrupted);
            Err(BeginError::from(Interrupted).into())
        }
        Err(error) => {
            let error = match error {
                DriverSideError::Wait(WaitError::Failed(failed)) => {
                    ObtainError::SidecarBuild { reason: failed.reason, last_lines: failed.log_tail }
                }
                error => error.into(),
            };
            step.failed(&error);
            Err(error.into())
        }
    }
}

fn told(progress: nic_dtk::BuildProgress, begun: Instant) -> BuildProgress {
    let count = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    BuildProgress {
        place: BuildPlace::Sidecar,
        done: count(progress.packages_done),
        known: progress.packages_known.map(count),
        package: None,
        elapsed: begun.elapsed(),
        line: progress.last_line,
    }
}

fn tell(event: DriverEvent) {
    match event {
        DriverEvent::Step(step) => tracing::info!("shared folder: {step}"),
        DriverEvent::Resumed => tracing::info!("the sidecar is asked already for what is to be built"),
        DriverEvent::Alive => tracing::info!("the build sidecar gives signs of life"),
        DriverEvent::Progress { state, progress } => tracing::info!(
            ?state,
            done = progress.packages_done,
            known = progress.packages_known,
            "build sidecar: {}",
            progress.last_line
        ),
        DriverEvent::Silent(since) => tracing::warn!(?since, "the build sidecar gives no sign of life"),
        DriverEvent::Built => tracing::info!("the build sidecar has built the packages"),
        DriverEvent::StaleDoneFlag => {
            tracing::warn!("the done flag was of another build: the build sidecar is asked again");
        }
    }
}

fn proven(proof: Proof) -> &'static str {
    match proof {
        Proof::Result => "the sidecar says by digest what it has built, and each is that",
        Proof::DoneFlag => "of the sidecar there is the done flag alone, which came after the request",
    }
}

//! `dtk-build`: the build sidecar. It builds what the driver container asks for, and stays until it is told to stop.
//!
//! It touches nothing but the shared folder and its own container: no lock, no readiness, no state directory.

use std::path::Path;

use nic_build::{BuildError, Proxies, build, install_pl_with, sidecar_prerequisites};
use nic_dtk::{BuildFailure, BuildPlan, DtkEnv, Reporter, SidecarOptions, serve};
use nic_host::Host;
use nic_packages::Architecture;

use super::obtain_error::ObtainError;
use crate::default_paths;
use crate::stop::StopRequest;

/// Builds what the driver container asks for, until it is asked to stop. What is being built then is killed.
pub async fn dtk_build(
    host: &Host,
    env: &DtkEnv,
    proxies: &Proxies,
    stop: &StopRequest,
) -> Result<(), ObtainError> {
    let architecture = Architecture::of_this_program();
    let options = SidecarOptions::new(host.kernel_release()?, architecture.as_str());
    let build = async |plan: BuildPlan, reporter: Reporter| run_build(host, proxies, plan, &reporter).await;
    tracing::info!(folder = %env.shared_dir.display(), "serving the driver container until told to stop");
    serve(host, env, &options, build, stop.requested()).await?;
    tracing::info!("stopped as asked");
    Ok(())
}

async fn run_build(
    host: &Host,
    proxies: &Proxies,
    plan: BuildPlan,
    reporter: &Reporter,
) -> Result<(), BuildFailure> {
    let environment = proxies.environment();
    reporter.line("installing what the build needs");
    let prerequisites = sidecar_prerequisites().with_environment(environment);
    prerequisites.apply(host).await.map_err(|error| BuildFailure::new(crate::error_chain(&error)))?;
    let command = install_pl_with(&plan.folder, plan.arguments).with_environment(environment);
    let tell = |progress: &nic_build::Progress| {
        tracing::info!("build: {}", progress.line);
        reporter.line(&progress.line);
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        reporter.packages(count(progress.done), progress.known.map(count));
    };
    build(host, &command, Path::new(default_paths::BUILD_LOG), tell).await.map(drop).map_err(|error| {
        // The compiler's words are in a log of its own, which the driver container does not see.
        if let BuildError::Failed { named_log: Some(named), .. } = &error {
            named.to_string().lines().for_each(|line| reporter.line(line));
        }
        // What was printed last is told beside the reason.
        let text = crate::error_chain(&error);
        BuildFailure::new(text.lines().next().unwrap_or_default().trim_end_matches(", and ends:"))
    })
}

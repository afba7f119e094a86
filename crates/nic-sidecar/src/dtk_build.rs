use std::future::Future;
use std::path::Path;

use nic_build::{BUILD_LOG, BuildError, Proxies, build, install_pl_with, sidecar_prerequisites};
use nic_dtk::{BuildFailure, BuildPlan, DtkEnv, Reporter, SidecarError, SidecarOptions, serve};
use nic_host::{Host, ReadError, error_chain};
use nic_packages::Architecture;

/// The sidecar cannot serve. A build that fails is no reason: that is told to the driver container.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The kernel that is to be built for is not known.
    #[error("cannot tell which kernel runs here")]
    Kernel(#[from] ReadError),
    /// The handshake cannot go on.
    #[error(transparent)]
    Handshake(#[from] SidecarError),
}

/// Builds what the driver container asks for, until `stop` is ready. What is being built then is killed.
///
/// It touches nothing but the shared folder and its own container: no lock, no readiness, no state directory.
pub async fn dtk_build(
    host: &Host,
    env: &DtkEnv,
    proxies: &Proxies,
    stop: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let architecture = Architecture::of_this_program();
    let options = SidecarOptions::new(host.kernel_release()?, architecture.as_str());
    let host = &host.with_programs(proxies.for_programs());
    let build = async |plan: BuildPlan, reporter: Reporter| run_build(host, proxies, plan, &reporter).await;
    tracing::info!(folder = %env.shared_dir.display(), "serving the driver container until told to stop");
    serve(host, env, &options, build, stop).await?;
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
    prerequisites.apply(host).await.map_err(|error| BuildFailure::new(error_chain(&error)))?;
    let command = install_pl_with(&plan.folder, plan.arguments).with_environment(environment);
    let tell = |progress: &nic_build::Progress| {
        tracing::info!("build: {}", progress.line);
        reporter.line(&progress.line);
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        reporter.packages(count(progress.done), progress.known.map(count));
    };
    build(host, &command, Path::new(BUILD_LOG), tell).await.map(drop).map_err(|error| {
        // The compiler's words are in a log of its own, which the driver container does not see.
        if let BuildError::Failed { named_log: Some(named), .. } = &error {
            named.to_string().lines().for_each(|line| reporter.line(line));
        }
        // What was printed last is told beside the reason.
        let text = error_chain(&error);
        BuildFailure::new(text.lines().next().unwrap_or_default().trim_end_matches(", and ends:"))
    })
}

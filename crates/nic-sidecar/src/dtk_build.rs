use std::future::Future;
use std::path::Path;

use nic_build::{BUILD_LOG, BuildError, Plan, PlannedCommand, Proxies, build, install_pl_with};
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
    let build = async |plan: BuildPlan, reporter: Reporter| run_build(host, proxies, plan, &reporter).await;
    tracing::info!(folder = %env.shared_dir.display(), "serving the driver container until told to stop");
    serve(host, env, &options, build, stop).await?;
    tracing::info!("stopped as asked");
    Ok(())
}

/// The commands that install what a build needs in the sidecar's image, each of them fatal.
#[must_use]
pub fn sidecar_prerequisites(commands: Vec<Vec<String>>) -> Plan {
    let steps =
        commands.into_iter().map(|argv| PlannedCommand::new("install what the build needs", argv).into());
    Plan { notes: Vec::new(), steps: steps.collect() }
}

async fn run_build(
    host: &Host,
    proxies: &Proxies,
    plan: BuildPlan,
    reporter: &Reporter,
) -> Result<(), BuildFailure> {
    let environment = proxies.environment();
    reporter.line("installing what the build needs");
    let prerequisites = sidecar_prerequisites(plan.prerequisites).with_environment(environment);
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

#[cfg(test)]
mod tests {
    use nic_host::{Captured, Replay};

    use super::*;

    #[tokio::test]
    async fn what_the_build_needs_and_cannot_be_installed_is_named_and_nothing_is_built() {
        let plan = || BuildPlan {
            prerequisites: nic_dtk::prerequisites(),
            folder: "/shared/MLNX_OFED_SRC-25.10".into(),
            program: "/shared/MLNX_OFED_SRC-25.10/install.pl".into(),
            arguments: vec!["--build-only".to_owned()],
        };
        let dnf = [
            "dnf install -y perl",
            "dnf install -y ethtool autoconf pciutils automake libtool python3-devel",
        ];
        let installs = "/shared/MLNX_OFED_SRC-25.10/install.pl --build-only";
        let run = async |failing: Option<&str>| {
            let failure =
                || Captured { code: Some(1), stdout: String::new(), stderr: "No match\n".to_owned() };
            let replay = dnf.iter().chain([&installs]).fold(Replay::default(), |replay, command| {
                let fails = failing == Some(*command);
                replay.answer(*command, if fails { failure() } else { Captured::success("") })
            });
            let dir = tempfile::tempdir().unwrap();
            let host = Host::at(dir.path()).with_replay(replay.clone());
            let built = run_build(&host, &Proxies::default(), plan(), &Reporter::default()).await;
            (built.map_err(|failure| failure.reason), replay.asked())
        };
        let (built, asked) = run(None).await;
        assert_eq!(built, Ok(()));
        assert_eq!(asked, [dnf[0], dnf[1], installs]);
        for (place, command) in dnf.into_iter().enumerate() {
            let (built, asked) = run(Some(command)).await;
            let reason =
                format!("cannot install what the build needs: `{command}` failed (exit code 1): No match");
            assert_eq!((built, asked.len()), (Err(reason), place + 1));
        }
    }
}

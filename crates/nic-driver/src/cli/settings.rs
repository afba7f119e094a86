//! What the arguments mean for the phases.

use std::path::Path;
use std::time::Duration;

use nic_build::programs_of_this_process;
use nic_host::{HOST_MOUNT, Host};

use super::arguments::{Cli, Command, Planned};
use crate::context::Settings;
use crate::default_paths;
use crate::family::{FamilyError, NicFamily};
use crate::phase::OTHERS_BUILD_DEADLINE;
use crate::state::StateStore;

/// The variable in which every container of a cluster is told the Kubernetes API's address.
pub(super) const KUBERNETES_API: &str = "KUBERNETES_SERVICE_HOST";

/// The NIC family that is asked for cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum FamilySettingError {
    /// The variable names it.
    #[error("NIC_DRIVER_FAMILY (--family)")]
    Variable(#[source] FamilyError),
    /// The command line does, or the file of settings.
    #[error(transparent)]
    Option(FamilyError),
}

/// The NIC family that is asked for.
pub(super) fn family(cli: &Cli) -> Result<NicFamily, FamilySettingError> {
    let is_variable = std::env::var_os("NIC_DRIVER_FAMILY").is_some_and(|set| set == *cli.family);
    NicFamily::open(&cli.family).map_err(|error| {
        if is_variable { FamilySettingError::Variable(error) } else { FamilySettingError::Option(error) }
    })
}

fn host(cli: &Cli) -> Host {
    Host::at(&cli.root)
}

/// The machine. What its programs inherit of this process's environment they print neither in logs nor in errors.
pub(super) fn machine(cli: &Cli) -> Host {
    host(cli).with_programs(programs_of_this_process())
}

pub(super) fn store(cli: &Cli) -> StateStore {
    let default = || host(cli).path(&cli.drivers_mount).join(default_paths::STATE_FOLDER);
    StateStore::new(cli.state_dir.clone().unwrap_or_else(default))
}

pub(super) fn settings(cli: &Cli) -> Settings {
    // In the container the host's /etc is mounted below /host, and it is the host's udev that must not load modules.
    let of_host = Path::new(HOST_MOUNT);
    let machine = if host(cli).has_host_mount() { of_host } else { Path::new("/") };
    let default = || machine.join(default_paths::BLACKLIST_FILE.trim_start_matches('/'));
    let asked = match &cli.command {
        Command::Reload(asked) | Command::Preflight(asked) | Command::Plan { of: Planned::Reload(asked) } => {
            Some(asked)
        }
        _ => None,
    };
    Settings {
        timeout: Duration::from_secs(cli.timeout),
        jobs: usize::from(cli.jobs),
        readiness_file: cli.readiness_file.clone(),
        blacklist_file: cli.blacklist_file.clone().unwrap_or_else(default),
        lock_file: cli.lock_file.clone(),
        lock_patience: lock_patience(cli),
        management_nic: cli.management_nic,
        kubernetes_api: kubernetes_api(),
        grace: cli.grace.map(Duration::from_secs),
        retry_rolled_back: asked.is_some_and(|asked| asked.retry_rolled_back),
        without_way_back: cli.modules.without_way_back,
        reload_with: cli.reload_with,
        force: asked.is_some_and(|asked| asked.force),
        may_unload: cli.modules.may_unload(),
        lossy: cli.lossy,
        assume_ok: cli.assume_ok.clone(),
    }
}

/// Another instance may be building what is asked for here. What else it does takes no longer than an operation, and what is left of a
/// grace period is not for waiting alone.
fn lock_patience(cli: &Cli) -> Duration {
    let operation = Duration::from_secs(cli.timeout);
    match &cli.command {
        Command::Build(_) | Command::Install(_) | Command::Run(_) => OTHERS_BUILD_DEADLINE,
        Command::Terminate { .. } => {
            cli.grace.map_or(operation, |grace| operation.min(Duration::from_secs(grace) / 2))
        }
        _ => operation,
    }
}

/// The Kubernetes API's address as every container of a cluster is told it.
fn kubernetes_api() -> Option<std::net::IpAddr> {
    let text = std::env::var(KUBERNETES_API).ok().filter(|text| !text.is_empty())?;
    let address = text.parse();
    if address.is_err() {
        tracing::warn!(text, "{KUBERNETES_API} is no IP address: the way to the API is not looked at");
    }
    address.ok()
}

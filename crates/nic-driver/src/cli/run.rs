//! `run`, the driver container's entrypoint: what it is given.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::build::{DkmsArguments, SettingError};
use super::debugging::DebuggingArguments;
use super::in_force::SettingInForce;
use super::install::{InstallArguments, InstallMode, SourcesArguments};
use super::modules::parse_bool;
use crate::default_paths;
use crate::phase::{DriverAfterwards, NamesRule, RunRequest, SharedHeaders};

/// The command's name.
pub(super) const RUN: &str = "run";

/// The name by which the program is the entrypoint, and takes the mode alone: where an image has it in the place of the earlier one.
pub(super) const ENTRYPOINT: &str = "entrypoint";

/// The entrypoint.
#[derive(Debug, clap::Args)]
#[command(subcommand_value_name = "MODE", subcommand_help_heading = "Modes")]
pub struct RunArguments {
    /// What the container is.
    #[command(subcommand)]
    pub mode: RunMode,
    /// DKMS.
    #[command(flatten)]
    pub dkms: DkmsArguments,
    /// Go back to the driver that the distribution brought when told to stop, and restore the NICs under it.
    #[arg(long, global = true, env = "RESTORE_DRIVER_ON_POD_TERMINATION", default_value_t = false, value_parser = parse_bool, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub restore_driver: bool,
    /// Keep interfaces' names by a udev rule, where the new driver would change them.
    #[arg(long, global = true, env = "CREATE_IFNAMES_UDEV", default_value_t = false, value_parser = parse_bool, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub keep_names: bool,
    /// The file of that rule.
    #[arg(long, global = true, env = "MLX_UDEV_RULES_FILE", default_value = default_paths::NAMES_RULE, hide = true)]
    pub names_rule: PathBuf,
    /// The headers that other containers find below MLX_DRIVERS_MOUNT.
    #[arg(long, global = true, env = "SHARED_KERNEL_HEADERS_DIR", default_value = default_paths::HEADERS, hide = true)]
    pub headers: PathBuf,
    /// Where the kubelet looks for why the container has ended.
    #[arg(long, global = true, env = "NIC_DRIVER_TERMINATION_LOG", default_value = default_paths::TERMINATION_LOG)]
    pub termination_log: PathBuf,
    /// Debugging.
    #[command(flatten)]
    pub debugging: DebuggingArguments,
    /// The container's version, which is logged.
    #[arg(long, global = true, env = "NVIDIA_NIC_CONTAINER_VER", hide = true)]
    pub container_version: Option<String>,
    /// The settings in force, for the log.
    #[arg(skip)]
    pub settings: Vec<SettingInForce>,
}

/// What a container is.
#[derive(Debug, clap::Subcommand)]
pub enum RunMode {
    /// The driver container: packages are built, or taken from the inventory or the sidecar; installed, and swapped to.
    #[command(after_help = "Example: nic-driver run sources, with the variables of the driver's image")]
    Sources(SourcesArguments),
    /// The driver container whose image has the modules: they are swapped to.
    #[command(after_help = "Example: nic-driver run precompiled")]
    Precompiled,
    /// The build sidecar, as `nic-driver dtk-build`.
    #[command(after_help = "Example: nic-driver run dtk-build, started by dtk_nic_driver_build.sh")]
    DtkBuild,
}

impl RunArguments {
    /// What is asked for; `None` of a sidecar, which is asked by its own variables.
    pub(super) fn request(
        &self,
        enable_nfsrdma: bool,
        drivers_mount: &Path,
    ) -> Result<Option<RunRequest>, SettingError> {
        let mode = match &self.mode {
            RunMode::DtkBuild => return Ok(None),
            RunMode::Precompiled => InstallMode::Precompiled,
            RunMode::Sources(sources) => InstallMode::Sources(sources.clone()),
        };
        let install = InstallArguments { mode: Some(mode), packages: None, dkms: self.dkms.clone() };
        Ok(Some(RunRequest {
            install: install.request(enable_nfsrdma)?,
            afterwards: DriverAfterwards::of(self.restore_driver),
            names: NamesRule { path: self.names_rule.clone(), keep_names: self.keep_names },
            headers: SharedHeaders { mount: drivers_mount.to_owned(), headers: self.headers.clone() },
            termination_message: self.termination_log.clone(),
        }))
    }

    /// Paths of the machine.
    pub(super) fn paths(&mut self) -> Vec<(&'static str, &mut PathBuf)> {
        let mut paths = vec![
            ("NIC_DRIVER_TERMINATION_LOG (--termination-log)", &mut self.termination_log),
            ("MLX_UDEV_RULES_FILE (--names-rule)", &mut self.names_rule),
            ("SHARED_KERNEL_HEADERS_DIR (--headers)", &mut self.headers),
        ];
        if let RunMode::Sources(sources) = &mut self.mode {
            paths.extend(sources.paths());
        }
        paths
    }

    /// The first lines of the log: what this is, and what of its environment means nothing to it.
    pub(super) fn introduce(&self, family: &str) {
        let (mode, driver) = match &self.mode {
            RunMode::Sources(sources) => ("sources", sources.build.driver_version.as_ref()),
            RunMode::Precompiled => ("precompiled", None),
            RunMode::DtkBuild => ("dtk-build", None),
        };
        let version = env!("CARGO_PKG_VERSION");
        tracing::info!(version, mode, family, "nic-driver, the driver container");
        let driver = driver.map_or_else(|| of_environment("NVIDIA_NIC_DRIVER_VER"), ToString::to_string);
        let container = self.container_version.as_deref().unwrap_or_default();
        tracing::info!("driver container version {driver}-{container}");
        let means_nothing = |variable: &str, why: &str| tracing::info!("{variable} has no effect: {why}");
        if std::env::var_os("BIND_DELAY_SEC").is_some() {
            means_nothing("BIND_DELAY_SEC", "events are waited for, and not times");
        }
        let new_entrypoint = of_environment("USE_NEW_ENTRYPOINT");
        if parse_bool(&new_entrypoint) == Ok(false) && !new_entrypoint.is_empty() {
            means_nothing("USE_NEW_ENTRYPOINT", "there is one entrypoint");
        }
    }
}

fn of_environment(variable: &str) -> String {
    std::env::var(variable).unwrap_or_default()
}

/// Whether the program was called by the name of the entrypoint.
pub(super) fn is_entrypoint(program: &OsStr) -> bool {
    Path::new(program).file_name() == Some(OsStr::new(ENTRYPOINT))
}

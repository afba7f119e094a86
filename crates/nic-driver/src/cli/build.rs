//! What is given about sources, builds and their packages, each with its variable. What is wrong or missing is an error that names the
//! variable, before anything is changed.

use std::io;
use std::path::PathBuf;

use nic_build::{BuildSettings, TOKEN, UserFlags, UserFlagsError};
use nic_host::{DriverVersion, Secret};

use super::modules::parse_bool;
use crate::phase::DriverSources;

const FLAGS: &str = "APPEND_DRIVER_BUILD_FLAGS";

/// Sources, and where their packages are kept.
#[derive(Debug, Clone, clap::Args)]
pub struct BuildArguments {
    /// The driver's version, such as 25.10-1.2.8.0.
    #[arg(long, value_name = "VERSION", env = "NVIDIA_NIC_DRIVER_VER")]
    pub driver_version: Option<DriverVersion>,
    /// The folder of the driver's sources, with install.pl.
    #[arg(long, value_name = "FOLDER", env = "NVIDIA_NIC_DRIVER_PATH")]
    pub driver_sources: Option<PathBuf>,
    /// The folder in which built packages are kept, for the next start and the next container [default: they are not kept].
    #[arg(long, value_name = "FOLDER", env = "NVIDIA_NIC_DRIVERS_INVENTORY_PATH")]
    pub inventory: Option<PathBuf>,
    /// More flags for install.pl, behind all others, quoted as for a shell.
    #[arg(long, value_name = "FLAGS", env = FLAGS, allow_hyphen_values = true)]
    pub build_flags: Option<String>,
}

/// DKMS.
#[derive(Debug, Clone, clap::Args)]
pub struct DkmsArguments {
    /// Build packages with sources for DKMS, register them with it, and build the modules by it.
    #[arg(long, global = true, env = "USE_DKMS", default_value_t = false, value_parser = parse_bool, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub use_dkms: bool,
}

/// The build sidecar.
#[derive(Debug, Clone, clap::Args)]
pub struct SidecarArguments {
    /// The folder that is shared with the build sidecar.
    #[arg(
        long,
        value_name = "FOLDER",
        env = "DTK_OCP_NIC_SHARED_DIR",
        default_value = "/mnt/shared-nvidia-nic-driver-toolkit"
    )]
    pub shared_folder: PathBuf,
    /// The program that the build sidecar is handed: it must run in the toolkit's image [default: nic-driver-sidecar beside this
    /// program, or else this program].
    #[arg(long, value_name = "FILE", env = "NIC_DRIVER_SIDECAR_PROGRAM")]
    pub sidecar_program: Option<PathBuf>,
}

/// The name of the program that is made for the sidecar.
const SIDECAR_PROGRAM: &str = "nic-driver-sidecar";

/// A setting that is missing or wrong.
#[derive(Debug, thiserror::Error)]
pub(super) enum SettingError {
    /// It is needed and not given.
    #[error("{variable} is not set, and {option} is not given")]
    Missing { variable: &'static str, option: &'static str },
    /// The flags cannot be told apart.
    #[error(transparent)]
    Flags(#[from] UserFlagsError),
    /// The token is no text.
    #[error("{TOKEN} is not UTF-8")]
    Token,
    /// Packages of a folder and a mode.
    #[error("--packages is the mode `packages`: no other can be given beside it")]
    TwoModes,
    /// A layout without a place.
    #[error("--layer needs --into FOLDER or --archive FILE")]
    NoTarget,
    /// Packages that nobody would find.
    #[error(
        "the packages would be gone with this command: NVIDIA_NIC_DRIVERS_INVENTORY_PATH is not set, and neither --inventory nor \
         --layer is given"
    )]
    NowhereToPut,
    /// The program for the sidecar is not known.
    #[error("cannot tell where this program is, which the build sidecar is to execute")]
    OwnProgram(#[source] io::Error),
}

impl SidecarArguments {
    /// The program that the sidecar is handed.
    pub(super) fn program(&self) -> Result<PathBuf, SettingError> {
        if let Some(given) = &self.sidecar_program {
            return Ok(given.clone());
        }
        let own = std::env::current_exe().map_err(SettingError::OwnProgram)?;
        let made_for_it = own.with_file_name(SIDECAR_PROGRAM);
        if made_for_it.is_file() {
            return Ok(made_for_it);
        }
        tracing::warn!(
            program = %own.display(),
            "no {SIDECAR_PROGRAM} is beside this program: the build sidecar is handed this one, which does not run in every image"
        );
        Ok(own)
    }

    /// Paths of the machine.
    pub(super) fn paths(&mut self) -> impl Iterator<Item = (&'static str, &mut PathBuf)> {
        let program = self.sidecar_program.iter_mut();
        let program = program.map(|path| ("NIC_DRIVER_SIDECAR_PROGRAM (--sidecar-program)", path));
        [("DTK_OCP_NIC_SHARED_DIR (--shared-folder)", &mut self.shared_folder)].into_iter().chain(program)
    }
}

impl BuildArguments {
    /// What is to be built.
    pub(super) fn sources(
        &self,
        enable_nfsrdma: bool,
        use_dkms: bool,
    ) -> Result<DriverSources, SettingError> {
        let missing = |variable, option| SettingError::Missing { variable, option };
        let append_flags = self.build_flags.clone().unwrap_or_default();
        Ok(DriverSources {
            version: self
                .driver_version
                .clone()
                .ok_or_else(|| missing("NVIDIA_NIC_DRIVER_VER", "--driver-version"))?,
            folder: self
                .driver_sources
                .clone()
                .ok_or_else(|| missing("NVIDIA_NIC_DRIVER_PATH", "--driver-sources"))?,
            inventory: self.inventory.clone(),
            settings: BuildSettings {
                enable_nfsrdma,
                use_dkms,
                user_flags: UserFlags::parse(FLAGS, &append_flags)?,
            },
            append_flags,
        })
    }

    pub(super) fn paths(&mut self) -> impl Iterator<Item = (&'static str, &mut PathBuf)> {
        let sources = self.driver_sources.iter_mut();
        let inventory = self.inventory.iter_mut();
        sources
            .map(|path| ("NVIDIA_NIC_DRIVER_PATH (--driver-sources)", path))
            .chain(inventory.map(|path| ("NVIDIA_NIC_DRIVERS_INVENTORY_PATH (--inventory)", path)))
    }
}

/// What a path is called that no variable can name.
pub(super) const ON_COMMAND_LINE: &str = "a path on the command line";

/// The token for Ubuntu Pro. A variable only: what stands on a command line everybody on the machine can read.
pub(super) fn token() -> Result<Option<Secret>, SettingError> {
    match std::env::var(TOKEN) {
        Ok(token) if token.trim().is_empty() => Ok(None),
        Ok(token) => Ok(Some(Secret::new(token))),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => Err(SettingError::Token),
    }
}

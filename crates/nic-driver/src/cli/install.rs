//! The modes of `install`, and what is asked for in each.

use std::path::PathBuf;

use nic_build::Proxies;

use super::build::{BuildArguments, DkmsArguments, ON_COMMAND_LINE, SettingError, SidecarArguments, token};
use super::modules::parse_bool;
use crate::phase::{InstallRequest, PackageOrigin};

/// Where the packages come from.
#[derive(Debug, clap::Args)]
#[command(subcommand_negates_reqs = true, subcommand_value_name = "MODE", subcommand_help_heading = "Modes")]
pub struct InstallArguments {
    /// Where the packages come from.
    #[command(subcommand)]
    pub mode: Option<InstallMode>,
    /// Install the packages of this folder: the same as `packages FOLDER`.
    #[arg(long, value_name = "FOLDER", required = true)]
    pub packages: Option<PathBuf>,
    /// DKMS.
    #[command(flatten)]
    pub dkms: DkmsArguments,
}

/// Sources, and who builds packages of them.
#[derive(Debug, Clone, clap::Args)]
pub struct SourcesArguments {
    /// Sources.
    #[command(flatten)]
    pub build: BuildArguments,
    /// Have them built by the sidecar, as `dtk` does.
    #[arg(long, env = "DTK_OCP_DRIVER_BUILD", default_value_t = false, value_parser = parse_bool, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub dtk_driver_build: bool,
    /// The sidecar.
    #[command(flatten)]
    pub sidecar: SidecarArguments,
}

/// Where the packages come from.
#[derive(Debug, clap::Subcommand)]
pub enum InstallMode {
    /// From a folder.
    #[command(
        after_help = "Example: nic-driver install packages /mnt/drivers-inventory/5.14.0/25.10-1.2.8.0"
    )]
    Packages {
        /// The folder that holds the packages (.rpm or .deb, as the distribution has them).
        folder: PathBuf,
    },
    /// Built here from sources, or an earlier build out of the inventory.
    #[command(after_help = "Example: nic-driver install sources --driver-version 25.10-1.2.8.0 \
                      --driver-sources /run/mellanox/src/MLNX_OFED_SRC-25.10-1.2.8.0 --inventory /mnt/drivers-inventory")]
    Sources(SourcesArguments),
    /// None: the modules are in the image. Makes sure that they are, for the running kernel, and indexed.
    #[command(after_help = "Example: nic-driver install precompiled")]
    Precompiled,
    /// Built by the sidecar from OpenShift's Driver Toolkit, or an earlier build out of the inventory.
    #[command(after_help = "Example: nic-driver install dtk --shared-folder /mnt/shared-doca-driver-toolkit")]
    Dtk {
        /// Sources.
        #[command(flatten)]
        build: BuildArguments,
        /// The sidecar.
        #[command(flatten)]
        sidecar: SidecarArguments,
    },
}

impl SourcesArguments {
    /// Paths of the machine.
    pub(super) fn paths(&mut self) -> impl Iterator<Item = (&'static str, &mut PathBuf)> {
        self.build.paths().chain(self.sidecar.paths())
    }
}

impl InstallArguments {
    /// What is asked for.
    pub(super) fn request(&self, enable_nfsrdma: bool) -> Result<InstallRequest, SettingError> {
        let use_dkms = self.dkms.use_dkms;
        let origin = match (&self.mode, &self.packages) {
            (Some(_), Some(_)) => return Err(SettingError::TwoModes),
            (None, Some(folder)) | (Some(InstallMode::Packages { folder }), None) => {
                PackageOrigin::Folder(folder.clone())
            }
            (Some(InstallMode::Precompiled), None) => PackageOrigin::Precompiled,
            (Some(InstallMode::Sources(SourcesArguments { build, dtk_driver_build: false, .. })), None) => {
                PackageOrigin::Sources(build.sources(enable_nfsrdma, use_dkms)?)
            }
            (
                Some(
                    InstallMode::Sources(SourcesArguments { build, sidecar, .. })
                    | InstallMode::Dtk { build, sidecar },
                ),
                None,
            ) => PackageOrigin::Sidecar {
                sources: build.sources(enable_nfsrdma, use_dkms)?,
                shared_folder: sidecar.shared_folder.clone(),
                entrypoint: sidecar.program()?,
            },
            // The parser asks for one of them.
            (None, None) => return Err(SettingError::Missing { variable: "MODE", option: "--packages" }),
        };
        let token = match &origin {
            PackageOrigin::Folder(_) => None,
            PackageOrigin::Sources(_) | PackageOrigin::Precompiled | PackageOrigin::Sidecar { .. } => {
                token()?
            }
        };
        Ok(InstallRequest { origin, use_dkms, token, proxies: Proxies::of_this_process() })
    }

    /// Paths of the machine.
    pub(super) fn paths(&mut self) -> Vec<(&'static str, &mut PathBuf)> {
        let mut paths: Vec<_> = self.packages.iter_mut().map(|path| (ON_COMMAND_LINE, path)).collect();
        match &mut self.mode {
            None | Some(InstallMode::Precompiled) => {}
            Some(InstallMode::Packages { folder }) => paths.push((ON_COMMAND_LINE, folder)),
            Some(InstallMode::Sources(sources)) => paths.extend(sources.paths()),
            Some(InstallMode::Dtk { build, sidecar }) => {
                paths.extend(build.paths());
                paths.extend(sidecar.paths());
            }
        }
        paths
    }
}

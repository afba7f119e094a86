//! What an installation is asked for.

use std::fmt;
use std::path::PathBuf;

use nic_build::{BuildSettings, Proxies};
use nic_host::{DriverVersion, Secret};
use serde::Serialize;

/// What an installation is asked for.
#[derive(Debug, Clone)]
pub struct InstallRequest {
    /// Where the packages come from.
    pub origin: PackageOrigin,
    /// Whether their sources are registered with DKMS.
    pub use_dkms: bool,
    /// The token for Ubuntu Pro.
    pub token: Option<Secret>,
    /// The proxies.
    pub proxies: Proxies,
}

/// Where the driver's packages come from.
#[derive(Debug, Clone)]
pub enum PackageOrigin {
    /// They lie in this folder.
    Folder(PathBuf),
    /// They are built here, or an earlier build is used again.
    Sources(DriverSources),
    /// They are in the image: nothing is installed.
    Precompiled,
    /// The build sidecar builds them, or an earlier build is used again.
    Sidecar {
        /// What it builds.
        sources: DriverSources,
        /// The folder that is mounted into both containers.
        shared_folder: PathBuf,
        /// The program that the sidecar is to execute.
        entrypoint: PathBuf,
    },
}

/// The driver's sources, and what is asked of a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriverSources {
    /// The driver's version.
    pub version: DriverVersion,
    /// The folder of the sources, with `install.pl`.
    pub folder: PathBuf,
    /// The folder of built packages, where they are kept.
    pub inventory: Option<PathBuf>,
    /// What is asked of a build.
    pub settings: BuildSettings,
    /// The user's flags for it as they were given, by which stored packages are known.
    pub append_flags: String,
}

impl InstallRequest {
    /// Whether a package manager is run: for the driver, for DKMS, or for FIPS.
    pub(crate) fn has_packages(&self) -> bool {
        !matches!(self.origin, PackageOrigin::Precompiled) || self.use_dkms || self.token.is_some()
    }
}

/// Where the packages came from that were installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum PackagesFrom {
    /// A folder that was given.
    Folder,
    /// A build here.
    Build,
    /// A build by the sidecar.
    Sidecar,
    /// The inventory.
    Inventory {
        /// By what they were verified.
        verified_by: String,
    },
    /// The image, which has them installed.
    Image,
}

impl fmt::Display for PackagesFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder => f.write_str("packages of a folder"),
            Self::Build => f.write_str("packages that were built here"),
            Self::Sidecar => f.write_str("packages that the sidecar built"),
            Self::Inventory { verified_by } => {
                write!(f, "packages of the inventory, verified by {verified_by}")
            }
            Self::Image => f.write_str("modules of the image"),
        }
    }
}

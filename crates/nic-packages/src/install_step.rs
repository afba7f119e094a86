use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use nic_host::{Invocation, KernelRelease};
use serde::Serialize;

/// A package's scriptlets may rebuild an initramfs for each kernel of the machine.
const INSTALL_DEADLINE: Duration = Duration::from_secs(30 * 60);
pub(crate) const DEPMOD_DEADLINE: Duration = Duration::from_secs(5 * 60);
/// How long an air-gapped node waits for its package lists before it goes on without the kernel's other modules…
const LISTS_DEADLINE: Duration = Duration::from_secs(60);
/// …and how long for those, where its lists know them. Together these are all that an installation waits for a network.
const FETCH_DEADLINE: Duration = Duration::from_secs(3 * 60);

/// One step of an installation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "step")]
pub enum InstallStep {
    /// Create an empty index file in the module folder, and the folder if need be. depmod(8) complains without it.
    CreateIndex {
        /// The file.
        path: PathBuf,
    },
    /// Get apt's package lists, which images do not carry. It may fail.
    AptUpdate,
    /// Fetch the rest of the kernel's own modules, on which the new ones may depend. It may fail: not every kernel has such
    /// a package, and not every node a network.
    FetchModulesExtra {
        /// The package.
        package: String,
    },
    /// Install them as they were fetched. It may fail.
    ModulesExtra {
        /// The package.
        package: String,
    },
    /// Replace other versions of these packages with `rpm -U`.
    ///
    /// `rpm -i` would keep the installed version beside the new one, and then refuse because both hold the same
    /// files. `-U` also erases what a package obsoletes and, unlike `-i`, the modules an older version holds for
    /// other kernels.
    RpmUpgrade {
        /// The package files.
        files: Vec<PathBuf>,
    },
    /// Install packages of which no other version is installed with `rpm -i`. Dependencies are not looked at: a
    /// container has neither a kernel package nor what the distribution's packages require.
    RpmInstall {
        /// The package files.
        files: Vec<PathBuf>,
    },
    /// Install or replace packages with apt.
    AptInstall {
        /// The package files.
        files: Vec<PathBuf>,
    },
    /// Unpack packages again whose version is installed, but whose modules are missing.
    AptReinstall {
        /// The package files.
        files: Vec<PathBuf>,
    },
    /// Build the index of the kernel's modules anew.
    Depmod {
        /// The kernel.
        kernel: KernelRelease,
    },
}

impl InstallStep {
    /// Whether the installation goes on when it fails.
    #[must_use]
    pub fn may_fail(&self) -> bool {
        matches!(self, Self::AptUpdate | Self::FetchModulesExtra { .. } | Self::ModulesExtra { .. })
    }

    /// The command that carries it out; `None` for a step that is none.
    #[must_use]
    pub fn invocation(&self) -> Option<Invocation> {
        let rpm = |files| Invocation::new("rpm").args(files).deadline(INSTALL_DEADLINE);
        Some(match self {
            Self::CreateIndex { .. } => return None,
            Self::AptUpdate => apt(&["update"], &BRIEFLY).deadline(LISTS_DEADLINE),
            Self::FetchModulesExtra { package } => {
                apt_install(&BRIEFLY).args(["--download-only", package]).deadline(FETCH_DEADLINE)
            }
            // Not from the network: an installation that is cut off leaves a package half unpacked.
            Self::ModulesExtra { package } => apt_install(&[]).args(["--no-download", package]),
            Self::RpmUpgrade { files } => {
                rpm(["-Uvh", "--replacepkgs", "--oldpackage", "--nodeps"].as_slice()).args(files)
            }
            Self::RpmInstall { files } => rpm(["-ivh", "--replacepkgs", "--nodeps"].as_slice()).args(files),
            Self::AptInstall { files } => apt_install(&[]).arg("--allow-downgrades").args(files),
            Self::AptReinstall { files } => {
                apt_install(&[]).args(["--allow-downgrades", "--reinstall"]).args(files)
            }
            Self::Depmod { kernel } => depmod(kernel),
        })
    }
}

/// For what may fail: a network that does not answer is given up soon.
const BRIEFLY: [&str; 3] = ["Acquire::Retries=0", "Acquire::http::Timeout=10", "Acquire::https::Timeout=10"];

/// apt-get, on a machine with nobody before it.
fn apt(verb: &[&str], options: &[&str]) -> Invocation {
    // On a machine that is no container, its own unattended upgrades may hold the lock.
    let options = ["DPkg::Lock::Timeout=600"].iter().chain(options).flat_map(|option| ["-o", option]);
    Invocation::new("apt-get").args(verb).args(options).env("DEBIAN_FRONTEND", "noninteractive")
}

fn apt_install(options: &[&str]) -> Invocation {
    // There is nobody to answer what to do with a configuration file that was edited: it is kept.
    let kept = ["Dpkg::Options::=--force-confdef", "Dpkg::Options::=--force-confold"];
    apt(&["install", "-y"], &[&kept, options].concat()).deadline(INSTALL_DEADLINE)
}

pub(crate) fn depmod(kernel: &KernelRelease) -> Invocation {
    Invocation::new("depmod").arg(kernel.as_str()).deadline(DEPMOD_DEADLINE)
}

/// What the step does, to stand behind "cannot".
impl fmt::Display for InstallStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateIndex { path } => write!(f, "create {}", path.display()),
            Self::AptUpdate => f.write_str("get apt's package lists"),
            Self::FetchModulesExtra { package } => write!(f, "fetch the kernel's other modules ({package})"),
            Self::ModulesExtra { package } => write!(f, "install the kernel's other modules ({package})"),
            Self::RpmUpgrade { .. } => f.write_str("replace other versions of rpm packages"),
            Self::RpmInstall { .. } => f.write_str("install rpm packages"),
            Self::AptInstall { .. } => f.write_str("install Debian packages"),
            Self::AptReinstall { .. } => f.write_str("install Debian packages again"),
            Self::Depmod { kernel } => write!(f, "build the module index of the kernel {kernel}"),
        }
    }
}

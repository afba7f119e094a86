use std::fmt;
use std::time::Duration;

use nic_host::{CommandError, Host, Invocation, KernelRelease};
use serde::Serialize;

use crate::dkms::{of_recorded, registered};
use crate::install_step::depmod;
use crate::{
    DkmsModule, InstallRecord, InstalledError, InstalledPackage, PackageFormat, RecordedPackage, installed,
};

const REMOVAL_DEADLINE: Duration = Duration::from_secs(15 * 60);

/// The steps that take an installation off the machine again, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RemovalPlan {
    /// The steps.
    pub steps: Vec<RemovalStep>,
    format: PackageFormat,
}

/// One step of a removal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "step")]
pub enum RemovalStep {
    /// Take modules out of DKMS and out of all kernels' trees.
    ///
    /// It comes first: DKMS needs their sources for it, which go with the packages. Their own scriptlets do the same,
    /// and find nothing left to do.
    DkmsRemove {
        /// The modules.
        module: DkmsModule,
    },
    /// Erase exactly these versions with `rpm -e`, whatever requires them.
    RpmErase {
        /// The packages.
        packages: Vec<RecordedPackage>,
    },
    /// Remove the packages and their configuration with dpkg, whatever depends on them.
    ///
    /// The configuration must go: a file of theirs in `/etc/modprobe.d` or `/etc/depmod.d` would still rule over
    /// the inbox driver. dpkg and not apt, which would remove what depends on them as well.
    DpkgPurge {
        /// The packages.
        packages: Vec<RecordedPackage>,
    },
    /// Build the index of the kernel's modules anew.
    Depmod {
        /// The kernel.
        kernel: KernelRelease,
    },
}

impl RemovalStep {
    /// The command that carries it out.
    #[must_use]
    pub fn invocation(&self) -> Invocation {
        match self {
            Self::DkmsRemove { module } => module.removal(),
            Self::RpmErase { packages } => Invocation::new("rpm")
                .args(["-e", "--nodeps", "--"])
                .args(packages.iter().map(rpm_label))
                .deadline(REMOVAL_DEADLINE),
            Self::DpkgPurge { packages } => Invocation::new("dpkg")
                .args(["--purge", "--force-depends", "--"])
                .args(packages.iter().map(|package| &package.name))
                .env("DEBIAN_FRONTEND", "noninteractive")
                .deadline(REMOVAL_DEADLINE),
            Self::Depmod { kernel } => depmod(kernel),
        }
    }
}

/// `name-version-release`: the name alone would be ambiguous where rpm has several versions installed.
fn rpm_label(package: &RecordedPackage) -> String {
    let version_release = package.version.split_once(':').map_or(package.version.as_str(), |(_, rest)| rest);
    format!("{}-{version_release}", package.name)
}

/// What the step does, to stand behind "cannot".
impl fmt::Display for RemovalStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DkmsRemove { module } => write!(f, "take {module} out of DKMS"),
            Self::RpmErase { .. } => f.write_str("erase rpm packages"),
            Self::DpkgPurge { .. } => f.write_str("purge Debian packages"),
            Self::Depmod { kernel } => write!(f, "build the module index of the kernel {kernel}"),
        }
    }
}

impl RemovalPlan {
    /// Decides how `record` is undone where `present` (of the same names, from [`installed()`]) is installed, and
    /// `dkms` is what DKMS knows of the recorded sources.
    ///
    /// Only what is still there in the recorded version is removed: another version was put there by somebody else. The module index is built in any case: an earlier run may have been killed just before it.
    #[must_use]
    pub fn new(record: &InstallRecord, present: &[InstalledPackage], dkms: &[DkmsModule]) -> Self {
        let is_present = |package: &&RecordedPackage| {
            present
                .iter()
                .any(|installed| installed.name == package.name && installed.version == package.version)
        };
        let packages: Vec<RecordedPackage> = record.packages.iter().filter(is_present).cloned().collect();
        let mut steps: Vec<RemovalStep> =
            dkms.iter().map(|module| RemovalStep::DkmsRemove { module: module.clone() }).collect();
        if !packages.is_empty() {
            steps.push(match record.format {
                PackageFormat::Rpm => RemovalStep::RpmErase { packages },
                PackageFormat::Deb => RemovalStep::DpkgPurge { packages },
            });
        }
        steps.push(RemovalStep::Depmod { kernel: record.kernel.clone() });
        Self { steps, format: record.format }
    }

    /// Reads which of the recorded packages are installed and what DKMS knows of their sources, and decides. What DKMS
    /// knows of others' stays.
    pub async fn observe(host: &Host, record: &InstallRecord) -> Result<Self, InstalledError> {
        let names = record.packages.iter().map(|package| &package.name);
        let present = installed(host, record.format, names).await?;
        let dkms = if record.dkms_sources.is_empty() {
            Vec::new()
        } else {
            let registered = registered(host).await.map_err(InstalledError::Dkms)?;
            of_recorded(host, &record.dkms_sources, &registered).map_err(InstalledError::DkmsSources)?
        };
        Ok(Self::new(record, &present, &dkms))
    }

    /// The packages that go.
    pub fn packages(&self) -> impl Iterator<Item = &RecordedPackage> {
        self.steps.iter().flat_map(|step| match step {
            RemovalStep::RpmErase { packages } | RemovalStep::DpkgPurge { packages } => packages.as_slice(),
            RemovalStep::DkmsRemove { .. } | RemovalStep::Depmod { .. } => &[],
        })
    }

    /// What is taken out of DKMS.
    pub fn dkms_modules(&self) -> impl Iterator<Item = &DkmsModule> {
        self.steps.iter().filter_map(|step| match step {
            RemovalStep::DkmsRemove { module } => Some(module),
            RemovalStep::RpmErase { .. } | RemovalStep::DpkgPurge { .. } | RemovalStep::Depmod { .. } => None,
        })
    }

    /// Carries out the steps in order and stops at the first that fails; then looks whether all of it is gone.
    pub async fn apply(&self, host: &Host) -> Result<(), RemovalError> {
        for step in &self.steps {
            tracing::info!("{step}");
            host.run(&step.invocation())
                .await
                .map_err(|source| RemovalError::Step { step: step.clone(), source })?;
        }
        let names = self.packages().map(|package| &package.name);
        let present = installed(host, self.format, names).await.map_err(RemovalError::Verify)?;
        let remaining = self.packages().find(|package| {
            present
                .iter()
                .any(|installed| installed.name == package.name && installed.version == package.version)
        });
        if let Some(package) = remaining {
            return Err(RemovalError::StillInstalled { package: package.clone() });
        }
        if self.dkms_modules().next().is_none() {
            return Ok(());
        }
        let registered =
            registered(host).await.map_err(|error| RemovalError::Verify(InstalledError::Dkms(error)))?;
        match self.dkms_modules().find(|module| registered.contains(module)) {
            None => Ok(()),
            Some(module) => Err(RemovalError::StillRegistered { module: module.clone() }),
        }
    }
}

/// One line a step: what it does, and the command.
impl fmt::Display for RemovalPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.steps.iter().try_for_each(|step| writeln!(f, "{step}: {}", step.invocation()))
    }
}

/// A removal that failed. It can be planned and tried anew.
#[derive(Debug, thiserror::Error)]
pub enum RemovalError {
    /// A step's command failed.
    #[error("cannot {step}")]
    Step {
        /// The step.
        step: RemovalStep,
        /// How the command failed.
        #[source]
        source: CommandError,
    },
    /// The result could not be looked at.
    #[error("all packages were removed, but that cannot be verified")]
    Verify(#[source] InstalledError),
    /// The package manager reported success, and the package is still there.
    #[error("the package manager reported success, and yet {} {} is still installed", package.name, package.version)]
    StillInstalled {
        /// The package.
        package: RecordedPackage,
    },
    /// DKMS reported success, and still knows the modules.
    #[error("dkms reported success, and yet {module} is still registered")]
    StillRegistered {
        /// The modules.
        module: DkmsModule,
    },
}

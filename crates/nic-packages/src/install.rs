use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use nic_host::{CommandError, ForeignWords, Host, KernelRelease, WriteError};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use crate::dkms::source_folders;
use crate::fields::{FieldKind, check_field};
use crate::install_step::InstallStep;
use crate::weak_links::{WeakLinksError, unlinked};
use crate::{
    InstalledError, InstalledPackage, PackageFile, PackageFormat, PackageSet, ParsePackageError, installed,
};

/// What of the machine decides how a set of packages is installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstallState {
    /// Which of the set's packages are installed, in whatever version.
    pub installed: Vec<InstalledPackage>,
    /// The set's modules that the kernel uses, and that are not on the disk or, where they are another kernel's, not
    /// linked into its folder.
    pub missing_modules: BTreeSet<PathBuf>,
    /// Files that depmod(8) needs in the kernel's module folder, and which are not there. They come with the
    /// kernel, whose packages a container may lack.
    pub missing_indexes: Vec<PathBuf>,
    /// Ubuntu's package with the rest of the kernel's own modules, where it is not installed. Whether apt knows one is not
    /// asked: images carry no package lists.
    pub modules_extra: Option<String>,
}

/// The machine could not be read before an installation.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// The installed packages could not be listed.
    #[error(transparent)]
    Installed(#[from] InstalledError),
    /// The kernel's links to other kernels' modules could not be read.
    #[error(transparent)]
    Links(#[from] WeakLinksError),
}

impl InstallState {
    /// Reads the machine: its package database and its module folder.
    pub async fn observe(
        host: &Host,
        set: &PackageSet,
        kernel: &KernelRelease,
    ) -> Result<Self, ObserveError> {
        let folder = Path::new("/lib/modules").join(kernel.as_str());
        Ok(Self {
            installed: installed(host, set.format, set.packages.iter().map(|package| &package.name)).await?,
            missing_modules: missing(host, set.modules_to_use(kernel))
                .map(Path::to_path_buf)
                .chain(unlinked(host, kernel, set.modules_to_use(kernel))?)
                .collect(),
            missing_indexes: ["modules.order", "modules.builtin"]
                .map(|name| folder.join(name))
                .into_iter()
                .filter(|path| !host.exists(path))
                .collect(),
            modules_extra: match set.format {
                PackageFormat::Deb => modules_extra(host, kernel).await?,
                PackageFormat::Rpm => None,
            },
        })
    }
}

fn missing<'a>(host: &Host, files: impl Iterator<Item = &'a Path>) -> impl Iterator<Item = &'a Path> {
    files.filter(|file| !host.exists(file))
}

async fn modules_extra(host: &Host, kernel: &KernelRelease) -> Result<Option<String>, InstalledError> {
    // Debian has no such package. Where the distribution cannot be told, the attempt costs little.
    if host.os_release().is_ok_and(|os| os.id == "debian") {
        return Ok(None);
    }
    let package = format!("linux-modules-extra-{kernel}");
    let present = installed(host, PackageFormat::Deb, [&package]).await?;
    Ok((!present.iter().any(|package| package.complete)).then_some(package))
}

/// A package by name and version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedPackage {
    /// Its name.
    pub name: String,
    /// Its version, in the form of [`PackageFile::version`].
    pub version: String,
}

/// What an installation leaves on the machine: all that is needed to undo it.
///
/// It lists the whole set, also the packages that had been installed before: an earlier run of this program may have
/// done that. What the set needs besides (`linux-modules-extra-…`) is not in it, and stays.
///
/// One that was stored is read only when its packages are such as a package manager has: they become arguments of its.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "StoredRecord")]
pub struct InstallRecord {
    /// The packages' format.
    pub format: PackageFormat,
    /// The packages.
    pub packages: Vec<RecordedPackage>,
    /// The kernel for which they were installed.
    pub kernel: KernelRelease,
    /// The modules that the kernel uses of them: for it, or for another kernel and linked into its folder.
    pub files: Vec<PathBuf>,
    /// The folders of sources that they hold for DKMS.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dkms_sources: Vec<PathBuf>,
}

/// A record as it was stored, by whomever.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredRecord {
    /// Whoever stores it may say in what form, and by whom.
    #[serde(default, rename = "schema")]
    _schema: IgnoredAny,
    #[serde(default, rename = "writer")]
    _writer: IgnoredAny,
    format: PackageFormat,
    packages: Vec<RecordedPackage>,
    kernel: KernelRelease,
    files: Vec<PathBuf>,
    #[serde(default)]
    dkms_sources: Vec<PathBuf>,
}

impl TryFrom<StoredRecord> for InstallRecord {
    type Error = ParsePackageError;

    fn try_from(stored: StoredRecord) -> Result<Self, Self::Error> {
        let StoredRecord { format, packages, kernel, files, dkms_sources, .. } = stored;
        for RecordedPackage { name, version } in &packages {
            check_field(format, "name", name, FieldKind::Name)?;
            check_field(format, "version", version, FieldKind::FullVersion)?;
        }
        Ok(Self { format, packages, kernel, files, dkms_sources })
    }
}

/// The steps that put a set of packages on the machine, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InstallPlan {
    /// The steps.
    pub steps: Vec<InstallStep>,
    /// What the machine holds afterwards.
    pub record: InstallRecord,
}

impl InstallPlan {
    /// Decides how `set` gets on a machine in this state.
    ///
    /// A package is left alone if exactly its version is installed and each of its modules for `kernel` is on the
    /// disk; what is in those files is not compared, so a package that was built anew must have a new version or
    /// release to be installed over the old one. The module index is built in any case: an earlier run may have been killed just before it.
    #[must_use]
    pub fn new(set: &PackageSet, kernel: &KernelRelease, state: &InstallState) -> Self {
        let mut steps: Vec<InstallStep> = state
            .missing_indexes
            .iter()
            .map(|path| InstallStep::CreateIndex { path: path.clone() })
            .collect();
        let needed: Vec<(&PackageFile, Presence)> = set
            .packages
            .iter()
            .map(|package| (package, Presence::of(package, state)))
            .filter(|(_, presence)| *presence != Presence::Whole)
            .collect();
        let files = |wanted: &[Presence]| -> Option<Vec<PathBuf>> {
            let chosen = needed.iter().filter(|(_, presence)| wanted.contains(presence));
            let files: Vec<PathBuf> = chosen.map(|(package, _)| package.path.clone()).collect();
            (!files.is_empty()).then_some(files)
        };
        match set.format {
            // The upgrade comes first: a file may have moved from an old version of one package to a new package,
            // which conflicts for as long as the old version is there.
            PackageFormat::Rpm => {
                steps.extend(files(&[Presence::OtherVersion]).map(|files| InstallStep::RpmUpgrade { files }));
                steps.extend(
                    files(&[Presence::None, Presence::Damaged])
                        .map(|files| InstallStep::RpmInstall { files }),
                );
            }
            PackageFormat::Deb => {
                if let Some(package) = state.modules_extra.clone().filter(|_| !needed.is_empty()) {
                    steps.push(InstallStep::AptUpdate);
                    steps.push(InstallStep::FetchModulesExtra { package: package.clone() });
                    steps.push(InstallStep::ModulesExtra { package });
                }
                steps.extend(
                    files(&[Presence::None, Presence::OtherVersion])
                        .map(|files| InstallStep::AptInstall { files }),
                );
                steps.extend(files(&[Presence::Damaged]).map(|files| InstallStep::AptReinstall { files }));
            }
        }
        steps.push(InstallStep::Depmod { kernel: kernel.clone() });
        let record = InstallRecord {
            format: set.format,
            packages: set
                .packages
                .iter()
                .map(|package| RecordedPackage {
                    name: package.name.clone(),
                    version: package.version.clone(),
                })
                .collect(),
            kernel: kernel.clone(),
            files: set.modules_to_use(kernel).map(Path::to_path_buf).collect(),
            dkms_sources: set.packages.iter().flat_map(source_folders).collect(),
        };
        Self { steps, record }
    }

    /// Whether it puts any package on the machine, beside building the module index.
    #[must_use]
    pub fn installs_packages(&self) -> bool {
        self.steps
            .iter()
            .any(|step| !matches!(step, InstallStep::CreateIndex { .. } | InstallStep::Depmod { .. }))
    }

    /// Carries out the steps in order and stops at the first that fails and must not; then looks whether the machine
    /// holds what the plan promised.
    pub async fn apply(&self, host: &Host) -> Result<InstallRecord, InstallError> {
        for step in &self.steps {
            tracing::info!("{step}");
            if let InstallStep::CreateIndex { path } = step {
                host.write_durably(path, b"")?;
            }
            if let Some(invocation) = step.invocation() {
                match host.run(&invocation).await {
                    Ok(_) => {}
                    Err(error) if step.may_fail() => tracing::warn!(
                        error = nic_host::error_chain(&error),
                        "cannot {step}; the installation goes on without"
                    ),
                    Err(source) => return Err(InstallError::Step { step: step.clone(), source }),
                }
            }
        }
        self.verify(host).await?;
        Ok(self.record.clone())
    }

    async fn verify(&self, host: &Host) -> Result<(), InstallError> {
        let record = &self.record;
        let names = record.packages.iter().map(|package| &package.name);
        let present = installed(host, record.format, names).await.map_err(InstallError::Verify)?;
        for wanted in &record.packages {
            let versions = present.iter().filter(|package| package.name == wanted.name && package.complete);
            if !versions.clone().any(|package| package.version == wanted.version) {
                return Err(InstallError::NotInstalled {
                    package: wanted.clone(),
                    found: versions.map(|package| package.version.clone()).collect(),
                });
            }
        }
        if let Some(path) = missing(host, record.files.iter().map(PathBuf::as_path)).next() {
            return Err(InstallError::MissingModule { path: path.to_path_buf() });
        }
        let unlinked = unlinked(host, &record.kernel, record.files.iter().map(PathBuf::as_path))?;
        unlinked
            .into_iter()
            .next()
            .map_or(Ok(()), |module| Err(InstallError::NotLinked { module, kernel: record.kernel.clone() }))
    }
}

/// One line a step: what it does, and the command.
impl fmt::Display for InstallPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            match step.invocation() {
                Some(invocation) => writeln!(f, "{step}: {invocation}")?,
                None => writeln!(f, "{step}")?,
            }
        }
        Ok(())
    }
}

/// How much of a package is on the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    /// Nothing.
    None,
    /// Another version, whether or not the wanted one is there too.
    OtherVersion,
    /// The wanted version, but not wholly installed, or with modules missing.
    Damaged,
    /// All of it.
    Whole,
}

impl Presence {
    fn of(package: &PackageFile, state: &InstallState) -> Self {
        let mut versions =
            state.installed.iter().filter(|installed| installed.name == package.name).peekable();
        if versions.peek().is_none() {
            Self::None
        } else if versions.clone().any(|installed| installed.version != package.version) {
            Self::OtherVersion
        } else if versions.all(|installed| installed.complete)
            && !package.modules().any(|module| state.missing_modules.contains(module))
        {
            Self::Whole
        } else {
            Self::Damaged
        }
    }
}

/// An installation that failed. The steps before the one that failed have been carried out; it can be planned and
/// tried anew.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// An index file could not be created in the module folder.
    #[error("cannot prepare the module folder")]
    Index(#[from] WriteError),
    /// A step's command failed.
    #[error("cannot {step}")]
    Step {
        /// The step.
        step: InstallStep,
        /// How the command failed.
        #[source]
        source: CommandError,
    },
    /// The result could not be looked at.
    #[error("all packages were installed, but that cannot be verified")]
    Verify(#[source] InstalledError),
    /// The package manager reported success, and the package is not there.
    #[error(
        "the package manager reported success, and yet {} {} is not installed{}",
        package.name, package.version,
        if found.is_empty() { String::new() } else { format!(", but {}", ForeignWords(found)) }
    )]
    NotInstalled {
        /// The package.
        package: RecordedPackage,
        /// Its versions that are installed.
        found: Vec<String>,
    },
    /// The package manager reported success, and a module is not there.
    #[error("the package manager reported success, and yet there is no {}", path.display())]
    MissingModule {
        /// The module's file.
        path: PathBuf,
    },
    /// The package manager reported success, and the kernel was given no link to a module that was built for another one.
    #[error(
        "the package was installed, and yet weak-modules has not linked {} into the modules of the kernel {kernel}: \
         they may differ in symbols that the module needs",
        module.display()
    )]
    NotLinked {
        /// The module's file.
        module: PathBuf,
        /// The kernel that was to use it.
        kernel: KernelRelease,
    },
    /// The kernel's links to other kernels' modules could not be read.
    #[error("all packages were installed, but that cannot be verified")]
    VerifyLinks(#[from] WeakLinksError),
}

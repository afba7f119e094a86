use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use nic_host::{ForeignWord, Host, KernelRelease, ListError};
use serde::{Deserialize, Serialize};

use crate::dkms::source_folders;
use crate::weak_links;
use crate::{Architecture, PackageFile, PackageFormat, ReadPackageError};

/// The packages of one folder, which are installed together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageSet {
    /// The folder, as an absolute path of the host.
    pub folder: PathBuf,
    /// The format of all of them.
    pub format: PackageFormat,
    /// The packages, by file name; never empty when read from a folder.
    pub packages: Vec<PackageFile>,
}

/// How the running kernel comes by the modules of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModuleOrigin {
    /// The packages hold modules for it.
    Built,
    /// At least one package holds modules for another kernel of the same release, and links to them come with its
    /// installation: see [`InstallError::NotLinked`](crate::InstallError::NotLinked).
    Linked {
        /// Those kernels.
        kernels: Vec<KernelRelease>,
    },
    /// The packages hold no modules but sources, which DKMS builds: the caller must register them.
    Dkms {
        /// The folders of sources.
        sources: Vec<PathBuf>,
    },
}

/// A folder that is no set of packages.
#[derive(Debug, thiserror::Error)]
pub enum ReadSetError {
    /// The folder could not be listed.
    #[error("cannot look for packages")]
    List(#[from] ListError),
    /// It holds no package.
    #[error("there are no packages in {}: no file is named *{suffix}", folder.display())]
    Empty {
        /// The folder.
        folder: PathBuf,
        /// What the names of packages of this format end in.
        suffix: &'static str,
    },
    /// One of the files could not be read.
    #[error("the packages in {} cannot be used", folder.display())]
    Package {
        /// The folder.
        folder: PathBuf,
        /// What is wrong with the file.
        #[source]
        source: ReadPackageError,
    },
    /// A file's content is of another format than its name says.
    #[error("{} is a package of the format {found}, whatever its name says", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// The format of its content.
        found: PackageFormat,
    },
    /// Two files hold a package of the same name, so they cannot be installed together.
    #[error("{} and {} both hold the package {}", first.display(), second.display(), ForeignWord(name))]
    Twice {
        /// The package's name.
        name: String,
        /// A file that holds it.
        first: PathBuf,
        /// Another one.
        second: PathBuf,
    },
}

/// A set of packages that is not for this machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// A package holds modules, and none of them for the running kernel.
    #[error(
        "the package {} is for the kernel {}, and this machine runs {running}",
        ForeignWord(package),
        kernels.iter().map(KernelRelease::as_str).collect::<Vec<_>>().join(", ")
    )]
    OtherKernel {
        /// The package's name.
        package: String,
        /// The kernels it is for.
        kernels: Vec<KernelRelease>,
        /// The running kernel.
        running: KernelRelease,
    },
    /// A package's modules could be used through links, and there is no program that makes them.
    #[error(
        "the package {} is for the kernel {built}, whose modules the running {running} could use through links, \
         and this machine has no weak-modules to make them",
        ForeignWord(package)
    )]
    NoWeakModules {
        /// The package's name.
        package: String,
        /// The kernel whose modules could be used.
        built: KernelRelease,
        /// The running kernel.
        running: KernelRelease,
    },
    /// A package is for another architecture.
    #[error(
        "the package {} is for the architecture {}, and this machine is {machine}",
        ForeignWord(package),
        ForeignWord(architecture)
    )]
    OtherArchitecture {
        /// The package's name.
        package: String,
        /// The architecture it is for, in the package manager's words.
        architecture: String,
        /// The machine's, as `uname -m` prints it.
        machine: Architecture,
    },
    /// No package holds a module for the running kernel, nor sources for DKMS.
    #[error("no package in {} holds a module for the running kernel {running}", folder.display())]
    NoModules {
        /// The folder of the packages.
        folder: PathBuf,
        /// The running kernel.
        running: KernelRelease,
    },
}

impl PackageSet {
    /// Reads all packages of `format` in `folder`. Other files there, and folders below it, are passed over.
    pub fn read(host: &Host, folder: impl AsRef<Path>, format: PackageFormat) -> Result<Self, ReadSetError> {
        // apt-get takes an argument for a file only where it is an absolute path.
        let folder = Path::new("/").join(folder);
        let mut packages: Vec<PackageFile> = Vec::new();
        for name in host.list(&folder)?.iter().filter(|name| name.ends_with(format.suffix())) {
            let package = PackageFile::read(host, folder.join(name))
                .map_err(|source| ReadSetError::Package { folder: folder.clone(), source })?;
            if package.format != format {
                return Err(ReadSetError::Format { path: package.path, found: package.format });
            }
            if let Some(first) = packages.iter().find(|other| other.name == package.name) {
                return Err(ReadSetError::Twice {
                    name: package.name,
                    first: first.path.clone(),
                    second: package.path,
                });
            }
            packages.push(package);
        }
        if packages.is_empty() {
            return Err(ReadSetError::Empty { folder, suffix: format.suffix() });
        }
        Ok(Self { folder, format, packages })
    }

    /// Whether these packages are for a machine of this kernel and architecture, and how the kernel comes by their modules.
    ///
    /// A package without modules (tools, scripts) is fine, and so is one with modules for several kernels, if the
    /// running one is among them, or can be given links to those of another one. At least one package must hold a module for
    /// the running kernel to use, or sources for DKMS.
    pub fn check(
        &self,
        host: &Host,
        running: &KernelRelease,
        machine: &Architecture,
    ) -> Result<ModuleOrigin, CheckError> {
        let (mut is_built, mut linked) = (false, BTreeSet::new());
        for package in &self.packages {
            if !machine.takes(self.format, &package.architecture) {
                return Err(CheckError::OtherArchitecture {
                    package: package.name.clone(),
                    architecture: package.architecture.clone(),
                    machine: machine.clone(),
                });
            }
            let kernels = package.kernels();
            match weak_links::kernel_to_use(package, running) {
                Some(kernel) if kernel == *running => {
                    is_built |= package.modules_for(running).next().is_some();
                }
                Some(built) if package.modules_for(&built).next().is_none() => {}
                Some(built) if !weak_links::can_be_made(host) => {
                    return Err(CheckError::NoWeakModules {
                        package: package.name.clone(),
                        built,
                        running: running.clone(),
                    });
                }
                Some(built) => {
                    linked.insert(built);
                }
                None if kernels.is_empty() => {}
                None => {
                    return Err(CheckError::OtherKernel {
                        package: package.name.clone(),
                        kernels: kernels.into_iter().collect(),
                        running: running.clone(),
                    });
                }
            }
        }
        let sources: Vec<PathBuf> = self.packages.iter().flat_map(source_folders).collect();
        if !linked.is_empty() {
            Ok(ModuleOrigin::Linked { kernels: linked.into_iter().collect() })
        } else if is_built {
            Ok(ModuleOrigin::Built)
        } else if !sources.is_empty() {
            Ok(ModuleOrigin::Dkms { sources })
        } else {
            Err(CheckError::NoModules { folder: self.folder.clone(), running: running.clone() })
        }
    }

    /// The kernel modules of all packages that `kernel` uses: those for it, and those for another one to which it is given links.
    pub fn modules_to_use(&self, kernel: &KernelRelease) -> impl Iterator<Item = &Path> {
        self.packages.iter().flat_map(move |package| weak_links::modules_to_use(package, kernel))
    }

    /// The kernel modules of all packages for `kernel`.
    pub fn modules_for(&self, kernel: &KernelRelease) -> impl Iterator<Item = &Path> {
        self.packages.iter().flat_map(move |package| package.modules_for(kernel))
    }
}

use std::path::PathBuf;

use nic_host::{CommandError, KernelRelease, WriteError};
use nic_packages::ReadContentsError;

use super::tree::TreeError;

/// Packages could not be laid out. What is in the folder is unfinished.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// No package has a module for the kernel.
    #[error("no package in {} holds a module for the kernel {kernel}", folder.display())]
    NoModules {
        /// The folder of the packages.
        folder: PathBuf,
        /// The kernel.
        kernel: KernelRelease,
    },
    /// The folder is not empty, or no folder.
    #[error("{} must be an empty folder, or none", folder.display())]
    NotEmpty {
        /// The folder as this process sees it.
        folder: PathBuf,
    },
    /// A package cannot be unpacked.
    #[error("cannot unpack {}", package.display())]
    Unpack {
        /// The package.
        package: PathBuf,
        /// The reason.
        #[source]
        source: ReadContentsError<TreeError>,
    },
    /// The tree cannot be written.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A file of the index cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The index cannot be built.
    #[error("cannot build the index of the modules")]
    Depmod(#[from] CommandError),
}

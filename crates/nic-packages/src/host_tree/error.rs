use std::path::PathBuf;

use nic_host::{CommandError, ListError, ReadError, WriteError};

use super::manifest::MANIFEST;
use super::owner::{HostFolderOwner, OwnerError};

/// The host's tree could not be changed. It can be tried anew.
#[derive(Debug, thiserror::Error)]
pub enum HostTreeError {
    /// Somebody else has put modules in the place.
    #[error("{} is not of this program: it has no {MANIFEST}, and {owner}", folder.display())]
    Foreign {
        /// The folder on the host.
        folder: PathBuf,
        /// Who that may be.
        owner: HostFolderOwner,
    },
    /// It cannot be told whether somebody else has put modules in the place.
    #[error("cannot tell whose {} is", folder.display())]
    Owner {
        /// The folder on the host.
        folder: PathBuf,
        /// The reason.
        #[source]
        source: OwnerError,
    },
    /// A manifest is damaged, so that it is not known whose the files are.
    #[error("{} does not tell what was put there", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// A folder could not be searched.
    #[error("cannot search {}", folder.display())]
    Search {
        /// The folder.
        folder: PathBuf,
        /// The reason.
        #[source]
        source: walkdir::Error,
    },
    /// A folder could not be listed.
    #[error(transparent)]
    List(#[from] ListError),
    /// A file could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A file could not be written or removed.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The host's index could not be built.
    #[error("cannot build the index of the host's modules")]
    Depmod(#[from] CommandError),
}

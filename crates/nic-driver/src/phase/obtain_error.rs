use std::io;
use std::path::PathBuf;

use nic_build::{
    ApplyError, ArchiveError, BuildError, BuiltPackagesError, InventoryLockError, LayoutError, LookUpError,
    OpenInventoryError, PlanCleanUpError, SourcesDigestError, StoreError,
};
use nic_dtk::{AppendedFlagsError, DriverSideError};
use nic_host::{CommandError, ReadError, WriteError};
use nic_packages::{DkmsError, NodeError, RhelReleaseError, UnknownVariantError};

use crate::Exit;

/// The packages could not be built, taken or registered. What runs is untouched.
#[derive(Debug, thiserror::Error)]
pub enum ObtainError {
    /// It cannot be told which node this is.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The kernel that is built for is none of those known.
    #[error(transparent)]
    Variant(#[from] UnknownVariantError),
    /// It cannot be told what a build needs.
    #[error("cannot tell what a build needs on this node")]
    Facts(#[from] ReadError),
    /// The node does not tell its release of RHEL.
    #[error(transparent)]
    Release(#[from] RhelReleaseError),
    /// There are no sources.
    #[error("NVIDIA_NIC_DRIVER_PATH does not name the driver's sources: there is no {}", program.display())]
    NoSources {
        /// The program that builds them, which is not there.
        program: PathBuf,
    },
    /// The inventory is no folder.
    #[error("NVIDIA_NIC_DRIVERS_INVENTORY_PATH cannot be used")]
    Inventory(#[from] OpenInventoryError),
    /// The sources could not be read.
    #[error(transparent)]
    Digest(#[from] SourcesDigestError),
    /// The inventory could not be looked at.
    #[error(transparent)]
    LookUp(#[from] LookUpError),
    /// Another process is building for this kernel.
    #[error(transparent)]
    Lock(#[from] InventoryLockError),
    /// What was built could not be stored, or what was stored not be removed.
    #[error(transparent)]
    Store(Box<StoreError>),
    /// A command failed that a build needs, or that the node's user space needs.
    #[error(transparent)]
    Prepare(Box<ApplyError>),
    /// The build failed.
    #[error(transparent)]
    Build(Box<BuildError>),
    /// The build left no packages.
    #[error(transparent)]
    Built(#[from] BuiltPackagesError),
    /// The flags for the sidecar cannot be told apart.
    #[error(transparent)]
    Flags(#[from] AppendedFlagsError),
    /// No packages came from the build sidecar.
    #[error(transparent)]
    Sidecar(Box<DriverSideError>),
    /// The sidecar's build failed.
    #[error("the build sidecar could not build the packages: {reason}; its output ends:\n{}", last_lines.join("\n"))]
    SidecarBuild {
        /// Why, in the sidecar's words.
        reason: String,
        /// The end of the build's output.
        last_lines: Vec<String>,
    },
    /// A folder of this program's own could not be emptied.
    #[error("cannot empty {}", folder.display())]
    OwnFolder {
        /// The folder.
        folder: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The modules could not be indexed.
    #[error("the modules of the image cannot be indexed")]
    Depmod(#[source] CommandError),
    /// DKMS could not be given the sources.
    #[error(transparent)]
    Dkms(Box<DkmsError>),
    /// What DKMS is given could not be recorded. It was given nothing.
    #[error("what DKMS is to be given could not be recorded")]
    Record(#[from] WriteError),
    /// The inventory could not be looked through for what is superfluous.
    #[error(transparent)]
    CleanUp(#[from] PlanCleanUpError),
    /// The packages could not be laid out.
    #[error(transparent)]
    LayOut(Box<LayoutError>),
    /// The origin is none that is built from.
    #[error("there is nothing to build: packages are built from sources")]
    NothingToBuild,
    /// The archive could not be written.
    #[error("cannot write the archive {}", archive.display())]
    Archive {
        /// The archive.
        archive: PathBuf,
        /// What could not be put into it.
        #[source]
        source: ArchiveError,
    },
    /// The archive could not be made.
    #[error("cannot make the archive {}", archive.display())]
    MakeArchive {
        /// The archive.
        archive: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl ObtainError {
    /// The exit code.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::NoSources { .. } | Self::Inventory(_) | Self::NothingToBuild => Exit::Usage,
            Self::LayOut(error) if matches!(**error, LayoutError::NotEmpty { .. }) => Exit::Usage,
            Self::Node(NodeError::Unknown(_)) | Self::Variant(_) | Self::Release(_) => Exit::BadPackage,
            _ => Exit::Failed,
        }
    }
}

/// The large ones are boxed.
macro_rules! boxed {
    ($($variant:ident($error:ty)),* $(,)?) => {
        $(impl From<$error> for ObtainError {
            fn from(error: $error) -> Self {
                Self::$variant(Box::new(error))
            }
        })*
    };
}

boxed!(
    Build(BuildError),
    Dkms(DkmsError),
    LayOut(LayoutError),
    Prepare(ApplyError),
    Sidecar(DriverSideError),
    Store(StoreError),
);

//! The folder in which built packages outlive the container that built them.
//!
//! ```text
//! <path>/<uname -r>/<driver version>/             the package files
//! <path>/<uname -r>/<driver version>.sha256       their SHA-256, as sha256sum(1) prints it, and what went into the build
//! <path>/<uname -r>/<driver version>.checksum     the same in the form of the incumbent
//! <path>/<uname -r>/<driver version>.buildconfig  the settings of the build, in the form of the incumbent
//! <path>/<uname -r>/.nic-driver.lock              who is at work in this folder
//! ```
//!
//! In the folder of the packages, `sha256sum -c ../<driver version>.sha256` checks them by hand.
//!
//! The incumbent is the driver container's earlier entrypoint. It uses what is stored here, and what it has stored is
//! used here, so an exchange of the image costs no build in either direction. It compares the whole text of the
//! settings; therefore what it does not know stands as comments in the `.sha256` file, which it does not read.

mod build_config;
mod checksums;
mod clean_up;
mod entry;
mod incumbent;
mod lock;
mod plain_files;
mod remove;
mod store;
mod temporary;

use std::path::{Path, PathBuf};

use nic_host::{DriverVersion, Host, KernelRelease};

pub use build_config::{BuildInputs, BuildKey, NotedSettings};
pub use clean_up::{CleanUpPlan, CleanedUp, PlanCleanUpError};
pub use entry::{InventoryEntry, LookUpError, Outdated, Stored, StoredPackage, Trust};
pub use lock::{InventoryLock, InventoryLockError};
pub use remove::RemoveError;
pub use store::{FileOperation, StoreError, StorePlan};
pub use temporary::{TakeError, TemporaryPackages};

/// An inventory: a folder with a folder for each kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inventory {
    path: PathBuf,
}

/// The path given for an inventory is not a folder, or cannot be reached.
#[derive(Debug, thiserror::Error)]
#[error("the inventory of built packages {} is not a folder that can be used", path.display())]
pub struct OpenInventoryError {
    /// The path as this process sees it.
    pub path: PathBuf,
    /// What the kernel said.
    #[source]
    pub source: std::io::Error,
}

impl Inventory {
    /// The inventory at `path`, which must be a folder that can be listed.
    pub fn open(host: &Host, path: impl Into<PathBuf>) -> Result<Self, OpenInventoryError> {
        let path = path.into();
        let seen = host.path(&path);
        match std::fs::read_dir(&seen) {
            Ok(_) => Ok(Self { path }),
            Err(source) => Err(OpenInventoryError { path: seen, source }),
        }
    }

    /// Its folder, as a path of the host.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The place of the packages of this driver version for this kernel, as paths of the host.
    #[must_use]
    pub fn entry(&self, kernel: &KernelRelease, driver_version: &DriverVersion) -> InventoryEntry {
        InventoryEntry::new(&self.path, kernel, driver_version)
    }

    /// Which files and folders a driver that was loaded and verified makes superfluous: see [`CleanUpPlan`].
    pub fn plan_clean_up(
        &self,
        host: &Host,
        entry: &InventoryEntry,
    ) -> Result<CleanUpPlan, PlanCleanUpError> {
        CleanUpPlan::new(host, &self.path, entry)
    }
}

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use nic_host::Host;
use sha2::{Digest as _, Sha256};

use super::entry::StoredPackage;
use super::plain_files;
use super::remove::remove_anything;
use super::store::{StoreError, copy_durably};

/// Packages of the caller's own: copies in a folder that is gone with the value. Nothing is noted about them.
///
/// What a process that is killed leaves of it goes with its container, or is removed by whoever makes the folder again.
#[derive(Debug)]
pub struct TemporaryPackages {
    host: Host,
    folder: PathBuf,
}

/// Stored packages could not be taken. Nothing of them is left in the folder.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    /// Another process has replaced or removed them since they were verified. Looking again tells what is there now.
    #[error("{} has changed since it was verified", path.display())]
    Changed {
        /// The package as this process sees it.
        path: PathBuf,
        /// What the kernel said, where it cannot be read any more.
        #[source]
        source: Option<io::Error>,
    },
    /// The folder, or a file in it, could not be written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl TemporaryPackages {
    /// Copies packages to `folder`, which is the caller's alone; what lies there is removed.
    pub fn copy(host: &Host, folder: &Path, packages: &[PathBuf]) -> Result<Self, StoreError> {
        if packages.is_empty() {
            return Err(StoreError::Nothing { folder: folder.to_path_buf() });
        }
        let temporary = Self::empty(host, folder)?;
        for package in packages {
            let (from, to) = (host.path(package), temporary.place(package)?);
            copy_durably(&from, &to).map_err(|source| StoreError::Copy { from, to, source })?;
        }
        Ok(temporary)
    }

    /// Copies stored packages to `folder`, which is the caller's alone, and makes sure that each copy is what was verified: whatever
    /// becomes of the inventory, the copies are right. No lock is needed, which not everybody takes who changes an inventory.
    pub fn take(host: &Host, folder: &Path, packages: &[StoredPackage]) -> Result<Self, TakeError> {
        let temporary = Self::empty(host, folder)?;
        for package in packages {
            take(&host.path(&package.path), &package.sha256, &temporary.place(&package.path)?)?;
        }
        Ok(temporary)
    }

    /// The folder of the packages, as a path of the host.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The folder goes with the value, however its user ends.
    fn empty(host: &Host, folder: &Path) -> Result<Self, StoreError> {
        let target = host.path(folder);
        remove_anything(&target)?;
        fs::create_dir_all(&target).map_err(|source| StoreError::Folder {
            action: "create",
            path: target,
            source,
        })?;
        Ok(Self { host: host.clone(), folder: folder.to_path_buf() })
    }

    fn place(&self, package: &Path) -> Result<PathBuf, StoreError> {
        let name = package.file_name().ok_or_else(|| StoreError::Name { path: package.to_path_buf() })?;
        Ok(self.host.path(&self.folder).join(name))
    }
}

fn take(from: &Path, expected: &str, to: &Path) -> Result<(), TakeError> {
    let changed = |source| TakeError::Changed { path: from.to_path_buf(), source };
    let failed = |source| StoreError::Copy { from: from.to_path_buf(), to: to.to_path_buf(), source };
    let mut source = plain_files::open(from).map_err(|error| changed(Some(error)))?;
    let mut target = File::create_new(to).map_err(failed)?;
    let mut sha256 = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let length = source.read(&mut buffer).map_err(|error| changed(Some(error)))?;
        let Some(read) = buffer.get(..length).filter(|read| !read.is_empty()) else { break };
        sha256.update(read);
        target.write_all(read).map_err(failed)?;
    }
    if hex::encode(sha256.finalize()) == expected { Ok(()) } else { Err(changed(None)) }
}

impl Drop for TemporaryPackages {
    fn drop(&mut self) {
        if let Err(error) = remove_anything(&self.host.path(&self.folder)) {
            tracing::warn!(error = nic_host::error_chain(&error), "the temporary folder of packages stays");
        }
    }
}

//! Storing packages, as a list of file operations.
//!
//! Their order is what makes an entry whole or not there: the packages are copied beside their place, then the entry loses
//! the file without which nobody takes it for whole, and gets it back as the very last.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use nic_host::{Host, ListError, WriteError};
use sha2::{Digest as _, Sha256};

use super::build_config::BuildKey;
use super::checksums::Checksums;
use super::entry::InventoryEntry;
use super::incumbent;
use super::lock::InventoryLock;
use super::plain_files::{self, is_plain_name};
use super::remove::{RemoveError, remove_anything};

/// The operations that store packages, in order. All paths are the host's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorePlan {
    /// The operations.
    pub operations: Vec<FileOperation>,
}

/// One operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileOperation {
    /// Remove whatever is there, if anything.
    Remove {
        /// The path.
        path: PathBuf,
    },
    /// Make a folder, and those above it.
    CreateFolder {
        /// The folder.
        path: PathBuf,
    },
    /// Copy a file, and have it on the disk. Its SHA-256 is that of the bytes that were read, not of those that were written.
    Copy {
        /// The file.
        from: PathBuf,
        /// The copy, which must not exist yet.
        to: PathBuf,
    },
    /// Have the names in a folder on the disk.
    Sync {
        /// The folder.
        folder: PathBuf,
    },
    /// Rename a folder.
    Rename {
        /// Its name.
        from: PathBuf,
        /// Its name afterwards.
        to: PathBuf,
    },
    /// Write a file as a whole.
    Write {
        /// The file.
        path: PathBuf,
        /// What is in it.
        text: String,
    },
    /// Write the SHA-256 of all that was copied.
    WriteSha256 {
        /// The file.
        path: PathBuf,
        /// What went into the build.
        inputs: String,
    },
    /// Write the incumbent's checksum of a folder.
    WriteChecksum {
        /// The file.
        path: PathBuf,
        /// The folder.
        folder: PathBuf,
    },
}

/// Packages could not be stored. What is left is no whole entry, or the one that was there.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is nothing to store.
    #[error("there are no packages to store in {}", folder.display())]
    Nothing {
        /// Where they were to go.
        folder: PathBuf,
    },
    /// The lock is another folder's.
    #[error("the lock that is held is not that of {}", folder.display())]
    NotLocked {
        /// The folder.
        folder: PathBuf,
    },
    /// A path names no file, or two files have the same name, or a name that checksum files cannot hold.
    #[error("cannot store {} in one folder with the other packages: its name is taken, or is none for a package", path.display())]
    Name {
        /// The path.
        path: PathBuf,
    },
    /// A package could not be copied.
    #[error("cannot copy {} to {}", from.display(), to.display())]
    Copy {
        /// The package.
        from: PathBuf,
        /// Where it was to go.
        to: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A folder could not be created, put in place or synced.
    #[error("cannot {action} {}", path.display())]
    Folder {
        /// `create`, `put in place`, `sync`.
        action: &'static str,
        /// The folder.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// What is there could not be removed.
    #[error(transparent)]
    Remove(#[from] RemoveError),
    /// A file beside the packages could not be written.
    #[error("cannot note what the stored packages are")]
    Note(#[from] WriteError),
    /// The kernel's folder could not be listed.
    #[error(transparent)]
    List(#[from] ListError),
    /// The copies could not be read back.
    #[error("cannot read the stored packages back: {reason}")]
    ReadBack {
        /// What is wrong, with the path.
        reason: String,
    },
}

impl StorePlan {
    /// Decides how copies of `packages` are stored at `entry`, in place of what is there.
    pub fn new(entry: &InventoryEntry, packages: &[PathBuf], key: &BuildKey) -> Result<Self, StoreError> {
        if packages.is_empty() {
            return Err(StoreError::Nothing { folder: entry.folder.clone() });
        }
        let unfinished = entry.unfinished();
        let mut copies = BTreeMap::new();
        for package in packages {
            let name = package.file_name().and_then(|name| name.to_str()).filter(|name| is_plain_name(name));
            let taken = name.is_none_or(|name| copies.insert(name.to_owned(), package.clone()).is_some());
            if taken {
                return Err(StoreError::Name { path: package.clone() });
            }
        }
        let mut operations = vec![
            FileOperation::Remove { path: unfinished.clone() },
            FileOperation::CreateFolder { path: unfinished.clone() },
        ];
        // In the order of their names, so that the same packages are listed alike by most file systems.
        operations.extend(
            copies.into_iter().map(|(name, from)| FileOperation::Copy { from, to: unfinished.join(name) }),
        );
        operations.push(FileOperation::Sync { folder: unfinished.clone() });
        operations.extend(removal(entry));
        operations.extend([
            FileOperation::Rename { from: unfinished.clone(), to: entry.folder.clone() },
            FileOperation::Sync { folder: entry.kernel_folder.clone() },
            FileOperation::Write { path: entry.build_config.clone(), text: key.settings.to_string() },
            FileOperation::WriteSha256 { path: entry.sha256.clone(), inputs: key.inputs.to_string() },
            FileOperation::WriteChecksum { path: entry.checksum.clone(), folder: entry.folder.clone() },
        ]);
        Ok(Self { operations })
    }

    /// Carries out the operations in order, and stops at the first that fails. The caller holds the inventory's lock.
    pub fn apply(&self, host: &Host) -> Result<(), StoreError> {
        let mut copied = BTreeMap::new();
        self.operations.iter().try_for_each(|operation| carry_out(host, operation, &mut copied))
    }
}

impl InventoryEntry {
    /// Stores copies of `packages`, in place of what is stored here. Where that fails, nothing of them is left.
    pub fn store(
        &self,
        host: &Host,
        lock: &InventoryLock,
        packages: &[PathBuf],
        key: &BuildKey,
    ) -> Result<(), StoreError> {
        self.ensure_locked(host, lock)?;
        let result = StorePlan::new(self, packages, key)?.apply(host);
        if result.is_err() {
            // What fills a disk must not stay there.
            if let Err(error) = self.remove_unfinished(host, lock) {
                tracing::warn!(error = nic_host::error_chain(&error), "packages that were half stored stay");
            }
        }
        result
    }

    /// Removes all of it, so that a build cannot mix with an earlier one.
    pub fn wipe(&self, host: &Host, lock: &InventoryLock) -> Result<(), StoreError> {
        self.ensure_locked(host, lock)?;
        let unfinished = FileOperation::Remove { path: self.unfinished() };
        let operations = removal(self).into_iter().chain([unfinished]);
        StorePlan { operations: operations.collect() }.apply(host)
    }

    /// Removes what a process that died, or was told to stop, has left of this entry: copies beside their place, and a folder
    /// without the checksum that makes it whole. Returns whether anything was removed. A whole entry stays, whatever it is of.
    pub fn remove_unfinished(&self, host: &Host, lock: &InventoryLock) -> Result<bool, StoreError> {
        self.ensure_locked(host, lock)?;
        let mut removed = false;
        for name in host.list_if_exists(&self.kernel_folder)? {
            // Copies beside their place, and what is left of a file that was being replaced as a whole.
            if self.is_unfinished(&name) {
                removed |= remove_anything(&host.path(self.kernel_folder.join(name)))?;
            }
        }
        if !host.exists(&self.checksum) {
            for part in self.parts() {
                removed |= remove_anything(&host.path(part))?;
            }
        }
        Ok(removed)
    }

    /// Takes away what a process that died has left of this entry, and its name out of the lock's file: for every start, also one
    /// that needs nothing but a look. Where another process is at work nothing is changed, and where nobody ever was nothing is made.
    ///
    /// An inventory that cannot be written, as it may be mounted, is none in which anything is left to be taken away: that is logged.
    pub fn remove_leftovers(&self, host: &Host, holder: &str) {
        let removed = match InventoryLock::left(host, self, holder) {
            Ok(None) => return,
            Ok(Some(lock)) => {
                self.remove_unfinished(host, &lock).map_err(|error| nic_host::error_chain(&error))
            }
            Err(error) => Err(nic_host::error_chain(&error)),
        };
        match removed {
            Ok(false) => {}
            Ok(true) => {
                tracing::info!(folder = %self.folder.display(), "half-stored packages of a process that died are removed");
            }
            Err(error) => {
                tracing::warn!(folder = %self.folder.display(), error, "what a process that died has left in the inventory stays");
            }
        }
    }

    fn ensure_locked(&self, host: &Host, lock: &InventoryLock) -> Result<(), StoreError> {
        if lock.is_of(host, self) {
            return Ok(());
        }
        Err(StoreError::NotLocked { folder: host.path(&self.kernel_folder) })
    }
}

/// What makes the entry whole goes first, and is gone for good before the next.
fn removal(entry: &InventoryEntry) -> Vec<FileOperation> {
    let [first, others @ ..] = entry.parts().map(|path| FileOperation::Remove { path: path.to_path_buf() });
    let sync = FileOperation::Sync { folder: entry.kernel_folder.clone() };
    [first, sync].into_iter().chain(others).collect()
}

fn carry_out(
    host: &Host,
    operation: &FileOperation,
    copied: &mut BTreeMap<String, String>,
) -> Result<(), StoreError> {
    let failed = |action: &'static str, path: &Path| {
        let path = path.to_path_buf();
        move |source| StoreError::Folder { action, path, source }
    };
    match operation {
        FileOperation::Remove { path } => {
            remove_anything(&host.path(path))?;
        }
        FileOperation::CreateFolder { path } => {
            let path = host.path(path);
            fs::create_dir_all(&path).map_err(failed("create", &path))?;
        }
        FileOperation::Copy { from, to } => {
            let (from, to) = (host.path(from), host.path(to));
            let sum = copy_durably(&from, &to).map_err(|source| StoreError::Copy {
                from,
                to: to.clone(),
                source,
            })?;
            copied.insert(to.file_name().unwrap_or_default().to_string_lossy().into_owned(), sum);
        }
        FileOperation::Sync { folder } => {
            let folder = host.path(folder);
            File::open(&folder).and_then(|file| file.sync_all()).map_err(failed("sync", &folder))?;
        }
        FileOperation::Rename { from, to } => {
            let to = host.path(to);
            fs::rename(host.path(from), &to).map_err(failed("put in place", &to))?;
        }
        FileOperation::Write { path, text } => host.write_durably(path, text.as_bytes())?,
        FileOperation::WriteSha256 { path, inputs } => {
            let checksums = Checksums { inputs: inputs.clone(), files: copied.clone() };
            host.write_durably(path, checksums.render().as_bytes())?;
        }
        FileOperation::WriteChecksum { path, folder } => {
            let folder = host.path(folder);
            let files = plain_files::read(&folder).map_err(|reason| StoreError::ReadBack { reason })?;
            if let Some(changed) = files.iter().find(|file| copied.get(&file.name) != Some(&file.sha256)) {
                let reason = format!("{} is not what was copied", folder.join(&changed.name).display());
                return Err(StoreError::ReadBack { reason });
            }
            let checksum = incumbent::checksum(&folder, &files);
            host.write_durably(path, checksum.as_bytes())?;
        }
    }
    Ok(())
}

/// Returns the SHA-256 of what was read.
pub(super) fn copy_durably(from: &Path, to: &Path) -> io::Result<String> {
    let mut source = File::open(from)?;
    if !source.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
    }
    let mut target = File::create_new(to)?;
    let mut sha256 = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let length = source.read(&mut buffer)?;
        let Some(read) = buffer.get(..length).filter(|read| !read.is_empty()) else { break };
        sha256.update(read);
        target.write_all(read)?;
    }
    target.sync_all()?;
    Ok(hex::encode(sha256.finalize()))
}

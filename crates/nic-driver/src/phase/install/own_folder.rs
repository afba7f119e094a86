use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nic_host::Host;

use crate::default_paths;
use crate::phase::obtain_error::ObtainError;

/// A folder of this program's own, which is removed with the value.
#[derive(Debug)]
pub(in crate::phase) struct OwnFolder {
    host: Host,
    path: PathBuf,
}

impl OwnFolder {
    /// Makes sure that nothing is left of an earlier one. The folder itself is for its user to make.
    pub(in crate::phase) fn empty(host: &Host, path: &Path) -> Result<Self, ObtainError> {
        remove_folder(host, path)?;
        Ok(Self { host: host.clone(), path: path.to_path_buf() })
    }

    /// Where it is, as a path of the host.
    pub(in crate::phase) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for OwnFolder {
    fn drop(&mut self) {
        if let Err(error) = remove_folder(&self.host, &self.path) {
            tracing::warn!(error = crate::error_chain(&error), "a folder that is not needed any more stays");
        }
    }
}

/// Removes what a process that was killed has left in folders of this program's own.
pub(super) fn remove_leftovers(host: &Host) -> Result<(), ObtainError> {
    let folders = [
        default_paths::TEMPORARY_PACKAGES,
        default_paths::FETCHED_PACKAGES,
        default_paths::LAID_OUT_PACKAGES,
    ];
    folders.iter().try_for_each(|folder| remove_folder(host, Path::new(folder)))
}

/// Removes a folder with all that is in it, where it is there.
pub(super) fn remove_folder(host: &Host, folder: &Path) -> Result<(), ObtainError> {
    match fs::remove_dir_all(host.path(folder)) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(ObtainError::OwnFolder { folder: host.path(folder), source })
        }
        _ => Ok(()),
    }
}

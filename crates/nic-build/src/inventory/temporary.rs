use std::fs;
use std::path::{Path, PathBuf};

use nic_host::Host;

use super::remove::remove_anything;
use super::store::{StoreError, copy_durably};

/// Built packages without an inventory: a folder that is gone with the value. Nothing is noted about them.
///
/// What a process that is killed leaves of it goes with its container, or is removed by whoever makes the folder again.
#[derive(Debug)]
pub struct TemporaryPackages {
    host: Host,
    folder: PathBuf,
}

impl TemporaryPackages {
    /// Copies packages to `folder`, which is the caller's alone; what lies there is removed.
    pub fn copy(host: &Host, folder: &Path, packages: &[PathBuf]) -> Result<Self, StoreError> {
        if packages.is_empty() {
            return Err(StoreError::Nothing { folder: folder.to_path_buf() });
        }
        let target = host.path(folder);
        remove_anything(&target)?;
        fs::create_dir_all(&target).map_err(|source| StoreError::Folder {
            action: "create",
            path: target.clone(),
            source,
        })?;
        // From here on the folder goes, however this function ends.
        let temporary = Self { host: host.clone(), folder: folder.to_path_buf() };
        for package in packages {
            let Some(name) = package.file_name() else {
                return Err(StoreError::Name { path: package.clone() });
            };
            let (from, to) = (host.path(package), target.join(name));
            copy_durably(&from, &to).map_err(|source| StoreError::Copy { from, to, source })?;
        }
        Ok(temporary)
    }

    /// The folder of the packages, as a path of the host.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for TemporaryPackages {
    fn drop(&mut self) {
        if let Err(error) = remove_anything(&self.host.path(&self.folder)) {
            tracing::warn!(error = nic_host::error_chain(&error), "the temporary folder of packages stays");
        }
    }
}

use std::fs;
use std::path::{Path, PathBuf};

use nic_host::{Host, ListError};

use super::entry::InventoryEntry;
use super::lock::{InventoryLock, LOCK_FILE, lock_out};
use super::remove::{RemoveError, remove_anything};

/// What a driver that was loaded and verified makes superfluous, by the incumbent's rules: the folders of other kernels, and in
/// this kernel's folder all but the entry of the driver. Files beside the kernels' folders are not the inventory's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CleanUpPlan {
    /// What goes, as paths of the host.
    pub remove: Vec<PathBuf>,
    /// Folders of other kernels in which another process is storing packages. They stay.
    pub in_use: Vec<PathBuf>,
    /// This kernel's folder.
    kernel_folder: PathBuf,
}

/// The inventory cannot be listed.
#[derive(Debug, thiserror::Error)]
#[error("cannot look for what is superfluous in the inventory of built packages")]
pub struct PlanCleanUpError(#[from] ListError);

/// What became of a clean-up.
#[derive(Debug, Default)]
pub struct CleanedUp {
    /// What is gone.
    pub removed: Vec<PathBuf>,
    /// What could not be removed, which is no reason to stop.
    pub failed: Vec<RemoveError>,
}

impl CleanUpPlan {
    /// Decides what goes. An inventory that is not there has nothing; a kernel's folder that cannot be listed stays.
    pub(super) fn new(
        host: &Host,
        inventory: &Path,
        entry: &InventoryEntry,
    ) -> Result<Self, PlanCleanUpError> {
        let mut plan = Self { kernel_folder: entry.kernel_folder.clone(), ..Self::default() };
        for name in host.list_if_exists(inventory)? {
            let path = inventory.join(&name);
            if path == entry.kernel_folder || !is_folder(host, &path) {
                continue;
            }
            match lock_out(&host.path(&path)) {
                None => plan.in_use.push(path),
                Some(_) => plan.remove.push(path),
            }
        }
        let names = host.list_if_exists(&entry.kernel_folder).unwrap_or_else(|error| {
            tracing::warn!(error = nic_host::error_chain(&error), "the kernel's folder is not cleaned up");
            Vec::new()
        });
        let superfluous = |path: &PathBuf| {
            !entry.parts().contains(&path.as_path()) && path.file_name().is_none_or(|name| name != LOCK_FILE)
        };
        plan.remove.extend(names.into_iter().map(|name| entry.kernel_folder.join(name)).filter(superfluous));
        Ok(plan)
    }

    /// Removes it. `lock` is this kernel's, and gone afterwards.
    #[must_use]
    pub fn apply(&self, host: &Host, lock: InventoryLock) -> CleanedUp {
        let mut cleaned = CleanedUp::default();
        for path in &self.in_use {
            tracing::info!(folder = %path.display(), "another process is storing packages for this kernel: the folder stays");
        }
        for path in &self.remove {
            // Another process may have begun since the plan was made.
            let Some(_locked_out) = lock_out(&host.path(path)) else {
                tracing::info!(folder = %path.display(), "another process has begun to store packages for this kernel: the folder stays");
                continue;
            };
            match remove_anything(&host.path(path)) {
                Ok(true) => cleaned.removed.push(path.clone()),
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(
                        error = nic_host::error_chain(&error),
                        "superfluous packages stay in the inventory"
                    );
                    cleaned.failed.push(error);
                }
            }
        }
        let only_the_lock = |names: Vec<String>| names.iter().all(|name| name == LOCK_FILE);
        if host.list_if_exists(&self.kernel_folder).is_ok_and(only_the_lock) {
            // While it is held: who waits for it notices that the file is another one.
            let emptied = host
                .remove_file(self.kernel_folder.join(LOCK_FILE))
                .is_ok()
                .then(|| fs::remove_dir(host.path(&self.kernel_folder)));
            if let Some(Ok(())) = emptied {
                cleaned.removed.push(self.kernel_folder.clone());
            }
        }
        drop(lock);
        cleaned
    }
}

/// A link is no folder of a kernel's, wherever it leads.
fn is_folder(host: &Host, path: &Path) -> bool {
    fs::symlink_metadata(host.path(path)).is_ok_and(|metadata| metadata.is_dir())
}

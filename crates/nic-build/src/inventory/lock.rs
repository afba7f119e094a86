use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nic_host::{Host, open_own};

use super::entry::InventoryEntry;

/// In a kernel's folder. Also a name that tells an administrator whose it is.
pub(super) const LOCK_FILE: &str = ".nic-driver.lock";
/// The kernel tells nobody that a lock was lifted, other than who sleeps on it and then cannot be called back.
const RETRY: Duration = Duration::from_millis(250);
/// How often it is said again that another one is waited for.
const REMINDER: Duration = Duration::from_secs(60);
/// A name is a line; more than this is somebody else's file.
const LONGEST_NAME: u64 = 256;

/// One at a time stores packages for a kernel: `flock(2)` on a file in the kernel's folder, which the kernel lifts when the
/// holder is gone, however it went.
///
/// The driver container's own lock is one node's. This one also serves where several nodes, or a build in advance, share an
/// inventory.
#[derive(Debug)]
pub struct InventoryLock {
    file: File,
    path: PathBuf,
}

/// The inventory could not be locked. Nothing was changed in it.
#[derive(Debug, thiserror::Error)]
pub enum InventoryLockError {
    /// Another process has held it all the time.
    #[error(
        "{} has stored packages in {} for more than {waited:?}",
        name(holder),
        folder.display()
    )]
    Held {
        /// The kernel's folder as this process sees it.
        folder: PathBuf,
        /// How the holder named itself; empty when it has not yet.
        holder: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The file cannot be made, locked or written.
    #[error("cannot lock {}", path.display())]
    File {
        /// The file as this process sees it.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

fn name(holder: &str) -> &str {
    if holder.is_empty() { "another process" } else { holder }
}

impl InventoryLock {
    /// Locks the kernel's folder of `entry`, which is made if need be, for `holder`: a name that tells a waiting process, or an
    /// administrator, who is at work. Waits at most `deadline` for another holder, who may have stored what was to be built:
    /// [`InventoryEntry::look_up`] afterwards tells.
    pub async fn acquire(
        host: &Host,
        entry: &InventoryEntry,
        holder: &str,
        deadline: Duration,
    ) -> Result<Self, InventoryLockError> {
        let folder = host.path(&entry.kernel_folder);
        let started = tokio::time::Instant::now();
        let mut told: Option<(String, tokio::time::Instant)> = None;
        loop {
            let held_by = match try_lock(&folder, holder)? {
                Ok(lock) => return Ok(lock),
                Err(held_by) => held_by,
            };
            if started.elapsed() >= deadline {
                return Err(InventoryLockError::Held { folder, holder: held_by, waited: deadline });
            }
            let is_told = told.as_ref().is_some_and(|(whom, at)| *whom == held_by && at.elapsed() < REMINDER);
            if !is_told {
                tracing::info!(
                    folder = %folder.display(), waited = ?started.elapsed(), patience = ?deadline,
                    "waiting for {} to store packages in the inventory", name(&held_by)
                );
                told = Some((held_by, tokio::time::Instant::now()));
            }
            tokio::time::sleep(RETRY.min(deadline.saturating_sub(started.elapsed()))).await;
        }
    }

    /// The lock where somebody has held it before and nobody holds it now. Makes nothing where there is none.
    pub(super) fn left(
        host: &Host,
        entry: &InventoryEntry,
        holder: &str,
    ) -> Result<Option<Self>, InventoryLockError> {
        if !host.exists(entry.kernel_folder.join(LOCK_FILE)) {
            return Ok(None);
        }
        Ok(try_lock(&host.path(&entry.kernel_folder), holder)?.ok())
    }

    /// Whether it is the lock of the entry's folder.
    pub(super) fn is_of(&self, host: &Host, entry: &InventoryEntry) -> bool {
        self.path.parent() == Some(&host.path(&entry.kernel_folder))
    }
}

/// Locks out who would begin to store packages in a kernel's folder, while the value lives. `None` where another process is at work
/// in it. Without a lock's file, as the incumbent leaves its folders, nobody is.
pub(super) fn lock_out(kernel_folder: &Path) -> Option<Option<File>> {
    // A FIFO in its place would hang the opening.
    let Ok(file) = Host::at("/").open(kernel_folder.join(LOCK_FILE)) else { return Some(None) };
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => None,
        Ok(()) => Some(Some(file)),
        Err(TryLockError::Error(error)) => {
            tracing::debug!(folder = %kernel_folder.display(), %error, "nobody is taken to be at work in the folder");
            Some(None)
        }
    }
}

/// The lock, or who holds it.
fn try_lock(folder: &Path, holder: &str) -> Result<Result<InventoryLock, String>, InventoryLockError> {
    let path = folder.join(LOCK_FILE);
    let failed = |source| InventoryLockError::File { path: path.clone(), source };
    loop {
        fs::create_dir_all(folder).map_err(failed)?;
        // Not truncated: what is in it is another's until the lock is ours.
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = open_own(&path, &mut options).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let name = beginning(&mut file).map_err(failed)?;
                return Ok(Err(String::from_utf8_lossy(&name).trim().to_owned()));
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        // The incumbent's clean-up removes the file, and its folder: a lock on a file that is gone locks nobody out.
        if !is_at(&file, &path).map_err(failed)? {
            continue;
        }
        if !is_a_name(&beginning(&mut file).map_err(failed)?) {
            let reason = "it holds something that is no holder's name, and is not written to";
            return Err(failed(io::Error::new(io::ErrorKind::InvalidData, reason)));
        }
        let name: String = holder.chars().filter(|c| !c.is_control()).take(128).collect();
        let written = file.rewind().and_then(|()| file.set_len(0)).and_then(|()| writeln!(file, "{name}"));
        written.map_err(failed)?;
        return Ok(Ok(InventoryLock { file, path }));
    }
}

/// As much of the file as tells whether a holder's name is in it.
fn beginning(file: &mut File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(LONGEST_NAME + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Whether a lock's file holds nothing, or what a holder has written: its name in a line, or the beginning of it.
fn is_a_name(text: &[u8]) -> bool {
    let text = std::str::from_utf8(text).unwrap_or("\n\n");
    u64::try_from(text.len()).is_ok_and(|length| length <= LONGEST_NAME)
        && !text.strip_suffix('\n').unwrap_or(text).chars().any(char::is_control)
}

fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let of_file = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(at_path) => Ok((of_file.dev(), of_file.ino()) == (at_path.dev(), at_path.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

impl Drop for InventoryLock {
    fn drop(&mut self) {
        // Only for whoever reads the file: a free lock with a holder's name in it would mislead.
        if let Err(error) = self.file.rewind().and_then(|()| self.file.set_len(0)) {
            tracing::debug!(path = %self.path.display(), %error, "the inventory's lock file keeps its text");
        }
        // Closing alone leaves it to a child that was forked just now and has not yet executed its program.
        if let Err(error) = self.file.unlock() {
            tracing::debug!(path = %self.path.display(), %error, "the inventory's lock goes with its file");
        }
    }
}

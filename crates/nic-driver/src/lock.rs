//! One at a time: a lock that dies with its holder.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use jiff::Timestamp;
use nic_host::Foreign;
use rustix::fs::OFlags;
use tokio::time::Instant;

use crate::Exit;

/// The kernel tells nobody that a lock was lifted, other than who sleeps on it and then cannot be called back.
const RETRY: Duration = Duration::from_millis(250);
/// How often it is said again that another one is waited for.
const REMINDER: Duration = Duration::from_secs(60);
/// Three lines of a holder; a longer text is somebody else's file.
const LONGEST_TEXT: u64 = 1024;

/// The lock of all processes that change the machine: `flock(2)` on a file, which the kernel lifts when the holder is
/// gone, however it went. Clones are the same lock, and a command within another one shares the holder's.
///
/// The file stays when the lock is free: one that is removed could be locked by two, each by another file.
#[derive(Debug, Clone)]
pub struct InstanceLock {
    path: PathBuf,
    held: Arc<Mutex<Weak<LockHeld>>>,
}

/// The lock is held while this lives.
#[derive(Debug)]
pub struct LockHeld {
    file: File,
    /// Whether the file's text is a lock's: somebody else's is not written to.
    is_ours: bool,
}

/// The lock could not be acquired. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another instance has it.
    #[error("another nic-driver is at work{}{}; the lock is {}", holder(held_by), after(*waited), path.display())]
    Held {
        /// The file.
        path: PathBuf,
        /// What the other has written into it, in one line; empty when it has written nothing yet.
        held_by: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The file cannot be opened, locked or written.
    #[error("cannot lock {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl LockError {
    /// The exit code.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Held { .. } => Exit::Locked,
            Self::File { .. } => Exit::Failed,
        }
    }
}

fn holder(held_by: &str) -> String {
    if held_by.is_empty() { String::new() } else { format!(" ({held_by})") }
}

/// What a lock's holder has written, in one line.
fn held_by(file: &File) -> io::Result<String> {
    let mut text = Vec::new();
    file.take(LONGEST_TEXT).read_to_end(&mut text)?;
    let text = String::from_utf8_lossy(&text);
    Ok(if text.starts_with("pid ") {
        text.lines().collect::<Vec<_>>().join(", ")
    } else if text.trim().is_empty() {
        String::new()
    } else {
        Foreign(text.trim()).to_string()
    })
}

fn after(waited: Duration) -> String {
    if waited.is_zero() { String::new() } else { format!(" and has not ended within {waited:?}") }
}

impl InstanceLock {
    /// The lock on the file `path`, a path of this process. Nothing is locked yet.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), held: Arc::default() }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the lock for `command`. Another holder is waited for, for `patience` at most: it is logged who that is and since when, again
    /// when it is another one, and now and then. Nothing is changed meanwhile.
    ///
    /// # Errors
    /// It is held all the time, or the file cannot be used.
    pub async fn acquire_within(
        &self,
        command: &str,
        patience: Duration,
    ) -> Result<Arc<LockHeld>, LockError> {
        let (began, since) = (Instant::now(), Timestamp::now());
        let mut told: Option<(String, Instant)> = None;
        loop {
            let (path, held_by) = match self.acquire(command) {
                Err(LockError::Held { path, held_by, .. }) => (path, held_by),
                acquired => return acquired,
            };
            let left = patience.saturating_sub(began.elapsed());
            if left.is_zero() {
                return Err(LockError::Held { path, held_by, waited: patience });
            }
            let is_told = told.as_ref().is_some_and(|(whom, at)| *whom == held_by && at.elapsed() < REMINDER);
            if !is_told {
                tracing::info!(
                    lock = %path.display(), since = %format_args!("{since:.0}"), patience = ?patience,
                    "waiting for another nic-driver that is at work{}", holder(&held_by)
                );
                told = Some((held_by, Instant::now()));
            }
            tokio::time::sleep(RETRY.min(left)).await;
        }
    }

    /// Takes the lock for `command`, without waiting.
    pub fn acquire(&self, command: &str) -> Result<Arc<LockHeld>, LockError> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = held.upgrade() {
            return Ok(held);
        }
        let new = Arc::new(self.open_and_lock(command)?);
        *held = Arc::downgrade(&new);
        Ok(new)
    }

    /// What another process has written that holds the lock; `None` where nobody does, or it cannot be told. Nothing is written, and the lock is
    /// shared for a moment, for which whoever wants it waits.
    #[must_use]
    pub fn holder(&self) -> Option<String> {
        let file = File::open(&self.path).ok()?;
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => Some(held_by(&file).unwrap_or_default()),
            Ok(()) | Err(TryLockError::Error(_)) => None,
        }
    }

    /// Lets go of the lock, whoever still holds it in this process: for a process that ends now.
    ///
    /// The end of a process lifts the lock only with its last thread, and a thread that hangs in the kernel ends when
    /// the kernel lets it.
    pub fn release(&self) -> io::Result<()> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.upgrade().map_or(Ok(()), |held| held.file.unlock())
    }

    fn open_and_lock(&self, command: &str) -> Result<LockHeld, LockError> {
        let failed = |source| LockError::File { path: self.path.clone(), source };
        if let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        // Not truncated: what is in it is another's until the lock is ours.
        let mut file = open(&self.path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let held_by = held_by(&file).map_err(failed)?;
                return Err(LockError::Held { path: self.path.clone(), held_by, waited: Duration::ZERO });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        let is_ours = is_a_locks_text(&mut file).map_err(failed)?;
        if is_ours {
            let text =
                format!("pid {}\ncommand {command}\nsince {:.0}\n", std::process::id(), Timestamp::now());
            let written =
                file.rewind().and_then(|()| file.set_len(0)).and_then(|()| file.write_all(text.as_bytes()));
            written.map_err(failed)?;
        } else {
            tracing::warn!(
                lock = %self.path.display(),
                "the lock's file holds something that is no lock's text: it is locked and not written to"
            );
        }
        Ok(LockHeld { file, is_ours })
    }
}

/// Opens the lock's file. A symbolic link is not followed: what it leads to would be emptied.
fn open(path: &Path) -> io::Result<File> {
    let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).map_err(io::Error::other)?;
    // Not truncated: what is in it is another's until the lock is ours.
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .custom_flags(flags)
        .open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::other("what is there is no regular file"))
    }
}

/// Whether a lock's file holds nothing, what a holder has written, or a process's number alone.
fn is_a_locks_text(file: &mut File) -> io::Result<bool> {
    let mut text = Vec::new();
    file.take(LONGEST_TEXT + 1).read_to_end(&mut text)?;
    let Ok(text) = std::str::from_utf8(&text) else { return Ok(false) };
    let fits = u64::try_from(text.len()).is_ok_and(|length| length <= LONGEST_TEXT);
    let text = text.trim();
    Ok(fits
        && (text.is_empty() || text.starts_with("pid ") || text.bytes().all(|byte| byte.is_ascii_digit())))
}

impl Drop for LockHeld {
    fn drop(&mut self) {
        if !self.is_ours {
            return;
        }
        // Only for whoever reads the file: a free lock with a holder's name in it would mislead.
        if let Err(error) = self.file.rewind().and_then(|()| self.file.set_len(0)) {
            tracing::debug!(%error, "the lock file keeps its text");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trial_w8_a_file_of_somebody_else_in_the_locks_place_is_neither_emptied_nor_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (precious, link, notes) =
            (folder.path().join("precious"), folder.path().join("link"), folder.path().join("notes"));
        std::fs::write(&precious, "x").unwrap();
        std::os::unix::fs::symlink(&precious, &link).unwrap();
        let error = InstanceLock::new(&link).acquire("reload").unwrap_err();
        assert!(matches!(error, LockError::File { .. }), "{error}");
        std::fs::write(&notes, "notes of an administrator\n").unwrap();
        let lock = InstanceLock::new(&notes);
        let held = lock.acquire("reload").unwrap();
        let error = InstanceLock::new(&notes).acquire("status").unwrap_err().to_string();
        assert!(error.contains("\"notes of an administrator\""), "{error}");
        drop(held);
        assert_eq!(std::fs::read_to_string(&notes).unwrap(), "notes of an administrator\n");
        assert_eq!(std::fs::read_to_string(&precious).unwrap(), "x");
        // The number of a process alone, as other programs write it, is a lock's text.
        std::fs::write(&notes, "4711\n").unwrap();
        let held = InstanceLock::new(&notes).acquire("reload").unwrap();
        assert!(std::fs::read_to_string(&notes).unwrap().contains("command reload"));
        drop(held);
    }

    #[test]
    fn who_holds_the_lock_is_told_to_whoever_asks_and_nothing_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        assert_eq!(InstanceLock::new(&path).holder(), None);
        assert!(!path.exists());
        let lock = InstanceLock::new(&path);
        let held = lock.acquire("reload").unwrap();
        let holder = InstanceLock::new(&path).holder().unwrap();
        assert!(holder.contains("command reload"), "{holder}");
        drop(held);
        assert_eq!(InstanceLock::new(&path).holder(), None);
        lock.acquire("restore-sriov").unwrap();
    }

    #[test]
    fn the_second_is_told_who_is_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/.lock");
        let (first, second) = (InstanceLock::new(&path), InstanceLock::new(&path));
        let held = first.acquire("reload").unwrap();
        let error = second.acquire("restore-sriov").unwrap_err().to_string();
        let pid = std::process::id();
        assert!(
            error.starts_with(&format!("another nic-driver is at work (pid {pid}, command reload, since 2")),
            "{error}"
        );
        // A command within the first shares its lock, and does not end it.
        drop(first.clone().acquire("restore-sriov").unwrap());
        second.acquire("restore-sriov").unwrap_err();
        first.release().unwrap();
        drop(second.acquire("restore-sriov").unwrap());
        second.release().unwrap();
        drop(held);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "");
        second.acquire("restore-sriov").unwrap();
    }

    #[tokio::test]
    async fn the_second_waits_for_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".lock");
        let (first, second) = (InstanceLock::new(&path), InstanceLock::new(&path));
        let held = first.acquire("install").unwrap();
        let patience = Duration::from_millis(300);
        let error = second.acquire_within("reload", patience).await.unwrap_err().to_string();
        assert!(error.contains("command install, since 2") && error.contains("within 300ms"), "{error}");
        // Whose text is none is waited for as well, and named without it.
        std::fs::write(&path, [&b"\xff"[..], &vec![b'x'; 1 << 20]].concat()).unwrap();
        let error = second.acquire_within("reload", Duration::ZERO).await.unwrap_err();
        assert!(matches!(&error, LockError::Held { held_by, .. } if held_by.len() < 2048), "{error}");
        let began = Instant::now();
        let (acquired, ()) = tokio::join!(second.acquire_within("reload", Duration::from_secs(60)), async {
            tokio::time::sleep(patience).await;
            drop(held);
        });
        drop(acquired.unwrap());
        assert!(began.elapsed() >= patience && began.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn a_lock_that_cannot_be_is_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("file"), "").unwrap();
        let error = InstanceLock::new(folder.path().join("file/.lock")).acquire("reload").unwrap_err();
        assert!(error.to_string().contains("file/.lock"), "{error}");
    }
}

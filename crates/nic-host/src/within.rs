//! Looks and writes that may hang in the kernel: from a thread of their own, with a deadline.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::Host;
use crate::reading::Reading;

/// Attributes that the kernel reads with the device's lock held, which a probe or a write that comes to no end holds, too:
/// `sriov_numvfs` (`sriov_numvfs_show` in `drivers/pci/iov.c`, Linux 5.5 to 6.8), `driver_override` (`driver_override_show` in
/// `drivers/pci/pci-sysfs.c`).
const UNDER_DEVICE_LOCK: &[&str] = &["sriov_numvfs", "driver_override"];

/// A look that has not ended in time.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    /// Something of it hangs in the kernel.
    #[error("looking at {what} has not ended after {} s: {}", after.as_secs(), where_it_hangs(reading.as_deref()))]
    Deadline {
        /// What was looked at.
        what: String,
        /// What was being read by then, as this process sees it; `None` where it was something else than a file.
        reading: Option<PathBuf>,
        /// How long it was waited for.
        after: Duration,
    },
    /// It has no thread, or the thread ended without an answer.
    #[error("cannot look at {what}")]
    Thread {
        /// What was to be looked at.
        what: String,
        /// What kept it from running.
        #[source]
        source: io::Error,
    },
}

fn where_it_hangs(reading: Option<&Path>) -> String {
    match reading {
        Some(path) => format!("reading {} hangs in the kernel", path.display()),
        None => "something of it hangs in the kernel".to_owned(),
    }
}

impl Host {
    /// Looks at this machine from a thread of its own, for at most `deadline`. `what` it looks at is named where that does not suffice, and
    /// the file that is being read by then. The look is given this host, and reads by it.
    ///
    /// A tree is looked at without a deadline: its files do not hang.
    ///
    /// A read that hangs in the kernel cannot be called back. Its thread is left behind, and nobody waits for it but the kernel: where that
    /// waits for a lock (`device_lock` in `include/linux/device.h`), a process that has ended is gone once the lock was had.
    ///
    /// # Errors
    /// The deadline has passed, or there is no thread to be had.
    pub async fn look_within<T: Send + 'static>(
        &self,
        what: impl Into<String>,
        deadline: Duration,
        look: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Result<T, LookError> {
        let (what, reading) = (what.into(), Reading::default());
        let deadline = if self.may_hang() { deadline } else { Duration::MAX };
        let host = self.with_reading(reading.clone());
        match in_thread("look", deadline, move || look(&host)).await {
            Ok(Some(found)) => Ok(found),
            Ok(None) => Err(LookError::Deadline { what, reading: reading.get(), after: deadline }),
            Err(source) => Err(LookError::Thread { what, source }),
        }
    }

    /// Reads a file or folder, and lets whoever waits for it know.
    pub(crate) fn reading<T>(&self, path: &Path, read: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let Some(reading) = self.awaited() else { return read() };
        reading.set(Some(path.to_path_buf()));
        let found = self.hang_if_recorded(path).and_then(|()| read());
        reading.set(None);
        found
    }

    /// An error where nobody would notice that a read hangs.
    pub(crate) fn ensure_awaited(&self, path: &Path) -> io::Result<()> {
        let is_under_lock = path
            .file_name()
            .is_some_and(|name| UNDER_DEVICE_LOCK.iter().any(|under_lock| *under_lock == name));
        if is_under_lock && self.awaited().is_none() {
            let why = "it is read with the device's lock held, which may hang: only from Host::look_within";
            return Err(io::Error::other(why));
        }
        Ok(())
    }
}

/// Runs `act` in a thread of its own. `None` when it has not returned within `deadline`.
pub(crate) async fn in_thread<T: Send + 'static>(
    name: &str,
    deadline: Duration,
    act: impl FnOnce() -> T + Send + 'static,
) -> io::Result<Option<T>> {
    let (done, returned) = tokio::sync::oneshot::channel();
    // A thread of its own and not the runtime's blocking pool: the runtime waits for its pool when it is dropped.
    std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        // The receiver is gone when the deadline has passed: nobody is left to be told.
        let _ = done.send(act());
    })?;
    match tokio::time::timeout(deadline, returned).await {
        Ok(Ok(result)) => Ok(Some(result)),
        Ok(Err(_)) => Err(io::Error::other("the thread ended without an answer")),
        Err(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Replay, error_chain};

    const NUM_VFS: &str = "/sys/bus/pci/devices/0000:01:00.0/sriov_numvfs";

    fn tree() -> (tempfile::TempDir, Host) {
        let tree = tempfile::tempdir().unwrap();
        let host = Host::at(tree.path());
        let file = host.path(NUM_VFS);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, "7\n").unwrap();
        (tree, host)
    }

    #[tokio::test]
    async fn fault_5_2_a_look_that_hangs_is_left_and_what_it_reads_is_named() {
        let (_tree, host) = tree();
        let host = host.with_replay(Replay::default().hanging_at(NUM_VFS));
        let deadline = Duration::from_millis(50);
        let look = |host: &Host| (host.exists(NUM_VFS), host.attribute(NUM_VFS));
        let error = host.look_within("0000:01:00.0", deadline, look).await.unwrap_err().to_string();
        assert!(error.starts_with("looking at 0000:01:00.0 has not ended after 0 s: reading /"), "{error}");
        assert!(error.ends_with("/0000:01:00.0/sriov_numvfs hangs in the kernel"), "{error}");
        // What has been read is not what hangs.
        let look = |host: &Host| {
            host.attribute("/sys/other").unwrap();
            std::thread::sleep(Duration::from_secs(1));
        };
        let error = host.look_within("it all", deadline, look).await.unwrap_err().to_string();
        assert_eq!(error, "looking at it all has not ended after 0 s: something of it hangs in the kernel");
    }

    #[tokio::test]
    async fn a_tree_on_a_slow_machine_is_looked_at_to_the_end() {
        let (_tree, host) = tree();
        let look = |host: &Host| {
            std::thread::sleep(Duration::from_millis(200));
            host.attribute(NUM_VFS)
        };
        let found = host.look_within("0000:01:00.0", Duration::from_millis(1), look).await;
        assert_eq!(found.unwrap().unwrap().as_deref(), Some("7"));
    }

    #[tokio::test]
    async fn fault_5_2_what_the_kernel_reads_under_a_lock_is_read_with_a_deadline_alone() {
        let (_tree, host) = tree();
        let error = error_chain(&host.attribute(NUM_VFS).unwrap_err());
        assert!(error.contains("only from Host::look_within"), "{error}");
        let found = host.look_within("0000:01:00.0", Duration::from_secs(60), |host| host.attribute(NUM_VFS));
        assert_eq!(found.await.unwrap().unwrap().as_deref(), Some("7"));
    }

    #[tokio::test]
    async fn a_look_whose_thread_ends_without_an_answer_is_an_error() {
        let (_tree, host) = tree();
        let look = host.look_within("it all", Duration::from_secs(60), |_| {
            // Unwinds without a message of a panic among the tests' output.
            std::panic::resume_unwind(Box::new(()));
        });
        let error = error_chain(&look.await.unwrap_err());
        assert_eq!(error, "cannot look at it all: the thread ended without an answer");
    }
}

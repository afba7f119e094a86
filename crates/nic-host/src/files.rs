use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use atomic_write_file::AtomicWriteFile;
use rustix::io::Errno;

use crate::Host;

/// A file that could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}", path.display())]
pub struct ReadError {
    /// The path as this process sees it.
    pub path: PathBuf,
    /// What the kernel said.
    #[source]
    pub source: io::Error,
}

/// A folder that could not be listed.
#[derive(Debug, thiserror::Error)]
#[error("cannot list {}", path.display())]
pub struct ListError {
    /// The path as this process sees it.
    pub path: PathBuf,
    /// What the kernel said.
    #[source]
    pub source: io::Error,
}

/// A file that could not be written or removed, or an attribute whose value the kernel refused.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}", path.display())]
pub struct WriteError {
    /// The path as this process sees it.
    pub path: PathBuf,
    /// What was to be done with it: `write "7" to`, `write`, `append to`, `remove`.
    pub action: String,
    /// What the kernel said.
    #[source]
    pub source: io::Error,
}

impl WriteError {
    fn of_attribute(path: PathBuf, value: &str, source: io::Error) -> Self {
        Self { path, action: format!("write {:?} to", value.trim_end()), source }
    }

    /// The kernel's errno, where the failure came from it.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        Errno::from_io_error(&self.source)
    }
}

/// A write that failed, or that did not come back in time.
#[derive(Debug, thiserror::Error)]
pub enum DeadlineWriteError {
    /// The kernel refused the value.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The write has not returned. The kernel may still carry it out: the thread that waits for it is left behind.
    #[error("writing {value:?} to {} has not returned after {after:?}", path.display())]
    Deadline {
        /// The path as this process sees it.
        path: PathBuf,
        /// What is being written.
        value: String,
        /// How long it was waited for.
        after: Duration,
    },
}

impl DeadlineWriteError {
    /// The kernel's errno, where it refused the value.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Write(error) => error.errno(),
            Self::Deadline { .. } => None,
        }
    }
}

impl Host {
    /// Whether something (also a dangling link) is at `path`.
    #[must_use]
    pub fn exists(&self, path: impl AsRef<Path>) -> bool {
        self.path(path).symlink_metadata().is_ok()
    }

    /// The bytes of a file.
    pub fn read_bytes(&self, path: impl AsRef<Path>) -> Result<Vec<u8>, ReadError> {
        let path = self.path(path);
        fs::read(&path).map_err(|source| ReadError { path, source })
    }

    /// The text of a file.
    pub fn read(&self, path: impl AsRef<Path>) -> Result<String, ReadError> {
        let path = self.path(path);
        fs::read_to_string(&path).map_err(|source| ReadError { path, source })
    }

    /// The text of a file, or `None` where there is no such file.
    pub fn read_if_exists(&self, path: impl AsRef<Path>) -> Result<Option<String>, ReadError> {
        absent_is_none(self.read(path), |error| &error.source)
    }

    /// A kernel attribute's value without surrounding white space, or `None` where the kernel has no such
    /// attribute (ENOENT, or ENODEV when its device has just gone).
    pub fn attribute(&self, path: impl AsRef<Path>) -> Result<Option<String>, ReadError> {
        match self.read(path) {
            Ok(text) => Ok(Some(text.trim().to_owned())),
            Err(error) if is_absent(&error.source) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The names in a folder, sorted.
    pub fn list(&self, path: impl AsRef<Path>) -> Result<Vec<String>, ListError> {
        let path = self.path(path);
        let read = || -> io::Result<Vec<String>> {
            let mut names = fs::read_dir(&path)?
                .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
                .collect::<io::Result<Vec<_>>>()?;
            names.sort_unstable();
            Ok(names)
        };
        read().map_err(|source| ListError { path, source })
    }

    /// The names in a folder, sorted, or none where there is no such folder.
    pub fn list_if_exists(&self, path: impl AsRef<Path>) -> Result<Vec<String>, ListError> {
        absent_is_none(self.list(path), |error| &error.source).map(Option::unwrap_or_default)
    }

    /// The last component of what a symbolic link points to (`…/driver` → `igbvf`), or `None` where there is no link.
    ///
    /// This is how sysfs names a device's driver, subsystem, physical function and IOMMU group.
    pub fn link_name(&self, path: impl AsRef<Path>) -> Result<Option<String>, ReadError> {
        let path = self.path(path);
        match fs::read_link(&path) {
            Ok(target) => Ok(target.file_name().map(|name| name.to_string_lossy().into_owned())),
            Err(source) if is_absent(&source) => Ok(None),
            Err(source) => Err(ReadError { path, source }),
        }
    }

    /// What a symbolic link points to, as it was written; `None` where there is nothing, or something else than a link.
    pub fn link_target(&self, path: impl AsRef<Path>) -> Result<Option<PathBuf>, ReadError> {
        let path = self.path(path);
        match fs::read_link(&path) {
            Ok(target) => Ok(Some(target)),
            Err(source) if is_absent(&source) || Errno::from_io_error(&source) == Some(Errno::INVAL) => {
                Ok(None)
            }
            Err(source) => Err(ReadError { path, source }),
        }
    }

    /// Makes a symbolic link that points to `target`, as it is written. Never replaces what is at `path`. A missing
    /// folder is created.
    ///
    /// # Errors
    /// Among others, that there is something at `path` (`EEXIST`).
    pub fn make_link(&self, path: impl AsRef<Path>, target: &Path) -> Result<(), WriteError> {
        let path = self.path(path);
        let link = || -> io::Result<()> {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            std::os::unix::fs::symlink(target, &path)
        };
        link().map_err(|source| WriteError {
            path: path.clone(),
            action: format!("make a link to {} at", target.display()),
            source,
        })
    }

    /// Writes a kernel attribute in one `write(2)`, as sysfs wants it. Never creates a file.
    ///
    /// May block for as long as the kernel's driver likes; for `sriov_numvfs`, `bind` and the like use
    /// [`Host::write_attribute_within`].
    pub fn write_attribute(&self, path: impl AsRef<Path>, value: &str) -> Result<(), WriteError> {
        let path = self.path(path);
        tracing::debug!(path = %path.display(), value = value.trim_end(), "write attribute");
        write_once(&path, value.as_bytes()).map_err(|source| WriteError::of_attribute(path, value, source))
    }

    /// Writes a kernel attribute from a thread of its own and waits for it at most `deadline`.
    ///
    /// A write that hangs in the kernel cannot be called back. Its thread is left behind, it does not keep the
    /// process from ending, and the caller is told.
    pub async fn write_attribute_within(
        &self,
        path: impl AsRef<Path>,
        value: &str,
        deadline: Duration,
    ) -> Result<(), DeadlineWriteError> {
        let path = path.as_ref().to_path_buf();
        let (done, finished) = tokio::sync::oneshot::channel();
        let (host, thread_path, thread_value) = (self.clone(), path.clone(), value.to_owned());
        // A thread of its own and not the runtime's blocking pool: the runtime waits for its pool when it is dropped.
        let spawned = std::thread::Builder::new().name("attribute-write".into()).spawn(move || {
            // The receiver is gone when the deadline has passed: nobody is left to be told.
            let _ = done.send(host.write_attribute(thread_path, &thread_value));
        });
        if let Err(source) = spawned {
            return Err(WriteError::of_attribute(self.path(path), value, source).into());
        }
        match tokio::time::timeout(deadline, finished).await {
            Ok(Ok(result)) => Ok(result?),
            Ok(Err(_)) => {
                let source = io::Error::other("the writing thread ended without an answer");
                Err(WriteError::of_attribute(self.path(path), value, source).into())
            }
            Err(_) => Err(DeadlineWriteError::Deadline {
                path: self.path(path),
                value: value.trim_end().to_owned(),
                after: deadline,
            }),
        }
    }

    /// Replaces a file as a whole, durably: a crash at any moment leaves the old or the new content, and when this
    /// returns, the new content is on the disk. Missing parent folders are created.
    pub fn write_durably(&self, path: impl AsRef<Path>, content: &[u8]) -> Result<(), WriteError> {
        let path = self.path(path);
        let write = || -> io::Result<()> {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            let mut file = AtomicWriteFile::open(&path)?;
            file.write_all(content)?;
            // `commit` syncs the file, renames it, and syncs the folder.
            file.commit()
        };
        write().map_err(|source| WriteError { path: path.clone(), action: "write".to_owned(), source })
    }

    /// Replaces a file as a whole, durably, like [`Host::write_durably`], in a folder that must be there. The file has these
    /// permissions, whatever this process's umask is, and whichever an earlier file had.
    pub fn write_durably_with_mode(
        &self,
        path: impl AsRef<Path>,
        content: &[u8],
        mode: u32,
    ) -> Result<(), WriteError> {
        let path = self.path(path);
        let write = || -> io::Result<()> {
            let mut file = AtomicWriteFile::open(&path)?;
            file.write_all(content)?;
            file.set_permissions(fs::Permissions::from_mode(mode))?;
            file.commit()
        };
        write().map_err(|source| WriteError { path: path.clone(), action: "write".to_owned(), source })
    }

    /// Appends to a file, which is created if need be, and has the data on the disk when it returns.
    pub fn append_durably(&self, path: impl AsRef<Path>, content: &[u8]) -> Result<(), WriteError> {
        let path = self.path(path);
        let write = || -> io::Result<()> {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
            file.write_all(content)?;
            file.sync_data()
        };
        write().map_err(|source| WriteError { path: path.clone(), action: "append to".to_owned(), source })
    }

    /// Removes a file. Returns whether there was one.
    pub fn remove_file(&self, path: impl AsRef<Path>) -> Result<bool, WriteError> {
        let path = self.path(path);
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(WriteError { path, action: "remove".to_owned(), source }),
        }
    }
}

fn write_once(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file: File = OpenOptions::new().write(true).open(path)?;
    let written = file.write(bytes)?;
    if written == bytes.len() {
        Ok(())
    } else {
        Err(io::Error::new(
            io::ErrorKind::WriteZero,
            format!("the kernel took {written} of {} bytes", bytes.len()),
        ))
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOENT | Errno::NOTDIR | Errno::NODEV))
}

fn absent_is_none<T, E>(result: Result<T, E>, cause: impl Fn(&E) -> &io::Error) -> Result<Option<T>, E> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if is_absent(cause(&error)) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> (tempfile::TempDir, Host) {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::at(dir.path());
        (dir, host)
    }

    #[test]
    fn an_attribute_is_trimmed_and_its_absence_is_not_an_error() {
        let (dir, host) = tree();
        fs::create_dir(dir.path().join("sys")).unwrap();
        fs::write(dir.path().join("sys/numvfs"), "7\n").unwrap();
        assert_eq!(host.attribute("/sys/numvfs").unwrap().as_deref(), Some("7"));
        assert_eq!(host.attribute("/sys/totalvfs").unwrap(), None);
        assert_eq!(host.list_if_exists("/sys/net").unwrap(), Vec::<String>::new());
        let error = host.attribute("/sys").unwrap_err();
        assert!(error.to_string().contains("/sys"), "{error}");
    }

    #[test]
    fn an_attribute_write_never_creates_a_file_and_keeps_the_errno() {
        let (_dir, host) = tree();
        let error = host.write_attribute("/numvfs", "1").unwrap_err();
        assert_eq!(error.errno(), Some(Errno::NOENT));
        assert!(error.to_string().contains("\"1\""), "{error}");
    }

    #[test]
    fn a_durable_write_replaces_the_whole_file_and_makes_its_folders() {
        let (dir, host) = tree();
        host.write_durably("/run/state/snapshot.json", b"long old content").unwrap();
        host.write_durably("/run/state/snapshot.json", b"new").unwrap();
        assert_eq!(host.read("/run/state/snapshot.json").unwrap(), "new");
        assert_eq!(fs::read_dir(dir.path().join("run/state")).unwrap().count(), 1, "no temporary file stays");
        let error = host.write_durably("/run/state/snapshot.json/below", b"secret").unwrap_err();
        let path = dir.path().join("run/state/snapshot.json/below");
        assert_eq!(error.to_string(), format!("cannot write {}", path.display()));
    }

    #[test]
    fn a_durable_write_gives_the_permissions_it_is_told_and_makes_no_folder() {
        let (dir, host) = tree();
        let mode = || fs::metadata(dir.path().join("rule")).unwrap().permissions().mode() & 0o7777;
        for told in [0o644, 0o600, 0o666] {
            host.write_durably_with_mode("/rule", b"content", told).unwrap();
            assert_eq!((host.read("/rule").unwrap().as_str(), mode()), ("content", told));
        }
        let error = host.write_durably_with_mode("/rules.d/rule", b"content", 0o644).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::NOENT));
        assert!(!host.exists("/rules.d"));
    }

    #[test]
    fn appended_lines_stay_in_order() {
        let (_dir, host) = tree();
        host.append_durably("/run/journal", b"1\n").unwrap();
        host.append_durably("/run/journal", b"2\n").unwrap();
        assert_eq!(host.read("/run/journal").unwrap(), "1\n2\n");
    }

    #[tokio::test]
    async fn a_write_that_hangs_is_noticed() {
        let (dir, host) = tree();
        // Opening a FIFO for writing blocks until somebody reads it: a stand-in for an attribute that hangs.
        let fifo = dir.path().join("sriov_numvfs");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let error =
            host.write_attribute_within("/sriov_numvfs", "7", Duration::from_millis(50)).await.unwrap_err();
        assert!(matches!(error, DeadlineWriteError::Deadline { .. }), "{error}");
        assert!(error.to_string().contains("sriov_numvfs"), "{error}");
    }
}

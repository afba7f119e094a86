use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use atomic_write_file::AtomicWriteFile;
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::Foreign;
use crate::Host;
use crate::within::in_thread;

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
        Self { path, action: format!("write {} to", Foreign(value.trim_end())), source }
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
    #[error("writing {} to {} has not returned after {after:?}", Foreign(value), path.display())]
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
    /// Makes a symbolic link that points to `target`, as it is written. Never replaces what is at `path`. A missing
    /// folder is created.
    ///
    /// # Errors
    /// Among others, that there is something at `path` (`EEXIST`).
    pub fn make_link(&self, path: impl AsRef<Path>, target: &Path) -> Result<(), WriteError> {
        let path = self.path(path);
        let link = || -> io::Result<()> {
            make_folders_above(&path)?;
            std::os::unix::fs::symlink(target, &path)
        };
        link().map_err(|source| WriteError {
            path: path.clone(),
            action: format!("make a link to {} at", target.display()),
            source,
        })
    }

    /// Writes a kernel attribute in one `write(2)`. May block for as long as the kernel's driver likes.
    fn write_attribute(&self, path: impl AsRef<Path>, value: &str) -> Result<(), WriteError> {
        let path = self.path(path);
        tracing::debug!(path = %path.display(), value = value.trim_end(), "write attribute");
        write_once(&path, value.as_bytes()).map_err(|source| WriteError::of_attribute(path, value, source))
    }

    /// Writes a kernel attribute in one `write(2)`, as sysfs wants it, from a thread of its own, and waits for it at most `deadline`. Never
    /// creates a file.
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
        let (host, thread_path, thread_value) = (self.clone(), path.clone(), value.to_owned());
        let write = move || host.write_attribute(thread_path, &thread_value);
        match in_thread("attribute-write", deadline, write).await {
            Ok(Some(result)) => Ok(result?),
            Ok(None) => Err(DeadlineWriteError::Deadline {
                path: self.path(path),
                value: value.trim_end().to_owned(),
                after: deadline,
            }),
            Err(source) => Err(WriteError::of_attribute(self.path(path), value, source).into()),
        }
    }

    /// Replaces a file as a whole, durably: a crash at any moment leaves the old or the new content, and when this
    /// returns, the new content is on the disk. Missing parent folders are created.
    pub fn write_durably(&self, path: impl AsRef<Path>, content: &[u8]) -> Result<(), WriteError> {
        let path = self.path(path);
        let write = || -> io::Result<()> {
            make_folders_above(&path)?;
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

    /// Makes a folder and those above it that are missing, and has each of their names on the disk when it returns.
    ///
    /// # Errors
    /// A folder cannot be made or synced, or something else has its name.
    pub fn make_folders(&self, folder: impl AsRef<Path>) -> Result<(), WriteError> {
        let path = self.path(folder);
        make_folders(&path).map_err(|source| WriteError { path, action: "create".to_owned(), source })
    }

    /// Appends to a file, which is created if need be, and has the data on the disk when it returns.
    ///
    /// # Errors
    /// Among others, that something else than a regular file is there, a symbolic link included: see [`open_own`].
    pub fn append_durably(&self, path: impl AsRef<Path>, content: &[u8]) -> Result<(), WriteError> {
        let path = self.path(path);
        let write = || -> io::Result<()> {
            make_folders_above(&path)?;
            let is_new = path.symlink_metadata().is_err();
            let mut file = open_own(&path, OpenOptions::new().create(true).append(true))?;
            file.write_all(content)?;
            file.sync_data()?;
            if is_new { sync_parent(&path) } else { Ok(()) }
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

/// Opens a file of this program's own for writing: a regular file, at this very path.
///
/// A symbolic link is not followed (`O_NOFOLLOW`, open(2)), since what it leads to is somebody else's; a FIFO does not hang the call.
///
/// # Errors
/// Among others, that a symbolic link is there (`ELOOP`), or something else than a regular file.
pub fn open_own(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY).bits();
    let opened = options.custom_flags(i32::try_from(flags).map_err(io::Error::other)?).open(path);
    let file = opened.map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::LOOP) => not_own("a symbolic link"),
        // What open(2) says of a FIFO that nobody reads.
        Some(Errno::NXIO) => not_own("a FIFO or a device"),
        _ => error,
    })?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(not_own("something else")) }
}

fn not_own(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        format!("{what} is there, and no regular file: it is not written to"),
    )
}

/// A name is on the disk once the folder that holds it is synced (fsync(2)).
fn make_folders(folder: &Path) -> io::Result<()> {
    // What is above a relative path of one name.
    if folder.as_os_str().is_empty() {
        return Ok(());
    }
    match fs::create_dir(folder) {
        Ok(()) => sync_parent(folder),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let Some(parent) = folder.parent() else { return Err(error) };
            make_folders(parent)?;
            // Another process may have been quicker.
            fs::create_dir_all(folder)?;
            sync_parent(folder)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        // On a read-only file system the kernel looks at that first (`filename_create` in fs/namei.c).
        Err(_) if folder.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

fn make_folders_above(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), make_folders)
}

fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> (tempfile::TempDir, Host) {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::at(dir.path());
        (dir, host)
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
    fn folders_are_made_where_they_are_missing_and_nothing_else_is_taken_for_one() {
        let (dir, host) = tree();
        host.make_folders("/run/a/b").unwrap();
        host.make_folders("/run/a/b").unwrap();
        assert!(dir.path().join("run/a/b").is_dir());
        fs::write(dir.path().join("run/file"), "").unwrap();
        let error = host.make_folders("/run/file").unwrap_err();
        assert_eq!(error.errno(), Some(Errno::EXIST));
        assert_eq!(host.make_folders("/run/file/below").unwrap_err().errno(), Some(Errno::NOTDIR));
        // A relative state directory is below the current folder.
        Host::at("").make_folders("/").unwrap();
    }

    #[test]
    fn appended_lines_stay_in_order() {
        let (_dir, host) = tree();
        host.append_durably("/run/journal", b"1\n").unwrap();
        host.append_durably("/run/journal", b"2\n").unwrap();
        assert_eq!(host.read("/run/journal").unwrap(), "1\n2\n");
    }

    #[test]
    fn trial_w8_a_link_in_the_files_place_is_not_followed_and_a_fifo_does_not_hang() {
        let (dir, host) = tree();
        fs::write(dir.path().join("precious"), "x").unwrap();
        std::os::unix::fs::symlink("precious", dir.path().join("link")).unwrap();
        let fifo = dir.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        for (name, what) in [("/link", "a symbolic link"), ("/fifo", "a FIFO or a device")] {
            let error = host.append_durably(name, b"1\n").unwrap_err();
            assert!(error.to_string().ends_with(name), "{error}");
            let cause = format!("{what} is there, and no regular file: it is not written to");
            assert_eq!(error.source.to_string(), cause);
        }
        assert_eq!(host.read("/precious").unwrap(), "x");
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

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::Host;

/// The longest kernel attribute that is read, in bytes. The kernel's own are at most one page (`sysfs_emit` in `fs/sysfs/file.c`),
/// which is 64 KiB on arm64 with large pages.
pub const LONGEST_ATTRIBUTE: u64 = 64 << 10;
/// The longest text that is read, in bytes: state files, module indexes, `/proc/modules`.
pub const LONGEST_TEXT: u64 = 64 << 20;
/// The longest file that is read as a whole, in bytes: a kernel module.
pub const LONGEST_FILE: u64 = 256 << 20;

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

impl Host {
    /// Whether something (also a dangling link) is at `path`.
    #[must_use]
    pub fn exists(&self, path: impl AsRef<Path>) -> bool {
        self.path(path).symlink_metadata().is_ok()
    }

    /// Whether the root of the machine that this container runs on is mounted at [`HOST_MOUNT`](crate::HOST_MOUNT).
    #[must_use]
    pub fn has_host_mount(&self) -> bool {
        self.exists(Path::new(crate::HOST_MOUNT).join("etc"))
    }

    /// Opens a regular file for reading, and nothing else: a FIFO would hang, and a device may never end.
    ///
    /// # Errors
    /// The file cannot be opened, or is no regular file, after symbolic links.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<File, ReadError> {
        let path = self.path(path);
        self.reading(&path, || open_regular(&path)).map_err(|source| ReadError { path, source })
    }

    /// The bytes of a regular file.
    ///
    /// # Errors
    /// The file cannot be read, is no regular file, or is longer than [`LONGEST_FILE`].
    pub fn read_bytes(&self, path: impl AsRef<Path>) -> Result<Vec<u8>, ReadError> {
        self.read_bytes_up_to(path, LONGEST_FILE)
    }

    /// The bytes of a regular file that may be `longest` bytes long.
    ///
    /// # Errors
    /// The file cannot be read, is no regular file, or is longer (`FileTooLarge`).
    pub fn read_bytes_up_to(&self, path: impl AsRef<Path>, longest: u64) -> Result<Vec<u8>, ReadError> {
        let path = self.path(path);
        let read = self.reading(&path, || read_regular(&path, longest));
        read.map_err(|source| ReadError { path, source })
    }

    /// The text of a regular file.
    ///
    /// # Errors
    /// The file cannot be read, is no regular file, is longer than [`LONGEST_TEXT`], or is not UTF-8.
    pub fn read(&self, path: impl AsRef<Path>) -> Result<String, ReadError> {
        self.text(path, LONGEST_TEXT)
    }

    /// The text of a regular file that may be `longest` bytes long.
    ///
    /// # Errors
    /// The file cannot be read, is no regular file, is longer (`FileTooLarge`), or is not UTF-8.
    pub fn read_up_to(&self, path: impl AsRef<Path>, longest: u64) -> Result<String, ReadError> {
        self.text(path, longest)
    }

    /// The text of a file that may be `longest` bytes long, or `None` where there is no such file.
    ///
    /// # Errors
    /// As for [`Host::read_up_to`].
    pub fn read_up_to_if_exists(
        &self,
        path: impl AsRef<Path>,
        longest: u64,
    ) -> Result<Option<String>, ReadError> {
        absent_is_none(self.text(path, longest), |error| &error.source)
    }

    fn text(&self, path: impl AsRef<Path>, longest: u64) -> Result<String, ReadError> {
        let path = self.path(path);
        let read = || {
            let bytes = read_regular(&path, longest)?;
            String::from_utf8(bytes).map_err(|error| {
                let valid = error.utf8_error().valid_up_to();
                io::Error::new(io::ErrorKind::InvalidData, format!("byte {valid} (from 0) is not UTF-8"))
            })
        };
        self.ensure_awaited(&path)
            .and_then(|()| self.reading(&path, read))
            .map_err(|source| ReadError { path, source })
    }

    /// The text of a file, or `None` where there is no such file.
    pub fn read_if_exists(&self, path: impl AsRef<Path>) -> Result<Option<String>, ReadError> {
        absent_is_none(self.read(path), |error| &error.source)
    }

    /// A kernel attribute's value without surrounding white space, or `None` where the kernel has no such
    /// attribute (ENOENT, or ENODEV when its device has just gone).
    ///
    /// # Errors
    /// As for [`Host::read`], with [`LONGEST_ATTRIBUTE`] for its length.
    pub fn attribute(&self, path: impl AsRef<Path>) -> Result<Option<String>, ReadError> {
        match self.text(path, LONGEST_ATTRIBUTE) {
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
        self.reading(&path, read).map_err(|source| ListError { path, source })
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
        match self.reading(&path, || fs::read_link(&path)) {
            Ok(target) => Ok(target.file_name().map(|name| name.to_string_lossy().into_owned())),
            Err(source) if is_absent(&source) => Ok(None),
            Err(source) => Err(ReadError { path, source }),
        }
    }

    /// What a symbolic link points to, as it was written; `None` where there is nothing, or something else than a link.
    pub fn link_target(&self, path: impl AsRef<Path>) -> Result<Option<PathBuf>, ReadError> {
        let path = self.path(path);
        match self.reading(&path, || fs::read_link(&path)) {
            Ok(target) => Ok(Some(target)),
            Err(source) if is_absent(&source) || Errno::from_io_error(&source) == Some(Errno::INVAL) => {
                Ok(None)
            }
            Err(source) => Err(ReadError { path, source }),
        }
    }
}

/// `O_NONBLOCK` keeps a FIFO without a writer from hanging the call; regular files do not heed it (open(2)).
fn open_regular(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits();
    let flags = i32::try_from(flags).map_err(io::Error::other)?;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_file() {
        return Ok(file);
    }
    if kind.is_dir() {
        return Err(io::Error::from(Errno::ISDIR));
    }
    let kind = if kind.is_fifo() { "a FIFO" } else { "a device or a socket" };
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{kind} is there, and no regular file")))
}

fn read_regular(path: &Path, longest: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = open_regular(path)?.take(longest.saturating_add(1)).read_to_end(&mut bytes)?;
    if u64::try_from(read).is_ok_and(|read| read <= longest) {
        return Ok(bytes);
    }
    Err(io::Error::new(
        io::ErrorKind::FileTooLarge,
        format!("longer than the {longest} bytes that are read of such a file"),
    ))
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
    use std::os::unix::fs::symlink;

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
    fn trial_w3_what_is_no_regular_file_is_refused_and_neither_hangs_nor_fills_the_memory() {
        let (dir, host) = tree();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            dir.path().join("fifo"),
            rustix::fs::FileType::Fifo,
            0o600.into(),
            0,
        )
        .unwrap();
        symlink("/dev/zero", dir.path().join("zero")).unwrap();
        for name in ["/fifo", "/zero"] {
            for error in [
                host.read(name).unwrap_err(),
                host.read_bytes(name).unwrap_err(),
                host.attribute(name).unwrap_err(),
                host.open(name).unwrap_err(),
            ] {
                assert!(crate::error_chain(&error).ends_with("is there, and no regular file"), "{error}");
                assert!(error.to_string().contains(name), "{error}");
            }
        }
        assert_eq!(Errno::from_io_error(&host.read("/").unwrap_err().source), Some(Errno::ISDIR));
    }

    #[test]
    fn trial_w3_a_file_is_read_up_to_what_its_kind_may_have() {
        let (dir, host) = tree();
        let longest = usize::try_from(LONGEST_ATTRIBUTE).unwrap();
        fs::write(dir.path().join("numvfs"), vec![b'9'; longest]).unwrap();
        assert_eq!(host.attribute("/numvfs").unwrap().unwrap().len(), longest);
        fs::write(dir.path().join("numvfs"), vec![b'9'; longest + 1]).unwrap();
        let error = crate::error_chain(&host.attribute("/numvfs").unwrap_err());
        assert!(error.ends_with("longer than the 65536 bytes that are read of such a file"), "{error}");
        assert_eq!(host.read("/numvfs").unwrap().len(), longest + 1);
        assert_eq!(host.read_up_to("/numvfs", LONGEST_ATTRIBUTE + 1).unwrap().len(), longest + 1);
        host.read_up_to_if_exists("/numvfs", LONGEST_ATTRIBUTE).unwrap_err();
        assert_eq!(host.read_up_to_if_exists("/absent", LONGEST_ATTRIBUTE).unwrap(), None);
    }

    #[test]
    fn where_a_text_is_not_utf_8_is_told() {
        let (dir, host) = tree();
        fs::write(dir.path().join("text"), b"ab\xff").unwrap();
        let error = crate::error_chain(&host.read("/text").unwrap_err());
        assert!(error.ends_with("byte 2 (from 0) is not UTF-8"), "{error}");
    }
}

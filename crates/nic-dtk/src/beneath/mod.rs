//! Files and folders beneath a folder that others can write.
//!
//! The sidecar can put anything into the shared folder at any time: a link to `/etc` where the sources were, a FIFO
//! where a package is expected. So every path is resolved by the kernel beneath a folder that is held open
//! (`openat2(2)`), links are never followed, what is no regular file is never opened, and everything that is read is
//! bounded.

mod error;
mod write;

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use nic_host::Host;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2, statat};
use rustix::io::Errno;
use serde::de::DeserializeOwned;

pub use error::FolderError;
pub(crate) use error::absent_is_none;

/// The most entries of a folder that are listed.
const MOST_NAMES: usize = 10_000;

/// A folder that is held open. What is reached through it lies beneath it, whatever is done to its path meanwhile.
#[derive(Debug)]
pub(crate) struct Folder {
    fd: OwnedFd,
    /// For messages only.
    path: PathBuf,
}

/// A regular file that was opened for reading.
#[derive(Debug)]
pub(crate) struct OpenFile {
    pub(crate) file: File,
    pub(crate) path: PathBuf,
    /// Bytes, when it was opened.
    pub(crate) size: u64,
}

/// What tells one file or folder from another that has taken its name.
pub(crate) type Inode = (u64, u64);

/// A flag's file, and the time of its last change: compared for equality alone, since clocks are set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FlagStamp(Inode, i64, i128);

impl Folder {
    /// Opens a folder by a path that is trusted as a whole: the shared folder's mount, or a folder of our own.
    pub(crate) fn open(host: &Host, path: &Path) -> Result<Self, FolderError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match openat(CWD, host.path(path), flags, Mode::empty()) {
            Ok(fd) => Ok(Self { fd, path: path.to_path_buf() }),
            Err(errno) => {
                Err(FolderError::Io { action: "open", path: path.to_path_buf(), source: errno.into() })
            }
        }
    }

    /// Its path, for messages.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Which folder it is.
    pub(crate) fn inode(&self) -> Result<Inode, FolderError> {
        let stat = fstat(&self.fd).map_err(|errno| self.io("look at", ".", errno))?;
        Ok((stat.st_dev, stat.st_ino))
    }

    /// Opens a folder beneath this one.
    pub(crate) fn folder(&self, below: impl AsRef<Path>) -> Result<Self, FolderError> {
        let below = below.as_ref();
        let fd = self.open_beneath(below, OFlags::RDONLY | OFlags::DIRECTORY)?;
        Ok(Self { fd, path: self.path.join(below) })
    }

    /// Opens a regular file beneath this folder for reading. One of more than `limit` bytes is refused.
    pub(crate) fn file(&self, below: impl AsRef<Path>, limit: u64) -> Result<OpenFile, FolderError> {
        let below = below.as_ref();
        let path = self.path.join(below);
        // A file that is only named by a descriptor (`O_PATH`) is not opened yet: a FIFO does not wait for its
        // writer, a device's driver is not asked. What it is is known before it is opened in earnest, and through
        // the descriptor it is the same one that is opened then.
        let named = self.open_beneath(below, OFlags::PATH)?;
        let stat = fstat(&named).map_err(|errno| self.io("look at", below, errno))?;
        let file_type = FileType::from_raw_mode(stat.st_mode);
        if file_type != FileType::RegularFile {
            return Err(FolderError::NotRegular { path, kind: error::kind(file_type) });
        }
        let size = u64::try_from(stat.st_size).unwrap_or_default();
        if size > limit {
            return Err(FolderError::TooLarge { path, size, limit });
        }
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let fd = openat(CWD, by_descriptor(&named), flags, Mode::empty())
            .map_err(|errno| self.io("open", below, of_descriptor(errno)))?;
        Ok(OpenFile { file: File::from(fd), path, size })
    }

    /// The bytes of a regular file beneath this folder; at most `limit`.
    pub(crate) fn read(&self, below: impl AsRef<Path>, limit: u64) -> Result<Vec<u8>, FolderError> {
        let OpenFile { file, path, .. } = self.file(below, limit)?;
        let mut content = Vec::new();
        // It may grow while it is read.
        let read = file.take(limit.saturating_add(1)).read_to_end(&mut content);
        match read {
            Ok(read) if u64::try_from(read).is_ok_and(|size| size > limit) => {
                Err(FolderError::TooLarge { path, size: limit.saturating_add(1), limit })
            }
            Ok(_) => Ok(content),
            Err(source) => Err(FolderError::Io { action: "read", path, source }),
        }
    }

    /// A JSON file of this crate's own, or `None` where there is none.
    pub(crate) fn json<T: DeserializeOwned>(
        &self,
        below: impl AsRef<Path>,
        limit: u64,
    ) -> Result<Option<T>, FolderError> {
        let below = below.as_ref();
        let Some(content) = absent_is_none(self.read(below, limit))? else { return Ok(None) };
        serde_json::from_slice(&content)
            .map(Some)
            .map_err(|source| FolderError::Malformed { path: self.path.join(below), source })
    }

    /// Whether a flag, a regular file, is there. Anything else by its name is an error.
    pub(crate) fn has_flag(&self, name: &str) -> Result<bool, FolderError> {
        Ok(self.flag_stamp(name)?.is_some())
    }

    /// What tells a flag from the same one touched again, or `None` where there is none.
    pub(crate) fn flag_stamp(&self, name: &str) -> Result<Option<FlagStamp>, FolderError> {
        match statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => Ok(Some(FlagStamp(
                    (stat.st_dev, stat.st_ino),
                    stat.st_ctime,
                    i128::from(stat.st_ctime_nsec),
                ))),
                FileType::Symlink => Err(FolderError::Link { path: self.path.join(name) }),
                other => {
                    Err(FolderError::NotRegular { path: self.path.join(name), kind: error::kind(other) })
                }
            },
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.io("look at", name, errno)),
        }
    }

    /// What a symbolic link in this folder points to.
    pub(crate) fn link_target(&self, below: &Path) -> Result<PathBuf, FolderError> {
        let (parent, name) = (below.parent(), below.file_name().unwrap_or_default());
        let target = match parent.filter(|parent| !parent.as_os_str().is_empty()) {
            Some(parent) => rustix::fs::readlinkat(&self.folder(parent)?.fd, name, Vec::new()),
            None => rustix::fs::readlinkat(&self.fd, name, Vec::new()),
        };
        let target = target.map_err(|errno| self.io("read the link", below, errno))?;
        Ok(PathBuf::from(OsStr::from_bytes(target.as_bytes())))
    }

    /// The names in this folder, sorted.
    pub(crate) fn names(&self) -> Result<Vec<String>, FolderError> {
        let entries = Dir::read_from(&self.fd).map_err(|errno| self.io("list", ".", errno))?;
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|errno| self.io("list", ".", errno))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name == "." || name == ".." {
                continue;
            }
            if names.len() == MOST_NAMES {
                return Err(FolderError::TooMany { path: self.path.clone(), limit: MOST_NAMES });
            }
            names.push(name);
        }
        names.sort_unstable();
        Ok(names)
    }

    /// A path by which the kernel finds this folder itself, wherever it is now.
    pub(crate) fn by_descriptor(&self) -> PathBuf {
        by_descriptor(&self.fd)
    }

    fn open_beneath(&self, below: &Path, flags: OFlags) -> Result<OwnedFd, FolderError> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        openat2(&self.fd, below, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
            .map_err(|errno| FolderError::of_open(self.path.join(below), errno))
    }

    fn io(&self, action: &'static str, below: impl AsRef<Path>, source: impl Into<io::Error>) -> FolderError {
        let below = below.as_ref();
        let path = if below == Path::new(".") { self.path.clone() } else { self.path.join(below) };
        FolderError::Io { action, path, source: source.into() }
    }
}

fn by_descriptor(fd: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

/// A file that is open and not to be found by its descriptor is not absent: there is no /proc. Taken for absent, the other side's
/// request would be overlooked.
fn of_descriptor(errno: Errno) -> io::Error {
    match errno {
        Errno::NOENT => io::Error::other("it is there, and /proc, by which it is opened, is not mounted"),
        errno => errno.into(),
    }
}

#[cfg(test)]
mod tests;

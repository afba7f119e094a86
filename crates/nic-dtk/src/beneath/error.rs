use std::io;
use std::path::PathBuf;

use rustix::fs::FileType;
use rustix::io::Errno;

/// Something in the shared folder that cannot be used, or is refused.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// A symbolic link stands where a file or a folder is expected. It was not followed.
    #[error("{} is, or lies behind, a symbolic link; links in the shared folder are not followed", path.display())]
    Link {
        /// What was to be opened.
        path: PathBuf,
    },
    /// The path leads out of the shared folder.
    #[error("{} leads out of the shared folder", path.display())]
    Outside {
        /// What was to be opened.
        path: PathBuf,
    },
    /// Something else than a regular file: a device, a FIFO, a folder. It was not opened.
    #[error("{} is {kind}, not a regular file", path.display())]
    NotRegular {
        /// Its path.
        path: PathBuf,
        /// What it is, e.g. `a FIFO`.
        kind: &'static str,
    },
    /// A file that is larger than anything that may stand there.
    #[error("{} has {size} bytes; at most {limit} are taken", path.display())]
    TooLarge {
        /// Its path.
        path: PathBuf,
        /// Its size in bytes, as far as it was counted.
        size: u64,
        /// What is allowed.
        limit: u64,
    },
    /// A folder with more entries than anything that may stand there.
    #[error("{} has more than {limit} entries", path.display())]
    TooMany {
        /// Its path.
        path: PathBuf,
        /// What is allowed.
        limit: usize,
    },
    /// A file of this crate's own that does not parse.
    #[error("{} cannot be understood", path.display())]
    Malformed {
        /// Its path.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The kernel refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was to be done: `open`, `write`.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl FolderError {
    /// The kernel's answer to an attempt to open `path`.
    pub(super) fn of_open(path: PathBuf, errno: Errno) -> Self {
        match errno {
            Errno::LOOP => Self::Link { path },
            Errno::XDEV => Self::Outside { path },
            errno => Self::Io { action: "open", path, source: errno.into() },
        }
    }

    /// Whether there is nothing at the path.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// Whether the disk, or the quota, is full.
    #[must_use]
    pub fn is_full_disk(&self) -> bool {
        let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
        matches!(self, Self::Io { source, .. } if full.contains(&source.kind()))
    }
}

/// `None` where there is nothing at the path.
pub(crate) fn absent_is_none<T>(result: Result<T, FolderError>) -> Result<Option<T>, FolderError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_absent() => Ok(None),
        Err(error) => Err(error),
    }
}

/// What a file is, in words.
pub(super) fn kind(file_type: FileType) -> &'static str {
    match file_type {
        FileType::RegularFile => "a regular file",
        FileType::Directory => "a folder",
        FileType::Symlink => "a symbolic link",
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        FileType::CharacterDevice => "a character device",
        FileType::BlockDevice => "a block device",
        FileType::Unknown => "of an unknown kind",
    }
}

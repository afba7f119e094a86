//! The writing half: whole files or none, and nothing through a link.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, fsync, mkdirat, openat, renameat, statat, symlinkat, unlinkat,
};
use rustix::io::Errno;
use serde::Serialize;

use super::{Folder, FolderError};

impl Folder {
    /// Makes a folder in this one, if it is not there, and opens it.
    pub(crate) fn make_folder(&self, name: &str) -> Result<Self, FolderError> {
        match mkdirat(&self.fd, name, Mode::from_raw_mode(0o755)) {
            Ok(()) => self.sync()?,
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(self.io("make the folder", name, errno)),
        }
        self.folder(name)
    }

    /// Creates a file that is not there yet.
    pub(crate) fn create(&self, name: &str, mode: u32) -> Result<File, FolderError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(&self.fd, name, flags, Mode::from_raw_mode(mode))
            .map_err(|errno| self.io("create", name, errno))?;
        let file = File::from(fd);
        // What `mode` says holds whatever the process's umask is.
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))
            .map_err(|errno| self.io("set the mode of", name, errno))?;
        Ok(file)
    }

    /// Makes a symbolic link.
    pub(crate) fn link(&self, name: &str, target: &str) -> Result<(), FolderError> {
        symlinkat(target, &self.fd, name).map_err(|errno| self.io("make the link", name, errno))
    }

    /// Replaces a file as a whole, durably: it has the old content or the new one, and when this returns the new one
    /// is on the disk.
    pub(crate) fn write_durably(&self, name: &str, content: &[u8], mode: u32) -> Result<(), FolderError> {
        let partial = partial(name);
        self.remove(&partial)?;
        let written = self.create(&partial, mode).and_then(|mut file| {
            file.write_all(content)
                .and_then(|()| file.sync_all())
                .map_err(|source| self.io("write", name, source))
        });
        let placed = written.and_then(|()| self.rename(&partial, name));
        if placed.is_err() {
            self.discard(&partial);
        }
        placed
    }

    /// Puts a flag, durably. One that is there already is replaced by a new one.
    pub(crate) fn put_flag(&self, name: &str) -> Result<(), FolderError> {
        self.write_durably(name, b"", 0o644)
    }

    /// A JSON file of this crate's own, durably.
    pub(crate) fn write_json(&self, name: &str, value: &impl Serialize) -> Result<(), FolderError> {
        let mut content = serde_json::to_vec_pretty(value)
            .map_err(|source| FolderError::Malformed { path: self.path.join(name), source })?;
        content.push(b'\n');
        self.write_durably(name, &content, 0o644)
    }

    /// Gives a file or folder of this folder its final name, durably. A file by that name is replaced.
    pub(crate) fn rename(&self, from: &str, to: &str) -> Result<(), FolderError> {
        self.move_to(from, self, to)
    }

    /// Moves a file or folder into `other`, durably.
    pub(crate) fn move_to(&self, from: &str, other: &Self, to: &str) -> Result<(), FolderError> {
        renameat(&self.fd, from, &other.fd, to).map_err(|errno| other.io("put in place", to, errno))?;
        other.sync()
    }

    /// Removes whatever is at `name`, also a folder with all that is in it, durably. No link is followed. Returns
    /// whether there was anything.
    pub(crate) fn remove(&self, name: &str) -> Result<bool, FolderError> {
        let was_there = self.remove_soon(name)?;
        if was_there {
            self.sync()?;
        }
        Ok(was_there)
    }

    /// The same, but on the disk only with whatever is synced next: for what does no harm when it comes back.
    pub(crate) fn remove_soon(&self, name: &str) -> Result<bool, FolderError> {
        let stat = match statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(false),
            Err(errno) => return Err(self.io("look at", name, errno)),
        };
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            // The standard library follows no link below the path either, and the path begins with this folder's
            // own descriptor.
            fs::remove_dir_all(self.by_descriptor().join(name))
                .map_err(|source| self.io("remove", name, source))?;
        } else {
            unlinkat(&self.fd, name, AtFlags::empty()).map_err(|errno| self.io("remove", name, errno))?;
        }
        Ok(true)
    }

    /// Removes what is at `name` on the way out of a failure that is told in its stead.
    pub(crate) fn discard(&self, name: &str) {
        if let Err(error) = self.remove(name) {
            let path = self.path.join(name);
            tracing::warn!(path = %path.display(), error = %nic_host::error_chain(&error), "a partial file is left behind");
        }
    }

    /// Opens or creates a file that is written in place.
    pub(crate) fn open_in_place(&self, name: &str) -> Result<File, FolderError> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = openat(&self.fd, name, flags, Mode::from_raw_mode(0o644)).map_err(|errno| match errno {
            Errno::LOOP => FolderError::Link { path: self.path.join(name) },
            errno => self.io("open", name, errno),
        })?;
        Ok(File::from(fd))
    }

    /// Has on the disk which names are in this folder.
    pub(crate) fn sync(&self) -> Result<(), FolderError> {
        fsync(&self.fd).map_err(|errno| self.io("sync", Path::new("."), errno))
    }
}

/// The name of a file that is not whole yet. The incumbent looks for none that begins with a dot.
fn partial(name: &str) -> String {
    format!(".{name}.partial")
}

//! A tree of files that packages bring, written so that no name in a package leads out of it.

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use nic_packages::{ContainedFile, ContainedKind};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
use walkdir::WalkDir;

/// The tree being made.
#[derive(Debug)]
pub(super) struct Tree {
    root: PathBuf,
    executable: BTreeSet<PathBuf>,
}

/// A tree of files could not be written.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// A file or folder cannot be made.
    #[error("cannot make {}", path.display())]
    Make {
        /// The path as this process sees it.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A package has a file below a link or a file of another package: it would be written elsewhere.
    #[error("{} is no folder, and a package has a file in it", path.display())]
    NoFolder {
        /// The path as this process sees it.
        path: PathBuf,
    },
    /// Two packages have a file of the same path.
    #[error("two packages have the file {}", path.display())]
    Twice {
        /// The path as this process sees it.
        path: PathBuf,
    },
    /// A file is another name for one that is not laid out.
    #[error("{} is another name for a file that is not there", path.display())]
    SameAsNone {
        /// The path as this process sees it.
        path: PathBuf,
    },
}

pub(super) fn make(path: &Path) -> impl FnOnce(io::Error) -> TreeError {
    let path = path.to_path_buf();
    |source| TreeError::Make { path, source }
}

/// Gives a file, a folder or a link itself the time, in seconds since 1970.
pub(super) fn set_time(path: &Path, modified: u32) -> Result<(), TreeError> {
    let time = Timespec { tv_sec: i64::from(modified), tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(|errno| make(path)(errno.into()))
}

impl Tree {
    /// The tree in an empty folder.
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root, executable: BTreeSet::new() }
    }

    /// Adds a file at `path` in the tree. `place` says where another file of the package went.
    pub(super) fn add(
        &mut self,
        path: &Path,
        file: &ContainedFile,
        place: impl Fn(&Path) -> Option<PathBuf>,
        content: &mut dyn Read,
    ) -> Result<(), TreeError> {
        match &file.kind {
            ContainedKind::File { executable } => {
                if *executable {
                    self.executable.insert(path.to_path_buf());
                }
                self.write(path, content)
            }
            ContainedKind::Link { target } => self.link(path, target),
            ContainedKind::SameAs { path: same } => {
                let same = place(same).filter(|same| self.is_file(same));
                let Some(same) = same else {
                    return Err(TreeError::SameAsNone { path: self.root.join(path) });
                };
                if self.executable.contains(&same) {
                    self.executable.insert(path.to_path_buf());
                }
                let mut content = File::open(self.root.join(&same)).map_err(make(&self.root.join(same)))?;
                self.write(path, &mut content)
            }
        }
    }

    pub(super) fn link(&mut self, path: &Path, target: &Path) -> Result<(), TreeError> {
        let seen = self.place_for(path)?;
        symlink(target, &seen).map_err(make(&seen))
    }

    /// Gives everything the modes and the time that do not depend on who has made it, and when.
    pub(super) fn finish(&self, modified: u32) -> Result<(), TreeError> {
        for entry in WalkDir::new(&self.root).contents_first(true) {
            let entry = entry.map_err(|error| {
                let path = error.path().unwrap_or(&self.root).to_path_buf();
                TreeError::Make { path, source: error.into() }
            })?;
            let path = entry.path();
            if !entry.path_is_symlink() {
                let below = path.strip_prefix(&self.root).unwrap_or(path);
                let is_executable = entry.file_type().is_dir() || self.executable.contains(below);
                let mode = if is_executable { 0o755 } else { 0o644 };
                fs::set_permissions(path, Permissions::from_mode(mode)).map_err(make(path))?;
            }
            set_time(path, modified)?;
        }
        Ok(())
    }

    fn write(&self, path: &Path, content: &mut dyn Read) -> Result<(), TreeError> {
        let seen = self.place_for(path)?;
        let mut file = File::create_new(&seen).map_err(make(&seen))?;
        io::copy(content, &mut file).map_err(make(&seen))?;
        file.sync_all().map_err(make(&seen))
    }

    fn is_file(&self, path: &Path) -> bool {
        fs::symlink_metadata(self.root.join(path)).is_ok_and(|metadata| metadata.is_file())
    }

    /// The path of a file that is to be made, with the folders above it. Each of them is a folder, and no link to one.
    fn place_for(&self, path: &Path) -> Result<PathBuf, TreeError> {
        let mut seen = self.root.clone();
        for component in path.parent().unwrap_or(Path::new("")).components() {
            seen.push(component);
            match fs::symlink_metadata(&seen) {
                Ok(metadata) if metadata.is_dir() => {}
                Ok(_) => return Err(TreeError::NoFolder { path: seen }),
                Err(_) => fs::create_dir(&seen).map_err(make(&seen))?,
            }
        }
        let seen = self.root.join(path);
        if fs::symlink_metadata(&seen).is_ok() { Err(TreeError::Twice { path: seen }) } else { Ok(seen) }
    }
}

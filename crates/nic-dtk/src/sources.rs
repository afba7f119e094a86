//! The driver's sources as data: what is in the tree, by digest.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use nic_host::Host;
use serde::{Deserialize, Serialize};

use crate::beneath::{Folder, FolderError};
use crate::blocking::Abort;
use crate::digest::Digest;

/// The most bytes that one file of the sources may have in the shared folder.
const LARGEST_FILE: u64 = 8 << 30;

/// One entry of a tree of sources.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SourceEntry {
    /// Relative to the tree's folder.
    pub(crate) path: String,
    #[serde(flatten)]
    pub(crate) content: SourceContent,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum SourceContent {
    Folder,
    File { size: u64, sha256: Digest, executable: bool },
    Link { target: String },
}

/// The sources in the driver container's image cannot be read, or not be taken.
#[derive(Debug, thiserror::Error)]
pub enum SourcesError {
    /// A file or folder cannot be read.
    #[error("cannot read the driver's sources: {}", path.display())]
    Read {
        /// Its path.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Neither a file, nor a folder, nor a link.
    #[error("the driver's sources have {}, which is neither a file, nor a folder, nor a link", path.display())]
    Kind {
        /// Its path.
        path: PathBuf,
    },
    /// A name, or what a link points to, is not UTF-8.
    #[error("the driver's sources have {}, whose name or target is not UTF-8", path.display())]
    Name {
        /// Its path.
        path: PathBuf,
    },
    /// There is no `install.pl`.
    #[error("{} has no install.pl", path.display())]
    NoInstaller {
        /// The sources' folder.
        path: PathBuf,
    },
    /// A file was changed while it was copied.
    #[error("{} has changed since it was looked at", path.display())]
    Changed {
        /// Its path.
        path: PathBuf,
    },
}

/// All entries of the tree at `root`, sorted by path; a folder is before what is in it.
pub(crate) fn observe(host: &Host, root: &Path, abort: &Abort) -> Result<Vec<SourceEntry>, SourcesError> {
    let mut entries = Vec::new();
    observe_folder(&host.path(root), "", &mut entries, abort)?;
    entries.sort_unstable_by(|one, other| one.path.cmp(&other.path));
    let is_installer = |entry: &SourceEntry| {
        entry.path == "install.pl" && matches!(entry.content, SourceContent::File { .. })
    };
    if !entries.iter().any(is_installer) {
        return Err(SourcesError::NoInstaller { path: root.to_path_buf() });
    }
    Ok(entries)
}

fn observe_folder(
    root: &Path,
    below: &str,
    entries: &mut Vec<SourceEntry>,
    abort: &Abort,
) -> Result<(), SourcesError> {
    let folder = root.join(below);
    let failed = |path: &Path, source| SourcesError::Read { path: path.to_path_buf(), source };
    for entry in fs::read_dir(&folder).map_err(|source| failed(&folder, source))? {
        let entry = entry.map_err(|source| failed(&folder, source))?;
        let full = entry.path();
        let name = entry.file_name();
        let name = name.to_str().ok_or_else(|| SourcesError::Name { path: full.clone() })?;
        let path = if below.is_empty() { name.to_owned() } else { format!("{below}/{name}") };
        let metadata = full.symlink_metadata().map_err(|source| failed(&full, source))?;
        let content = if metadata.is_dir() {
            observe_folder(root, &path, entries, abort)?;
            SourceContent::Folder
        } else if metadata.is_symlink() {
            let target = fs::read_link(&full).map_err(|source| failed(&full, source))?;
            let target = target.to_str().ok_or_else(|| SourcesError::Name { path: full.clone() })?;
            SourceContent::Link { target: target.to_owned() }
        } else if metadata.is_file() {
            let digest =
                File::open(&full).and_then(|mut file| Digest::of_reader(&mut file, abort, |_| Ok(())));
            let (sha256, size) = digest.map_err(|source| failed(&full, source))?;
            SourceContent::File { size, sha256, executable: metadata.permissions().mode() & 0o111 != 0 }
        } else {
            return Err(SourcesError::Kind { path: full });
        };
        entries.push(SourceEntry { path, content });
    }
    Ok(())
}

/// The first entry that is not in `folder` as it should be. More than the entries may be there: a build makes files.
pub(crate) fn first_difference(
    folder: &Folder,
    entries: &[SourceEntry],
    abort: &Abort,
) -> Result<Option<PathBuf>, FolderError> {
    for entry in entries {
        let below = Path::new(&entry.path);
        let same = match &entry.content {
            SourceContent::Folder => folder.folder(below).map(|_| true),
            SourceContent::Link { target } => {
                folder.link_target(below).map(|found| found == Path::new(target))
            }
            SourceContent::File { size, sha256, executable } => {
                folder.file(below, LARGEST_FILE).and_then(|mut open| {
                    let failed = |source| FolderError::Io { action: "read", path: open.path.clone(), source };
                    let mode = open.file.metadata().map_err(failed)?.permissions().mode();
                    if open.size != *size || (mode & 0o111 != 0) != *executable {
                        return Ok(false);
                    }
                    let found = Digest::of_reader(&mut open.file, abort, |_| Ok(()));
                    Ok(found.map_err(failed)? == (*sha256, *size))
                })
            }
        };
        match same {
            Ok(true) => {}
            Ok(false) => return Ok(Some(folder.path().join(below))),
            Err(error) if error.is_absent() => return Ok(Some(folder.path().join(below))),
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

//! A tree as a tar archive, which container tools take as a layer.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use nic_host::Host;
use tar::{Builder, EntryType, Header};
use walkdir::WalkDir;

/// A tree could not be archived.
#[derive(Debug, thiserror::Error)]
#[error("cannot archive {}", path.display())]
pub struct ArchiveError {
    /// The file as this process sees it.
    pub path: PathBuf,
    /// What the kernel said.
    #[source]
    pub source: io::Error,
}

/// Writes all that is in `folder` as a tar archive: sorted, owned by root, each with the time `modified`, in seconds since 1970.
/// Of the permissions only remains who may execute.
pub fn write_archive(
    host: &Host,
    folder: &Path,
    modified: u32,
    archive: impl Write,
) -> Result<(), ArchiveError> {
    let root = host.path(folder);
    let mut builder = Builder::new(archive);
    for entry in WalkDir::new(&root).min_depth(1).sort_by_file_name() {
        let entry = entry.map_err(|error| ArchiveError {
            path: error.path().unwrap_or(&root).to_path_buf(),
            source: error.into(),
        })?;
        let below = entry.path().strip_prefix(&root).unwrap_or(entry.path());
        append(&mut builder, entry.path(), below, modified)
            .map_err(|source| ArchiveError { path: entry.path().to_path_buf(), source })?;
    }
    let finished = builder.into_inner().and_then(|mut archive| archive.flush());
    finished.map_err(|source| ArchiveError { path: root, source })
}

fn append(builder: &mut Builder<impl Write>, path: &Path, below: &Path, modified: u32) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    let mut header = Header::new_gnu();
    header.set_mtime(u64::from(modified));
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    let is_executable = metadata.is_dir() || metadata.permissions().mode() & 0o100 != 0;
    header.set_mode(if is_executable { 0o755 } else { 0o644 });
    if metadata.is_symlink() {
        header.set_entry_type(EntryType::Symlink);
        header.set_mode(0o777);
        builder.append_link(&mut header, below, fs::read_link(path)?)
    } else if metadata.is_dir() {
        header.set_entry_type(EntryType::Directory);
        builder.append_data(&mut header, below, io::empty())
    } else if metadata.is_file() {
        header.set_size(metadata.len());
        builder.append_data(&mut header, below, File::open(path)?)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "it is neither a file, a folder nor a link"))
    }
}

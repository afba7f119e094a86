//! Taking away whatever is at a path.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Something could not be taken away.
#[derive(Debug, thiserror::Error)]
#[error("cannot remove {}", path.display())]
pub struct RemoveError {
    /// The path as this process sees it.
    pub path: PathBuf,
    /// What the kernel said.
    #[source]
    pub source: io::Error,
}

/// Removes a file, a link, or a folder with all that is in it; returns whether there was anything. A folder may stand where a
/// file is expected, and the other way round. Links are not followed.
pub(super) fn remove_anything(path: &Path) -> Result<bool, RemoveError> {
    let remove = || -> io::Result<bool> {
        let is_folder = match fs::symlink_metadata(path) {
            Ok(metadata) => metadata.is_dir(),
            // What lies below a file is not there.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        if is_folder { fs::remove_dir_all(path) } else { fs::remove_file(path) }.map(|()| true)
    };
    remove().map_err(|source| RemoveError { path: path.to_path_buf(), source })
}

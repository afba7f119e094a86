//! Whether others than root may have written what is obeyed or executed.

use std::fmt;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::Host;

/// Who may write, beside the owner: group and others (inode(7)).
const WRITABLE_BY_OTHERS: u32 = 0o022;
/// Of what lies in such a folder, only its owner may take the name away (inode(7), the sticky bit).
const STICKY: u32 = 0o1000;

/// A file or folder that somebody else than root, or than this process's user, may change.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// Somebody else may change it, or what it lies in.
    #[error("{} is not trusted: {} {by}", path.display(), part.display())]
    Untrusted {
        /// What was asked about, as this process sees it.
        path: PathBuf,
        /// The part of its path that somebody else may change.
        part: PathBuf,
        /// Who.
        by: Writer,
    },
    /// A part of the path cannot be looked at.
    #[error("cannot look at {}", path.display())]
    Look {
        /// The part.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// Who may change a file, and should not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writer {
    /// Its owner, who is neither root nor this process's user.
    Owner(u32),
    /// Its group or everybody, by these permissions.
    Others(u32),
}

impl fmt::Display for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Owner(user) => write!(f, "belongs to user {user}"),
            Self::Others(mode) => write!(f, "may be written by others (mode {mode:04o})"),
        }
    }
}

impl Host {
    /// Makes sure that nobody but root and this process's user may change what is at `path`, after symbolic links, nor exchange it in a
    /// folder above it. Where there is nothing at `path`, the nearest folder above it is looked at, in which it would be made.
    ///
    /// # Errors
    /// The part of the path that somebody else may change, or that cannot be looked at.
    pub fn ensure_trusted(&self, path: impl AsRef<Path>) -> Result<(), TrustError> {
        let path = self.path(path);
        let there = path.ancestors().find(|part| fs::metadata(part).is_ok()).unwrap_or(Path::new("/"));
        let look = |path: &Path| {
            let path = path.to_path_buf();
            |source| TrustError::Look { path, source }
        };
        let real = fs::canonicalize(there).map_err(look(there))?;
        for part in real.ancestors() {
            let found = fs::metadata(part).map_err(look(part))?;
            // The folder in which something is yet to be made is as good as one above it.
            let is_above = part != real || there != path;
            if let Some(by) = writer(&found, is_above) {
                return Err(TrustError::Untrusted { path, part: part.to_path_buf(), by });
            }
        }
        Ok(())
    }
}

/// Who may change what was found, or, of a folder above it, exchange it.
fn writer(found: &Metadata, is_above: bool) -> Option<Writer> {
    let owner = found.uid();
    if owner != 0 && owner != rustix::process::geteuid().as_raw() {
        return Some(Writer::Owner(owner));
    }
    let mode = found.mode() & 0o7777;
    let keeps_names = is_above && found.is_dir() && mode & STICKY != 0;
    (mode & WRITABLE_BY_OTHERS != 0 && !keeps_names).then_some(Writer::Others(mode))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

    use super::*;

    fn with_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn fault_7_1_and_7_2_what_others_may_change_is_not_trusted() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::running();
        let folder = dir.path().join("state");
        let file = folder.join("hook.sh");
        fs::create_dir(&folder).unwrap();
        fs::write(&file, "").unwrap();
        for (folder_mode, file_mode, trusted) in [
            (0o755, 0o755, true),
            (0o700, 0o600, true),
            (0o755, 0o775, false),
            (0o755, 0o757, false),
            (0o775, 0o755, false),
            (0o777, 0o755, false),
            // As /tmp: nobody can exchange what root has put there.
            (0o1777, 0o755, true),
        ] {
            with_mode(&folder, folder_mode);
            with_mode(&file, file_mode);
            let looked = host.ensure_trusted(&file);
            assert_eq!(looked.is_ok(), trusted, "{folder_mode:o} {file_mode:o}: {looked:?}");
        }
        // A folder that is obeyed itself, in which anybody may make files, is not trusted for its sticky bit.
        host.ensure_trusted(&folder).unwrap_err();
        // One that is yet to be made there is this process's own.
        host.ensure_trusted(folder.join("new/state")).unwrap();
        with_mode(&folder, 0o777);
        let error = host.ensure_trusted(folder.join("new/state")).unwrap_err().to_string();
        let told = format!("{} may be written by others (mode 0777)", folder.display());
        assert!(error.ends_with(&told), "{error}");
        // A link is as good as what it leads to, and where that lies.
        let link = dir.path().join("link");
        symlink(&file, &link).unwrap();
        host.ensure_trusted(&link).unwrap_err();
        with_mode(&folder, 0o755);
        host.ensure_trusted(&link).unwrap();
    }

    #[test]
    fn fault_7_1_what_belongs_to_somebody_else_is_not_trusted() {
        if !Host::is_privileged() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("snapshot.json");
        fs::write(&file, "").unwrap();
        chown(&file, Some(65_534), None).unwrap();
        let error = Host::running().ensure_trusted(&file).unwrap_err().to_string();
        assert!(error.ends_with("snapshot.json belongs to user 65534"), "{error}");
    }
}

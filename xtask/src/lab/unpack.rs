//! Unpacking Debian packages into a folder, without installing them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use super::process;

/// The folders that Debian merged into /usr; packages of this release still use the old names.
const MERGED: [&str; 4] = ["bin", "sbin", "lib", "lib64"];

/// Unpacks packages into `root`, which gets the layout of a merged /usr. What matches a pattern of `without` (as tar's
/// `--exclude` understands it) is left out.
pub(crate) fn into_root(packages: &[PathBuf], root: &Path, without: &[&str]) -> anyhow::Result<()> {
    for folder in MERGED {
        fs::create_dir_all(root.join("usr").join(folder))
            .with_context(|| format!("cannot create usr/{folder}"))?;
        symlink(format!("usr/{folder}"), root.join(folder))
            .with_context(|| format!("cannot link {folder}"))?;
    }
    for package in packages {
        let mut open = Command::new("dpkg-deb");
        open.args(["--fsys-tarfile", "/dev/stdin"]);
        let mut unpack = Command::new("tar");
        unpack.args(["--extract", "--keep-directory-symlink", "--no-same-owner", "--directory"]).arg(root);
        unpack.args(without.iter().map(|pattern| format!("--exclude={pattern}")));
        process::pipeline(package, vec![open, unpack])
            .with_context(|| format!("cannot unpack {}", package.display()))?;
    }
    Ok(())
}

/// The packages in `folder`, in order.
pub(crate) fn packages_in(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut packages = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry.with_context(|| format!("cannot list {}", folder.display()))?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            packages.push(path);
        }
    }
    packages.sort_unstable();
    Ok(packages)
}

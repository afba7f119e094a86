//! Libraries of the distribution for another architecture, for a linker: unpacked, never installed.

use std::path::{Path, PathBuf};

use anyhow::ensure;

use super::apt::Apt;
use super::{unpack, workshop};

/// A folder with these packages of an architecture, and with nothing that they depend on.
pub(crate) fn libraries(target: &Path, architecture: &str, packages: &[&str]) -> anyhow::Result<PathBuf> {
    let root = target.join("lab");
    let (_, cache, _lock) = workshop(&root)?;
    let ingredients: Vec<_> =
        [architecture, include_str!("libraries.rs")].into_iter().chain(packages.iter().copied()).collect();
    let cached = cache.folder(&format!("libraries-{architecture}"), &ingredients, |folder| {
        let apt = Apt::open_for(&root.join(format!("apt-{architecture}")), architecture)?;
        let mut closure = apt.closure(packages, None)?;
        closure.retain(|package| packages.contains(&package.name.as_str()));
        ensure!(closure.len() == packages.len(), "apt knows no more of {packages:?} than {closure:?}");
        let downloads = tempfile::tempdir()?;
        apt.download(&closure, downloads.path())?;
        unpack::into_root(&unpack::packages_in(downloads.path())?, folder, &["./usr/share/*"])
    })?;
    Ok(cached.path().to_owned())
}

//! The seccomp profile that container runtimes give a container by default, from the distribution's package.

use std::fs;
use std::path::PathBuf;

use anyhow::Context as _;

use super::apt::Apt;
use super::cache::Cache;
use super::unpack;

const PACKAGE: &str = "golang-github-containers-common";
const FILE: &str = "usr/share/containers/seccomp.json";

/// The file.
pub(super) fn profile(apt: &Apt, cache: &Cache) -> anyhow::Result<PathBuf> {
    let cached = cache.folder("seccomp", &[include_str!("seccomp.rs")], |folder| {
        let mut packages = apt.closure(&[PACKAGE], None)?;
        packages.retain(|package| package.name == PACKAGE);
        let downloads = folder.join("packages");
        fs::create_dir(&downloads).context("cannot create a folder for downloads")?;
        apt.download(&packages, &downloads)?;
        unpack::into_root(&unpack::packages_in(&downloads)?, &folder.join("root"), &["./usr/share/doc/*"])?;
        fs::remove_dir_all(&downloads).context("cannot remove the downloads")
    })?;
    Ok(cached.path().join("root").join(FILE))
}

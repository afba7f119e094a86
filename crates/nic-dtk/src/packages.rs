//! The packages that a build left in its sources' folder.

use std::path::PathBuf;

use nic_host::DriverVersion;

use crate::beneath::{Folder, FolderError, absent_is_none};
use crate::blocking::Abort;
use crate::digest::Digest;
use crate::result::PackageRecord;
use crate::shared_folder::sources_name;

/// How much may be taken out of the shared folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackageLimits {
    /// Packages.
    pub count: usize,
    /// Bytes of one package.
    pub size: u64,
    /// Bytes of all of them.
    pub total: u64,
}

/// 200 packages of 1 GiB, 4 GiB together; a driver has some twenty packages of some 10 MiB.
impl Default for PackageLimits {
    fn default() -> Self {
        Self { count: 200, size: 1 << 30, total: 4 << 30 }
    }
}

/// The packages that were built cannot be found, or there are more than may be.
#[derive(Debug, thiserror::Error)]
pub enum FindPackagesError {
    /// A folder on the way to them cannot be used.
    #[error("cannot look for the packages that the sidecar built")]
    Folder(#[from] FolderError),
    /// There are none.
    #[error("the sidecar built no packages: there is no {pattern}")]
    None {
        /// Where they were looked for.
        pattern: String,
    },
    /// There are too many.
    #[error("{} has {count} packages; at most {limit} are taken", folder.display())]
    TooMany {
        /// Their folder.
        folder: PathBuf,
        /// How many there are.
        count: usize,
        /// What is allowed.
        limit: usize,
    },
}

/// The folder of the packages, and their names, sorted: `RPMS/redhat-release-*/<architecture>/*.rpm` below the sources,
/// of the first such folder that has any.
pub(crate) fn find(
    folder: &Folder,
    version: &DriverVersion,
    architecture: &str,
    limits: &PackageLimits,
) -> Result<(Folder, Vec<String>), FindPackagesError> {
    let sources = sources_name(version);
    let none = || {
        let pattern = folder.path().join(&sources).join("RPMS/redhat-release-*").join(architecture);
        FindPackagesError::None { pattern: pattern.join("*.rpm").display().to_string() }
    };
    let Some(rpms) = absent_is_none(folder.folder(format!("{sources}/RPMS")))? else { return Err(none()) };
    for release in rpms.names()?.iter().filter(|name| name.starts_with("redhat-release-")) {
        let Some(found) = absent_is_none(rpms.folder(format!("{release}/{architecture}")))? else { continue };
        let mut names = found.names()?;
        // As a shell's pattern has it: what begins with a dot is not of it.
        names.retain(|name| name.ends_with(".rpm") && !name.starts_with('.'));
        if names.len() > limits.count {
            let (folder, count) = (found.path().to_path_buf(), names.len());
            return Err(FindPackagesError::TooMany { folder, count, limit: limits.count });
        }
        if !names.is_empty() {
            return Ok((found, names));
        }
    }
    Err(none())
}

/// What the packages are, each of them on the disk when this returns.
pub(crate) fn record(
    folder: &Folder,
    names: &[String],
    limits: &PackageLimits,
    abort: &Abort,
) -> Result<Vec<PackageRecord>, FolderError> {
    let record = |name: &String| {
        let mut open = folder.file(name, limits.size)?;
        let digest = Digest::of_reader(&mut open.file, abort, |_| Ok(()));
        let (sha256, size) = digest
            .and_then(|found| open.file.sync_all().map(|()| found))
            .map_err(|source| FolderError::Io { action: "read", path: open.path.clone(), source })?;
        Ok(PackageRecord { name: name.clone(), size, sha256 })
    };
    let packages = names.iter().map(record).collect::<Result<_, _>>()?;
    folder.sync()?;
    Ok(packages)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use nic_host::Host;

    use super::*;

    #[test]
    fn packages_are_found_by_release_and_architecture() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(&Host::running(), dir.path()).unwrap();
        let version = "25.10-1.2.8.0".parse().unwrap();
        let find = |limits| find(&folder, &version, "x86_64", limits);
        let limits = PackageLimits::default();
        let shown = dir.path().display();
        assert_eq!(
            find(&limits).unwrap_err().to_string(),
            format!(
                "the sidecar built no packages: there is no {shown}/MLNX_OFED_SRC-25.10-1.2.8.0/\
                 RPMS/redhat-release-*/x86_64/*.rpm"
            )
        );
        let rpms = dir.path().join("MLNX_OFED_SRC-25.10-1.2.8.0/RPMS");
        for name in [
            "redhat-release-9.5-0.1.el9/aarch64/mlnx-ofa_kernel-25.10-1.aarch64.rpm",
            "redhat-release-9.6-0.1.el9/x86_64/mlnx-tools-25.10-0.noarch.rpm",
            "redhat-release-9.6-0.1.el9/x86_64/mlnx-ofa_kernel-25.10-1.x86_64.rpm",
            "redhat-release-9.6-0.1.el9/x86_64/build.log",
            "redhat-release-9.6-0.1.el9/x86_64/.mlnx.partial.rpm",
            "redhat-release-9.8-0.1.el9/x86_64/other-1.x86_64.rpm",
            "ubuntu24.04/x86_64/other-1.x86_64.rpm",
        ] {
            let path = rpms.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let (found, names) = find(&limits).unwrap();
        assert_eq!(found.path(), rpms.join("redhat-release-9.6-0.1.el9/x86_64"));
        assert_eq!(names, ["mlnx-ofa_kernel-25.10-1.x86_64.rpm", "mlnx-tools-25.10-0.noarch.rpm"]);
        let one = PackageLimits { count: 1, ..limits };
        assert!(matches!(find(&one), Err(FindPackagesError::TooMany { count: 2, limit: 1, .. })));
        // Any folder on the way may be a link.
        let release = rpms.join("redhat-release-9.6-0.1.el9");
        fs::rename(&release, dir.path().join("away")).unwrap();
        symlink(dir.path().join("away"), &release).unwrap();
        assert!(matches!(find(&limits), Err(FindPackagesError::Folder(FolderError::Link { .. }))));
    }
}

use std::path::{Path, PathBuf};

use nic_host::{Host, ListError};
use nic_packages::Architecture;

/// The packages of a build cannot be found.
#[derive(Debug, thiserror::Error)]
pub enum BuiltPackagesError {
    /// A folder could not be listed.
    #[error("cannot look for the packages that were built")]
    List(#[from] ListError),
    /// There are none.
    #[error(
        "the build left no packages: there is neither {0}/DEBS/*/{1}/*.deb nor {0}/RPMS/*/{1}/*.rpm",
        folder.display(), architecture
    )]
    None {
        /// The folder of the sources.
        folder: PathBuf,
        /// The machine's architecture.
        architecture: Architecture,
    },
}

/// The packages that a build in the sources' `folder` has left: `DEBS/ubuntu*/<architecture>/*.deb` (on Debian `DEBS/debian*`),
/// or else `RPMS/*/<architecture>/*.rpm`; sorted.
///
/// # Errors
/// There are none, or a folder cannot be listed.
pub fn built_packages(
    host: &Host,
    folder: &Path,
    architecture: &Architecture,
) -> Result<Vec<PathBuf>, BuiltPackagesError> {
    for (kind, releases, suffix) in [("DEBS", &["ubuntu", "debian"][..], ".deb"), ("RPMS", &[""], ".rpm")] {
        let mut packages = Vec::new();
        for release in host.list_if_exists(folder.join(kind))? {
            if !releases.iter().any(|prefix| release.starts_with(prefix)) {
                continue;
            }
            let below = folder.join(kind).join(release).join(architecture.as_str());
            let names = host.list_if_exists(&below)?;
            packages.extend(names.iter().filter(|name| name.ends_with(suffix)).map(|name| below.join(name)));
        }
        if !packages.is_empty() {
            return Ok(packages);
        }
    }
    Err(BuiltPackagesError::None { folder: folder.to_path_buf(), architecture: architecture.clone() })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn packages_are_found_by_release_and_architecture_debs_first() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::at(dir.path());
        let x86_64 = Architecture::from_uname("x86_64");
        let find = || built_packages(&host, Path::new("/src"), &x86_64);
        let write = |path: &str| {
            let path = dir.path().join("src").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        };
        let none = "the build left no packages: there is neither /src/DEBS/*/x86_64/*.deb nor /src/RPMS/*/x86_64/*.rpm";
        assert_eq!(find().unwrap_err().to_string(), none);
        for path in [
            "RPMS/redhat-release-9.6-0.1.el9/aarch64/a.rpm",
            "RPMS/redhat-release-9.6-0.1.el9/x86_64/build.log",
            "RPMS/a-file",
            "DEBS/windows/x86_64/a.deb",
            "DEBS/ubuntu24.04/aarch64/a.deb",
        ] {
            write(path);
        }
        assert_eq!(find().unwrap_err().to_string(), none);
        write("RPMS/redhat-release-9.6-0.1.el9/x86_64/mlnx-tools.noarch.rpm");
        write("RPMS/redhat-release-9.6-0.1.el9/x86_64/mlnx-ofa_kernel.rpm");
        let rpms = Path::new("/src/RPMS/redhat-release-9.6-0.1.el9/x86_64");
        assert_eq!(find().unwrap(), [rpms.join("mlnx-ofa_kernel.rpm"), rpms.join("mlnx-tools.noarch.rpm")]);
        write("DEBS/debian12.1/x86_64/b.deb");
        write("DEBS/ubuntu24.04/x86_64/a.deb");
        let debs = Path::new("/src/DEBS");
        assert_eq!(
            find().unwrap(),
            [debs.join("debian12.1/x86_64/b.deb"), debs.join("ubuntu24.04/x86_64/a.deb")]
        );
    }
}

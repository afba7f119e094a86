use std::path::PathBuf;

use nic_host::{DriverVersion, Host, ListError};

use crate::SharedFolder;

/// The packages that the sidecar built cannot be found.
#[derive(Debug, thiserror::Error)]
pub enum BuiltPackagesError {
    /// The folder of the build's packages, or one below it, could not be listed.
    #[error("cannot look for the packages that the sidecar built")]
    List(#[from] ListError),
    /// There are none.
    #[error("the sidecar built no packages: there is no {pattern}")]
    None {
        /// Where they were looked for.
        pattern: String,
    },
}

impl SharedFolder {
    /// The packages that the sidecar built, sorted: `RPMS/redhat-release-*/<architecture>/*.rpm` in the sources'
    /// folder. `architecture` is what `uname -m` prints.
    pub fn built_packages(
        &self,
        host: &Host,
        version: &DriverVersion,
        architecture: &str,
    ) -> Result<Vec<PathBuf>, BuiltPackagesError> {
        let rpms = self.sources(version).join("RPMS");
        let mut packages = Vec::new();
        let releases = host.list_if_exists(&rpms)?;
        for release in releases.iter().filter(|name| name.starts_with("redhat-release-")) {
            let folder = rpms.join(release).join(architecture);
            let names = host.list_if_exists(&folder)?;
            packages.extend(names.iter().filter(|name| name.ends_with(".rpm")).map(|name| folder.join(name)));
        }
        if packages.is_empty() {
            let pattern = rpms.join("redhat-release-*").join(architecture).join("*.rpm");
            return Err(BuiltPackagesError::None { pattern: pattern.display().to_string() });
        }
        Ok(packages)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn packages_are_found_by_release_and_architecture() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::at(dir.path());
        let folder = SharedFolder::new("/mnt/shared", &"5.14.0-570.el9_6.x86_64".parse().unwrap());
        let version = "25.10-1.2.8.0".parse().unwrap();
        let error = folder.built_packages(&host, &version, "x86_64").unwrap_err();
        assert_eq!(
            error.to_string(),
            "the sidecar built no packages: there is no /mnt/shared/5.14.0-570.el9_6.x86_64/\
             MLNX_OFED_SRC-25.10-1.2.8.0/RPMS/redhat-release-*/x86_64/*.rpm"
        );

        let rpms = Path::new("/mnt/shared/5.14.0-570.el9_6.x86_64/MLNX_OFED_SRC-25.10-1.2.8.0/RPMS");
        for name in [
            "redhat-release-9.6-0.1.el9/x86_64/mlnx-tools-25.10-0.noarch.rpm",
            "redhat-release-9.6-0.1.el9/x86_64/mlnx-ofa_kernel-25.10-1.x86_64.rpm",
            "redhat-release-9.6-0.1.el9/x86_64/build.log",
            "redhat-release-9.6-0.1.el9/aarch64/mlnx-ofa_kernel-25.10-1.aarch64.rpm",
            "ubuntu24.04/x86_64/other-1.x86_64.rpm",
        ] {
            let path = host.path(rpms.join(name));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let release = rpms.join("redhat-release-9.6-0.1.el9");
        assert_eq!(
            folder.built_packages(&host, &version, "x86_64").unwrap(),
            [
                release.join("x86_64/mlnx-ofa_kernel-25.10-1.x86_64.rpm"),
                release.join("x86_64/mlnx-tools-25.10-0.noarch.rpm"),
            ]
        );
    }
}

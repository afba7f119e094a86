use std::path::{Path, PathBuf};

use nic_host::{DriverVersion, KernelRelease};

/// The folder in which the driver container and the build sidecar of one kernel meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedFolder {
    path: PathBuf,
}

impl SharedFolder {
    /// The folder for `kernel` below `base`, the value of `DTK_OCP_NIC_SHARED_DIR`.
    #[must_use]
    pub fn new(base: impl AsRef<Path>, kernel: &KernelRelease) -> Self {
        Self { path: base.as_ref().join(kernel_folder_name(kernel)) }
    }

    /// The folder itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder of the driver's sources, in which the build runs.
    #[must_use]
    pub fn sources(&self, version: &DriverVersion) -> PathBuf {
        self.path.join(format!("MLNX_OFED_SRC-{version}"))
    }

    /// The driver container's own binary, for the sidecar to execute.
    #[must_use]
    pub fn entrypoint(&self) -> PathBuf {
        self.path.join("entrypoint")
    }

    /// The file of environment variables for the sidecar: [`crate::DtkEnv`].
    #[must_use]
    pub fn env_file(&self) -> PathBuf {
        self.path.join("dtk.env")
    }

    /// The script that the sidecar executes.
    #[must_use]
    pub fn build_script(&self) -> PathBuf {
        self.path.join("dtk_nic_driver_build.sh")
    }

    /// Its existence tells the sidecar to begin.
    #[must_use]
    pub fn start_flag(&self) -> PathBuf {
        self.path.join("dtk_start_compile")
    }

    /// Its existence tells the driver container that the packages of this version are built.
    #[must_use]
    pub fn done_flag(&self, version: &DriverVersion) -> PathBuf {
        let version: String =
            version.as_str().chars().map(|c| if matches!(c, '.' | '-') { '_' } else { c }).collect();
        self.path.join(format!("dtk_done_compile_{version}"))
    }
}

/// `kernel` as the name of the shared folder: what is not of `[-A-Za-z0-9_.]` becomes `_`, then `-`, `_` and `.` go
/// at both ends. These are the characters of a Kubernetes label's value.
#[must_use]
pub fn kernel_folder_name(kernel: &KernelRelease) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let name: String = kernel.as_str().chars().map(|c| if fits(c) { c } else { '_' }).collect();
    name.trim_matches(['-', '_', '.']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_as_folder_names() {
        for (kernel, name) in [
            ("5.14.0-570.73.1.el9_6.aarch64+64k", "5.14.0-570.73.1.el9_6.aarch64_64k"),
            ("5.14.0-570.73.1.el9_6.x86_64", "5.14.0-570.73.1.el9_6.x86_64"),
            ("4.18.0-553.el8_10.x86_64+rt", "4.18.0-553.el8_10.x86_64_rt"),
            ("6.12.94+deb12-amd64", "6.12.94_deb12-amd64"),
            ("6.8.0-1-generic~22.04", "6.8.0-1-generic_22.04"),
            ("6.8.0+", "6.8.0"),
            ("6.8.0-_.", "6.8.0"),
        ] {
            assert_eq!(kernel_folder_name(&kernel.parse().unwrap()), name, "{kernel}");
        }
    }

    #[test]
    fn names_in_the_folder() {
        let folder = SharedFolder::new(
            "/mnt/shared-doca-driver-toolkit",
            &"5.14.0-570.73.1.el9_6.aarch64+64k".parse().unwrap(),
        );
        let version = "25.07-0.9.7.0".parse().unwrap();
        let base = "/mnt/shared-doca-driver-toolkit/5.14.0-570.73.1.el9_6.aarch64_64k";
        assert_eq!(folder.path(), Path::new(base));
        for (path, name) in [
            (folder.sources(&version), "MLNX_OFED_SRC-25.07-0.9.7.0"),
            (folder.entrypoint(), "entrypoint"),
            (folder.env_file(), "dtk.env"),
            (folder.build_script(), "dtk_nic_driver_build.sh"),
            (folder.start_flag(), "dtk_start_compile"),
            (folder.done_flag(&version), "dtk_done_compile_25_07_0_9_7_0"),
        ] {
            assert_eq!(path, Path::new(base).join(name));
        }
    }
}

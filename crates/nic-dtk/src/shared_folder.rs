use std::path::{Path, PathBuf};

use nic_host::{DriverVersion, KernelRelease};

/// The folder in which the driver container and the build sidecar of one kernel meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedFolder {
    base: PathBuf,
    name: String,
    path: PathBuf,
}

impl SharedFolder {
    /// The folder for `kernel` below `base`, the folder that is mounted into both containers.
    #[must_use]
    pub fn new(base: impl Into<PathBuf>, kernel: &KernelRelease) -> Self {
        let (base, name) = (base.into(), kernel_folder_name(kernel));
        let path = base.join(&name);
        Self { base, name, path }
    }

    /// The folder above, which is mounted into both containers.
    #[must_use]
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// Its name in the folder above.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The folder itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder of the driver's sources, in which the build runs.
    #[must_use]
    pub fn sources(&self, version: &DriverVersion) -> PathBuf {
        self.path.join(sources_name(version))
    }

    /// The driver container's own binary, for the sidecar to execute.
    #[must_use]
    pub fn entrypoint(&self) -> PathBuf {
        self.path.join(ENTRYPOINT)
    }

    /// The file of environment variables for the sidecar: [`crate::DtkEnv`].
    #[must_use]
    pub fn env_file(&self) -> PathBuf {
        self.path.join(ENV_FILE)
    }

    /// The script that the sidecar executes.
    #[must_use]
    pub fn build_script(&self) -> PathBuf {
        self.path.join(BUILD_SCRIPT)
    }

    /// Its existence tells the sidecar to begin.
    #[must_use]
    pub fn start_flag(&self) -> PathBuf {
        self.path.join(START_FLAG)
    }

    /// Its existence tells the driver container that the packages of this version are built.
    #[must_use]
    pub fn done_flag(&self, version: &DriverVersion) -> PathBuf {
        self.path.join(done_flag_name(version))
    }

    /// The folder of what this crate adds to the protocol, which the incumbent does not look at.
    #[must_use]
    pub fn own_files(&self) -> PathBuf {
        self.path.join(OWN_FOLDER)
    }
}

pub(crate) const ENTRYPOINT: &str = "entrypoint";
pub(crate) const ENV_FILE: &str = "dtk.env";
pub(crate) const BUILD_SCRIPT: &str = "dtk_nic_driver_build.sh";
pub(crate) const START_FLAG: &str = "dtk_start_compile";

/// What this crate adds to the protocol lies in this folder.
pub(crate) const OWN_FOLDER: &str = ".nic-driver";
/// What the driver container wants built.
pub(crate) const REQUEST_FILE: &str = "request.json";
/// How a build ended.
pub(crate) const RESULT_FILE: &str = "result.json";
/// The sidecar's sign of life and progress.
pub(crate) const STATUS_FILE: &str = "status";

pub(crate) fn sources_name(version: &DriverVersion) -> String {
    format!("MLNX_OFED_SRC-{version}")
}

pub(crate) fn done_flag_name(version: &DriverVersion) -> String {
    let version: String =
        version.as_str().chars().map(|c| if matches!(c, '.' | '-') { '_' } else { c }).collect();
    format!("dtk_done_compile_{version}")
}

/// The text of `dtk_nic_driver_build.sh`. It is executed by the pod's own loop in the toolkit's image, where there is a
/// shell; it sources `dtk.env` beside itself and replaces itself by `entrypoint dtk-build`.
pub(crate) const BUILD_SCRIPT_TEXT: &str = "\
#!/bin/sh
case $0 in */*) here=${0%/*} ;; *) here=. ;; esac
. \"$here/dtk.env\" || exit 1
exec \"$here/entrypoint\" dtk-build
";

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

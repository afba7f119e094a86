use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{XattrFlags, lsetxattr};

use crate::Host;

/// What the distributions' policies give the files below `/lib/modules`. The kernel asks whether a process may load a
/// module from a file of this type (`selinux_kernel_module_from_file` in `security/selinux/hooks.c`); from a file of a
/// container's or of `/run` it may not.
const MODULES_LABEL: &str = "system_u:object_r:modules_object_t:s0";

/// A file that could not be labelled.
#[derive(Debug, thiserror::Error)]
#[error("cannot give {} the SELinux label {MODULES_LABEL}", path.display())]
pub struct LabelError {
    /// The path as this process sees it.
    pub path: PathBuf,
    /// What the kernel said. `ENOTSUP` is the answer of a file system that was mounted with one label for all.
    #[source]
    pub source: io::Error,
}

impl Host {
    /// Whether the kernel runs with SELinux, be it enforcing or not: only then it knows the file system `selinuxfs`
    /// (`init_sel_fs` in `security/selinux/selinuxfs.c`). Where that is mounted does not matter, since a container has it
    /// nowhere.
    #[must_use]
    pub fn is_selinux_enabled(&self) -> bool {
        let file_systems = self.read("/proc/filesystems").unwrap_or_else(|error| {
            tracing::debug!(
                error = crate::error_chain(&error),
                "cannot read the kernel's file systems; assuming that there is no SELinux"
            );
            String::new()
        });
        file_systems.lines().any(|line| line.split_whitespace().last() == Some("selinuxfs"))
    }

    /// Gives files and folders the label of kernel modules, where the kernel runs with SELinux. Stops at the first that
    /// cannot be labelled.
    pub fn label_module_files<P: AsRef<Path>>(
        &self,
        paths: impl IntoIterator<Item = P>,
    ) -> Result<(), LabelError> {
        if !self.is_selinux_enabled() {
            return Ok(());
        }
        // With its zero, as the kernel and the SELinux library write it.
        let label = format!("{MODULES_LABEL}\0");
        for path in paths {
            let path = self.path(path);
            // Of a link the link itself: what it leads to may be somebody else's.
            lsetxattr(&path, "security.selinux", label.as_bytes(), XattrFlags::empty())
                .map_err(|error| LabelError { path: path.clone(), source: error.into() })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn tree(file_systems: &str) -> (tempfile::TempDir, Host) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("proc")).unwrap();
        fs::write(dir.path().join("proc/filesystems"), file_systems).unwrap();
        fs::write(dir.path().join("igb.ko"), "").unwrap();
        let host = Host::at(dir.path());
        (dir, host)
    }

    fn label_of(host: &Host, file: &str) -> Option<String> {
        let mut value = vec![0; 256];
        let size = rustix::fs::lgetxattr(host.path(file), "security.selinux", &mut value).ok()?;
        value.truncate(size);
        String::from_utf8(value).ok()
    }

    #[test]
    fn without_selinux_nothing_is_labelled() {
        for file_systems in ["", "nodev\tsysfs\n\text4\n", "nodev\tselinuxfs2\n"] {
            let (_dir, host) = tree(file_systems);
            assert!(!host.is_selinux_enabled(), "{file_systems:?}");
            host.label_module_files(["/igb.ko", "/no-such-file"]).unwrap();
            assert_eq!(label_of(&host, "/igb.ko"), None);
        }
        assert!(!Host::at("/nonexistent").is_selinux_enabled());
    }

    #[test]
    fn with_selinux_a_file_gets_its_label_or_is_named() {
        let (_dir, host) = tree("nodev\tsysfs\nnodev\tselinuxfs\n\text4\n");
        assert!(host.is_selinux_enabled());
        let error = host.label_module_files(["/no-such-file"]).unwrap_err();
        assert_eq!(error.path, host.path("/no-such-file"));
        assert_eq!(error.source.kind(), io::ErrorKind::NotFound);
        // Only root may write it where no SELinux watches over it, and not every file system keeps it.
        match host.label_module_files(["/igb.ko"]) {
            Ok(()) => assert_eq!(label_of(&host, "/igb.ko"), Some(format!("{MODULES_LABEL}\0"))),
            Err(error) => {
                assert!(error.to_string().contains("modules_object_t"), "{error}");
                assert_eq!(label_of(&host, "/igb.ko"), None);
            }
        }
    }
}

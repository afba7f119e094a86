//! What a command must be allowed to do, and what of that this process is not: found before anything is changed, all of it at once.
//!
//! The table [`NEEDED`] is the whole of it. What shows that each line is needed stands in `docs/run.md`.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use nic_host::Host;
use rustix::fs::{Access, StatVfsMountFlags, access, statvfs};
use rustix::thread::{CapabilitySet, capabilities};

/// A command that changes something, as far as the kernel must allow it.
#[derive(Debug)]
pub(crate) struct Privileged {
    what: &'static str,
    tasks: &'static [Task],
}

/// What commands do and the kernel does not let everybody do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Task {
    Modules,
    Nics,
    Headers,
    Packages,
}

/// Which task needs which capability, and what for.
const NEEDED: [(Task, CapabilitySet, &str, &str); 8] = [
    (Task::Modules, CapabilitySet::SYS_MODULE, "CAP_SYS_MODULE", "kernel modules are loaded and unloaded"),
    (
        Task::Nics,
        CapabilitySet::NET_ADMIN,
        "CAP_NET_ADMIN",
        "PFs, VFs and what stands on them are configured",
    ),
    (
        Task::Headers,
        CapabilitySet::SYS_ADMIN,
        "CAP_SYS_ADMIN",
        "headers are mounted where other containers find them",
    ),
    (
        Task::Packages,
        CapabilitySet::CHOWN,
        "CAP_CHOWN",
        "files of packages and sources are given their owners",
    ),
    (Task::Packages, CapabilitySet::FOWNER, "CAP_FOWNER", "files of other owners are given their modes"),
    (
        Task::Packages,
        CapabilitySet::DAC_OVERRIDE,
        "CAP_DAC_OVERRIDE",
        "package managers work in folders of another user",
    ),
    (Task::Packages, CapabilitySet::SETUID, "CAP_SETUID", "package managers fetch as another user"),
    (Task::Packages, CapabilitySet::SETGID, "CAP_SETGID", "package managers fetch as another group"),
];

/// `build`.
pub(crate) const BUILD: Privileged = Privileged { what: "building packages", tasks: &[Task::Packages] };
/// `install`, where there are packages.
pub(crate) const INSTALL: Privileged = Privileged { what: "installing packages", tasks: &[Task::Packages] };
/// `install`, where the image has the modules.
pub(crate) const INSTALL_PRECOMPILED: Privileged = Privileged { what: "indexing modules", tasks: &[] };
/// `reload`, which restores the NICs itself when the driver is taken back.
pub(crate) const RELOAD: Privileged =
    Privileged { what: "reloading kernel modules", tasks: &[Task::Modules, Task::Nics] };
/// `restore-sriov`, which loads what is missing.
pub(crate) const RESTORE: Privileged =
    Privileged { what: "restoring SR-IOV", tasks: &[Task::Modules, Task::Nics] };
/// `terminate`.
pub(crate) const TERMINATE: Privileged =
    Privileged { what: "terminating", tasks: &[Task::Modules, Task::Nics] };
/// `run`, where there are packages.
pub(crate) const RUN: Privileged = Privileged {
    what: "running the driver container",
    tasks: &[Task::Modules, Task::Nics, Task::Headers, Task::Packages],
};
/// `run`, where the image has the modules.
pub(crate) const RUN_PRECOMPILED: Privileged =
    Privileged { what: "running the driver container", tasks: &[Task::Modules, Task::Nics, Task::Headers] };

/// A command that this process may not carry out. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// The process is not root.
    #[error("{0} needs root")]
    NotRoot(&'static str),
    /// The process is root, and less than the command needs.
    #[error("{what} needs {}", list(lacking))]
    Lacking {
        /// What was to be done.
        what: &'static str,
        /// All that is lacking.
        lacking: Vec<Lack>,
    },
}

/// Something that a command needs and this process has not got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lack {
    /// A capability is not in the effective set.
    Capability {
        /// Its name.
        name: &'static str,
        /// What it is needed for.
        purpose: &'static str,
    },
    /// `/sys` is mounted read-only.
    WritableSys,
    /// Nothing can be written into the folder in which other containers find this one's files.
    WritableFolder {
        /// The folder.
        folder: PathBuf,
        /// What the kernel said.
        reason: String,
    },
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Capability { name, purpose } => write!(f, "{name} ({purpose})"),
            Self::WritableSys => f.write_str(
                "a writable /sys (VFs are made and bound by its files, and it is mounted read-only)",
            ),
            Self::WritableFolder { folder, reason } => {
                write!(f, "a writable {} (state, lock and readiness lie there: {reason})", folder.display())
            }
        }
    }
}

fn list(lacking: &[Lack]) -> String {
    lacking.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl Privileged {
    /// Makes sure that this process may do it, `folder` to be written into included. On a tree only that it is root: nothing runs there.
    pub(crate) fn ensure(&self, host: &Host, folder: Option<&Path>) -> Result<(), PrivilegeError> {
        if !Host::is_privileged() {
            return Err(PrivilegeError::NotRoot(self.what));
        }
        if !host.is_running_machine() {
            return Ok(());
        }
        let effective = capabilities(None).map(|sets| sets.effective);
        let effective = effective.unwrap_or_else(|error| {
            tracing::warn!(%error, "this process's capabilities cannot be read: what is lacking fails where it is needed");
            CapabilitySet::all()
        });
        let sys = host.path("/sys");
        let is_read_only =
            |path: &Path| statvfs(path).is_ok_and(|sys| sys.f_flag.contains(StatVfsMountFlags::RDONLY));
        let mut lacking = self.lacking(effective, is_read_only(&sys));
        lacking.extend(folder.and_then(not_writable));
        if lacking.is_empty() { Ok(()) } else { Err(PrivilegeError::Lacking { what: self.what, lacking }) }
    }

    /// What is lacking with these capabilities: pure.
    fn lacking(&self, effective: CapabilitySet, sys_is_read_only: bool) -> Vec<Lack> {
        let needed = NEEDED
            .iter()
            .filter(|(task, capability, ..)| self.tasks.contains(task) && !effective.contains(*capability));
        let capabilities = needed.map(|(.., name, purpose)| Lack::Capability { name, purpose });
        let sys = (sys_is_read_only && self.tasks.contains(&Task::Nics)).then_some(Lack::WritableSys);
        capabilities.chain(sys).collect()
    }
}

/// Whether nothing can be written into a folder or, where it is still to be made, into the one in which that would be.
fn not_writable(folder: &Path) -> Option<Lack> {
    let there = folder.ancestors().find(|folder| folder.exists())?;
    let error = access(there, Access::WRITE_OK | Access::EXEC_OK).err()?;
    Some(Lack::WritableFolder { folder: folder.to_owned(), reason: io::Error::from(error).to_string() })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn each_capability_is_named_with_what_it_is_for() {
        insta::assert_snapshot!(
            PrivilegeError::Lacking { what: RUN.what, lacking: RUN.lacking(CapabilitySet::empty(), true) },
            @"running the driver container needs CAP_SYS_MODULE (kernel modules are loaded and unloaded), CAP_NET_ADMIN (PFs, VFs and what stands on them are configured), CAP_SYS_ADMIN (headers are mounted where other containers find them), CAP_CHOWN (files of packages and sources are given their owners), CAP_FOWNER (files of other owners are given their modes), CAP_DAC_OVERRIDE (package managers work in folders of another user), CAP_SETUID (package managers fetch as another user), CAP_SETGID (package managers fetch as another group), a writable /sys (VFs are made and bound by its files, and it is mounted read-only)"
        );
        for command in [BUILD, INSTALL, INSTALL_PRECOMPILED, RELOAD, RESTORE, TERMINATE, RUN, RUN_PRECOMPILED]
        {
            assert_eq!(command.lacking(CapabilitySet::all(), false), [], "{}", command.what);
            for (task, capability, name, purpose) in NEEDED {
                let lacking = command.lacking(CapabilitySet::all().difference(capability), false);
                let expected: &[Lack] =
                    if command.tasks.contains(&task) { &[Lack::Capability { name, purpose }] } else { &[] };
                assert_eq!(lacking, expected, "{} without {name}", command.what);
            }
            let of_sys = command.lacking(CapabilitySet::all(), true);
            let expected: &[Lack] =
                if command.tasks.contains(&Task::Nics) { &[Lack::WritableSys] } else { &[] };
            assert_eq!(of_sys, expected, "{}", command.what);
        }
    }

    #[test]
    fn a_folder_that_takes_nothing_is_named() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(not_writable(dir.path()), None);
        assert_eq!(not_writable(&dir.path().join("is/still/to/be/made")), None);
        // Below a file there can be no folder, whoever asks.
        fs::write(dir.path().join("file"), "").unwrap();
        let folder = dir.path().join("file/folder");
        let lack = not_writable(&folder).unwrap();
        assert!(matches!(&lack, Lack::WritableFolder { folder: named, .. } if *named == folder), "{lack}");
        if Host::is_privileged() {
            let error = INSTALL_PRECOMPILED.ensure(&Host::running(), Some(&folder)).unwrap_err();
            assert!(
                error.to_string().contains("file/folder (state, lock and readiness lie there: "),
                "{error}"
            );
        }
    }
}

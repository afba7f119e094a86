use std::path::PathBuf;

use nic_host::{Host, ReadError, WriteError};
use serde::{Deserialize, Serialize};

use crate::ModuleName;

/// The first line of every file [`Blacklist::write`] writes.
const HEADER: &str =
    "# Written by nic-driver while it exchanges kernel modules. It is removed when that is done.";

/// A file of modprobe's configuration that keeps modules from being loaded for a device that appears.
///
/// udev asks for modules by alias, and a module listed here is then not loaded. `modprobe NAME` still works, which is
/// how the modules are loaded anew while the file is there. An `install NAME /bin/false` would prevent that too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blacklist {
    /// The file, e.g. `/host/etc/modprobe.d/blacklist-ofed-modules.conf`. modprobe reads files ending in `.conf` only.
    pub path: PathBuf,
    /// The modules.
    pub modules: Vec<ModuleName>,
}

/// A blacklist file that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundBlacklist {
    /// What it lists.
    pub blacklist: Blacklist,
    /// Whether its header says that this crate wrote it.
    pub written_by_us: bool,
}

impl Blacklist {
    /// The file's content.
    #[must_use]
    pub fn content(&self) -> String {
        let lines = self.modules.iter().map(|module| format!("blacklist {module}\n"));
        format!(
            "{HEADER}\n# If no nic-driver is running, it was left behind, and may be deleted.\n{}",
            lines.collect::<String>()
        )
    }

    /// Writes the file; after this has returned, it also survives a crash.
    pub fn write(&self, host: &Host) -> Result<(), WriteError> {
        host.write_durably(&self.path, self.content().as_bytes())
    }

    /// Removes the file, whoever wrote it. Returns whether there was one.
    pub fn remove(&self, host: &Host) -> Result<bool, WriteError> {
        host.remove_file(&self.path)
    }

    /// Looks for a file at `path`, which one that was killed would have left behind.
    pub fn find(host: &Host, path: impl Into<PathBuf>) -> Result<Option<FoundBlacklist>, ReadError> {
        let path = path.into();
        let Some(text) = host.read_if_exists(&path)? else { return Ok(None) };
        let modules = text
            .lines()
            .filter_map(|line| line.trim().strip_prefix("blacklist ")?.trim().parse().ok())
            .collect();
        let written_by_us = text.lines().next() == Some(HEADER);
        Ok(Some(FoundBlacklist { blacklist: Self { path, modules }, written_by_us }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{file, names};

    const PATH: &str = "/host/etc/modprobe.d/blacklist-ofed-modules.conf";

    #[test]
    fn what_is_written_is_found_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::at(dir.path());
        assert_eq!(Blacklist::find(&host, PATH).unwrap(), None);

        let blacklist = Blacklist { path: PATH.into(), modules: names("mlx5-core ib_core") };
        blacklist.write(&host).unwrap();
        insta::assert_snapshot!(host.read(PATH).unwrap(), @r"
        # Written by nic-driver while it exchanges kernel modules. It is removed when that is done.
        # If no nic-driver is running, it was left behind, and may be deleted.
        blacklist mlx5_core
        blacklist ib_core
        ");
        let found = FoundBlacklist { blacklist: blacklist.clone(), written_by_us: true };
        assert_eq!(Blacklist::find(&host, PATH).unwrap(), Some(found));

        assert!(blacklist.remove(&host).unwrap());
        assert!(!blacklist.remove(&host).unwrap());
        assert_eq!(Blacklist::find(&host, PATH).unwrap(), None);
    }

    #[test]
    fn a_blacklist_of_somebody_else_is_known_as_such() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::at(dir.path());
        file(
            dir.path(),
            PATH,
            "# by hand\n  blacklist  mlx5_core\ninstall igb /bin/true\nblacklist ib_core\nblacklist\n",
        );
        let found = Blacklist::find(&host, PATH).unwrap().unwrap();
        assert_eq!(found.blacklist.modules, names("mlx5_core ib_core"));
        assert!(!found.written_by_us);
    }
}

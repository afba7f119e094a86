//! Network managers and the interfaces that are theirs.

use std::fmt;
use std::path::PathBuf;

use nic_host::{Host, ReadError};
use nic_netlink::IfIndex;
use serde::{Deserialize, Serialize};

/// A network manager that configures an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ManagedBy {
    /// NetworkManager.
    NetworkManager,
    /// systemd-networkd.
    Networkd,
}

impl fmt::Display for ManagedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NetworkManager => "NetworkManager",
            Self::Networkd => "systemd-networkd",
        })
    }
}

/// How far a manager is with an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// No manager has it, or none that can be seen from here.
    NotManaged,
    /// It is this one's, which may still be at work.
    Managed(ManagedBy),
    /// It is this one's, which says that it has ended.
    Done(ManagedBy),
}

/// What the managers say of the interface with this index. Their files are the host's `/run`; a container that does not
/// have it sees no manager.
pub fn progress(host: &Host, index: IfIndex) -> Result<Progress, ReadError> {
    let read = |folder: &str| host.read_if_exists(PathBuf::from(folder).join(index.to_string()));
    if let Some(text) = read("/run/NetworkManager/devices")?
        && value(&text, "managed") == Some("true")
    {
        return Ok(Progress::Managed(ManagedBy::NetworkManager));
    }
    if let Some(text) = read("/run/systemd/netif/links")? {
        match value(&text, "ADMIN_STATE") {
            Some("configured" | "failed") => return Ok(Progress::Done(ManagedBy::Networkd)),
            Some("pending" | "initialized" | "configuring") => {
                return Ok(Progress::Managed(ManagedBy::Networkd));
            }
            _ => {}
        }
    }
    Ok(Progress::NotManaged)
}

fn value<'text>(text: &'text str, key: &str) -> Option<&'text str> {
    text.lines().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix('=')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_the_managers_files_say() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::at(dir.path());
        let index = IfIndex(7);
        assert_eq!(progress(&host, index).unwrap(), Progress::NotManaged, "no manager at all");
        let networkd = dir.path().join("run/systemd/netif/links");
        fs::create_dir_all(&networkd).unwrap();
        for (state, expected) in [
            ("unmanaged", Progress::NotManaged),
            ("configuring", Progress::Managed(ManagedBy::Networkd)),
            ("configured", Progress::Done(ManagedBy::Networkd)),
        ] {
            fs::write(networkd.join("7"), format!("# private\nADMIN_STATE={state}\nOPER_STATE=routable\n"))
                .unwrap();
            assert_eq!(progress(&host, index).unwrap(), expected, "{state}");
        }
        let manager = dir.path().join("run/NetworkManager/devices");
        fs::create_dir_all(&manager).unwrap();
        fs::write(manager.join("7"), "[device]\nmanaged=true\nconnection-uuid=1\n").unwrap();
        assert_eq!(progress(&host, index).unwrap(), Progress::Managed(ManagedBy::NetworkManager));
        fs::write(manager.join("7"), "[device]\nmanaged=false\n").unwrap();
        assert_eq!(progress(&host, index).unwrap(), Progress::Done(ManagedBy::Networkd));
    }
}

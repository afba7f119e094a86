//! Where files are when nobody says otherwise. Other containers, the kubelet and operators go by these paths.

/// The folder in which other containers find this one's files.
pub const DRIVERS_MOUNT: &str = "/run/mellanox/drivers";

/// The state directory, in [`DRIVERS_MOUNT`].
pub const STATE_FOLDER: &str = ".nic-driver";

/// The lock. Whoever swaps drivers on this node goes by this path, wherever its other files are: it does not follow [`DRIVERS_MOUNT`].
pub const LOCK_FILE: &str = "/run/mellanox/drivers/.lock";

/// The file whose existence says that the node is ready.
pub const READINESS_FILE: &str = "/run/mellanox/drivers/.driver-ready";

/// The blacklist that exists while the modules are swapped, below the host's root.
pub const BLACKLIST_FILE: &str = "/etc/modprobe.d/blacklist-ofed-modules.conf";

/// The state directory.
pub const STATE_DIR: &str = "/run/mellanox/drivers/.nic-driver";

/// Packages that were built and are kept in no inventory, until they are installed.
pub const TEMPORARY_PACKAGES: &str = "/var/lib/nic-driver/packages";

/// Packages as they were taken from the build sidecar, until they are stored.
pub const FETCHED_PACKAGES: &str = "/var/lib/nic-driver/fetched";

/// Packages as they are laid out, until they are an archive.
pub const LAID_OUT_PACKAGES: &str = "/var/lib/nic-driver/layout";

/// The udev rule that keeps interfaces' names, where a container sees the host's.
pub const NAMES_RULE: &str = "/host/etc/udev/rules.d/77-mlnx-net-names.rules";

/// The headers that other containers build against.
pub const HEADERS: &str = "/usr/src/";

/// Where the kubelet looks for why a container has ended.
pub const TERMINATION_LOG: &str = "/dev/termination-log";

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn all_but_the_blacklist_are_in_the_mount() {
        assert_eq!(Path::new(DRIVERS_MOUNT).join(STATE_FOLDER), Path::new(STATE_DIR));
        for file in [READINESS_FILE, LOCK_FILE] {
            assert_eq!(Path::new(file).parent(), Some(Path::new(DRIVERS_MOUNT)));
        }
    }
}

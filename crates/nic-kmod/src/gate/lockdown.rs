//! The kernel's lockdown (`security/lockdown/lockdown.c`).

use std::io::Read as _;
use std::path::Path;

use nic_host::{HOST_MOUNT, Host};
use rustix::fs::{Mode, OFlags, openat};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

const FILE: &str = "sys/kernel/security/lockdown";

/// The level that is in force: `none`, `integrity` or `confidentiality`. `None` where it cannot be seen.
///
/// A container mostly has no securityfs, and the host's below [`HOST_MOUNT`], or else the right to look at one that is mounted nowhere.
pub(super) fn lockdown(host: &Host) -> Option<String> {
    let mounted = [Path::new("/").join(FILE), Path::new(HOST_MOUNT).join(FILE)];
    let text = mounted.iter().find_map(|path| host.attribute(path).ok().flatten());
    let text = text.or_else(|| host.is_running_machine().then(look_at_detached).flatten())?;
    in_force(&text)
}

/// The word in brackets.
fn in_force(text: &str) -> Option<String> {
    let (_, rest) = text.split_once('[')?;
    rest.split_once(']').map(|(level, _)| level.to_owned())
}

/// A mount that is attached to nothing ends with its file descriptor.
fn look_at_detached() -> Option<String> {
    let look = || -> std::io::Result<String> {
        let context = fsopen("securityfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_create(&context)?;
        let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_RDONLY)?;
        let file = openat(&mount, "lockdown", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let mut text = String::new();
        std::fs::File::from(file).read_to_string(&mut text)?;
        Ok(text)
    };
    look().inspect_err(|error| tracing::debug!(%error, "the kernel's lockdown cannot be seen")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_in_force_is_the_one_in_brackets() {
        assert_eq!(in_force("none [integrity] confidentiality").as_deref(), Some("integrity"));
        assert_eq!(in_force("[none] integrity confidentiality").as_deref(), Some("none"));
        assert_eq!(in_force("none"), None);
    }
}

//! What is mounted at a folder, as a path walk sees it: the topmost of several mounts, and none that is covered.

use std::io;
use std::os::fd::AsRawFd as _;
use std::path::Path;

use nic_host::{Host, ReadError};
use rustix::fs::{Mode, OFlags, major, minor, open, stat};

const MOUNTS: &str = "/proc/self/mountinfo";

/// A mount whose root is seen at a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SeenMount {
    /// Major and minor number of the file system's device.
    pub(super) device: String,
    pub(super) file_system: String,
    /// Whether it has peers, or may have them.
    pub(super) is_shared: bool,
}

impl SeenMount {
    /// The mount at `folder`, which is no link; `None` where it is an ordinary folder, or not there.
    pub(super) fn at(host: &Host, folder: &Path) -> Result<Option<Self>, ReadError> {
        let Some(seen) = mount_id(host, folder)? else { return Ok(None) };
        if mount_id(host, &folder.join(".."))?.as_ref() == Some(&seen) {
            return Ok(None);
        }
        let table = host.read(MOUNTS)?;
        let found = table.lines().filter_map(parse).find(|(id, _)| *id == seen);
        found.map(|(_, mount)| Some(mount)).ok_or_else(|| ReadError {
            path: host.path(MOUNTS),
            source: io::Error::other(format!("there is no mount {seen}, which is on {}", folder.display())),
        })
    }
}

/// The id of the mount that a path leads into (`seq_show` in `fs/proc/fd.c`).
fn mount_id(host: &Host, path: &Path) -> Result<Option<String>, ReadError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let file = match open(path, flags, Mode::empty()) {
        Ok(file) => file,
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(source) => return Err(ReadError { path: path.to_owned(), source: source.into() }),
    };
    let info = format!("/proc/self/fdinfo/{}", file.as_raw_fd());
    let text = host.read(&info)?;
    let id = text.lines().find_map(|line| line.strip_prefix("mnt_id:"));
    let id = id
        .map(|id| id.trim().to_owned())
        .ok_or_else(|| ReadError { path: host.path(&info), source: io::Error::other("no mnt_id in it") })?;
    Ok(Some(id))
}

/// The id and the mount of one line of mountinfo (`show_mountinfo` in `fs/proc_namespace.c`).
fn parse(line: &str) -> Option<(&str, SeenMount)> {
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ');
    let (id, _parent, device) = (left.next()?, left.next()?, left.next()?);
    let (_root, _target, _options) = (left.next()?, left.next()?, left.next()?);
    let is_shared = left.any(|field| field.starts_with("shared:"));
    let file_system = right.split(' ').next()?.to_owned();
    Some((id, SeenMount { device: device.to_owned(), file_system, is_shared }))
}

/// The device of the file system that a folder lies in, as mountinfo writes it; `None` where it cannot be told.
pub(super) fn device_of(folder: &Path) -> Option<String> {
    let device = stat(folder).ok()?.st_dev;
    Some(format!("{}:{}", major(device), minor(device)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_mountinfo() {
        let mount = |device: &str, file_system: &str, is_shared| SeenMount {
            device: device.into(),
            file_system: file_system.into(),
            is_shared,
        };
        for (line, parsed) in [
            (
                "1042 1018 0:24 /mellanox/drivers /run/mellanox/drivers rw,nosuid shared:5 - tmpfs tmpfs rw,size=1k",
                Some(("1042", mount("0:24", "tmpfs", true))),
            ),
            (
                "22 1 0:21 / / rw,relatime master:1 - overlay overlay rw,lowerdir=/a - b",
                Some(("22", mount("0:21", "overlay", false))),
            ),
            ("36 35 98:0 /a /b\\040c rw - ext4 /dev/root rw", Some(("36", mount("98:0", "ext4", false)))),
            ("7 6 0:5 / /x rw master:1 shared:2 - proc proc rw", Some(("7", mount("0:5", "proc", true)))),
            ("36 35 98:0", None),
            ("", None),
        ] {
            assert_eq!(parse(line), parsed, "{line}");
        }
    }

    #[test]
    fn only_the_root_of_a_mount_is_one() {
        let host = Host::running();
        let mount = SeenMount::at(&host, Path::new("/proc")).unwrap().unwrap();
        assert_eq!((mount.file_system.as_str(), Some(mount.device)), ("proc", device_of(Path::new("/proc"))));
        assert_eq!(SeenMount::at(&host, Path::new("/proc/sys/kernel/random")).unwrap(), None);
        assert_eq!(SeenMount::at(&host, Path::new("/proc/not-there")).unwrap(), None);
        assert!(SeenMount::at(&host, Path::new("/proc/version")).is_err(), "it is no folder");
    }
}

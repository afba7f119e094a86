use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::{Host, ListError};

/// A device number, as the `dev` files of sysfs write it: `major:minor`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeviceNumber {
    /// The driver's.
    pub major: u32,
    /// Of its devices.
    pub minor: u32,
}

impl fmt::Display for DeviceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// A text that is no device number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a device number is written major:minor")]
pub struct ParseDeviceNumberError;

impl FromStr for DeviceNumber {
    type Err = ParseDeviceNumberError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (major, minor) = text.split_once(':').ok_or(ParseDeviceNumberError)?;
        let number = |text: &str| text.parse().map_err(|_| ParseDeviceNumberError);
        Ok(Self { major: number(major)?, minor: number(minor)? })
    }
}

/// A device file that a process has open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenDevice {
    /// The process's id, in this process's namespace.
    pub pid: u32,
    /// The file as the process's own mounts name it, which need not be below `/dev`.
    pub file: PathBuf,
    /// The device's number; `None` in a tree, and of a file that has gone meanwhile.
    pub number: Option<DeviceNumber>,
}

impl OpenDevice {
    /// Whether it is the device with this number; where that of the open file is not known, the one whose file has this path.
    #[must_use]
    pub fn is(&self, number: DeviceNumber, file: &Path) -> bool {
        self.number.map_or_else(|| self.file == file, |own| own == number)
    }
}

impl Host {
    /// The ids of the processes that this process sees.
    ///
    /// # Errors
    /// `/proc` cannot be listed.
    pub fn processes(&self) -> Result<Vec<u32>, ListError> {
        Ok(self.list("/proc")?.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// A process's name, such as `opensm`; empty when it has ended.
    #[must_use]
    pub fn command_of(&self, pid: u32) -> String {
        self.attribute(format!("/proc/{pid}/comm")).ok().flatten().unwrap_or_default()
    }

    /// Whether this process may look at all of these processes, and they are all of the machine: it is in the first process namespace.
    ///
    /// That namespace's number is fixed (`PROC_PID_INIT_INO` in `include/linux/proc_ns.h`).
    #[must_use]
    pub fn sees_all(&self, processes: &[u32]) -> bool {
        let namespace = self.link_name("/proc/self/ns/pid").ok().flatten();
        namespace.is_some_and(|namespace| namespace == "pid:[4026531836]")
            && !processes.iter().any(|pid| self.is_hidden(*pid))
    }

    /// Whether a process may not be looked at. To be root is not enough where it has capabilities that this one lacks
    /// (`__ptrace_may_access` in `kernel/ptrace.c`).
    fn is_hidden(&self, pid: u32) -> bool {
        // One that has ended meanwhile cannot be read either.
        self.link_name(format!("/proc/{pid}/ns/mnt")).is_err() && self.exists(format!("/proc/{pid}/comm"))
    }

    /// The device files that a process has open; none when it has ended, or may not be looked at.
    ///
    /// A container may have a device file under any name. So it is the file that is asked for its number, where that cannot hang: one below
    /// `/dev`, or on a file system of this machine. The kernel would ask a dead server about one of the others
    /// (`nfs_weak_revalidate` in `fs/nfs/dir.c`).
    #[must_use]
    pub fn open_devices(&self, pid: u32) -> Vec<OpenDevice> {
        let folder = format!("/proc/{pid}/fd");
        let Ok(open) = self.list(&folder) else { return Vec::new() };
        let mut local_mounts = None;
        let mut devices = Vec::new();
        for fd in open {
            let link = self.path(format!("{folder}/{fd}"));
            let Ok(file) = fs::read_link(&link) else { continue };
            // Sockets, pipes and the kernel's own files have no path.
            if !file.is_absolute() {
                continue;
            }
            let in_dev = file.starts_with("/dev");
            if !self.is_running_machine() {
                if in_dev {
                    devices.push(OpenDevice { pid, file, number: None });
                }
                continue;
            }
            let can_be_asked = in_dev || {
                let local = local_mounts.get_or_insert_with(|| self.local_mounts(pid));
                self.mount_of(pid, &fd).is_some_and(|mount| local.contains_key(&mount))
            };
            if !can_be_asked {
                continue;
            }
            if let Ok(found) = fs::metadata(&link)
                && found.file_type().is_char_device()
            {
                let (major, minor) = (rustix::fs::major(found.rdev()), rustix::fs::minor(found.rdev()));
                devices.push(OpenDevice { pid, file, number: Some(DeviceNumber { major, minor }) });
            }
        }
        devices
    }

    /// The inodes of the sockets that a process has open; none when it has ended, or may not be looked at.
    #[must_use]
    pub fn open_sockets(&self, pid: u32) -> Vec<u64> {
        let folder = format!("/proc/{pid}/fd");
        let open = self.list(&folder).unwrap_or_default().into_iter();
        let links = open.filter_map(|fd| fs::read_link(self.path(format!("{folder}/{fd}"))).ok());
        let inode = |link: PathBuf| link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok();
        links.filter_map(inode).collect()
    }

    /// The number of the mount that an open file is on (`seq_show` in `fs/proc/fd.c`).
    fn mount_of(&self, pid: u32, fd: &str) -> Option<u32> {
        let text = self.read(format!("/proc/{pid}/fdinfo/{fd}")).ok()?;
        text.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim().parse().ok()
    }

    /// The process's mounts of file systems that ask nobody else, by number, each with its type.
    fn local_mounts(&self, pid: u32) -> BTreeMap<u32, String> {
        let text = self.read(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
        text.lines().filter_map(local_mount).collect()
    }
}

/// A line of `/proc/<pid>/mountinfo` (`show_mountinfo` in `fs/proc_namespace.c`), where its file system can have device files and asks
/// nobody else.
fn local_mount(line: &str) -> Option<(u32, String)> {
    const LOCAL: &[&str] = &["devtmpfs", "tmpfs", "ramfs", "rootfs", "overlay", "ext4", "xfs", "btrfs"];
    let (left, right) = line.split_once(" - ")?;
    let kind = right.split(' ').next()?;
    LOCAL.contains(&kind).then_some(())?;
    Some((left.split(' ').next()?.parse().ok()?, kind.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn device_numbers_are_read_as_sysfs_writes_them() {
        let number = DeviceNumber { major: 231, minor: 192 };
        assert_eq!("231:192".parse(), Ok(number));
        assert_eq!(number.to_string(), "231:192");
        for wrong in ["", "231", "231:", "a:1", "231:192:1"] {
            assert_eq!(wrong.parse::<DeviceNumber>(), Err(ParseDeviceNumberError), "{wrong}");
        }
    }

    #[test]
    fn sockets_are_known_by_their_inodes() {
        let host = Host::running();
        let ours = host.open_sockets(std::process::id());
        let (one, other) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut new = host.open_sockets(std::process::id());
        new.retain(|inode| !ours.contains(inode));
        let inode = |socket| File::from(std::os::fd::OwnedFd::from(socket)).metadata().unwrap().ino();
        for inode in [inode(one), inode(other)] {
            assert!(new.contains(&inode), "{inode} is not among {new:?}");
        }
    }

    #[test]
    fn local_mounts_alone_are_asked() {
        let of = |kind: &str| local_mount(&format!("36 25 0:32 / /dev rw - {kind} udev rw,size=1k"));
        assert_eq!(of("devtmpfs"), Some((36, "devtmpfs".to_owned())));
        for kind in ["nfs4", "cifs", "ceph", "fuse.sshfs", "9p", "autofs"] {
            assert_eq!(of(kind), None);
        }
    }

    #[test]
    fn fault_4_a_device_that_is_open_is_known_by_its_number() {
        let host = Host::running();
        let _open = File::open("/dev/null").unwrap();
        let devices = host.open_devices(std::process::id());
        let null = DeviceNumber { major: 1, minor: 3 };
        // Whichever path the file has.
        assert!(devices.iter().any(|device| device.is(null, Path::new("/elsewhere"))), "{devices:?}");
        assert!(!devices.iter().any(|device| device.is("1:250".parse().unwrap(), Path::new("/dev/null"))));
    }

    #[test]
    fn in_a_tree_it_is_known_by_its_path() {
        let tree = tempfile::tempdir().unwrap();
        let folder = tree.path().join("proc/42/fd");
        fs::create_dir_all(&folder).unwrap();
        for (fd, target) in [("0", "/dev/null"), ("1", "socket:[7]"), ("2", "/home/file")] {
            std::os::unix::fs::symlink(target, folder.join(fd)).unwrap();
        }
        let devices = Host::at(tree.path()).open_devices(42);
        assert_eq!(devices, [OpenDevice { pid: 42, file: "/dev/null".into(), number: None }]);
        assert!(devices[0].is("9:9".parse().unwrap(), Path::new("/dev/null")));
    }
}

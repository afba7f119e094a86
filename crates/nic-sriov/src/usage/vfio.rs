//! Whether somebody uses a device through VFIO.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use nic_host::Host;
use rustix::fs::{CWD, FileType, Mode, OFlags, makedev, mknodat, open, unlink};
use rustix::io::Errno;

use crate::{DeviceAddress, PciAddress};

/// Who uses a device through VFIO, or why that cannot be told. Neither lets the device be touched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VfioUser {
    /// A virtual machine or another process has this device file open.
    Open(String),
    /// The device file cannot be asked.
    CannotBeTold {
        /// The device file.
        file: String,
        /// What keeps it from being asked.
        why: String,
    },
}

impl fmt::Display for VfioUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(file) => write!(f, "is in use: {file} is open"),
            Self::CannotBeTold { file, why } => {
                write!(f, "may be in use: whether {file} is open cannot be told: {why}")
            }
        }
    }
}

/// Who has the device open through VFIO: a virtual machine or a DPDK process runs on it. `None` when nobody has.
///
/// A group can be open only once (drivers/vfio/group.c, `vfio_group_fops_open`: EBUSY), and that is how it is found
/// out, also when the holder is in another process namespace. A device that is used through the newer
/// `/dev/vfio/devices/` blocks its group in the same way (`vfio_device_block_group`, Linux 6.6).
///
/// Whether there is a group to be opened is for sysfs to say, and which device number its file has: a container has only the files that
/// were there when it was started. One that is missing is made for as long as it is asked. What answers neither with success nor with
/// EBUSY cannot be told; nor can an enabled device of a kernel without groups (`CONFIG_VFIO_GROUP` unset).
#[must_use]
pub fn vfio_user(host: &Host, device: PciAddress) -> Option<VfioUser> {
    let sysfs = DeviceAddress::from(device).sysfs();
    let cannot = |file: &str, why: String| Some(VfioUser::CannotBeTold { file: file.to_owned(), why });
    let group = match host.link_name(format!("{sysfs}/iommu_group")) {
        Ok(group) => group,
        Err(error) => return cannot("the device's VFIO group", nic_host::error_chain(&error)),
    };
    let names = group.iter().flat_map(|group| [group.clone(), format!("noiommu-{group}")]);
    let mut has_group = false;
    for name in names {
        let file = format!("/dev/vfio/{name}");
        match host.attribute(format!("/sys/class/vfio/{name}/dev")) {
            Ok(None) => {}
            Ok(Some(number)) => {
                has_group = true;
                match ask(host, &file, &number) {
                    Ok(()) => {}
                    Err(Errno::BUSY) => return Some(VfioUser::Open(file)),
                    Err(errno) => return cannot(&file, errno.to_string()),
                }
            }
            Err(error) => return cannot(&file, nic_host::error_chain(&error)),
        }
    }
    let device_files = host.list_if_exists(format!("{sysfs}/vfio-dev"));
    match device_files.map(|files| files.into_iter().next()) {
        Ok(Some(file)) if !has_group => match host.attribute(format!("{sysfs}/enable")) {
            // VFIO enables a device as it is opened, and disables it as it is closed (`vfio_pci_core_enable` in
            // drivers/vfio/pci/vfio_pci_core.c).
            Ok(Some(enabled)) if enabled == "0" => None,
            _ => cannot(
                &format!("/dev/vfio/devices/{file}"),
                "the device is enabled, and the kernel has no VFIO groups that could be asked".to_owned(),
            ),
        },
        Ok(_) => None,
        Err(error) => cannot("the device's VFIO file", nic_host::error_chain(&error)),
    }
}

/// Opens the group and closes it again. `number` is its device number as sysfs writes it: `major:minor`.
fn ask(host: &Host, file: &str, number: &str) -> Result<(), Errno> {
    let (major, minor) = number.split_once(':').ok_or(Errno::INVAL)?;
    let device = makedev(major.parse().map_err(|_| Errno::INVAL)?, minor.parse().map_err(|_| Errno::INVAL)?);
    let path = host.path(file);
    match open_device(&path, device) {
        // A container's own /dev has no file for a group that is younger than the container.
        Err(Errno::NOENT | Errno::NXIO | Errno::NODEV) => {}
        asked => return asked,
    }
    // Several threads may ask at a time; a process that was killed while it asked has left its file to the next of its number.
    static ASKED: AtomicU32 = AtomicU32::new(0);
    let number = ASKED.fetch_add(1, Ordering::Relaxed);
    let own = OwnFile(host.path(format!("/dev/.nic-driver-vfio-{}-{number}", std::process::id())));
    own.remove();
    mknodat(CWD, &own.0, FileType::CharacterDevice, Mode::RUSR | Mode::WUSR, device)?;
    open_device(&own.0, device)
}

/// Opens the file when it is this device's; another device's would answer for that one.
fn open_device(path: &Path, device: rustix::fs::Dev) -> Result<(), Errno> {
    let found = rustix::fs::stat(path)?;
    if !FileType::from_raw_mode(found.st_mode).is_char_device() || found.st_rdev != device {
        return Err(Errno::NODEV);
    }
    open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).map(drop)
}

/// A device file that is there only to be asked.
struct OwnFile(PathBuf);

impl OwnFile {
    fn remove(&self) {
        match unlink(&self.0) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => tracing::warn!(path = %self.0.display(), %error, "cannot remove a device file"),
        }
    }
}

impl Drop for OwnFile {
    fn drop(&mut self) {
        self.remove();
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    const DEVICE: &str = "sys/bus/pci/devices/0000:01:10.0";

    fn tree() -> (tempfile::TempDir, Host, PciAddress) {
        let tree = tempfile::tempdir().unwrap();
        fs::create_dir_all(tree.path().join(DEVICE)).unwrap();
        fs::create_dir_all(tree.path().join("dev/vfio")).unwrap();
        let host = Host::at(tree.path());
        (tree, host, "0000:01:10.0".parse().unwrap())
    }

    #[test]
    fn a_device_without_a_group_in_vfio_is_used_by_nobody() {
        let (tree, host, vf) = tree();
        assert_eq!(vfio_user(&host, vf), None);
        symlink("../../../../kernel/iommu_groups/7", tree.path().join(DEVICE).join("iommu_group")).unwrap();
        assert_eq!(vfio_user(&host, vf), None);
    }

    #[test]
    fn fault_4_1_a_group_whose_file_does_not_answer_cannot_be_told() {
        let (tree, host, vf) = tree();
        symlink("../../../../kernel/iommu_groups/7", tree.path().join(DEVICE).join("iommu_group")).unwrap();
        let class = tree.path().join("sys/class/vfio/7");
        fs::create_dir_all(&class).unwrap();
        // No driver has this number.
        fs::write(class.join("dev"), "511:1048575\n").unwrap();
        // There is no file, as in a container that is older than the group; then one that is no device's.
        for made in [false, true] {
            if made {
                fs::write(tree.path().join("dev/vfio/7"), "").unwrap();
            }
            let user = vfio_user(&host, vf).unwrap();
            assert!(matches!(&user, VfioUser::CannotBeTold { file, .. } if file == "/dev/vfio/7"), "{user}");
            assert!(
                user.to_string().starts_with("may be in use: whether /dev/vfio/7 is open cannot be told: ")
            );
        }
        assert_eq!(fs::read_dir(tree.path().join("dev")).unwrap().count(), 1, "a device file is left");
        fs::write(class.join("dev"), "nonsense\n").unwrap();
        assert!(matches!(vfio_user(&host, vf), Some(VfioUser::CannotBeTold { .. })));
    }

    #[test]
    fn fault_4_1_a_kernel_without_groups_tells_of_devices_that_are_not_enabled_alone() {
        let (tree, host, vf) = tree();
        fs::create_dir_all(tree.path().join(DEVICE).join("vfio-dev/vfio3")).unwrap();
        let user = vfio_user(&host, vf).unwrap();
        assert!(user.to_string().contains("/dev/vfio/devices/vfio3"), "{user}");
        // Nobody has opened it.
        fs::write(tree.path().join(DEVICE).join("enable"), "0\n").unwrap();
        assert_eq!(vfio_user(&host, vf), None);
        fs::write(tree.path().join(DEVICE).join("enable"), "1\n").unwrap();
        assert!(vfio_user(&host, vf).is_some());
    }
}

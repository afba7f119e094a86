//! Whether somebody uses a device through VFIO.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use nic_host::{DeviceNumber, Host, error_chain};
use rustix::fs::{CWD, FileType, Mode, OFlags, makedev, mknodat, open, unlink};
use rustix::io::Errno;

use super::{Asked, DeviceUser, Inquiry, Untold, Usage};

/// Whether a driver is one of VFIO's: the kernel's own, or a vendor's (`mlx5_vfio_pci`).
pub(super) fn is_vfio_driver(driver: &str) -> bool {
    driver.replace('-', "_").ends_with("vfio_pci")
}

/// A group's file.
struct Group {
    file: String,
    /// Its folder in sysfs.
    sysfs: String,
    /// As sysfs writes it: `major:minor`.
    number: String,
}

fn cannot(file: &str, why: String) -> Usage {
    Usage::CannotBeTold(Untold::File { file: file.to_owned(), why })
}

impl Inquiry {
    /// Whether a virtual machine or a DPDK process runs on the device.
    ///
    /// VFIO enables a device as its file is first opened, through a group or by itself, and disables it as the last is closed
    /// (`vfio_pci_core_enable` in `drivers/vfio/pci/vfio_pci_core.c`; `enable_show` in `drivers/pci/pci-sysfs.c` tells how often it is
    /// enabled): that is looked at first, tells of users in other process namespaces and of kernels without groups, and takes nothing from anybody.
    ///
    /// A group may be open before. It can be open only once (`drivers/vfio/group.c`, `vfio_group_fops_open`: EBUSY), and a device that is
    /// used through the newer `/dev/vfio/devices/` blocks its group in the same way (`vfio_device_block_group`, Linux 6.6). Whether there is
    /// a group to be opened is for sysfs to say, and which device number its file has: a container has only the files that were there
    /// when it was started. One that is missing is made for as long as it is asked. What answers neither with success nor with EBUSY
    /// cannot be told.
    pub(super) fn vfio(&self, asked: &Asked<'_>) -> Usage {
        let groups = match self.groups(asked) {
            Ok(groups) => groups,
            Err(why) => return cannot("the device's VFIO group", why),
        };
        let devices = match self.host.list_if_exists(format!("{}/vfio-dev", asked.sysfs)) {
            Ok(devices) => devices,
            Err(error) => return cannot("the device's VFIO file", error_chain(&error)),
        };
        let has_vfio_driver = !devices.is_empty() || asked.driver.as_deref().is_some_and(is_vfio_driver);
        if has_vfio_driver {
            let file = match (groups.first(), devices.first()) {
                (Some(group), _) => group.file.clone(),
                (None, Some(device)) => format!("/dev/vfio/devices/{device}"),
                (None, None) => "the device's VFIO file".to_owned(),
            };
            match self.host.attribute(format!("{}/enable", asked.sysfs)) {
                Ok(Some(enabled)) if enabled == "0" => {}
                Ok(Some(_)) => {
                    return self
                        .named(&groups, &devices, asked)
                        .unwrap_or(Usage::InUse(DeviceUser::Open(file)));
                }
                // The group is asked below.
                Ok(None) if !groups.is_empty() || devices.is_empty() => {}
                Ok(None) => {
                    return cannot(&file, "the kernel does not say whether the device is enabled".to_owned());
                }
                Err(error) => return cannot(&file, error_chain(&error)),
            }
        }
        if !self.opens_files {
            return self.named(&groups, &[], asked).unwrap_or(Usage::Free);
        }
        Usage::of_all(groups.into_iter().map(|group| match ask(&self.host, &group.file, &group.number) {
            Ok(()) => Usage::Free,
            Err(Errno::BUSY) => Usage::InUse(DeviceUser::Open(group.file)),
            Err(errno) => cannot(&group.file, errno.to_string()),
        }))
    }

    /// The groups of the device that VFIO has.
    fn groups(&self, asked: &Asked<'_>) -> Result<Vec<Group>, String> {
        let group = self.host.link_name(format!("{}/iommu_group", asked.sysfs));
        let group = group.map_err(|error| error_chain(&error))?;
        let names = group.iter().flat_map(|group| [group.clone(), format!("noiommu-{group}")]);
        let mut groups = Vec::new();
        for name in names {
            let sysfs = format!("/sys/class/vfio/{name}");
            let number = self.host.attribute(format!("{sysfs}/dev")).map_err(|error| error_chain(&error))?;
            groups.extend(number.map(|number| Group { file: format!("/dev/vfio/{name}"), sysfs, number }));
        }
        Ok(groups)
    }

    /// The process that has a file of the device open, where it is seen.
    fn named(&self, groups: &[Group], devices: &[String], asked: &Asked<'_>) -> Option<Usage> {
        let groups = groups.iter().map(|group| (group.file.clone(), group.sysfs.clone()));
        let devices = devices
            .iter()
            .map(|name| (format!("/dev/vfio/devices/{name}"), format!("{}/vfio-dev/{name}", asked.sysfs)));
        let mut usages = groups.chain(devices).map(|(file, sysfs)| self.node(&file, &sysfs, Some("vfio")));
        usages.find(|usage| matches!(usage, Usage::InUse(_)))
    }
}

/// Opens the group and closes it again. `number` is its device number as sysfs writes it: `major:minor`.
fn ask(host: &Host, file: &str, number: &str) -> Result<(), Errno> {
    let number: DeviceNumber = number.parse().map_err(|_| Errno::INVAL)?;
    let device = makedev(number.major, number.minor);
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

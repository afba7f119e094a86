//! Devices of the bus `vdpa` that stand on a NIC, and who uses them.

use std::path::PathBuf;

use nic_host::{Host, error_chain};

use super::{Asked, DeviceUser, Inquiry, Untold, Usage};
use crate::net_folder::{NetFolder, net_folder_at};
use crate::{DeviceAddress, ObserveError};

const BUS: &str = "/sys/bus/vdpa/devices";

/// A vDPA device.
#[derive(Debug)]
pub(crate) struct VdpaDevice {
    /// Its name, which whoever made it has given it.
    pub(crate) name: String,
    /// Where it is in sysfs: below what it stands on.
    path: PathBuf,
}

impl VdpaDevice {
    /// Whether it stands on the device: on itself, on a sub-function of it.
    pub(crate) fn stands_on(&self, device: &DeviceAddress) -> bool {
        self.path.components().any(|part| part.as_os_str() == device.name())
    }
}

/// All vDPA devices of the machine.
///
/// # Errors
/// The bus cannot be listed.
pub(crate) fn vdpa_devices(host: &Host) -> Result<Vec<VdpaDevice>, ObserveError> {
    let mut devices = Vec::new();
    for name in host.list_if_exists(BUS)? {
        // One that has gone meanwhile is none.
        let path = host.link_target(format!("{BUS}/{name}"))?;
        devices.extend(path.map(|path| VdpaDevice { name, path }));
    }
    Ok(devices)
}

impl Inquiry {
    /// A vDPA device is given to user space by `vhost_vdpa`, or is a virtio device of this machine by `virtio_vdpa`.
    ///
    /// To remove one that is open waits until it is closed (`vhost_vdpa_remove` in `drivers/vhost/vdpa.c`), as `vhost_vdpa`'s users keep a
    /// reference on that module alone.
    pub(super) fn vdpa(&self, asked: &Asked<'_>) -> Usage {
        let devices =
            match self.vdpa.get_or_init(|| vdpa_devices(&self.host).map_err(|error| error_chain(&error))) {
                Ok(devices) => devices,
                Err(why) => return Usage::CannotBeTold(Untold::Device(why.clone())),
            };
        let on_it = devices.iter().filter(|device| device.stands_on(asked.device));
        Usage::of_all(on_it.map(|device| self.vdpa_device(&device.name)))
    }

    fn vdpa_device(&self, name: &str) -> Usage {
        let folder = format!("{BUS}/{name}");
        let cannot = |why: String| Usage::CannotBeTold(Untold::Device(why));
        let below = match self.host.list_if_exists(&folder) {
            Ok(below) => below,
            Err(error) => return cannot(error_chain(&error)),
        };
        Usage::of_all(below.into_iter().map(|child| {
            let path = format!("{folder}/{child}");
            if child.starts_with("vhost-vdpa-") {
                return self.node(&format!("/dev/{child}"), &path, Some("vhost_vdpa"));
            }
            match child.starts_with("virtio").then(|| net_folder_at(&self.host, &path)) {
                Some(Ok(NetFolder::ElsewhereOnly)) => {
                    Usage::InUse(DeviceUser::VdpaNamespace(name.to_owned()))
                }
                None | Some(Ok(NetFolder::Absent | NetFolder::Here)) => Usage::Free,
                Some(Err(error)) => cannot(error_chain(&error)),
            }
        }))
    }
}

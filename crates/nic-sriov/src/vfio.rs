//! Whether somebody uses a device through VFIO.

use nic_host::Host;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::{DeviceAddress, PciAddress};

/// The device file of a VF's VFIO group, when somebody has it open: a virtual machine or a DPDK process runs on it.
///
/// A group can be open only once (drivers/vfio/group.c, `vfio_group_fops_open`: EBUSY), and that is how it is found
/// out, also when the holder is in another process namespace. A device that is used through the newer
/// `/dev/vfio/devices/` blocks its group in the same way (`vfio_device_block_group`, Linux 6.6). Only a kernel without
/// groups (`CONFIG_VFIO_GROUP` unset) gives no sign, and there the device counts as unused.
#[must_use]
pub fn vfio_group_in_use(host: &Host, device: PciAddress) -> Option<String> {
    let sysfs = DeviceAddress::from(device).sysfs();
    let group = match host.link_name(format!("{sysfs}/iommu_group")) {
        Ok(group) => group?,
        Err(error) => {
            tracing::debug!(%device, %error, "the IOMMU group could not be read");
            return None;
        }
    };
    [format!("/dev/vfio/{group}"), format!("/dev/vfio/noiommu-{group}")].into_iter().find(|path| {
        let opened = rustix::fs::open(host.path(path), OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
        matches!(opened, Err(Errno::BUSY))
    })
}

//! What hangs on a NIC, goes with its driver, and is not for this crate to make again.

use nic_host::Host;
use nic_netlink::PhysPort;

use crate::usage::vdpa_devices;
use crate::{DeviceAddress, NicState, ObserveError};

/// Ports of a PF that nothing here makes again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnmakeablePorts {
    /// The PF.
    pub pf: DeviceAddress,
    /// Each by its representor's port name (`pf0sf88`), or by its device's (`mlx5_core.sf.2`, `vdpa0`).
    pub ports: Vec<String>,
}

/// The sub-functions of these PFs, the ports of other controllers (of a DPU's host), and the vDPA devices that stand on them and their
/// VFs. Somebody made them (`devlink port add … flavour pcisf`, `vdpa dev add`), and they go with the driver.
///
/// They are found by their representors, and where the PF shows them by their devices on the auxiliary bus
/// (`mlx5_sf_dev_add` in `drivers/net/ethernet/mellanox/mlx5/core/sf/dev/dev.c`).
///
/// # Errors
/// A PF's folder in sysfs, or the bus `vdpa`, cannot be listed.
pub fn unmakeable_ports(host: &Host, nics: &NicState) -> Result<Vec<UnmakeablePorts>, ObserveError> {
    let mut found = Vec::new();
    let vdpa = vdpa_devices(host)?;
    for pf in &nics.pfs {
        let is_other = |port: &PhysPort, controller: Option<u32>| match port {
            PhysPort::Sf { .. } => true,
            PhysPort::Vf { .. } | PhysPort::Pf { .. } => controller.is_some(),
            PhysPort::Uplink { .. } => false,
        };
        let representors = pf.representors.iter();
        let representors = representors.filter(|one| is_other(&one.port.port, one.port.controller));
        let mut ports: Vec<String> = representors.map(|one| one.port.to_string()).collect();
        let devices = host.list_if_exists(pf.address.sysfs())?;
        ports.extend(devices.into_iter().filter(|name| is_sub_function(name)));
        let vfs = pf.vfs.iter().filter_map(|vf| vf.address).map(DeviceAddress::from);
        for device in std::iter::once(pf.address.clone()).chain(vfs) {
            let on_it = vdpa.iter().filter(|vdpa| vdpa.stands_on(&device));
            ports.extend(on_it.map(|vdpa| vdpa.name.clone()));
        }
        if !ports.is_empty() {
            found.push(UnmakeablePorts { pf: pf.address.clone(), ports });
        }
    }
    Ok(found)
}

/// Whether it is a sub-function's device: `<driver>.sf.<number>`.
fn is_sub_function(name: &str) -> bool {
    name.rsplit_once('.')
        .is_some_and(|(front, number)| front.ends_with(".sf") && number.parse::<u32>().is_ok())
}

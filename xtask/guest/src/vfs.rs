//! Gives the guest's VFs a configuration in which nothing is a default, so that whatever is lost shows.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use lab_guest::wiring::VFS_PER_PF;

use crate::command::run;
use crate::observe::{Nics, igb_pfs, netdev_of, pci_device, vfs_of};
use crate::{boot, read, wait, write};

const VF_DRIVER: &str = "igbvf";
const PF_MTU: &str = "1450";
const VF_MTU: &str = "1400";

/// The MAC address of VF `vf` of the `pf`-th PF, both counted from 0: locally administered, different for each.
pub(crate) fn vf_mac(pf: usize, vf: u32) -> String {
    format!("02:1a:b0:00:{pf:02x}:{:02x}", vf + 1)
}

/// Creates all VFs of all PFs and configures them, then observes the result.
///
/// Most VFs get an admin MAC before they are bound, and take it when they probe. The last VF of each PF gets none and
/// sets its own. VF 2 has spoof checking off, VF 3 is trusted, VF 4 has a VLAN; one VF of each PF stays down.
pub(crate) fn configure_all() -> anyhow::Result<Nics> {
    run("modprobe", [VF_DRIVER])?;
    let pfs = igb_pfs()?;
    std::thread::scope(|scope| {
        let workers: Vec<_> =
            pfs.iter().enumerate().map(|(index, pf)| scope.spawn(move || create(index, pf))).collect();
        workers.into_iter().try_for_each(|worker| {
            worker.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a worker panicked")))
        })
    })?;
    boot::settle_udev()?;
    for (index, pf) in pfs.iter().enumerate() {
        for (vf, address) in vfs_of(pf)? {
            let name = wait::until(&format!("netdev of {address}"), Duration::from_secs(30), || {
                Ok(netdev_of(&address).ok())
            })?;
            if vf + 1 == VFS_PER_PF {
                run("ip", ["link", "set", "dev", &name, "address", &vf_mac(index, vf)])?;
            }
            run("ip", ["link", "set", "dev", &name, "mtu", VF_MTU])?;
            if vf != 5 {
                run("ip", ["link", "set", "dev", &name, "up"])?;
            }
        }
    }
    boot::settle_udev()?;
    Nics::observe()
}

fn create(index: usize, pf: &str) -> anyhow::Result<()> {
    let device = pci_device(pf);
    let name = netdev_of(pf)?;
    run("ip", ["link", "set", "dev", &name, "mtu", PF_MTU, "up"])?;
    // With autoprobe off the VFs wait, without a driver, for their admin MACs.
    write(device.join("sriov_drivers_autoprobe"), "0")?;
    write(device.join("sriov_numvfs"), &VFS_PER_PF.to_string())?;
    for vf in 0..VFS_PER_PF {
        let number = vf.to_string();
        let set = |attribute: &[&str]| {
            run("ip", [&["link", "set", "dev", &name, "vf", &number], attribute].concat())
        };
        if vf + 1 < VFS_PER_PF {
            set(&["mac", &vf_mac(index, vf)])?;
        }
        match vf {
            2 => set(&["spoofchk", "off"])?,
            3 => set(&["trust", "on"])?,
            4 => set(&["vlan", "100", "qos", "3"])?,
            _ => String::new(),
        };
    }
    write(device.join("sriov_drivers_autoprobe"), "1")?;
    for (_, vf) in vfs_of(pf)? {
        bind(&vf)?;
    }
    Ok(())
}

/// Binds a VF. The driver core answers the write when the probe is over (drivers/base/bus.c, `bind_store`).
fn bind(vf: &str) -> anyhow::Result<()> {
    let driver = Path::new("/sys/bus/pci/drivers").join(VF_DRIVER);
    write(driver.join("bind"), vf).with_context(|| format!("cannot bind {vf} to {VF_DRIVER}"))
}

/// Takes the driver away and brings it back, as somebody does who knows nothing of VFs.
pub(crate) fn swap_driver_by_hand() -> anyhow::Result<()> {
    run("modprobe", ["-r", VF_DRIVER])?;
    run("modprobe", ["-r", "igb"])?;
    run("modprobe", ["igb"])?;
    boot::settle_udev()?;
    for pf in igb_pfs()? {
        let left = read(pci_device(&pf).join("sriov_numvfs"))?;
        anyhow::ensure!(left == "0", "{pf} kept {left} VFs although its driver was unloaded");
    }
    Ok(())
}

//! Gives the guest's VFs a configuration in which nothing is a default, so that whatever is lost shows.

use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use lab_guest::wiring::VFS_PER_PF;

use crate::command::run;
use crate::observe::{Nics, igb_pfs, netdev_of, pci_device, vfs_of};
use crate::{boot, netdevs, read, say, wait, write};

pub(crate) const VF_DRIVER: &str = "igbvf";
/// How often a VF is bound until it has its admin MAC.
const PROBES: usize = 5;
const PF_MTU: &str = "1450";
const VF_MTU: &str = "1400";

/// The MAC address of VF `vf` of the `pf`-th PF, both counted from 0: locally administered, different for each.
pub(crate) fn vf_mac(pf: usize, vf: u32) -> String {
    format!("02:1a:b0:00:{pf:02x}:{:02x}", vf + 1)
}

/// Creates all VFs of all PFs and configures them, then observes the result.
///
/// Most VFs get an admin MAC before they are bound, and take it when they probe. The last VF of each PF gets none and
/// sets its own. VF 2 has spoof checking off, VF 3 is trusted, VF 4 has a VLAN; VF 5 stays down.
pub(crate) fn configure_all() -> anyhow::Result<Nics> {
    configure_each(VFS_PER_PF)
}

/// The same with only so many VFs of each PF, at most [`VFS_PER_PF`].
pub(crate) fn configure_each(vfs_per_pf: u32) -> anyhow::Result<Nics> {
    run("modprobe", [VF_DRIVER])?;
    let pfs: Vec<_> = igb_pfs()?.into_iter().enumerate().collect();
    concurrently(&pfs, |(index, pf)| create(*index, pf, vfs_per_pf))?;
    boot::settle_udev()?;
    let mut vfs = Vec::new();
    for (index, pf) in &pfs {
        vfs.extend(vfs_of(pf)?.into_iter().map(|(vf, address)| (*index, vf, address)));
    }
    concurrently(&vfs, |(index, vf, address)| configure(*index, *vf, address, *vf + 1 == vfs_per_pf))?;
    boot::settle_udev()?;
    Nics::observe()
}

fn configure(pf: usize, vf: u32, address: &str, is_last: bool) -> anyhow::Result<()> {
    let mac = vf_mac(pf, vf);
    let name = if is_last { appeared(address)? } else { probed_with(address, &mac)? };
    let mut words = vec!["link", "set", "dev", &name, "mtu", VF_MTU];
    if is_last {
        words.extend(["address", &mac]);
    }
    if vf != 5 {
        words.push("up");
    }
    run("ip", words).map(drop)
}

/// The name of a VF's netdev, when it is there.
fn appeared(address: &str) -> anyhow::Result<String> {
    wait::until(&format!("netdev of {address}"), Duration::from_secs(30), || Ok(netdev_of(address).ok()))
}

/// The name of a VF's netdev that has taken its admin MAC.
///
/// A VF that probes while its PF is in reset cannot ask for it, and makes one up (drivers/net/ethernet/intel/igbvf/netdev.c,
/// `igbvf_probe`). The PF then takes no other from it, so that another probe is what helps.
fn probed_with(address: &str, mac: &str) -> anyhow::Result<String> {
    let mut seen = Vec::new();
    for _ in 0..PROBES {
        let name = appeared(address)?;
        let found = read(Path::new("/sys/class/net").join(&name).join("address"))?;
        if found == mac {
            return Ok(name);
        }
        say(&format!("{address} has probed with the MAC {found}, not {mac}: bound once more"));
        seen.push(found);
        write(pci_device(address).join("driver/unbind"), address)?;
        bind(address, VF_DRIVER)?;
        boot::settle_udev()?;
    }
    bail!("{address} was to take the admin MAC {mac}, and has probed with {}", seen.join(", then "))
}

fn create(index: usize, pf: &str, vfs: u32) -> anyhow::Result<()> {
    let device = pci_device(pf);
    let name = netdev_of(pf)?;
    run("ip", ["link", "set", "dev", &name, "mtu", PF_MTU, "up"])?;
    // With autoprobe off the VFs wait, without a driver, for their admin MACs.
    write(device.join("sriov_drivers_autoprobe"), "0")?;
    write(device.join("sriov_numvfs"), &vfs.to_string())?;
    // Making VFs starts the PF anew; a VF that probes before it has its link back finds it in reset.
    netdevs::await_carrier(&name)?;
    let mut batch = String::new();
    for vf in 0..vfs {
        if vf + 1 < vfs {
            batch.push_str(&format!("link set dev {name} vf {vf} mac {}\n", vf_mac(index, vf)));
        }
        let more = match vf {
            2 => "spoofchk off",
            3 => "trust on",
            4 => "vlan 100 qos 3",
            _ => continue,
        };
        batch.push_str(&format!("link set dev {name} vf {vf} {more}\n"));
    }
    let file = format!("/tmp/vfs-of-{pf}");
    write(&file, &batch)?;
    run("ip", ["-batch", &file])?;
    write(device.join("sriov_drivers_autoprobe"), "1")?;
    concurrently(&vfs_of(pf)?, |(_, vf)| bind(vf, VF_DRIVER))
}

/// Does `work` for all items at the same time and returns the first error, if any.
pub(crate) fn concurrently<T: Sync>(
    items: &[T],
    work: impl Fn(&T) -> anyhow::Result<()> + Sync,
) -> anyhow::Result<()> {
    thread::scope(|scope| {
        let workers: Vec<_> = items.iter().map(|item| scope.spawn(|| work(item))).collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().unwrap_or_else(|_| Err(anyhow!("a worker panicked"))))
    })
}

/// Binds a VF. The driver core answers the write when the probe is over (drivers/base/bus.c, `bind_store`).
pub(crate) fn bind(vf: &str, driver: &str) -> anyhow::Result<()> {
    write(Path::new("/sys/bus/pci/drivers").join(driver).join("bind"), vf)
        .with_context(|| format!("cannot bind {vf} to {driver}"))
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

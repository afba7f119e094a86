//! No driver is not "no PF": the node comes up from a reset in mid-swap, with the modules of its family unloaded and nothing
//! but the blacklist left on its disk. Devices that another driver holds are left to it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use nic_driver::Exit;
use nic_driver::default_paths::{BLACKLIST_FILE, DRIVERS_MOUNT};

use crate::command::run as command;
use crate::drivers::{self, Flow};
use crate::guest::Guest;
use crate::installed::install;
use crate::observe::{igb_pfs, netdev_of, pci_device};
use crate::program::NicDriver;
use crate::readiness::READY;
use crate::{boot, journal, processes, report, say, vfs, wait, write};

pub(crate) fn run(guest: &Guest) -> anyhow::Result<()> {
    drivers::pretend_distribution(Flow::Rpm)?;
    vfs::configure_each(2)?;
    let pfs = igb_pfs()?;
    install("A")?;
    finish("A")?;
    install("B")?;
    reset_in_mid_swap()?;

    say("== the start after the reset");
    let nothing = NicDriver::new(["snapshot"]).run()?.expect(Exit::NoPf)?;
    nothing.expect_words(&["there is no PF"])?;
    finish("B")?;
    ensure!(igb_pfs()? == pfs, "these PFs have come up: {:?}, not {pfs:?}", igb_pfs()?);
    for pf in &pfs {
        netdev_of(pf).with_context(|| format!("{pf} has come up without a netdev"))?;
    }
    ensure!(!Path::new(BLACKLIST_FILE).exists(), "the blacklist was left behind");
    report("a reset in mid-swap: driver and PFs come up with the next start, and the node is ready");

    say("== one PF is held by another driver, one has none");
    let (held, free) = match pfs.as_slice() {
        [held, free] => (held, free),
        other => anyhow::bail!("there are {} PFs, not two", other.len()),
    };
    hold_with_vfio(held)?;
    unload()?;
    finish("B")?;
    ensure!(driver_of(held)? == "vfio-pci", "{held} was taken from vfio-pci");
    ensure!(driver_of(free)? == "igb", "{free} has the driver {}", driver_of(free)?);
    report("a PF that vfio-pci holds is left to it");

    say("== both are held by another driver");
    unload()?;
    hold_with_vfio(free)?;
    finish("B")?;
    for pf in [held, free] {
        ensure!(driver_of(pf)? == "vfio-pci", "{pf} was taken from vfio-pci");
        give_back(pf)?;
    }
    unload()?;

    say("== the installed driver does not come up, and there is none to roll back to");
    install("failing-probe")?;
    let failed = NicDriver::new(["reload"]).run()?.expect(Exit::Degraded)?;
    failed.expect_words(&["has not come up", "no driver of the family ran", held])?;
    ensure!(!Path::new(READY).exists(), "ready without a PF");
    let restored = NicDriver::new(["restore-sriov", "--timeout", "10"]).run()?.expect(Exit::Degraded)?;
    restored.expect_words(&["not ready", "no driver has taken it", held, free])?;
    ensure!(!Path::new(READY).exists(), "ready without a PF");
    install("A")?;
    finish("A")?;
    ensure!(igb_pfs()? == pfs, "these PFs have come up: {:?}, not {pfs:?}", igb_pfs()?);
    guest.keep(&journal::path())?;
    report("a driver that does not come up where none ran: named, not ready; the next one comes up");
    Ok(())
}

/// The modules are gone, and what lies below /run with them; what was written to the disk is there.
fn reset_in_mid_swap() -> anyhow::Result<()> {
    say("== a reset in mid-swap");
    let reload = NicDriver::new(["reload"]).quietly().start()?;
    journal::wait_for_step(&reload, journal::loads("igb"))?;
    reload.signal("KILL")?;
    ensure!(reload.wait()?.was_killed(), "it was not killed");
    // What it had started lives on, and a reset would have ended it, too.
    await_end_of_modprobe()?;
    unload()?;
    fs::symlink_metadata(BLACKLIST_FILE).context("nothing was left on the disk")?;
    // The state directory, the readiness file, the lock.
    fs::remove_dir_all(DRIVERS_MOUNT).with_context(|| format!("cannot remove {DRIVERS_MOUNT}"))?;
    // As udev does at boot, for each device: the blacklist is not to be in the way for ever.
    command("udevadm", ["trigger", "--action=add", "--subsystem-match=pci"])?;
    boot::settle_udev()?;
    unload()
}

fn await_end_of_modprobe() -> anyhow::Result<()> {
    wait::until("the end of modprobe", Duration::from_secs(60), || {
        let running = processes::find(|process| {
            processes::read(process, "comm").trim_end() == "modprobe" && !processes::has_ended(process)
        })?;
        Ok(running.is_empty().then_some(()))
    })
}

fn unload() -> anyhow::Result<()> {
    for module in ["igbvf", "igb"] {
        if Path::new("/sys/module").join(module).exists() {
            command("modprobe", ["-r", module])?;
        }
    }
    boot::settle_udev()
}

/// `reload` and `restore-sriov` end well, the driver runs, and the node is ready.
fn finish(letter: &str) -> anyhow::Result<()> {
    for phase in ["reload", "restore-sriov"] {
        NicDriver::new([phase]).run()?.expect(Exit::Success)?;
    }
    drivers::expect_loaded(&drivers::version(letter)?)?;
    ensure!(Path::new(READY).exists(), "not ready");
    Ok(())
}

fn hold_with_vfio(pf: &str) -> anyhow::Result<()> {
    command("modprobe", ["vfio-pci"])?;
    let device = pci_device(pf);
    if device.join("driver").exists() {
        write(device.join("driver/unbind"), pf)?;
    }
    write(device.join("driver_override"), "vfio-pci")?;
    vfs::bind(pf, "vfio-pci")
}

fn give_back(pf: &str) -> anyhow::Result<()> {
    let device = pci_device(pf);
    write(device.join("driver/unbind"), pf)?;
    write(device.join("driver_override"), "\n")
}

fn driver_of(pf: &str) -> anyhow::Result<String> {
    let link = fs::read_link(pci_device(pf).join("driver")).with_context(|| format!("{pf} has no driver"))?;
    Ok(link.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default())
}

//! The blacklist dies with the boot: what a swap that is cut off leaves on the disk keeps no module from coming up, and goes
//! with the next start. Somebody else's file is not touched.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context as _, ensure};
use nic_driver::Exit;
use nic_driver::default_paths::{BLACKLIST_FILE, STATE_DIR};

use crate::command::run as command;
use crate::drivers::{self, Flow};
use crate::guest::Guest;
use crate::installed::install;
use crate::observe::{Nics, igb_pfs, pci_device};
use crate::program::NicDriver;
use crate::{boot, journal, read, report, say, vfs, write};

const PATH: &str = BLACKLIST_FILE;
/// What a driver container of the kind that this program replaces writes.
const OF_OTHER_CONTAINER: &str = "# blacklist driver modules on the host\nblacklist igb\nblacklist igbvf\n";
/// What an administrator writes.
const FOREIGN: &str = "blacklist igb\n";

pub(crate) fn run(guest: &Guest) -> anyhow::Result<()> {
    drivers::pretend_distribution(Flow::Rpm)?;
    vfs::configure_each(2)?;
    install("A")?;
    finish("A")?;
    cut_off_in_mid_swap()?;
    of_other_container()?;
    somebody_elses()?;
    guest.keep(&journal::path())?;
    Ok(())
}

fn cut_off_in_mid_swap() -> anyhow::Result<()> {
    say("== a swap is killed: the link leads to the state directory");
    install("B")?;
    let pfs = igb_pfs()?;
    let reload = NicDriver::new(["reload"]).quietly().start()?;
    journal::wait_for_step(&reload, journal::loads("igb"))?;
    reload.signal("KILL")?;
    ensure!(reload.wait()?.was_killed(), "it was not killed");
    let target = fs::read_link(PATH).with_context(|| format!("{PATH} is no link"))?;
    ensure!(target.starts_with(STATE_DIR), "the link leads to {}", target.display());
    ensure!(is_blacklisted("igb")?, "modprobe does not follow the link");

    say("== a reset: the state directory is gone");
    for module in ["igbvf", "igb"] {
        if Path::new("/sys/module").join(module).exists() {
            command("modprobe", ["-r", module])?;
        }
    }
    fs::remove_dir_all(STATE_DIR).with_context(|| format!("cannot remove {STATE_DIR}"))?;
    fs::symlink_metadata(PATH).context("nothing was left on the disk")?;
    ensure!(!is_blacklisted("igb")?, "the blacklist has outlived the boot");
    // As udev does at boot, for each device.
    for pf in &pfs {
        let alias = read(pci_device(pf).join("modalias"))?;
        command("modprobe", ["-b", &alias])?;
    }
    boot::settle_udev()?;
    ensure!(Path::new("/sys/module/igb").exists(), "no driver came up although the link leads nowhere");

    say("== the next start");
    finish("B")?;
    ensure!(!is_there(), "{PATH} was left behind");
    report("a link that leads nowhere after a reset: modprobe passes over it, and the next start removes it");
    Ok(())
}

fn of_other_container() -> anyhow::Result<()> {
    for phase in ["reload", "restore-sriov", "terminate"] {
        say(&format!("== {phase}: another driver container has left its blacklist"));
        write(PATH, OF_OTHER_CONTAINER)?;
        NicDriver::new([phase]).run()?.expect(Exit::Success)?;
        ensure!(!is_there(), "{phase} has not removed {PATH}");
    }
    report("another driver container's blacklist: removed by reload, restore-sriov and terminate");
    Ok(())
}

fn somebody_elses() -> anyhow::Result<()> {
    say("== somebody else's file is in the blacklist's place");
    write(PATH, FOREIGN)?;
    NicDriver::new(["reload"]).run()?.expect(Exit::Success)?;
    is_untouched()?;
    drivers::new_container()?;
    install("A")?;
    let before = Nics::observe()?;
    for phase in ["preflight", "reload"] {
        let told = NicDriver::new([phase]).run()?.expect(Exit::Blocked)?;
        told.expect_words(&[PATH, "neither this program's nor a driver container's"])?;
        is_untouched()?;
    }
    NicDriver::new(["terminate"]).run()?.expect(Exit::Success)?;
    is_untouched()?;

    say("== somebody else's link is");
    let elsewhere = "/etc/lab-blacklist";
    fs::rename(PATH, elsewhere).context("cannot move the file")?;
    symlink(elsewhere, PATH).context("cannot make the link")?;
    NicDriver::new(["reload"]).run()?.expect(Exit::Blocked)?.expect_words(&[PATH])?;
    is_untouched()?;
    let differences = before.differences(&Nics::observe()?);
    ensure!(differences.is_empty(), "{differences}");
    drivers::expect_loaded(&drivers::version("B")?)?;

    fs::remove_file(PATH).context("cannot remove the link")?;
    finish("A")?;
    ensure!(!is_there(), "{PATH} was left behind");
    report("somebody else's file or link: not touched, not written through, named, and nothing was swapped");
    Ok(())
}

fn is_untouched() -> anyhow::Result<()> {
    ensure!(read(PATH)? == FOREIGN.trim_end(), "{PATH} was changed");
    Ok(())
}

/// Also a link that leads nowhere is.
fn is_there() -> bool {
    Path::new(PATH).symlink_metadata().is_ok()
}

/// By modprobe's own word, which must also end well with a link that leads nowhere.
fn is_blacklisted(module: &str) -> anyhow::Result<bool> {
    let configuration = command("modprobe", ["--showconfig"])?;
    Ok(configuration.lines().any(|line| line == format!("blacklist {module}")))
}

fn finish(letter: &str) -> anyhow::Result<()> {
    for phase in ["reload", "restore-sriov"] {
        NicDriver::new([phase]).run()?.expect(Exit::Success)?;
    }
    drivers::expect_loaded(&drivers::version(letter)?)
}

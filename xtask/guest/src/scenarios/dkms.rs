//! A driver that the distribution's dkms has built, in an image of the distribution on the host: this machine has what that left,
//! and the same dkms. It is installed, swapped to, and removed again by dkms itself on the way back to the inbox driver.

use std::path::Path;

use anyhow::ensure;
use lab_guest::wiring::BUILT_PACKAGES;
use nic_driver::Exit;

use crate::command::run as command;
use crate::drivers::{self, Flow};
use crate::guest::Guest;
use crate::observe::Nics;
use crate::program::NicDriver;
use crate::{say, vfs};

/// The letter of the version that dkms built.
const LETTER: &str = "D";

pub(crate) fn run(guest: &Guest) -> anyhow::Result<()> {
    drivers::pretend_distribution(Flow::Deb)?;
    let inbox = drivers::loaded("igb")?;
    let before = vfs::configure_all()?;
    let version = drivers::version_in(BUILT_PACKAGES, LETTER)?;
    let packages = drivers::folder_in(BUILT_PACKAGES, LETTER, Flow::Deb);
    let words = ["install", "--use-dkms", "packages"].map(Path::new);
    NicDriver::new(words.into_iter().chain([&*packages])).run()?.expect(Exit::Success)?;
    let status = || command("dkms", ["status", "-k", guest.kernel()]);
    ensure!(status()?.trim().ends_with(": installed"), "dkms has not built the driver: {}", status()?);
    NicDriver::new(["reload"]).run()?.expect(Exit::Success)?;
    NicDriver::new(["restore-sriov"]).run()?.expect(Exit::Success)?;
    drivers::expect_loaded(&version)?;
    expect_equal(&before, "the driver that dkms built")?;

    NicDriver::new(["terminate", "--restore-driver"]).run()?.expect(Exit::Success)?;
    ensure!(drivers::loaded("igb")? == inbox, "the loaded igb is not the inbox one");
    expect_equal(&before, "the inbox driver")?;
    ensure!(status()?.trim().is_empty(), "dkms still has: {}", status()?);
    for module in version.srcversions.keys() {
        let file = command("modinfo", ["-F", "filename", module])?;
        ensure!(file.contains("/kernel/drivers/"), "modprobe would load {}", file.trim());
    }
    Ok(())
}

fn expect_equal(before: &Nics, under: &str) -> anyhow::Result<()> {
    let differences = before.differences(&Nics::observe()?);
    ensure!(differences.is_empty(), "under {under}: {differences}");
    say(&format!("under {under}, all {} VFs are what they were", before.vf_count()));
    Ok(())
}

//! Shows that the lab's driver packages are what vendors' are: the real package managers install them, depmod prefers
//! their modules to the inbox ones, and modprobe loads them.

use std::path::Path;

use anyhow::{Context as _, ensure};

use crate::command::run as command;
use crate::drivers::{self, Flow};
use crate::guest::Guest;
use crate::{say, vfs};

pub(crate) fn run(guest: &Guest) -> anyhow::Result<()> {
    let inbox = drivers::loaded("igb")?;
    for flow in [Flow::Rpm, Flow::Deb] {
        drivers::pretend_distribution(flow)?;
        for letter in ["A", "B"] {
            let version = drivers::version(letter)?;
            install(flow, &drivers::only_file(&drivers::folder(letter, flow))?)?;
            command("depmod", [guest.kernel()])?;
            vfs::swap_driver_by_hand()?;
            command("modprobe", ["igbvf"])?;
            drivers::expect_loaded(&version)?;
            say(&format!("{flow:?} {letter}: {} is loaded", version.version));
            remove(flow)?;
        }
        command("depmod", [guest.kernel()])?;
        vfs::swap_driver_by_hand()?;
        ensure!(
            drivers::loaded("igb")? == inbox,
            "{flow:?}: the packages were removed, but the inbox igb did not come back"
        );
    }
    Ok(())
}

fn install(flow: Flow, file: &Path) -> anyhow::Result<()> {
    let file = file.to_str().context("a package's path is no UTF-8")?;
    match flow {
        Flow::Rpm => command("rpm", ["-ivh", "--replacepkgs", "--nodeps", file])?,
        Flow::Deb => command("apt-get", ["install", "-y", file])?,
    };
    Ok(())
}

fn remove(flow: Flow) -> anyhow::Result<()> {
    match flow {
        Flow::Rpm => command("rpm", ["-e", "lab-igb-modules"])?,
        Flow::Deb => command("apt-get", ["remove", "-y", "lab-igb-modules"])?,
    };
    Ok(())
}

//! A driver that is installed, and a machine that is as it was under it.

use anyhow::{Context as _, bail};
use nic_driver::Exit;

use crate::command::ip_batch;
use crate::drivers::{self, Flow};
use crate::netdevs::swap_names;
use crate::observe::{Nics, igb_pfs, netdev_of, vfs_of};
use crate::program::{FAMILY, NicDriver, store};
use crate::{boot, image, vfs};

/// VFs, two of them with swapped names, and a driver that was exchanged once.
pub(crate) fn set_up(vfs_per_pf: u32) -> anyhow::Result<Nics> {
    drivers::pretend_distribution(Flow::Rpm)?;
    let before = configure(vfs_per_pf)?;
    install("A")?;
    finish("A", &before)?;
    Ok(before)
}

/// The same in a container whose image has the driver.
pub(crate) fn set_up_image(kernel: &str, vfs_per_pf: u32) -> anyhow::Result<Nics> {
    let before = configure(vfs_per_pf)?;
    image::become_container(kernel, Flow::Deb)?;
    image::put_driver(kernel, "A")?;
    finish("A", &before)?;
    Ok(before)
}

fn configure(vfs_per_pf: u32) -> anyhow::Result<Nics> {
    vfs::configure_each(vfs_per_pf)?;
    for pf in igb_pfs()? {
        let vfs = vfs_of(&pf)?;
        let [(_, first), (_, second), ..] = vfs.as_slice() else { bail!("{pf} has fewer than two VFs") };
        let (first, second) = (netdev_of(first)?, netdev_of(second)?);
        ip_batch(&format!("link set dev {first} down\nlink set dev {second} down\n"))?;
        swap_names(&first, &second)?;
        ip_batch(&format!("link set dev {first} up\nlink set dev {second} up\n"))?;
    }
    boot::settle_udev()?;
    Nics::observe()
}

pub(crate) fn is_loaded(letter: &str) -> anyhow::Result<bool> {
    Ok(drivers::expect_loaded(&drivers::version(letter)?).is_ok())
}

/// Installs a driver, in a container of its own. `name` is a version's letter, or that of a driver that is broken.
pub(crate) fn install(name: &str) -> anyhow::Result<()> {
    let folder = drivers::folder(name, Flow::Rpm);
    // A container's package database goes with it; the modules stay.
    drivers::new_container()?;
    NicDriver::install(&folder).quietly().run()?.expect(Exit::Success)?;
    Ok(())
}

/// Whatever has been done: this driver runs, and the machine is what it was.
pub(crate) fn finish(letter: &str, before: &Nics) -> anyhow::Result<()> {
    for phase in ["reload", "restore-sriov"] {
        NicDriver::new([phase]).quietly().run()?.expect(Exit::Success)?;
    }
    drivers::expect_loaded(&drivers::version(letter)?)?;
    before.expect_unchanged()
}

/// Whether the stored snapshot is armed.
pub(crate) fn is_armed() -> anyhow::Result<bool> {
    Ok(store(FAMILY).snapshot()?.context("there is no snapshot")?.is_armed())
}

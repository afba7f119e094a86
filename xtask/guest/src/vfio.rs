//! A VF given to user space through VFIO, and a process that has it open, as a virtual machine has.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, ensure};

use crate::command::run as command;
use crate::observe::pci_device;
use crate::{say, vfs, write};

/// A process that has a VF's group, or another device file, open.
pub(crate) struct Opened {
    process: Child,
    file: PathBuf,
}

/// Gives a VF to user space, as a device plugin does.
pub(crate) fn bind_to_vfio(vf: &str) -> anyhow::Result<()> {
    bind_to(vf, "vfio-pci")
}

/// Gives a VF to another driver, whose module has its name.
pub(crate) fn bind_to(vf: &str, driver: &str) -> anyhow::Result<()> {
    command("modprobe", [driver])?;
    let device = pci_device(vf);
    if device.join("driver").exists() {
        write(device.join("driver/unbind"), vf)?;
    }
    write(device.join("driver_override"), driver)?;
    vfs::bind(vf, driver)
}

/// Opens the VF's group, for as long as the process lives.
pub(crate) fn open_group(vf: &str) -> anyhow::Result<Opened> {
    open_file(&group_of(vf)?)
}

/// The file of the VF's group.
pub(crate) fn group_of(vf: &str) -> anyhow::Result<PathBuf> {
    let group = fs::read_link(pci_device(vf).join("iommu_group")).context("the VF has no IOMMU group")?;
    Ok(Path::new("/dev/vfio").join(group.file_name().context("a group without a number")?))
}

/// Opens a device file, for as long as the process lives.
pub(crate) fn open_file(file: &Path) -> anyhow::Result<Opened> {
    let open = fs::File::options().read(true).write(true).open(file);
    let open = open.with_context(|| format!("cannot open {}", file.display()))?;
    hold(open.into(), file)
}

/// Gives what is open, called `file`, to a process of its own, and closes it here.
pub(crate) fn hold(open: OwnedFd, file: &Path) -> anyhow::Result<Opened> {
    let file = file.to_owned();
    let user = Command::new("sleep").arg("3600").stdin(Stdio::from(open)).spawn();
    let user = user.context("cannot start the VF's user")?;
    say(&format!("process {} has {} open", user.id(), file.display()));
    Ok(Opened { process: user, file })
}

impl Opened {
    /// The process's number.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Does `act` while the group's file is missing, as in a container that is older than the group.
    pub(crate) fn without_file<T>(&self, act: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        let away = self.file.with_extension("away");
        fs::rename(&self.file, &away).context("cannot take the group's file away")?;
        let done = act();
        fs::rename(&away, &self.file).context("cannot put the group's file back")?;
        done
    }

    /// Closes the file; an error when the process has not lived until now.
    pub(crate) fn let_go(mut self) -> anyhow::Result<()> {
        let ended = self.process.try_wait().context("cannot look at the VF's user")?;
        ensure!(ended.is_none(), "the VF's user has ended");
        self.process.kill().context("cannot end the VF's user")?;
        self.process.wait().context("cannot wait for the VF's user").map(drop)
    }
}

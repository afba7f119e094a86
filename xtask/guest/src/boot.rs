//! From the kernel's hand-over to a running udev, and the way back to power-off.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use lab_guest::wiring::SHARE_TAG;
use rustix::mount::{MountFlags, mount};
use rustix::system::{RebootCommand, reboot};

use crate::command::run;
use crate::{console, hung, write};

/// Mounts the kernel's filesystems.
pub(crate) fn mount_all() -> anyhow::Result<()> {
    for (kind, target) in [
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("devtmpfs", "/dev"),
        ("devpts", "/dev/pts"),
        ("tmpfs", "/dev/shm"),
        ("tmpfs", "/run"),
        ("tmpfs", "/tmp"),
        ("debugfs", "/sys/kernel/debug"),
        ("cgroup2", "/sys/fs/cgroup"),
    ] {
        fs::create_dir_all(target).with_context(|| format!("cannot create {target}"))?;
        mount(kind, target, kind, MountFlags::empty(), None::<&std::ffi::CStr>)
            .with_context(|| format!("cannot mount {kind} on {target}"))?;
    }
    Ok(())
}

/// Mounts the host's folder for results on /share.
pub(crate) fn mount_share() -> anyhow::Result<()> {
    run("modprobe", ["-a", "virtio_pci", "9pnet_virtio", "9p"])?;
    fs::create_dir_all("/share").context("cannot create /share")?;
    mount(SHARE_TAG, "/share", "9p", MountFlags::empty(), Some(c"trans=virtio,version=9p2000.L,msize=262144"))
        .context("cannot mount the shared folder on /share")
}

/// Makes addresses usable at once and the same after each return of a NIC.
pub(crate) fn settle_network_defaults() -> anyhow::Result<()> {
    run("modprobe", ["ipv6"]).or_else(|error| {
        if Path::new("/proc/sys/net/ipv6").exists() { Ok(String::new()) } else { Err(error) }
    })?;
    for scope in ["default", "all"] {
        // No duplicate address detection: a link-local address answers as soon as the link is up.
        write(format!("/proc/sys/net/ipv6/conf/{scope}/accept_dad"), "0")?;
        // 0 is EUI-64: the address follows from the MAC address, so that it returns with it.
        write(format!("/proc/sys/net/ipv6/conf/{scope}/addr_gen_mode"), "0")?;
    }
    run("ip", ["link", "set", "lo", "up"])?;
    Ok(())
}

/// Starts systemd-udevd, replays the events of the devices that are there, and waits until it is done with them.
pub(crate) fn start_udev() -> anyhow::Result<()> {
    start_udev_daemon()?;
    // The events of some hundred terminals and memory blocks would take seconds under software emulation.
    let subsystems = ["pci", "virtio", "net", "block", "auxiliary", "infiniband", "vfio"];
    let matches = subsystems.map(|subsystem| format!("--subsystem-match={subsystem}"));
    let trigger = ["trigger", "--type=devices", "--action=add"].map(str::to_owned);
    run("udevadm", trigger.into_iter().chain(matches))?;
    settle_udev()
}

/// Starts systemd-udevd alone. Devices that came without it stay as the kernel named them.
pub(crate) fn start_udev_daemon() -> anyhow::Result<()> {
    run("/lib/systemd/systemd-udevd", ["--daemon"]).map(drop)
}

/// Waits until udev's queue is empty. When it does not become so, the console tells what the machine is at.
pub(crate) fn settle_udev() -> anyhow::Result<()> {
    run("udevadm", ["settle", "--timeout=120"]).map(drop).inspect_err(|_| hung::tell_where_all_stand())
}

/// Ends the machine. Does not return, unless the kernel refuses; then PID 1 ends and the kernel panics, which the host
/// sees.
pub(crate) fn power_off() {
    rustix::fs::sync();
    if let Err(errno) = reboot(RebootCommand::PowerOff) {
        console(&format!("cannot power off: {errno}\n"));
    }
}

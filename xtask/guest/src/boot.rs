//! From the kernel's hand-over to a running udev, and the way back to power-off.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::Context as _;
use lab_guest::wiring::SHARE_TAG;
use rustix::mount::{
    MountFlags, MountPropagationFlags, mount, mount_bind_recursive, mount_change, mount_move,
};
use rustix::process::{chdir, chroot};
use rustix::system::{RebootCommand, reboot};

use crate::command::run;
use crate::{console, hung, say, write};

/// Makes the root a mount like any other, and shared, as it is on a node whose init is systemd (`src/core/main.c`).
///
/// The kernel unpacks an initramfs into a root that nothing can be pivoted away from (`Documentation/filesystems/
/// ramfs-rootfs-initramfs.rst`), and a runtime of containers pivots; so a second mount of the same files covers it. That has to
/// come before all other mounts and programs, which then begin in the new root and are shared with it. The kernel's own calls of
/// modprobe follow, since PID 1 and the kernel's threads have one root in common. Every scenario has it so, and not only those
/// with pods: it is what a node looks like, and nobody has to find out in which of two kinds of guest something shows.
pub(crate) fn make_root_a_mount() -> anyhow::Result<()> {
    let root = "/root-mount";
    fs::create_dir_all(root).with_context(|| format!("cannot create {root}"))?;
    mount_bind_recursive("/", root).context("cannot mount the root once more")?;
    chdir(root).with_context(|| format!("cannot change to {root}"))?;
    mount_move(".", "/").context("cannot move the root's mount")?;
    chroot(".").context("cannot change the root")?;
    chdir("/").context("cannot change to the new root")?;
    fs::remove_dir(root).with_context(|| format!("cannot remove {root}"))?;
    let shared = MountPropagationFlags::SHARED | MountPropagationFlags::REC;
    mount_change("/", shared).context("cannot share the root's mounts")
}

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
    // A shell's process substitution goes through it; systemd makes it (src/shared/dev-setup.c).
    symlink("/proc/self/fd", "/dev/fd").context("cannot make /dev/fd")
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
///
/// Once in some hundred runs the daemon of systemd 252 sleeps with an event in its queue and no worker, until something wakes it.
pub(crate) fn settle_udev() -> anyhow::Result<()> {
    let settle = || run("udevadm", ["settle", "--timeout=60"]).map(drop);
    settle().or_else(|error| {
        say(&format!("{error:#}; udevd is asked whether it is there, which has it look at its queue"));
        hung::tell_where_all_stand();
        run("udevadm", ["control", "--ping", "--timeout=30"])?;
        settle().inspect_err(|_| hung::tell_where_all_stand())
    })
}

/// Ends the machine. Does not return, unless the kernel refuses; then PID 1 ends and the kernel panics, which the host
/// sees.
pub(crate) fn power_off() {
    rustix::fs::sync();
    if let Err(errno) = reboot(RebootCommand::PowerOff) {
        console(&format!("cannot power off: {errno}\n"));
    }
}

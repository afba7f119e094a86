//! The driver container from its start to its end, as the first process of a namespace. Its image has the modules of the driver and no
//! others, put there by the package manager before it starts; the node's own are below `/host`.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use lab_guest::bench::Memory;
use nic_driver::Exit;

use crate::command::run as command;
use crate::drivers::{self, Flow, LoadedModule};
use crate::guest::Guest;
use crate::image;
use crate::observe::Nics;
use crate::pods::IS_READY;
use crate::program::{NicDriver, Running};
use crate::readiness::{self, READY};
use crate::{journal, memory, read, report, say, vfs, wait, write};

/// Few, since it is the course that matters here.
pub(super) const VFS: u32 = 2;
const VF_AND_PF_DRIVER: [&str; 2] = [vfs::VF_DRIVER, "igb"];
const PATIENCE: Duration = Duration::from_secs(300);
const HOLDER: &str = "/lab/packages/lab_holder.ko";
pub(super) const TERMINATION_LOG: &str = "/run/termination-log";
pub(super) const NAMES_RULE: &str = "/etc/udev/rules.d/77-mlnx-net-names.rules";

pub(crate) fn run(guest: &Guest) -> anyhow::Result<()> {
    let before = vfs::configure_each(VFS)?;
    let inbox = loaded()?;
    // Debian's kernels are of none of Red Hat's variants.
    image::become_container(guest.kernel(), Flow::Deb)?;
    prepare()?;
    let watch = readiness::watch(&before)?;

    say("== the first container: driver A");
    image::put_driver(guest.kernel(), "A")?;
    let container = start("false")?;
    until_ready(&container)?;
    expect(&before, "A")?;
    orphans_are_taken(&container)?;
    report(&format!("while it waits: {}", Memory::summary(&memory::of_container(container.pid_1()?)?)));
    headers_are_mounted(&container)?;
    for asked in ["startup", "ready", "live"] {
        NicDriver::new(["probe", asked]).run()?.expect(Exit::Success)?;
    }
    ensure!(Path::new(NAMES_RULE).exists(), "there is no rule that keeps names");
    stop(container)?;
    ensure!(!Path::new(NAMES_RULE).exists(), "the rule that keeps names is there without a driver container");
    expect(&before, "A")?;

    say("== the next one with the same driver: nothing is due");
    let container = start("false")?;
    until_ready(&container)?;
    let said = container.said();
    ensure!(!said.contains("step=unload"), "modules were unloaded for nothing: {said}");
    stop(container)?;

    say("== driver B, while another module holds the driver");
    image::put_driver(guest.kernel(), "B")?;
    command("insmod", [HOLDER, "driver=igb"])?;
    let container = start("false")?;
    container.wait_until_it_says("not ready, and waits")?;
    let message = read(TERMINATION_LOG)?;
    // It holds a reference, and no list names it.
    ensure!(
        message.contains("unknown user of igb"),
        "the termination message does not tell why: {message:?}"
    );
    ensure!(!Path::new(READY).exists(), "the node is ready while the driver is held");
    for (asked, expected) in [("startup", Exit::Failed), ("ready", Exit::Failed), ("live", Exit::Success)] {
        NicDriver::new(["probe", asked]).run()?.expect(expected)?;
    }
    command("rmmod", ["lab_holder"])?;
    until_ready(&container)?;
    expect(&before, "B")?;
    ensure!(read(TERMINATION_LOG)?.is_empty(), "the termination message stays although the node is ready");

    say("== killed when it was ready, and in mid-swap to A");
    kill(container)?;
    ensure!(Path::new(READY).exists(), "a container that is killed takes its readiness file along");
    let lines = journal::lines()?.len();
    image::put_driver(guest.kernel(), "A")?;
    let container = start("false")?;
    journal::wait_for_unload_behind(lines, "igb")?;
    ensure!(
        container.said().contains("a new reload begins in a container that was started again"),
        "the log does not tell that no drain came before: {}",
        container.said()
    );
    ensure!(!Path::new(READY).exists(), "the node is ready while its driver is swapped");
    kill(container)?;
    let container = start("false")?;
    until_ready(&container)?;
    expect(&before, "A")?;
    stop(container)?;

    say("== told to stop while it waits");
    image::put_driver(guest.kernel(), "B")?;
    command("insmod", [HOLDER, "driver=igb"])?;
    let container = start("false")?;
    container.wait_until_it_says("not ready, and waits")?;
    stop(container)?;
    command("rmmod", ["lab_holder"])?;
    expect(&before, "A")?;

    say("== back to the inbox driver when it is told to stop");
    let container = start("true")?;
    until_ready(&container)?;
    expect(&before, "B")?;
    stop(container)?;
    ensure!(loaded()? == inbox, "the loaded modules are not the host's");
    before.expect_unchanged()?;

    let seen = watch.end()?;
    report(&format!("{} VFs: {seen}", before.vf_count()));
    seen.ensure_right()
}

/// What the kubelet and the image have made before the container starts.
pub(super) fn prepare() -> anyhow::Result<()> {
    write(TERMINATION_LOG, "")?;
    fs::create_dir_all("/usr/src/linux-headers").context("cannot create a folder of headers")
}

/// The two modules of the driver, as they are loaded.
pub(super) fn loaded() -> anyhow::Result<Vec<LoadedModule>> {
    VF_AND_PF_DRIVER.iter().map(|module| drivers::loaded(module)).collect()
}

fn start(restore_driver: &str) -> anyhow::Result<Running> {
    container(restore_driver).start()
}

/// The driver container's first process.
pub(super) fn container(restore_driver: &str) -> NicDriver {
    NicDriver::new(["run", "precompiled", "--termination-log", TERMINATION_LOG])
        .with_env("RESTORE_DRIVER_ON_POD_TERMINATION", restore_driver.to_owned())
        .with_env("CREATE_IFNAMES_UDEV", "true".to_owned())
        .with_env("MLX_UDEV_RULES_FILE", NAMES_RULE.to_owned())
        .being_pid_1()
}

pub(super) fn until_ready(container: &Running) -> anyhow::Result<()> {
    wait::until("the node is ready", PATIENCE, || {
        // The file of a container before this one may still be there.
        let is_ready = container.said().contains(IS_READY);
        Ok((is_ready && Path::new(READY).exists()).then_some(()))
    })
}

/// As the kubelet does it.
pub(super) fn stop(container: Running) -> anyhow::Result<()> {
    container.signal_pid_1("TERM")?;
    container.wait()?.expect(Exit::Success)?;
    ensure!(!Path::new(READY).exists(), "the node is ready without a driver container");
    Ok(())
}

/// As the kernel does it to a container that takes too much memory.
fn kill(container: Running) -> anyhow::Result<()> {
    container.signal_pid_1("KILL")?;
    let ended = container.wait()?;
    ensure!(!ended.is(Exit::Success), "a container that was killed ended with {}", ended.ended_with());
    Ok(())
}

pub(super) fn expect(before: &Nics, letter: &str) -> anyhow::Result<()> {
    drivers::expect_loaded(&drivers::version(letter)?)?;
    before.expect_unchanged()
}

pub(super) fn headers_are_mounted(container: &Running) -> anyhow::Result<()> {
    let mounted = read(format!("/proc/{}/mountinfo", container.pid_1()?))?;
    let place = format!("{}/usr/src", nic_driver::default_paths::DRIVERS_MOUNT);
    let is_there = mounted.lines().any(|line| line.split_whitespace().nth(4) == Some(&place));
    ensure!(is_there, "nothing is mounted on {place}:\n{mounted}");
    Ok(())
}

/// What has lost its parent in the container becomes a child of PID 1, which takes its end.
fn orphans_are_taken(container: &Running) -> anyhow::Result<()> {
    let pid_1 = container.pid_1()?;
    let target = format!("--target={pid_1}");
    // The shell in the background is an orphan as soon as the one before it has ended.
    command("nsenter", [&target, "--pid", "sh", "-c", "sleep 1 >/dev/null 2>&1 &"])?;
    let children = || read(format!("/proc/{pid_1}/task/{pid_1}/children"));
    let with_orphan = children()?;
    ensure!(with_orphan.split_whitespace().count() == 2, "PID 1 has the children {with_orphan:?}, not two");
    thread::sleep(Duration::from_secs(3));
    let left = children()?;
    ensure!(left.split_whitespace().count() == 1, "PID 1 has the children {left:?}, not one");
    Ok(())
}

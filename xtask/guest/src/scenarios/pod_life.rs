//! A driver container's pod told to stop, killed and held up: what the kubelet and the runtime see of it.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use lab_guest::bench::Memory;
use lab_guest::pod::ProbeKind;
use rustix::process::Signal;

use crate::command::run as command;
use crate::guest::Guest;
use crate::kubelet::events::{End, What};
use crate::kubelet::running::Deleted;
use crate::pods::{DRIVER, IS_READY, Node, RESTORE_DRIVER, System};
use crate::readiness::READY;
use crate::{journal, memory, report, wait, write};

const PATIENCE: Duration = Duration::from_secs(600);
/// The family igb with a stack above it, as the node's administrator would give it to the container, below /etc.
const IGB: &str = include_str!("../../../../crates/nic-driver/families/igb.toml");
const STACK: &str = "stack = [\"ib_core\", \"iw_cm\", \"ib_cm\", \"rdma_cm\"]\n";
const FAMILY: &str = "/etc/lab-storage.toml";
const STORAGE: &str = "nvme_rdma";
/// The GPU driver's module, and where the host has put one that stands for it.
const PEER: &str = "nvidia_peermem";
const GPU: &str = "/lab/packages/nvidia_peermem.ko";
const HOLDER: &str = "/lab/packages/lab_holder.ko";
/// How long a module is in the way.
const HELD: Duration = Duration::from_secs(60);
/// Few, since it is the course that matters here.
const VFS: u32 = 2;

pub(crate) fn run(guest: &Guest) -> anyhow::Result<()> {
    let mut node = Node::set_up(System::Debian, VFS, None)?;
    state_on_the_containers_layer(&mut node)?;
    blocked_for_a_minute(&mut node)?;
    beside_the_gpu_driver(guest, &mut node)?;
    stopped_while_blocked(&mut node)?;
    stopped_in_mid_swap(&mut node)?;
    killed_when_ready(&mut node)?;
    back_to_inbox_within_grace(&mut node)?;
    node.end(guest)
}

/// A state directory that would go with the container: nothing is begun, and the container does not get ready.
fn state_on_the_containers_layer(node: &mut Node) -> anyhow::Result<()> {
    let folder = "/var/lib/of-this-container";
    let started = node.start("precompiled-A", &[("NIC_DRIVER_STATE_DIR", folder)])?;
    let named = format!("the state directory {folder} is on the container's own layer");
    started.pod.wait_until_it_says(DRIVER, &named, PATIENCE)?;
    ensure!(!started.pod.is_ready(DRIVER)?, "the pod is ready with a state directory that goes with it");
    started.pod.delete()?;
    node.expect_inbox()
}

/// A storage module is in the way for a minute: no restart, and ready by itself.
fn blocked_for_a_minute(node: &mut Node) -> anyhow::Result<()> {
    write(FAMILY, &format!("{IGB}{STACK}storage = [\"{STORAGE}\"]\n"))?;
    command("modprobe", [STORAGE])?;
    let family = format!("/host{FAMILY}");
    let started = node.start("precompiled-A", &[("NIC_DRIVER_FAMILY", &family)])?;
    started.pod.wait_until_it_says(DRIVER, "not ready, and waits", PATIENCE)?;
    let since = Instant::now();
    let freed = wait::until("the minute is over", HELD + PATIENCE, || {
        ensure!(!started.pod.is_ready(DRIVER)?, "the pod is ready while its driver cannot be loaded");
        Ok((since.elapsed() >= HELD).then(|| command("modprobe", ["-r", STORAGE])))
    })?;
    freed?;
    let said = started.pod.log(DRIVER)?;
    ensure!(
        said.contains(&format!("the storage module {STORAGE} is loaded")),
        "the log does not tell which storage module is in the way: {said}"
    );
    node.until_ready(&started, "A", PATIENCE)?;
    let failed = |event: &crate::kubelet::events::Event| {
        matches!(&event.what, What::ProbeFailed(ProbeKind::Startup, _))
    };
    ensure!(started.pod.events().iter().any(failed), "the startup probe has not failed meanwhile");
    node.delete(started).map(drop)
}

/// The GPU driver's module is on top of the stack, and nobody uses it: gone before the driver is, and there again when the node
/// is ready, which is when the GPU driver's container looks for it.
fn beside_the_gpu_driver(guest: &Guest, node: &mut Node) -> anyhow::Result<()> {
    let extra = format!("/lib/modules/{}/extra", guest.kernel());
    fs::create_dir_all(&extra).with_context(|| format!("cannot create {extra}"))?;
    fs::copy(GPU, format!("{extra}/{PEER}.ko")).with_context(|| format!("cannot copy {GPU}"))?;
    command("depmod", [guest.kernel()])?;
    command("modprobe", [PEER])?;
    write(FAMILY, &format!("{IGB}{STACK}peers = [\"{PEER}\"]\n"))?;
    let lines = journal::lines()?.len();
    let started = node.start("precompiled-B", &[("NIC_DRIVER_FAMILY", &format!("/host{FAMILY}"))])?;
    let module = Path::new("/sys/module").join(PEER);
    let at_readiness = wait::until("readiness is given", PATIENCE, || {
        Ok(Path::new(READY).exists().then(|| module.exists()))
    })?;
    ensure!(at_readiness, "{PEER} is not loaded when the node is ready");
    node.until_ready(&started, "B", PATIENCE)?;
    journal::wait_for_unload_behind(lines, PEER)?;
    node.delete(started)?;
    // Whoever ends keeps the driver, and what is on top of it.
    ensure!(module.exists(), "{PEER} went with the pod");
    command("modprobe", ["-r", PEER]).map(drop)
}

/// Told to stop while something is in the way: at once, whatever the grace period.
fn stopped_while_blocked(node: &mut Node) -> anyhow::Result<()> {
    command("insmod", [HOLDER, "driver=igb"])?;
    for grace in [90, 300] {
        let started = node.start_with("precompiled-A", &[], Some(grace))?;
        started.pod.wait_until_it_says(DRIVER, "not ready, and waits", PATIENCE)?;
        let ended = node.delete(started)?;
        ensure!(
            ended.message.contains("unknown user of igb"),
            "the termination message does not tell what was in the way: {:?}",
            ended.message
        );
        tell(&format!("grace {grace} s, told to stop while it waits"), &ended, grace)?;
    }
    command("rmmod", ["lab_holder"])?;
    node.expect("B")
}

/// Told to stop in mid-swap: what was begun is finished, the VFs are there, and nobody has to kill it.
fn stopped_in_mid_swap(node: &mut Node) -> anyhow::Result<()> {
    for (grace, to) in [(90, "A"), (300, "B")] {
        let lines = journal::lines()?.len();
        let started = node.start_with(&format!("precompiled-{to}"), &[], Some(grace))?;
        journal::wait_for_unload_behind(lines, "igb")?;
        tell(&format!("grace {grace} s, told to stop in mid-swap"), &node.delete(started)?, grace)?;
        node.expect(to)?;
    }
    Ok(())
}

/// Killed as by the kernel for its memory, when the node is ready: the next instance exchanges nothing.
fn killed_when_ready(node: &mut Node) -> anyhow::Result<()> {
    let started = node.start("precompiled-A", &[])?;
    node.until_ready(&started, "A", PATIENCE)?;
    let waiting = memory::of_container(started.pod.pid_1(DRIVER)?)?;
    report(&format!("while it waits: {}", Memory::summary(&waiting)));
    started.pod.kill(DRIVER, Signal::KILL)?;
    let again = started.pod.wait_for_event("the container starts again", PATIENCE, |event| {
        event.instance == 1 && event.what == What::Started
    });
    again?;
    started.pod.wait_until_instance_says(DRIVER, 1, IS_READY, PATIENCE)?;
    let said = started.pod.log_of_instance(DRIVER, 1)?;
    ensure!(!said.contains("step=unload"), "modules were unloaded for nothing: {said}");
    ensure!(started.pod.restarts(DRIVER)? == 1, "it was started again more than once");
    let end = started.pod.last_end(DRIVER)?;
    ensure!(end == Some(End::Signalled(9)), "the first instance ended with {end:?}");
    let message = started.pod.termination_message(DRIVER)?.unwrap_or_default();
    ensure!(message.is_empty(), "what was killed when it was ready left the message {message:?}");
    node.expect("A")?;
    node.delete(started).map(drop)
}

/// Back to the inbox driver within 90 s.
fn back_to_inbox_within_grace(node: &mut Node) -> anyhow::Result<()> {
    let grace = 90;
    let started = node.start_with("precompiled-B", &[(RESTORE_DRIVER, "true")], Some(grace))?;
    node.until_ready(&started, "B", PATIENCE)?;
    tell(&format!("grace {grace} s, back to the inbox driver"), &node.delete(started)?, grace)?;
    node.expect_inbox()
}

fn tell(what: &str, ended: &Deleted, grace: u32) -> anyhow::Result<()> {
    let time = ended.time.context("the container was not running")?;
    report(&format!("{what}: {:.1} s from SIGTERM to the end, as the runtime saw it", time.as_secs_f64()));
    ensure!(time < Duration::from_secs(grace.into()), "{what}: it took {time:?}");
    ensure!(ended.restarts == 0, "{what}: the container had been started again {} times", ended.restarts);
    Ok(())
}

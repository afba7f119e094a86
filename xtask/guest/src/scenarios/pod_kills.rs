//! The driver container of a pod is killed at each line that a whole `run` writes to the journal, from its start to its end on
//! SIGTERM, and the kubelet starts it again. Each time the node becomes ready by itself and is what it was.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use nic_driver::state::KILL_AT_LINE;

use crate::guest::Guest;
use crate::kubelet::events::End;
use crate::pods::{DRIVER, IS_READY, Node, Started, System, headers_mounts};
use crate::readiness::READY;
use crate::{journal, report, say};

const PATIENCE: Duration = Duration::from_secs(600);
const VFS: u32 = 2;
/// How often a container may have been started again when its node is ready.
const RESTARTS: u32 = 2;
/// The exit code of what SIGKILL has ended, whose code PID 1 hands on.
const KILLED: i32 = 137;

pub(crate) fn run(guest: &Guest) -> anyhow::Result<()> {
    let kills: usize = guest.parameter("kills")?;
    let from: usize = guest.parameter("from")?;
    let mut node = Node::set_up(System::Debian, VFS, None)?;
    say("== a whole run from A to B that nobody kills");
    let whole = |node: &mut Node, pod: &str| {
        let before = journal::lines()?.len();
        let started = node.start(pod, &[])?;
        until_ready(&started, 0)?;
        let ready = journal::lines()?.len();
        node.delete(started)?;
        anyhow::Ok((ready - before, journal::lines()?.len() - before))
    };
    whole(&mut node, "precompiled-A")?;
    let (ready, all) = whole(&mut node, "precompiled-B")?;
    say(&format!("{all} lines, ready behind line {ready}"));
    let points: Vec<usize> = (from..=all).collect();
    let step = if kills == 0 { 1 } else { points.len().div_ceil(kills).max(1) };
    let mut most = 0;
    let mut survived = 0;
    for (line, letter) in points.iter().step_by(step).zip(["A", "B"].into_iter().cycle()) {
        say(&format!("== killed at line {line} of {all}, on the way to {letter}"));
        let restarts = one_point(&mut node, *line, ready, letter).with_context(|| format!("line {line}"))?;
        most = most.max(restarts);
        survived += 1;
    }
    report(&format!(
        "a whole run in a pod: {all} lines, killed at {survived} of them, {survived} survived; at most {most} restarts"
    ));
    node.end(guest)
}

/// One kill; returns how often the container was started again.
fn one_point(node: &mut Node, line: usize, ready: usize, letter: &str) -> anyhow::Result<u32> {
    let pod = format!("precompiled-{letter}");
    let started = node.start_killed(&pod, KILL_AT_LINE, &line.to_string())?;
    if line > ready {
        // The kill is to fall into its end.
        until_ready(&started, 0)?;
        let ended = started.pod.delete()?;
        let [driver] = ended.as_slice() else { anyhow::bail!("the pod has {} containers", ended.len()) };
        if driver.end == End::Exited(0) {
            say("this time it had fewer lines");
        } else {
            ensure!(driver.end.code() == KILLED, "the container ended with {}", driver.end);
        }
        node.expect(letter)?;
        // Whoever comes next puts up with what is left, and leaves nothing.
        let next = node.start(&pod, &[])?;
        until_ready(&next, 0)?;
        is_right(node, letter)?;
        node.delete(next)?;
        return Ok(0);
    }
    until_ready(&started, 1)?;
    let restarts = started.pod.restarts(DRIVER)?;
    ensure!((1..=RESTARTS).contains(&restarts), "the container was started again {restarts} times");
    is_right(node, letter)?;
    node.delete(started)?;
    node.expect(letter)?;
    Ok(restarts)
}

fn until_ready(started: &Started, instance: u32) -> anyhow::Result<()> {
    started.pod.wait_until_instance_says(DRIVER, instance, IS_READY, PATIENCE)
}

fn is_right(node: &Node, letter: &str) -> anyhow::Result<()> {
    ensure!(Path::new(READY).exists(), "there is no readiness file");
    let mounts = headers_mounts()?;
    ensure!(mounts == 1, "the headers are mounted {mounts} times");
    node.expect(letter)
}

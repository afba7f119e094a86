//! A node with configured VFs whose driver comes in pods, as the kubelet runs them: what scenarios with pods have in common.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use lab_guest::pod::{LAYERS, Pod, ProbeKind};
use nic_driver::default_paths::DRIVERS_MOUNT;

use crate::command::run as command;
use crate::drivers::{self, LoadedModule};
use crate::guest::Guest;
use crate::kubelet::events::{End, What};
use crate::kubelet::running::{Deleted, RunningPod};
use crate::kubelet::{self, Kubelet};
use crate::observe::Nics;
use crate::pinger::{self, Pinger};
use crate::program::{FAMILY, snapshot_of};
use crate::readiness::{self, READY, Watch};
use crate::{journal, read, report, say, vfs, wait};

/// The driver's container in the manifests.
pub(crate) const DRIVER: &str = "nic-driver";
/// What the program says when the node is ready.
pub(crate) const IS_READY: &str = "ready; waiting to be told to stop";
/// How long a path may take to carry again once the node is ready: the rest is for a slow machine.
const CARRIES_AGAIN: Duration = Duration::from_secs(10);
/// How long the kubelet may take to see that a node is ready: the periods of its probes.
const SEEN: Duration = Duration::from_secs(60);
/// The variable by which a driver container goes back to the inbox driver at its end.
pub(crate) const RESTORE_DRIVER: &str = "RESTORE_DRIVER_ON_POD_TERMINATION";
/// Kubernetes shows the node no mount of a pod that is not privileged.
const WITHOUT_HEADERS: &str = "least-privilege";
/// Where the layers that images have in common are.
const DRIVE: &str = "/dev/vda";

/// What the node is by its os-release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum System {
    Debian,
    Rhel,
    OpenShift,
}

/// The node.
#[derive(Debug)]
pub(crate) struct Node {
    kubelet: Kubelet,
    before: Nics,
    inbox: LoadedModule,
    /// From a peer to the first VF, and between two NICs that nobody touches.
    pingers: Option<(Pinger, Pinger)>,
    ping: Option<Duration>,
    /// Until it is judged.
    readiness: Option<Watch>,
    mounts: BTreeSet<String>,
    steps: Vec<Step>,
}

/// One step of a night, when it is over.
#[derive(Debug)]
struct Step {
    title: String,
    from: f64,
    to: f64,
}

/// A pod that was started, and when.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) pod: RunningPod,
    title: String,
    at: f64,
}

impl Node {
    /// A node with `vfs_per_pf` configured VFs under the inbox driver, which is pinged throughout with `ping` between two requests.
    pub(crate) fn set_up(system: System, vfs_per_pf: u32, ping: Option<Duration>) -> anyhow::Result<Self> {
        system.pretend()?;
        mount_layers()?;
        let inbox = drivers::loaded("igb")?;
        let before = vfs::configure_each(vfs_per_pf)?;
        say(&format!("{} VFs are configured under the inbox driver", before.vf_count()));
        Ok(Self {
            kubelet: Kubelet::new()?,
            inbox,
            ping,
            pingers: ping.map(pinger::across_and_beside).transpose()?,
            readiness: Some(readiness::watch(&before)?),
            before,
            mounts: mounts()?,
            steps: Vec::new(),
        })
    }

    /// Starts a pod that the host has made, with other values of its driver container's variables.
    pub(crate) fn start(&self, name: &str, variables: &[(&str, &str)]) -> anyhow::Result<Started> {
        self.start_with(name, variables, None)
    }

    /// The same with a variable that only its first instance has.
    pub(crate) fn start_killed(&self, name: &str, variable: &str, value: &str) -> anyhow::Result<Started> {
        let mut pod = self.kubelet.read(name)?;
        let driver = pod.containers.iter_mut().find(|container| container.name == DRIVER);
        let variable = format!("{variable}={value}");
        driver.with_context(|| format!("{name} has no container {DRIVER}"))?.first_env.push(variable);
        self.begin(pod, name.to_owned())
    }

    /// The same without any capability in its driver container.
    pub(crate) fn start_without_capabilities(&self, name: &str) -> anyhow::Result<Started> {
        let mut pod = self.kubelet.read(name)?;
        kubelet::drop_capabilities(&mut pod, DRIVER)?;
        self.begin(pod, format!("{name} without capabilities"))
    }

    /// The same with another grace period, in seconds.
    pub(crate) fn start_with(
        &self,
        name: &str,
        variables: &[(&str, &str)],
        grace: Option<u32>,
    ) -> anyhow::Result<Started> {
        let mut pod = self.kubelet.read(name)?;
        if let Some(grace) = grace {
            pod.grace = grace;
            kubelet::set_env(&mut pod, DRIVER, "NIC_DRIVER_GRACE", &grace.to_string())?;
        }
        for (variable, value) in variables {
            kubelet::set_env(&mut pod, DRIVER, variable, value)?;
        }
        let changed: Vec<_> = variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let title = format!("{name} {}", changed.join(" ")).trim_end().to_owned();
        self.begin(pod, title)
    }

    fn begin(&self, pod: Pod, title: String) -> anyhow::Result<Started> {
        say(&format!("== the pod {title}"));
        Ok(Started { at: pinger::now()?, pod: self.kubelet.start(pod)?, title })
    }

    /// Waits until the kubelet sees the pod's containers ready, which is to have come about without a restart, and compares.
    pub(crate) fn until_ready(
        &mut self,
        started: &Started,
        letter: &str,
        patience: Duration,
    ) -> anyhow::Result<()> {
        self.until_it_says(started, IS_READY, letter, patience)?;
        if started.title.starts_with(WITHOUT_HEADERS) { Ok(()) } else { headers_are_found() }
    }

    /// The same of another program, which says in these words that the node is ready, and whose headers are its own matter.
    pub(crate) fn until_it_says(
        &mut self,
        started: &Started,
        words: &str,
        letter: &str,
        patience: Duration,
    ) -> anyhow::Result<()> {
        let Started { pod, title, at } = started;
        pod.wait_until_it_says(DRIVER, words, patience)?;
        let to = pinger::now()?;
        ensure!(Path::new(READY).exists(), "{title}: there is no readiness file");
        if let Some((data, _)) = &self.pingers {
            data.wait_for_reply(CARRIES_AGAIN).context("VF 0 does not answer although the node is ready")?;
        }
        self.expect(letter)?;
        pod.wait_until_ready(SEEN)?;
        ensure!(pod.restarts(DRIVER)? == 0, "{title}: the driver container was started again");
        probes_were_right(pod)?;
        self.steps.push(Step { title: title.clone(), from: *at, to });
        Ok(())
    }

    /// An error unless this version of the driver runs, and every VF is what it was.
    pub(crate) fn expect(&self, letter: &str) -> anyhow::Result<()> {
        let expected = drivers::version(letter)?.version;
        for module in ["igb", "igbvf"] {
            let loaded = read(format!("/sys/module/{module}/version"))?;
            ensure!(loaded == expected, "{module} {loaded} is loaded, not {expected}");
        }
        self.expect_unchanged()
    }

    pub(crate) fn expect_unchanged(&self) -> anyhow::Result<()> {
        self.before.expect_unchanged()?;
        say(&format!("all {} VFs are what they were", self.before.vf_count()));
        Ok(())
    }

    /// An error unless the inbox driver runs, and every VF is what it was.
    pub(crate) fn expect_inbox(&self) -> anyhow::Result<()> {
        ensure!(drivers::loaded("igb")? == self.inbox, "the loaded igb is not the inbox one");
        self.expect_unchanged()
    }

    /// Deletes a pod, whose containers are to end well, and looks at what it leaves. Returns how its driver container ended.
    pub(crate) fn delete(&mut self, started: Started) -> anyhow::Result<Deleted> {
        let Started { pod, title, .. } = started;
        let logs = pod.logs().display().to_string();
        let was_ready = pod.is_ready(DRIVER)?;
        let from = pinger::now()?;
        let ended = pod.delete()?;
        command("cp", ["-r", &logs, "/share"])?;
        self.steps.push(Step { title: format!("the end of {title}"), from, to: pinger::now()? });
        for container in &ended {
            ensure!(
                container.end == End::Exited(0) && !container.was_killed,
                "{title}: the container {} ended with {}",
                container.container,
                container.end
            );
        }
        for Deleted { container, message, .. } in &ended {
            // What was held up says by what.
            ensure!(
                message.is_empty() || !was_ready,
                "{title}: the container {container} was ready, ended well and left {message:?}"
            );
        }
        ensure!(!Path::new(READY).exists(), "the node is ready without a driver container");
        self.no_mount_is_left()?;
        let driver = ended.into_iter().find(|container| container.container == DRIVER);
        driver.with_context(|| format!("{title} has no container {DRIVER}"))
    }

    /// Kills a pod with all that runs in it, as a deletion by force does: it can put nothing in order, and is not started again.
    pub(crate) fn kill(&self, started: Started) -> anyhow::Result<()> {
        let logs = started.pod.logs().display().to_string();
        say(&format!("  killed: {}", started.title));
        drop(started.pod);
        command("cp", ["-r", &logs, "/share"]).map(drop)
    }

    /// An error when something is mounted that was not before the first pod.
    pub(crate) fn no_mount_is_left(&self) -> anyhow::Result<()> {
        let left: Vec<_> = mounts()?.difference(&self.mounts).cloned().collect();
        ensure!(left.is_empty(), "mounts are left: {}", left.join(", "));
        Ok(())
    }

    /// Tells what the night was like; an error when something is wrong with it.
    pub(crate) fn end(mut self, guest: &Guest) -> anyhow::Result<()> {
        for file in [snapshot_of(FAMILY), journal::path()] {
            guest.keep(&file)?;
        }
        let mut lost = 0;
        if let Some((data, bystander)) = self.pingers.take() {
            let (data, bystander) = (data.stop()?, bystander.stop()?);
            let every = self.ping.unwrap_or_default().as_millis();
            report(&format!("Longest interruption of VF 0, measured by ping from a peer every {every} ms:"));
            for step in &self.steps {
                let outage = data.longest_outage(step.from, step.to).context("no replies during a step")?;
                report(&format!("  {:<44} {outage} of {:.2} s", step.title, step.to - step.from));
            }
            let sent = bystander.transmitted();
            lost = bystander.lost();
            report(&format!("NIC that is not touched: {sent} pings sent, {lost} lost"));
        } else {
            for step in &self.steps {
                report(&format!("  {:<44} {:.2} s", step.title, step.to - step.from));
            }
        }
        self.judge_readiness()?;
        ensure!(lost == 0, "the NIC that is not touched lost {lost} pings");
        Ok(())
    }

    /// Ends the watch of the readiness file: an error when the node was ever ready while its NICs were not what they were. From here on
    /// they may be.
    pub(crate) fn judge_readiness(&mut self) -> anyhow::Result<()> {
        let Some(watch) = self.readiness.take() else { return Ok(()) };
        let seen = watch.end()?;
        report(&format!(
            "{} VFs, equal after each of {} steps; {seen}",
            self.before.vf_count(),
            self.steps.len()
        ));
        seen.ensure_right()
    }
}

impl System {
    pub(crate) fn pretend(self) -> anyhow::Result<()> {
        let text = match self {
            Self::Debian => include_str!("../../../crates/nic-packages/tests/os-release/debian-12"),
            Self::Rhel => include_str!("../../../crates/nic-packages/tests/os-release/rhel-9.6"),
            Self::OpenShift => include_str!("../../../crates/nic-packages/tests/os-release/rhcos-4.19"),
        };
        drivers::write_os_release(text)
    }
}

/// What the kubelet's probes have said of a pod that has become ready: startup failed until the node was ready and then
/// passed, and the others have not failed since.
fn probes_were_right(pod: &RunningPod) -> anyhow::Result<()> {
    let events = pod.events();
    let passed = events.iter().position(|event| event.what == What::ProbePassed(ProbeKind::Startup));
    let passed = passed.context("the startup probe did not pass")?;
    for event in events.get(passed..).unwrap_or_default() {
        if matches!(event.what, What::ProbeFailed(..) | What::ProbeNotRun(..) | What::NotReady) {
            bail!("after the startup probe had passed: {} {}", event.container, event.what);
        }
    }
    Ok(())
}

/// All that is mounted, by place; what is mounted twice at one is told from what is once.
fn mounts() -> anyhow::Result<BTreeSet<String>> {
    let mut all = BTreeSet::new();
    for mut name in mount_places()? {
        while !all.insert(name.clone()) {
            name.push_str(" (once more)");
        }
    }
    Ok(all)
}

/// The place of each mount.
fn mount_places() -> anyhow::Result<Vec<String>> {
    let place = |line: &str| line.split(' ').nth(4).map(str::to_owned);
    let places = read("/proc/self/mountinfo")?.lines().map(place).collect::<Option<_>>();
    places.context("a line of mountinfo is too short")
}

/// As the GPU driver's container looks for them, from outside the pod.
fn headers_are_found() -> anyhow::Result<()> {
    let folder = Path::new(DRIVERS_MOUNT).join("usr/src/ofa_kernel");
    let link = fs::read_link(folder.join("default")).context("the headers are not seen on the node")?;
    ensure!(link.is_relative(), "the headers' link leads to {}, which nobody else has", link.display());
    ensure!(folder.join("default/Module.symvers").exists(), "the headers' link leads to nothing");
    Ok(())
}

/// How many mounts are on the place of the headers for other containers.
pub(crate) fn headers_mounts() -> anyhow::Result<usize> {
    let place = format!("{DRIVERS_MOUNT}/usr/src");
    Ok(mount_places()?.iter().filter(|mounted| **mounted == place).count())
}

/// Mounts what images have in common.
fn mount_layers() -> anyhow::Result<()> {
    command("modprobe", ["-a", "virtio_blk", "ext4", "overlay"])?;
    let place = Path::new(LAYERS).join("drive");
    fs::create_dir_all(&place).with_context(|| format!("cannot create {}", place.display()))?;
    wait::until(&format!("{DRIVE} is there"), Duration::from_secs(20), || {
        Ok(Path::new(DRIVE).exists().then_some(()))
    })?;
    let place = place.display().to_string();
    command("mount", ["-t", "ext4", "-o", "ro", DRIVE, &place]).map(drop)?;
    // The kubelet's host path, before the first pod.
    fs::create_dir_all(DRIVERS_MOUNT).with_context(|| format!("cannot create {DRIVERS_MOUNT}"))
}

//! The documented night with its times: seven PFs with 49 VFs, driver A in a pod, told to stop, driver B in the next one. Told is
//! what passes from the first container's SIGTERM until the node is ready under the second, and what of it is what.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use nic_driver::Exit;
use nic_driver::state::{Entry, JournalEvent, Phase, Step};

use crate::guest::Guest;
use crate::kubelet::events::What;
use crate::pods::{DRIVER, Node, System};
use crate::program::NicDriver;
use crate::{journal, pinger, report};

const PATIENCE: Duration = Duration::from_secs(1500);
const VFS: u32 = 7;
/// What the documented upgrade took from the one's end to the other's readiness.
const DOCUMENTED: Duration = Duration::from_secs(11 * 60);

/// What passed, by what it was for.
#[derive(Debug, Default)]
struct Split {
    build: Duration,
    install: Duration,
    swap: Duration,
    restore: Duration,
}

pub(crate) fn run(guest: &Guest) -> anyhow::Result<()> {
    let pod: String = guest.parameter("pod")?;
    let system = match pod.as_str() {
        "openshift" => System::OpenShift,
        "sources" => System::Rhel,
        _ => System::Debian,
    };
    let mut node = Node::set_up(system, VFS, false)?;
    let first = node.start(&format!("{pod}-A"), &[])?;
    node.until_ready(&first, "A", PATIENCE)?;
    let lines = journal::lines()?.len();
    let told = pinger::now()?;
    node.delete(first)?;
    let second = node.start(&format!("{pod}-B"), &[])?;
    node.until_ready(&second, "B", PATIENCE)?;
    let is_ready =
        |event: &crate::kubelet::events::Event| event.container == DRIVER && event.what == What::Ready;
    let seen = second.pod.events().into_iter().find(is_ready).context("the kubelet saw no readiness")?.at;
    let events = journal::lines()?;
    let new = events.get(lines..).unwrap_or_default();
    let given = given_at(new).context("the journal does not tell when readiness was given")?;
    let split = Split::of(new);
    node.delete(second)?;

    let text = NicDriver::new(["report"]).quietly().run()?.expect(Exit::Success)?.stdout;
    report(&text);
    let seconds = |time: Duration| format!("{:.1} s", time.as_secs_f64());
    report(&format!(
        "From the first container's SIGTERM to ready under the second: {:.1} s, the kubelet saw it after {:.1} s; documented: {} s",
        given - told,
        seen - told,
        DOCUMENTED.as_secs()
    ));
    for (what, time) in
        [("build", split.build), ("install", split.install), ("swap", split.swap), ("restore", split.restore)]
    {
        report(&format!("  {what:<8} {}", seconds(time)));
    }
    ensure!(
        split.swap > Duration::ZERO && split.restore > Duration::ZERO,
        "the second pod exchanged no driver"
    );
    node.end(guest)
}

/// When readiness was given, in seconds since the epoch.
fn given_at(lines: &[JournalEvent]) -> Option<f64> {
    let gives = |line: &&JournalEvent| matches!(&line.entry, Entry::StepEnded { step, .. } if Step::GiveReadiness.is(step));
    lines.iter().rev().find(gives).map(|line| line.at.as_millisecond() as f64 / 1000.0)
}

/// Whether a step is the building of packages, wherever that is.
fn is_build(step: &str) -> bool {
    let nowhere = PathBuf::new;
    [Step::BuildInSidecar { folder: nowhere() }, Step::BuildPackages { sources: nowhere() }]
        .iter()
        .any(|build| step.starts_with(&build.to_string()))
}

impl Split {
    fn of(lines: &[JournalEvent]) -> Self {
        let mut split = Self::default();
        let mut begun: Option<(&str, u64)> = None;
        for line in lines {
            match &line.entry {
                Entry::PhaseBegan { phase } if !Phase::Run.is(phase) => begun = Some((phase, line.uptime_ms)),
                Entry::PhaseEnded { phase, .. } => {
                    let Some((_, from)) = begun.take_if(|(begun, _)| *begun == phase) else { continue };
                    let took = Duration::from_millis(line.uptime_ms.saturating_sub(from));
                    if Phase::Install.is(phase) {
                        split.install += took;
                    } else if Phase::Reload.is(phase) {
                        split.swap += took;
                    } else if Phase::RestoreSriov.is(phase) {
                        split.restore += took;
                    }
                }
                Entry::StepEnded { step, took_ms, .. } if is_build(step) => {
                    split.build += Duration::from_millis(*took_ms);
                }
                _ => {}
            }
        }
        split.install = split.install.saturating_sub(split.build);
        split
    }
}

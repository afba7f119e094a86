//! The documented night with its times: seven PFs with 49 VFs, driver A in a pod, told to stop, driver B in the next one. Told is
//! what passes from the first container's SIGTERM until the node is ready under the second, and what of it is what.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use nic_driver::Exit;
use nic_driver::report::Report;

use crate::guest::Guest;
use crate::kubelet::events::What;
use crate::pods::{DRIVER, Node, System};
use crate::program::NicDriver;
use crate::{journal, pinger, report};

const PATIENCE: Duration = Duration::from_secs(1500);
const VFS: u32 = 7;
/// What the documented upgrade took from the one's end to the other's readiness.
const DOCUMENTED: Duration = Duration::from_secs(11 * 60);

pub(crate) fn run(guest: &Guest) -> anyhow::Result<()> {
    let pod: String = guest.parameter("pod")?;
    let system = match pod.as_str() {
        "openshift" => System::OpenShift,
        "sources" => System::Rhel,
        _ => System::Debian,
    };
    let mut node = Node::set_up(system, VFS, None)?;
    let first = node.start(&format!("{pod}-A"), &[])?;
    node.until_ready(&first, "A", PATIENCE)?;
    let told = pinger::now()?;
    node.delete(first)?;
    let second = node.start(&format!("{pod}-B"), &[])?;
    node.until_ready(&second, "B", PATIENCE)?;
    let is_ready =
        |event: &crate::kubelet::events::Event| event.container == DRIVER && event.what == What::Ready;
    let seen = second.pod.events().into_iter().find(is_ready).context("the kubelet saw no readiness")?.at;
    node.delete(second)?;

    let text = NicDriver::new(["report"]).quietly().run()?.expect(Exit::Success)?.stdout;
    report(&text);
    let told_by_program = Report::of(&journal::lines()?);
    let handover = told_by_program.handovers().last().context("the report tells of no handover")?;
    report(&format!(
        "From the first container's SIGTERM to ready under the second: {:.1} s; the kubelet saw it after {:.1} s; documented: {} s",
        seconds(handover.took_ms),
        seen - told,
        DOCUMENTED.as_secs()
    ));
    for (what, milliseconds) in [
        ("build", handover.build_ms),
        ("install", handover.install_ms),
        ("swap", handover.swap_ms),
        ("restore", handover.restore_ms),
        ("the rest", handover.rest_ms()),
    ] {
        report(&format!("  {what:<8} {:.1} s", seconds(milliseconds)));
    }
    // Seen from outside, it can only have taken longer.
    ensure!(
        seconds(handover.took_ms) <= seen - told + 1.0,
        "the report tells of {} ms, the kubelet of {:.1} s",
        handover.took_ms,
        seen - told
    );
    node.end(guest)
}

fn seconds(milliseconds: u64) -> f64 {
    Duration::from_millis(milliseconds).as_secs_f64()
}

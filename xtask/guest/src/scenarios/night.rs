//! The night this project is for: a node with configured VFs gets another driver, then a newer one, then its inbox driver
//! back. After each step every VF is compared with what it was, and the network is watched throughout.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use lab_guest::wiring::BUILT_PACKAGES;
use nic_driver::Exit;

use crate::drivers::{self, Flow};
use crate::guest::Guest;
use crate::observe::Nics;
use crate::pinger;
use crate::program::{FAMILY, NicDriver, snapshot_of};
use crate::{journal, report, say, vfs};

/// How long a path may take to carry again once the program says that all is well. It is then expected to carry already;
/// the rest is for a slow machine.
const CARRIES_AGAIN: Duration = Duration::from_secs(10);

/// One step of the night, when it is over.
struct Step {
    title: String,
    from: f64,
    to: f64,
}

pub(crate) fn run(guest: &Guest) -> anyhow::Result<()> {
    night(guest, drivers::PACKAGES, &["A", "B"])
}

/// A: both sides of the handshake ours. B: the incumbent's sidecar. C: the incumbent's driver container with our sidecar.
pub(crate) fn with_built_packages(guest: &Guest) -> anyhow::Result<()> {
    night(guest, BUILT_PACKAGES, &["A", "B", "C"])
}

fn night(guest: &Guest, packages: &str, letters: &[&str]) -> anyhow::Result<()> {
    drivers::pretend_distribution(Flow::Rpm)?;
    let inbox = drivers::loaded("igb")?;
    let before = vfs::configure_all()?;
    say(&format!("{} VFs are configured under the inbox driver", before.vf_count()));
    let (data, bystander) = pinger::across_and_beside(pinger::INTERVAL)?;

    let mut steps = Vec::new();
    let mut faults = Vec::new();
    for letter in letters {
        let version = drivers::version_in(packages, letter)?;
        say(&format!("== driver {letter}, {}", version.version));
        drivers::new_container()?;
        let folder = drivers::folder_in(packages, letter, Flow::Rpm);
        let from = pinger::now()?;
        NicDriver::install(&folder).run()?.expect(Exit::Success)?;
        NicDriver::new(["reload"]).run()?.expect(Exit::Success)?;
        NicDriver::new(["restore-sriov"]).run()?.expect(Exit::Success)?;
        data.wait_for_reply(CARRIES_AGAIN).context("VF 0 does not answer after the restore")?;
        steps.push(Step { title: format!("to {letter} ({})", version.version), from, to: pinger::now()? });
        drivers::expect_loaded(&version)?;
        compare(&before, &format!("driver {letter}"), &mut faults)?;
    }

    say("== back to the inbox driver");
    let from = pinger::now()?;
    NicDriver::new(["terminate", "--restore-driver"]).run()?.expect(Exit::Success)?;
    data.wait_for_reply(CARRIES_AGAIN).context("VF 0 does not answer under the inbox driver")?;
    steps.push(Step { title: "to the inbox driver".to_owned(), from, to: pinger::now()? });
    ensure!(drivers::loaded("igb")? == inbox, "the loaded igb is not the inbox one");
    compare(&before, "the inbox driver", &mut faults)?;

    let (data, bystander) = (data.stop()?, bystander.stop()?);
    let text = NicDriver::new(["report"]).quietly().run()?.expect(Exit::Success)?.stdout;
    report(&text);
    let json = NicDriver::new(["report", "--output", "json"]).quietly().run()?.expect(Exit::Success)?.stdout;
    std::fs::write(guest.share().join("report.json"), json).context("cannot write report.json")?;
    for file in [snapshot_of(FAMILY), journal::path()] {
        guest.keep(&file)?;
    }

    report("");
    report("Longest interruption of VF 0, measured by ping from a peer every 20 ms:");
    for step in &steps {
        let outage = data.longest_outage(step.from, step.to).context("no replies during a step")?;
        report(&format!("  {:<32} {outage} of {:.2} s", step.title, step.to - step.from));
    }
    report(&format!(
        "NIC that is not touched: {} pings sent, {} lost",
        bystander.transmitted(),
        bystander.lost()
    ));
    if bystander.lost() > 0 {
        faults.push(format!("the NIC that is not touched lost {} pings", bystander.lost()));
    }
    report(&format!(
        "{} VFs, compared after each of {} steps: {}",
        before.vf_count(),
        steps.len(),
        if faults.is_empty() { "all equal" } else { "NOT equal" }
    ));
    if !faults.is_empty() {
        bail!("{}", faults.join("; "));
    }
    Ok(())
}

/// Notes every difference and goes on: the morning after, all of them count.
fn compare(before: &Nics, under: &str, faults: &mut Vec<String>) -> anyhow::Result<()> {
    let differences = before.differences(&Nics::observe()?);
    if differences.is_empty() {
        say(&format!("all {} VFs are what they were", before.vf_count()));
    } else {
        say(&format!("under {under}: {differences}"));
        faults.push(format!("under {under}: {differences}"));
    }
    Ok(())
}

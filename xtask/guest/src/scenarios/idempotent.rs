//! What is as it should be is left alone: a second restore and a reload with equal identities change nothing, and say so.

use anyhow::ensure;
use nic_driver::Exit;

use crate::drivers::{self, Flow};
use crate::guest::Guest;
use crate::observe::Nics;
use crate::program::{NicDriver, Outcome};
use crate::vfs;

/// Words by which the program may say that there was nothing to do.
const NOTHING_TO_DO: &[&str] = &["nothing", "already", "unchanged", "no change", "up to date"];

pub(crate) fn run(_: &Guest) -> anyhow::Result<()> {
    let before = vfs::configure_all()?;
    drivers::pretend_distribution(Flow::Rpm)?;
    let packages = drivers::folder("A", Flow::Rpm);
    NicDriver::install(&packages).run()?.expect(Exit::Success)?;
    NicDriver::new(["reload"]).run()?.expect(Exit::Success)?;
    NicDriver::new(["restore-sriov"]).run()?.expect(Exit::Success)?;
    drivers::expect_loaded(&drivers::version("A")?)?;

    for again in ["restore-sriov", "reload", "restore-sriov"] {
        let indices = Nics::interface_indices()?;
        let outcome = NicDriver::new([again]).run()?.expect(Exit::Success)?;
        ensure!(
            Nics::interface_indices()? == indices,
            "the second `{again}` took netdevs away and made them anew"
        );
        let differences = before.differences(&Nics::observe()?);
        ensure!(differences.is_empty(), "the second `{again}` changed something: {differences}");
        says_so(again, &outcome)?;
    }
    Ok(())
}

fn says_so(command: &str, outcome: &Outcome) -> anyhow::Result<()> {
    ensure!(
        outcome.says_any(NOTHING_TO_DO),
        "the second `{command}` does not say that there was nothing to do"
    );
    Ok(())
}

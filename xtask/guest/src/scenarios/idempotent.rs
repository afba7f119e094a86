//! What is as it should be is left alone: a second restore and a reload with equal identities change nothing, and say so.

use anyhow::ensure;

use crate::drivers::{self, Flow};
use crate::guest::Guest;
use crate::nic_driver::{NicDriver, Outcome};
use crate::observe::Nics;
use crate::vfs;

/// Words by which the program may say that there was nothing to do.
const NOTHING_TO_DO: &[&str] = &["nothing", "already", "unchanged", "no change", "up to date"];

pub(crate) fn run(_: &Guest) -> anyhow::Result<()> {
    let before = vfs::configure_all()?;
    drivers::pretend_distribution(Flow::Rpm)?;
    let packages = drivers::folder("A", Flow::Rpm);
    NicDriver::install(&packages).run()?.expect_code(0)?;
    NicDriver::new(["reload"]).run()?.expect_code(0)?;
    NicDriver::new(["restore-sriov"]).run()?.expect_code(0)?;
    drivers::expect_loaded(&drivers::version("A")?)?;

    for again in ["restore-sriov", "reload", "restore-sriov"] {
        let indices = Nics::interface_indices()?;
        let outcome = NicDriver::new([again]).run()?.expect_code(0)?;
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

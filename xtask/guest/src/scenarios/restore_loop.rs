//! Somebody else swaps the driver, knowing nothing of VFs, and `restore-sriov` gives every one of them back; again and
//! again, because the races it must survive do not show at the first try.

use anyhow::{Context as _, ensure};
use nic_driver::Exit;

use crate::guest::Guest;
use crate::observe::Nics;
use crate::program::{NicDriver, snapshot_of};
use crate::{journal, report, say, vfs};

pub(crate) fn run(guest: &Guest) -> anyhow::Result<()> {
    let rounds: u32 = guest.parameter("rounds")?;
    let before = vfs::configure_all()?;
    let mut times = Vec::new();
    for round in 1..=rounds {
        say(&format!("round {round} of {rounds}"));
        NicDriver::new(["snapshot"]).run()?.expect(Exit::Success)?;
        vfs::swap_driver_by_hand()?;
        let lost = before.differences(&Nics::observe()?);
        ensure!(!lost.is_empty(), "the swap by hand lost nothing, so this round shows nothing");
        let outcome = NicDriver::new(["restore-sriov"]).run()?.expect(Exit::Success);
        for file in [snapshot_of("igb"), journal::path()] {
            guest.keep(&file)?;
        }
        times.push(outcome?.time.as_secs_f64());
        let differences = before.differences(&Nics::observe()?);
        ensure!(differences.is_empty(), "round {round} of {rounds}: {differences}");
    }
    let longest = times.iter().copied().max_by(f64::total_cmp).context("no rounds were asked for")?;
    report(&format!(
        "{rounds} rounds, {} VFs each, all equal; the longest restore took {longest:.2} s",
        before.vf_count()
    ));
    Ok(())
}

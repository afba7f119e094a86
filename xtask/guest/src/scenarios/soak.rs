//! The program is killed at random moments, again and again, and whenever it is let run the machine ends as it was.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use nic_driver::Exit;

use crate::guest::Guest;
use crate::installed::{finish, install, set_up};
use crate::program::NicDriver;
use crate::readiness;
use crate::{report, say};

/// At most so many kills before it is let run.
const KILLS_IN_A_ROW: usize = 4;

pub(crate) fn run(guest: &Guest) -> anyhow::Result<()> {
    let minutes: u64 = guest.parameter("minutes")?;
    let seed: u64 = guest.parameter("seed")?;
    let mut random = fastrand::Rng::with_seed(seed);
    let before = set_up(guest.parameter("vfs")?)?;
    let watch = readiness::watch(&before)?;
    let end = Instant::now() + Duration::from_secs(60 * minutes);
    let (mut rounds, mut kills) = (0, 0);
    let mut letter = "A";
    // What a command took when it was let run: a kill is to fall into all of it.
    let mut longest = Duration::from_secs(4);
    while Instant::now() < end {
        letter = if letter == "A" { "B" } else { "A" };
        rounds += 1;
        say(&format!("== round {rounds}, {kills} kills so far"));
        install(letter)?;
        for _ in 0..random.usize(1..=KILLS_IN_A_ROW) {
            let commands = ["reload", "reload", "restore-sriov", "restore-sriov", "terminate"];
            let command = *random.choice(&commands).context("no commands")?;
            let after = longest.mul_f64(random.f64());
            let outcome = NicDriver::new([command]).killed_after(after).quietly().run()?;
            if outcome.was_killed() {
                kills += 1;
            } else {
                outcome
                    .expect(Exit::Success)
                    .with_context(|| format!("in round {rounds}, with the seed {seed}"))?;
            }
        }
        let start = Instant::now();
        finish(letter, &before).with_context(|| format!("in round {rounds}, with the seed {seed}"))?;
        longest = longest.max(start.elapsed() / 2);
    }
    let seen = watch.end()?;
    report(&format!(
        "{} VFs: {kills} of {kills} kills survived in {rounds} rounds; {seen}",
        before.vf_count()
    ));
    seen.ensure_right()?;
    ensure!(kills > 0, "nothing was killed");
    Ok(())
}

//! How long the modules' part of a reload takes, against bare modprobe, in the same machine and in turns.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use lab_guest::bench::{Memory, RELOADS_FILE, ReloadMeasurement, Reloads};
use nic_driver::Exit;
use nic_driver::state::{Entry, JournalEvent, Named, Step};

use super::bench::all_named;
use super::entrypoint;
use crate::command::run as command;
use crate::drivers::{self, Flow};
use crate::guest::Guest;
use crate::observe::{Nics, igb_pfs};
use crate::program::NicDriver;
use crate::vfs::VF_DRIVER;
use crate::{image, journal, memory, report, say, write};

pub(crate) fn run(guest: &Guest) -> anyhow::Result<()> {
    let rounds: u32 = guest.parameter("rounds")?;
    let pfs = igb_pfs()?;
    command("modprobe", [VF_DRIVER])?;
    let before = Nics::observe()?;
    let mut runs = Vec::new();
    for round in 1..=rounds {
        say(&format!("== run {round}"));
        let bare = bare(&pfs)?;
        let (modules, reload) = reloaded()?;
        guest.keep(&journal::path())?;
        let differences = before.differences(&Nics::observe()?);
        ensure!(differences.is_empty(), "a fast reload that is not right: {differences}");
        report(&format!(
            "run {round}, {} PFs: modprobe alone {bare:.2} s, the reload's modules {modules:.2} s of {reload:.2} s",
            pfs.len()
        ));
        runs.push(ReloadMeasurement { round, bare, modules, reload });
    }
    let waiting = waiting(guest)?;
    let measured = Reloads { kernel: guest.kernel().to_owned(), pfs: pfs.len(), runs, waiting };
    let text = serde_json::to_string_pretty(&measured).context("cannot write the measurements as JSON")?;
    write(guest.share().join(RELOADS_FILE), &text)
}

/// What a driver container takes of the memory that is ready and waits.
fn waiting(guest: &Guest) -> anyhow::Result<Vec<Memory>> {
    say("== a driver container that waits, after a swap");
    drivers::pretend_distribution(Flow::Deb)?;
    image::put_driver(guest.kernel(), "A")?;
    entrypoint::prepare()?;
    let running = entrypoint::container("false").start()?;
    entrypoint::until_ready(&running)?;
    drivers::expect_loaded(&drivers::version("A")?)?;
    let waiting = memory::of_container(running.pid_1()?)?;
    entrypoint::stop(running)?;
    guest.keep(&journal::path())?;
    report(&format!("a driver container that waits: {}", Memory::summary(&waiting)));
    Ok(waiting)
}

/// The same modules by modprobe, as fast as it can be told to, until every PF has its final name. In seconds.
fn bare(pfs: &[String]) -> anyhow::Result<f64> {
    let start = Instant::now();
    command("modprobe", ["-r", VF_DRIVER, "igb"])?;
    command("modprobe", ["igb", "async_probe=1"])?;
    command("modprobe", [VF_DRIVER])?;
    all_named("every PF", || Ok(pfs.to_vec()))?;
    Ok(start.elapsed().as_secs_f64())
}

/// What its modules took by the journal, and all of the command, in seconds.
fn reloaded() -> anyhow::Result<(f64, f64)> {
    let journal = journal::path();
    if journal.exists() {
        fs::remove_file(&journal).context("cannot remove the journal")?;
    }
    // Logs would be written to the serial console while the clock runs.
    let call =
        |words: &[&str]| NicDriver::new(["--log", "warn"].iter().chain(words).copied()).quietly().run();
    let reload = call(&["reload", "--force"])?.expect(Exit::Success)?.time;
    let lines = journal::lines()?;
    call(&["restore-sriov"])?.expect(Exit::Success)?;
    Ok((modules_part(&lines)?.as_secs_f64(), reload.as_secs_f64()))
}

/// From the first module that goes until the PFs are back.
fn modules_part(journal: &[JournalEvent]) -> anyhow::Result<Duration> {
    let (mut began, mut ended) = (None, None);
    for event in journal {
        match &event.entry {
            entry if [VF_DRIVER, "igb"].iter().any(|module| entry.begins(journal::unloads(module))) => {
                began = began.or(Some(event));
            }
            Entry::StepEnded { step: Named::Known(Step::AwaitPfs { .. }), .. } => ended = Some(event),
            _ => {}
        }
    }
    let took = began.zip(ended).map(|(began, ended)| began.ms_until(ended));
    took.map(Duration::from_millis).context("the journal does not tell when modules went and PFs came")
}

#[cfg(test)]
mod tests {
    use nic_driver::state::{Phase, StepOutcome};
    use serde_json::json;

    use super::*;

    fn line(uptime_ms: u64, entry: &Entry) -> JournalEvent {
        let mut line =
            json!({"at": "2026-01-02T03:04:05Z", "uptime_ms": uptime_ms, "boot_id": "boot", "pid": 1});
        let entry = serde_json::to_value(entry).unwrap();
        line.as_object_mut().unwrap().extend(entry.as_object().unwrap().clone());
        serde_json::from_value(line).unwrap()
    }

    #[test]
    fn the_modules_part_is_from_the_first_module_to_the_pfs() {
        let phase: Named<Phase> = Phase::Reload.into();
        let unload = |module: &str| Step::Unload { module: module.parse().unwrap() };
        let began = [(10, Step::ArmSnapshot), (20, unload(VF_DRIVER)), (30, unload("igb"))];
        let mut journal: Vec<_> = began
            .iter()
            .map(|(at, step)| {
                line(*at, &Entry::StepBegan { phase: phase.clone(), step: step.clone().into() })
            })
            .collect();
        modules_part(&journal).unwrap_err();
        let (step, outcome) = (Step::AwaitPfs { pfs: Vec::new() }.into(), StepOutcome::Ok);
        journal.push(line(
            90,
            &Entry::StepEnded { phase, step, outcome, detail: None, blockers: Vec::new(), took_ms: 60 },
        ));
        assert_eq!(modules_part(&journal).unwrap(), Duration::from_millis(70));
    }
}

//! How long the modules' part of a reload takes, against bare modprobe, in the same machine and in turns.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use lab_guest::bench::{RELOADS_FILE, ReloadMeasurement, Reloads};
use serde_json::Value;

use super::bench::all_named;
use crate::command::run as command;
use crate::guest::Guest;
use crate::nic_driver::{NicDriver, STATE};
use crate::observe::{Nics, igb_pfs};
use crate::vfs::VF_DRIVER;
use crate::{report, say, write};

/// The journal's words for what is measured: from the first module that goes until the PFs are back.
const FIRST_STEP: &str = "unload ";
const LAST_STEP: &str = "wait for the PFs";

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
        guest.keep(&Path::new(STATE).join("journal.jsonl"))?;
        let differences = before.differences(&Nics::observe()?);
        ensure!(differences.is_empty(), "a fast reload that is not right: {differences}");
        report(&format!(
            "run {round}, {} PFs: modprobe alone {bare:.2} s, the reload's modules {modules:.2} s of {reload:.2} s",
            pfs.len()
        ));
        runs.push(ReloadMeasurement { round, bare, modules, reload });
    }
    let measured = Reloads { kernel: guest.kernel().to_owned(), pfs: pfs.len(), runs };
    let text = serde_json::to_string_pretty(&measured).context("cannot write the measurements as JSON")?;
    write(guest.share().join(RELOADS_FILE), &text)
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
    let journal = Path::new(STATE).join("journal.jsonl");
    if journal.exists() {
        fs::remove_file(&journal).context("cannot remove the journal")?;
    }
    // Logs would be written to the serial console while the clock runs.
    let call =
        |words: &[&str]| NicDriver::new(["--log", "warn"].iter().chain(words).copied()).quietly().run();
    let reload = call(&["reload", "--force"])?.expect_code(0)?.time;
    let text = fs::read_to_string(&journal).context("cannot read the journal")?;
    call(&["restore-sriov"])?.expect_code(0)?;
    Ok((modules_part(&text)?.as_secs_f64(), reload.as_secs_f64()))
}

fn modules_part(journal: &str) -> anyhow::Result<Duration> {
    let (mut began, mut ended) = (None, None);
    for line in journal.lines() {
        let event: Value = serde_json::from_str(line).context("a line of the journal does not parse")?;
        let text = |field: &str| event.get(field).and_then(Value::as_str).unwrap_or_default();
        let at = event.get("uptime_ms").and_then(Value::as_u64);
        match text("kind") {
            "step_began" if text("step").starts_with(FIRST_STEP) => began = began.or(at),
            "step_ended" if text("step") == LAST_STEP => ended = at,
            _ => {}
        }
    }
    let took = ended.zip(began).and_then(|(ended, began)| ended.checked_sub(began));
    took.map(Duration::from_millis).context("the journal does not tell when modules went and PFs came")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_modules_part_is_from_the_first_module_to_the_pfs() {
        let line = |at: u32, kind: &str, step: &str| {
            format!("{{\"uptime_ms\":{at},\"kind\":\"{kind}\",\"step\":\"{step}\"}}\n")
        };
        let began = [(10, "arm the snapshot"), (20, "unload igbvf"), (30, "unload igb")];
        let mut journal: String = began.iter().map(|(at, step)| line(*at, "step_began", step)).collect();
        modules_part(&journal).unwrap_err();
        journal.push_str(&line(90, "step_ended", "wait for the PFs"));
        assert_eq!(modules_part(&journal).unwrap(), Duration::from_millis(70));
    }
}

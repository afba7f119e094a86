//! The program is killed at each line that it writes to the journal, in a reload, a restore, a return to the inbox driver
//! and a rollback, and started again. Every time the machine ends as it was.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, ensure};
use nic_driver::Exit;
use nic_driver::state::{JournalEvent, KILL_AT_LINE, Step};

use super::killed::{ARMED, BROKEN, Killed};
use crate::drivers;
use crate::guest::Guest;
use crate::installed::{finish, install, is_armed, set_up, set_up_image};
use crate::observe::Nics;
use crate::program::{NicDriver, snapshot_of};
use crate::readiness::{self, READY};
use crate::{journal, report, say};

#[derive(Debug, Default)]
struct Tally {
    lines: usize,
    points: usize,
    survived: usize,
}

/// At which lines of the journal it is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Points {
    /// The first one.
    from: usize,
    /// Whether also at those lines that are followed by one that begins a step: nothing is changed between the two, and
    /// the machine is the same at both.
    every_line: bool,
    /// At how many of those, spread over all; 0 for all of them.
    kills: usize,
}

pub(crate) fn run(guest: &Guest) -> anyhow::Result<()> {
    let vfs_per_pf: u32 = guest.parameter("vfs")?;
    let points = Points {
        from: guest.parameter("from")?,
        every_line: guest.parameter("every-line")?,
        kills: guest.parameter("kills")?,
    };
    let which: String = guest.parameter("killed")?;
    let is_meant =
        |killed: &Killed| which == killed.name() || which == "all" && *killed != Killed::TerminateInImage;
    let killed: Vec<Killed> = Killed::ALL.into_iter().filter(is_meant).collect();
    ensure!(!killed.is_empty(), "{which:?} is nothing that can be killed");
    let before = if killed == [Killed::TerminateInImage] {
        set_up_image(guest.kernel(), vfs_per_pf)?
    } else {
        set_up(vfs_per_pf)?
    };
    keep_files(&killed, &before)?;
    let watch = readiness::watch(&before)?;
    let mut wrong = Vec::new();
    let tallies: Vec<_> =
        killed.iter().map(|killed| go_through(guest, *killed, points, &before, &mut wrong)).collect();
    let seen = watch.end()?;
    let mut all = Tally::default();
    for (killed, tally) in killed.into_iter().zip(tallies) {
        let tally = tally?;
        let Tally { lines, points, survived } = tally;
        report(&format!("{killed}: {lines} lines, {points} points, {survived} survived"));
        all.points += tally.points;
        all.survived += tally.survived;
    }
    report(&format!(
        "{} VFs: {} points, {} kills, {} survived; {seen}",
        before.vf_count(),
        all.points,
        all.points,
        all.survived
    ));
    seen.ensure_right()?;
    ensure!(wrong.is_empty(), "{}", wrong.join("; "));
    Ok(())
}

fn go_through(
    guest: &Guest,
    killed: Killed,
    points: Points,
    before: &Nics,
    wrong: &mut Vec<String>,
) -> anyhow::Result<Tally> {
    say(&format!("== {killed}, not killed"));
    killed.prepare(before)?;
    let whole = NicDriver::new(killed.call()).quietly().start()?;
    let process = whole.id();
    whole.wait()?.expect(killed.exit())?;
    killed.settle()?;
    let lines = journal::lines_of(process)?;
    let mut tally = Tally { lines: lines.len(), ..Tally::default() };
    let points = points.of(killed, &lines)?;
    let points =
        points.into_iter().flat_map(|line| killed.ways_from(line).iter().map(move |way| (line, *way)));
    for (line, resumed_by) in points {
        say(&format!("== {killed}, killed at line {line} of {}", lines.len()));
        killed.prepare(before)?;
        let Some(differences) = one_point(killed, line, resumed_by, before)? else {
            say("this time it had fewer lines");
            break;
        };
        tally.points += 1;
        if differences.is_empty() {
            tally.survived += 1;
        } else {
            wrong.push(format!("{killed}, line {line}: {differences}"));
            report(&format!("{killed}, line {line}: {differences}"));
            guest.keep(&journal::path())?;
            NicDriver::new(["restore-sriov"]).quietly().run()?.expect(Exit::Success)?;
            let differences = before.differences(&Nics::observe()?);
            ensure!(differences.is_empty(), "nothing can be told after {killed}, line {line}: {differences}");
        }
    }
    Ok(tally)
}

/// Kills at one line and goes on. Returns what is different then, or nothing when the command had fewer lines: a
/// step that is tried again has lines of its own.
fn one_point(
    killed: Killed,
    line: usize,
    resumed_by: &[&[&str]],
    before: &Nics,
) -> anyhow::Result<Option<String>> {
    let outcome = NicDriver::new(killed.call()).with_env(KILL_AT_LINE, line.to_string()).quietly().run()?;
    if !outcome.was_killed() {
        outcome.expect(killed.exit())?;
        killed.settle()?;
        return Ok(None);
    }
    let still_ready = Path::new(READY).exists();
    for call in resumed_by {
        let exit = killed.exit_of_resuming(call)?;
        let outcome = NicDriver::new(*call).quietly().run()?;
        if let Err(error) = outcome.expect(exit) {
            return Ok(Some(format!("{error:#}")));
        }
    }
    let mut differences = before.differences(&Nics::observe()?).to_string();
    if is_armed()? {
        differences.push_str(" the snapshot is still armed");
    }
    if let Err(error) = killed.expect_driver(resumed_by) {
        differences.push_str(&format!(" {error:#}"));
    }
    let is_ready = Path::new(READY).exists();
    let ends = resumed_by.iter().any(|call| call.contains(&"terminate"));
    // A reload that is killed before its first module, or a rollback, leaves a driver that is not the installed one: then
    // readiness is not given. That it is not taken away either, where the kill came before that, is the watcher's to see.
    let wanted = !ends && (still_ready || drivers::runs_what_is_installed()?);
    match (is_ready, wanted) {
        (true, false) => differences.push_str(" ready after the end, or although a reload is due"),
        (false, true) => differences.push_str(" not ready although verified"),
        (true, true) | (false, false) => {}
    }
    Ok(Some(differences))
}

impl Points {
    /// The numbers of the lines, from 1.
    fn of(self, killed: Killed, lines: &[JournalEvent]) -> anyhow::Result<Vec<usize>> {
        // `line` counts from 1, so that this is the next one.
        let is_point = |line: &usize| {
            self.every_line || !lines.get(*line).is_some_and(|line| line.entry.begins_any_step())
        };
        let begun = |what: &str, is_wanted: fn(&Step) -> bool| {
            let line = lines.iter().position(|line| line.entry.begins(is_wanted));
            line.map(|line| line + 1).with_context(|| format!("the journal does not tell of {what}"))
        };
        let first = match killed {
            Killed::Rollback => {
                // From the line that ends it: until it is recorded, what is killed is a reload whose driver does not load.
                begun("the rollback", |step| *step == Step::RecordRollback)? + 1
            }
            // All but the modules is as in the other one.
            Killed::TerminateInImage => begun(
                "igb's unload",
                |step| matches!(step, Step::Unload { module } if module.as_str() == "igb"),
            )?,
            Killed::Reload | Killed::Restore | Killed::Terminate => 1,
        };
        let last = match killed {
            Killed::TerminateInImage => {
                begun("the wait for the PFs", |step| matches!(step, Step::AwaitPfs { .. }))?
            }
            _ => lines.len(),
        };
        let all: Vec<usize> = (self.from.max(first)..=last).filter(is_point).collect();
        if self.kills == 0 || self.kills >= all.len() {
            return Ok(all);
        }
        let spread = |kill: usize| all.get(kill * all.len() / (self.kills + 1)).copied();
        Ok((1..=self.kills).filter_map(spread).collect())
    }
}

/// Keeps the files of the drivers that are put in place of each other, and an armed snapshot, as far as these need them.
/// What runs then is the installed driver.
fn keep_files(killed: &[Killed], before: &Nics) -> anyhow::Result<()> {
    drivers::keep_files("A")?;
    let mut runs = "A";
    if killed.contains(&Killed::Reload) || killed.contains(&Killed::Restore) {
        keep_armed_snapshot(before)?;
        drivers::keep_files("B")?;
        runs = "B";
    }
    if killed.contains(&Killed::Rollback) {
        install(BROKEN)?;
        drivers::keep_files(BROKEN)?;
        drivers::put_files(runs)?;
    }
    Ok(())
}

/// A reload leaves an armed snapshot; this is the one that every restore that is killed starts from.
fn keep_armed_snapshot(before: &Nics) -> anyhow::Result<()> {
    install("B")?;
    NicDriver::new(["reload"]).quietly().run()?.expect(Exit::Success)?;
    fs::copy(snapshot_of("igb"), ARMED).context("cannot keep the armed snapshot")?;
    finish("B", before)
}

//! The program is killed at each line that it writes to the journal, in a reload, a restore, a return to the inbox driver
//! and a rollback, and started again. Every time the machine ends as it was.

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use nic_driver::Exit;
use nic_driver::state::{JournalEvent, KILL_AT_LINE, Phase, Step};

use crate::command::{ip_batch, run as command};
use crate::drivers::{self, Flow};
use crate::guest::Guest;
use crate::netdevs::swap_names;
use crate::observe::{Nics, igb_pfs, netdev_of, pci_device, vfs_of};
use crate::program::{FAMILY, NicDriver, snapshot_of, store};
use crate::readiness::{self, READY};
use crate::{boot, journal, report, say, vfs, write};

/// Where the armed snapshot is kept.
const ARMED: &str = "/tmp/armed.json";
/// A driver that is rolled back at once: nothing is waited for.
const BROKEN: &str = "wrong-vermagic";
const TERMINATE: &[&str] = &["terminate", "--restore-driver"];

/// The command that is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Killed {
    Reload,
    Restore,
    /// A reload, from where it goes back to the driver before.
    Rollback,
    /// The return to the inbox driver.
    Terminate,
}

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
    let killed: Vec<Killed> =
        Killed::ALL.into_iter().filter(|killed| which == "all" || which == killed.name()).collect();
    ensure!(!killed.is_empty(), "{which:?} is nothing that can be killed");
    let before = set_up(vfs_per_pf)?;
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

/// VFs, two of them with swapped names, and a driver that was exchanged once.
pub(crate) fn set_up(vfs_per_pf: u32) -> anyhow::Result<Nics> {
    drivers::pretend_distribution(Flow::Rpm)?;
    vfs::configure_each(vfs_per_pf)?;
    for pf in igb_pfs()? {
        let vfs = vfs_of(&pf)?;
        let [(_, first), (_, second), ..] = vfs.as_slice() else { bail!("{pf} has fewer than two VFs") };
        let (first, second) = (netdev_of(first)?, netdev_of(second)?);
        ip_batch(&format!("link set dev {first} down\nlink set dev {second} down\n"))?;
        swap_names(&first, &second)?;
        ip_batch(&format!("link set dev {first} up\nlink set dev {second} up\n"))?;
    }
    boot::settle_udev()?;
    let before = Nics::observe()?;
    install("A")?;
    finish("A", &before)?;
    Ok(before)
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
    for line in points.of(killed, &lines)? {
        say(&format!("== {killed}, killed at line {line} of {}", lines.len()));
        killed.prepare(before)?;
        let Some(differences) = one_point(killed, line, before)? else {
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
fn one_point(killed: Killed, line: usize, before: &Nics) -> anyhow::Result<Option<String>> {
    let outcome = NicDriver::new(killed.call()).with_env(KILL_AT_LINE, line.to_string()).quietly().run()?;
    if !outcome.was_killed() {
        outcome.expect(killed.exit())?;
        killed.settle()?;
        return Ok(None);
    }
    let still_ready = Path::new(READY).exists();
    let ways = killed.resumed_by();
    let resumed_by = ways.get(line % ways.len()).context("no command goes on")?;
    for call in *resumed_by {
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
        let first = match killed {
            Killed::Rollback => {
                let begun = lines.iter().position(|line| line.entry.begins(&Step::RecordRollback));
                // From the line that ends it: until it is recorded, what is killed is a reload whose driver does not load.
                begun.context("the journal does not tell of a rollback")? + 2
            }
            Killed::Reload | Killed::Restore | Killed::Terminate => 1,
        };
        let all: Vec<usize> = (self.from.max(first)..=lines.len()).filter(is_point).collect();
        if self.kills == 0 || self.kills >= all.len() {
            return Ok(all);
        }
        let spread = |kill: usize| all.get(kill * all.len() / (self.kills + 1)).copied();
        Ok((1..=self.kills).filter_map(spread).collect())
    }
}

impl Killed {
    const ALL: [Self; 4] = [Self::Reload, Self::Restore, Self::Rollback, Self::Terminate];

    fn name(self) -> &'static str {
        match self {
            Self::Reload => Phase::Reload.as_str(),
            Self::Restore => Phase::RestoreSriov.as_str(),
            // No phase: a part of a reload.
            Self::Rollback => "rollback",
            Self::Terminate => Phase::Terminate.as_str(),
        }
    }

    fn call(self) -> &'static [&'static str] {
        match self {
            Self::Reload => &["reload"],
            Self::Restore => &["restore-sriov"],
            Self::Rollback => &["reload", "--retry-rolled-back"],
            Self::Terminate => TERMINATE,
        }
    }

    /// How it ends when it is not killed.
    fn exit(self) -> Exit {
        match self {
            Self::Reload | Self::Restore | Self::Terminate => Exit::Success,
            Self::Rollback => Exit::RolledBack,
        }
    }

    /// Which commands go on after the kill. Each of them must know how.
    fn resumed_by(self) -> &'static [&'static [&'static [&'static str]]] {
        match self {
            Self::Reload | Self::Restore | Self::Rollback => {
                &[&[&["reload"], &["restore-sriov"]], &[&["restore-sriov"]], &[&["terminate"]]]
            }
            Self::Terminate => &[&[TERMINATE], &[&["reload"], &["restore-sriov"]], &[&["terminate"]]],
        }
    }

    /// How a command ends that goes on.
    fn exit_of_resuming(self, call: &[&str]) -> anyhow::Result<Exit> {
        Ok(match (self, call) {
            (Self::Rollback, ["reload"]) if is_armed()? => Exit::RolledBack,
            // At its last lines nothing is left to be ended.
            (Self::Rollback, ["reload"]) => Exit::Blocked,
            _ => Exit::Success,
        })
    }

    /// The driver that must run where that is known.
    fn expect_driver(self, resumed_by: &[&[&str]]) -> anyhow::Result<()> {
        match self {
            Self::Rollback => drivers::expect_loaded(&drivers::version("A")?),
            Self::Terminate if resumed_by.contains(&TERMINATE) => {
                ensure!(!is_loaded("A")?, "the inbox driver does not run");
                Ok(())
            }
            Self::Reload | Self::Restore | Self::Terminate => Ok(()),
        }
    }

    /// Makes something of it due. The journal begins anew: each command reads all of it.
    fn prepare(self, before: &Nics) -> anyhow::Result<()> {
        match self {
            Self::Reload => drivers::put_files(if is_loaded("A")? { "B" } else { "A" })?,
            Self::Restore => lose_vfs()?,
            Self::Rollback => {
                // Not B: the broken driver is a copy of that.
                if !is_loaded("A")? {
                    drivers::put_files("A")?;
                    finish("A", before)?;
                }
                drivers::put_files(BROKEN)?;
            }
            Self::Terminate => {
                let is_due = Path::new(READY).exists() && store(FAMILY).installed_path().exists();
                if !is_due || !is_loaded("A")? {
                    install("A")?;
                    finish("A", before)?;
                }
            }
        }
        fs::remove_file(journal::path()).context("cannot remove the journal")
    }

    /// Ends what it has left when it was not killed.
    fn settle(self) -> anyhow::Result<()> {
        if self == Self::Reload || self == Self::Restore {
            NicDriver::new(["restore-sriov"]).quietly().run()?.expect(Exit::Success)?;
        }
        Ok(())
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

/// Whether the stored snapshot is armed.
pub(crate) fn is_armed() -> anyhow::Result<bool> {
    Ok(store(FAMILY).snapshot()?.context("there is no snapshot")?.is_armed())
}

/// A reload leaves an armed snapshot; this is the one that every restore that is killed starts from.
fn keep_armed_snapshot(before: &Nics) -> anyhow::Result<()> {
    install("B")?;
    NicDriver::new(["reload"]).quietly().run()?.expect(Exit::Success)?;
    fs::copy(snapshot_of("igb"), ARMED).context("cannot keep the armed snapshot")?;
    finish("B", before)
}

/// What a reload leaves: no VFs, PFs as their driver makes them, nobody ready, the snapshot armed.
fn lose_vfs() -> anyhow::Result<()> {
    if Path::new(READY).exists() {
        fs::remove_file(READY).context("cannot take readiness away")?;
    }
    fs::copy(ARMED, snapshot_of("igb")).context("cannot put the armed snapshot in place")?;
    for pf in igb_pfs()? {
        write(pci_device(&pf).join("sriov_numvfs"), "0")?;
        command("ip", ["link", "set", "dev", &netdev_of(&pf)?, "down", "mtu", "1500"])?;
    }
    boot::settle_udev()
}

fn is_loaded(letter: &str) -> anyhow::Result<bool> {
    Ok(drivers::expect_loaded(&drivers::version(letter)?).is_ok())
}

/// Installs a driver, in a container of its own. `name` is a version's letter, or that of a driver that is broken.
pub(crate) fn install(name: &str) -> anyhow::Result<()> {
    let folder = drivers::folder(name, Flow::Rpm);
    // A container's package database goes with it; the modules stay.
    drivers::new_container()?;
    NicDriver::install(&folder).quietly().run()?.expect(Exit::Success)?;
    Ok(())
}

/// Whatever has been done: this driver runs, and the machine is what it was.
pub(crate) fn finish(letter: &str, before: &Nics) -> anyhow::Result<()> {
    for phase in ["reload", "restore-sriov"] {
        NicDriver::new([phase]).quietly().run()?.expect(Exit::Success)?;
    }
    drivers::expect_loaded(&drivers::version(letter)?)?;
    before.expect_unchanged()
}

impl fmt::Display for Killed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

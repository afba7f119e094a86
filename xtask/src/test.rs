//! `cargo xtask test`: everything that must hold before a change is taken.

use std::cmp::Reverse;
use std::fs;
use std::num::NonZero;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, anyhow, bail, ensure};
use cargo_metadata::Metadata;
use clap::Args;
use lab_guest::scenario::{Needs, SCENARIOS, Scenario, Suite};

use crate::lab::{self, Kernel, Lab, Programs, Request, Run, Said};
use crate::{check, needs, sidecar, workspace};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Only the lab's scenarios
    #[arg(long)]
    lab_only: bool,
    /// Format, rules, lints, unit tests and one scenario: for a look between two edits
    #[arg(long, conflicts_with_all = ["all", "lab_only"])]
    quick: bool,
    /// Also what is otherwise run on demand; takes hours
    #[arg(long)]
    all: bool,
    /// Only this scenario, on the kernels that it has in the suite; may be given several times
    #[arg(long = "scenario", value_name = "NAME", conflicts_with_all = ["quick", "all"])]
    scenarios: Vec<String>,
}

/// The scenario of `--quick`: a reload, a restore, and both once more.
const QUICK: &str = "idempotent";

/// How many lines of what a scenario reports are shown, from its end; all are in its console.
const SHOWN: usize = 10;

/// How many lines of a failed scenario's console are shown, from its end: the console of CI's machine cannot be read afterwards.
const CONSOLE_SHOWN: usize = 40;

/// The memory that a machine of the suite may come to take, with the emulator's own.
const MIB_OF_A_MACHINE: usize = 3584;

/// What `target` takes in a run from nothing without incremental compilation, as in CI.
const MIB_OF_A_RUN: u64 = 4300;

/// What became of the scenarios.
#[derive(Debug, Default)]
struct Tally {
    passed: usize,
    failed: usize,
    skipped: usize,
    /// Machines that broke down and were started again, and processors that stood still, each with its scenario.
    breakdowns: Vec<String>,
    /// Each scenario that failed, with its reason and the end of its console.
    failures: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let due = due(arguments)?;
    lab::set_up_machine()?;
    let metadata = workspace::metadata()?;
    let target = metadata.target_directory.as_std_path();
    tell_space(target)?;
    let needs_image = needs::image(&due);
    // The lab downloads and unpacks while cargo compiles.
    let lab = thread::scope(|scope| {
        let kernels: Vec<Kernel> =
            Kernel::ALL.into_iter().filter(|kernel| due.iter().any(|(_, on)| on == kernel)).collect();
        let lab = scope.spawn(move || {
            let lab = Lab::open(target, &kernels)?;
            if needs_image {
                lab.image()?;
            }
            Ok(lab)
        });
        if !arguments.lab_only && arguments.scenarios.is_empty() {
            checks(arguments.quick, &metadata)?;
        }
        lab.join().unwrap_or_else(|_| Err(anyhow!("preparing the lab panicked")))
    })?;
    let programs = Programs::build(&metadata)?;
    if needs_image {
        timed("packages and pods", || needs::make(&lab, &programs, &metadata, &due))?;
    }
    let tally = scenarios(&lab, &programs, due)?;
    println!(
        "{} machines broke down and were started again, or had a processor that stood still",
        tally.breakdowns.len()
    );
    for breakdown in &tally.breakdowns {
        println!("  {breakdown}");
    }
    // At the end once more: of a long output, the end is what is kept and read.
    for failure in &tally.failures {
        println!("{failure}");
    }
    println!("{} passed, {} failed", tally.passed, tally.failed);
    if tally.failed > 0 {
        bail!("scenarios failed");
    }
    Ok(())
}

/// Warns where a run from nothing would fill the disk: what fails then is told by whoever happens to write.
fn tell_space(target: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(target).with_context(|| format!("cannot create {}", target.display()))?;
    let mut df = Command::new("df");
    let text = lab::process::output(df.args(["--output=avail", "--block-size=1M"]).arg(target))?;
    let free: u64 = text.lines().last().unwrap_or_default().trim().parse().context("df prints no number")?;
    if free < MIB_OF_A_RUN {
        println!(
            "{} has {free} MiB free; from nothing, all checks and the lab take {MIB_OF_A_RUN} MiB",
            target.display()
        );
    }
    Ok(())
}

/// The scenarios that are asked for, each with its kernel.
fn due(arguments: &Arguments) -> anyhow::Result<Vec<(&'static Scenario, Kernel)>> {
    let quick = [QUICK.to_owned()];
    let names = if arguments.quick { &quick[..] } else { &arguments.scenarios };
    for name in names {
        ensure!(
            SCENARIOS.iter().any(|scenario| scenario.name == name),
            "no scenario is called {name}; `cargo xtask lab list` shows them all"
        );
    }
    let is_due = |scenario: &Scenario, kernel| {
        if names.is_empty() {
            belongs(scenario.suite, kernel, arguments.all)
        } else {
            // One that is in no suite is asked for by its name, and runs on the newest kernel.
            let in_none = !Kernel::ALL.into_iter().any(|any| belongs(scenario.suite, any, false));
            let on_newest = arguments.quick || in_none;
            let on_kernel = belongs(scenario.suite, kernel, false) && !arguments.quick;
            names.iter().any(|name| name == scenario.name)
                && (on_kernel || on_newest && kernel == Kernel::NEWEST)
        }
    };
    let pairs = Kernel::ALL.into_iter().flat_map(|kernel| SCENARIOS.iter().map(move |one| (one, kernel)));
    Ok(pairs.filter(|(scenario, kernel)| is_due(scenario, *kernel)).collect())
}

fn checks(quick: bool, metadata: &Metadata) -> anyhow::Result<()> {
    timed("format", || cargo(&["fmt", "--all", "--", "--check"], &[]))?;
    timed("rules", check::run)?;
    timed("clippy", || cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"], &[]))?;
    timed("unit tests", || cargo(&["test", "--workspace"], &[]))?;
    if quick {
        return Ok(());
    }
    timed("sidecar", || sidecar::check(metadata))?;
    timed("documentation", || cargo(&["doc", "--workspace", "--no-deps"], &[("RUSTDOCFLAGS", "-D warnings")]))
}

fn timed(what: &str, step: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    println!("== {what}");
    let start = Instant::now();
    step()?;
    println!("== {what}: {:.1} s", start.elapsed().as_secs_f64());
    Ok(())
}

fn cargo(arguments: &[&str], environment: &[(&str, &str)]) -> anyhow::Result<()> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    lab::process::stream(command.args(arguments).envs(environment.iter().copied()))
}

/// Whether a scenario of this suite runs on this kernel, with what is otherwise run on demand (`all`) or without.
fn belongs(suite: Suite, kernel: Kernel, all: bool) -> bool {
    match suite {
        Suite::Test => true,
        Suite::TestOnNewest => all || kernel == Kernel::NEWEST,
        Suite::TestOnOldest => kernel == Kernel::OLDEST,
        Suite::OnDemand => all,
        Suite::ByHand => false,
    }
}

/// A scenario of the suite that is over: what its guest meant for people, and how it ended.
struct Ended {
    scenario: &'static Scenario,
    kernel: Kernel,
    reports: Vec<String>,
    run: anyhow::Result<Run>,
}

/// Runs the suite with several machines at a time.
fn scenarios(
    lab: &Lab,
    programs: &Programs,
    asked_for: Vec<(&'static Scenario, Kernel)>,
) -> anyhow::Result<Tally> {
    // A skip is for a person at work on something else; in CI it would pass for a success.
    let may_skip = !std::env::var("CI").is_ok_and(|ci| ci == "true");
    let mut tally = Tally::default();
    let mut due = Vec::new();
    for (scenario, kernel) in asked_for {
        if programs.has_nic_driver() || scenario.needs == Needs::Nothing {
            due.push((scenario, kernel));
        } else {
            println!("{} skipped: the workspace has no program nic-driver", title(scenario, kernel));
            let count = if may_skip { &mut tally.skipped } else { &mut tally.failed };
            *count += 1;
        }
    }
    // What may take longest comes first, so that no single machine is left at the end.
    due.sort_by_key(|(scenario, _)| Reverse(scenario.timeout));
    let queue = Mutex::new(due.into_iter());
    let machines = machines_at_a_time()?;
    let (sender, ended) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..machines {
            let (queue, sender) = (&queue, sender.clone());
            scope.spawn(move || {
                while let Some((scenario, kernel)) = next(queue) {
                    if sender.send(run_one(lab, programs, scenario, kernel)).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        ended.iter().try_for_each(|ended| tally.add(ended))
    })?;
    if tally.skipped > 0 {
        println!("{} skipped", tally.skipped);
    }
    Ok(tally)
}

/// Two for each processor: an emulated machine takes less than half of one, since most of what a scenario takes, it waits for
/// the emulated NICs. Fewer where there is not the memory for them.
fn machines_at_a_time() -> anyhow::Result<usize> {
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    let text = fs::read_to_string("/proc/meminfo").context("cannot read /proc/meminfo")?;
    let available = available_mib(&text).context("/proc/meminfo has no MemAvailable")?;
    Ok((2 * processors).min(available / MIB_OF_A_MACHINE).max(1))
}

/// `MemAvailable` of /proc/meminfo (proc_meminfo(5)), in MiB.
fn available_mib(meminfo: &str) -> Option<usize> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024)
}

fn next<T>(queue: &Mutex<impl Iterator<Item = T>>) -> Option<T> {
    queue.lock().unwrap_or_else(PoisonError::into_inner).next()
}

fn run_one(lab: &Lab, programs: &Programs, scenario: &'static Scenario, kernel: Kernel) -> Ended {
    let mut reports = Vec::new();
    let run = Request::new(scenario.name, kernel, &[]).and_then(|request| {
        lab.run(&request, programs, |said| {
            if let Said::Report(text) = said {
                reports.push(text.to_owned());
            }
        })
    });
    Ended { scenario, kernel, reports, run }
}

fn title(scenario: &Scenario, kernel: Kernel) -> String {
    format!("{:<14} on {:<5}", scenario.name, kernel.name())
}

/// The last lines of a text, as many as are wanted.
fn last_lines(text: &str, wanted: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines.iter().skip(lines.len().saturating_sub(wanted)).copied().collect::<Vec<_>>().join("\n")
}

impl Tally {
    fn add(&mut self, ended: Ended) -> anyhow::Result<()> {
        let run = ended.run?;
        let title = title(ended.scenario, ended.kernel);
        self.breakdowns.extend(run.breakdowns.iter().map(|reason| format!("{title}: {reason}")));
        let seconds = run.judgement.time.as_secs_f64();
        match run.judgement.failure {
            None => {
                self.passed += 1;
                println!("{title} passed {seconds:6.1} s");
            }
            Some(reason) => {
                self.failed += 1;
                println!("{title} FAILED {seconds:6.1} s: {reason}");
                println!("{:<23} console: {}", "", run.log.display());
                let console = fs::read(&run.log).unwrap_or_default();
                let end = last_lines(&String::from_utf8_lossy(&console), CONSOLE_SHOWN);
                self.failures.push(format!("{title} FAILED: {reason}; the end of its console:\n{end}"));
            }
        }
        for report in ended.reports.iter().skip(ended.reports.len().saturating_sub(SHOWN)) {
            println!("{:<23} {report}", "");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{available_mib, last_lines};

    #[test]
    fn last_lines_are_the_end() {
        assert_eq!(last_lines("a\nb\nc\n", 2), "b\nc");
        assert_eq!(last_lines("a\n", 2), "a");
    }

    #[test]
    fn available_memory_is_read() {
        let text = "MemTotal:       24684252 kB\nMemFree:        12000000 kB\nMemAvailable:   23347824 kB\n";
        assert_eq!(available_mib(text), Some(22800));
        assert_eq!(available_mib("MemTotal: 1 kB\n"), None);
    }
}

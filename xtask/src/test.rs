//! `cargo xtask test`: everything that must hold before a change is taken.

use std::process::Command;
use std::thread;
use std::time::Instant;

use anyhow::{anyhow, bail};
use clap::Args;
use lab_guest::scenario::{SCENARIOS, Suite};

use crate::lab::{self, Kernel, Lab, Programs, Request};
use crate::{check, workspace};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Only the lab's scenarios
    #[arg(long)]
    lab_only: bool,
}

/// What became of the scenarios.
#[derive(Debug, Default)]
struct Tally {
    passed: usize,
    failed: usize,
    skipped: usize,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    lab::set_up_machine()?;
    let metadata = workspace::metadata()?;
    let target = metadata.target_directory.as_std_path();
    // The lab downloads and unpacks while cargo compiles.
    let lab = thread::scope(|scope| {
        let lab = scope.spawn(|| Lab::open(target, &Kernel::ALL));
        if !arguments.lab_only {
            checks()?;
        }
        lab.join().unwrap_or_else(|_| Err(anyhow!("preparing the lab panicked")))
    })?;
    let programs = Programs::build(&metadata)?;
    let tally = scenarios(&lab, &programs)?;
    println!("{} passed, {} failed", tally.passed, tally.failed);
    if tally.failed > 0 {
        bail!("scenarios failed");
    }
    Ok(())
}

fn checks() -> anyhow::Result<()> {
    timed("format", || cargo(&["fmt", "--all", "--", "--check"], &[]))?;
    timed("rules", check::run)?;
    timed("clippy", || cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"], &[]))?;
    timed("unit tests", || cargo(&["test", "--workspace"], &[]))?;
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

/// Whether a scenario of this suite runs on this kernel.
fn belongs(suite: Suite, kernel: Kernel) -> bool {
    match suite {
        Suite::Test => true,
        Suite::TestOnNewest => kernel == Kernel::NEWEST,
        Suite::OnDemand => false,
    }
}

/// Runs the suite, one machine after another: each of them uses all processors.
fn scenarios(lab: &Lab, programs: &Programs) -> anyhow::Result<Tally> {
    // A skip is for a person at work on something else; in CI it would pass for a success.
    let may_skip = !std::env::var("CI").is_ok_and(|ci| ci == "true");
    let mut tally = Tally::default();
    for kernel in Kernel::ALL {
        for scenario in SCENARIOS.iter().filter(|scenario| belongs(scenario.suite, kernel)) {
            let title = format!("{:<14} on {:<5}", scenario.name, kernel.name());
            if scenario.needs_nic_driver && !programs.has_nic_driver() {
                println!("{title} skipped: the workspace has no program nic-driver");
                if may_skip {
                    tally.skipped += 1;
                } else {
                    tally.failed += 1;
                }
                continue;
            }
            let request = Request::new(scenario.name, kernel, &[])?;
            let run = lab.run(&request, programs, |_| {})?;
            let seconds = run.judgement.time.as_secs_f64();
            match run.judgement.failure {
                None => {
                    tally.passed += 1;
                    println!("{title} passed {seconds:6.1} s");
                }
                Some(reason) => {
                    tally.failed += 1;
                    println!("{title} FAILED {seconds:6.1} s: {reason}");
                    println!("{:<23} console: {}", "", run.log.display());
                }
            }
        }
    }
    if tally.skipped > 0 {
        println!("{} skipped", tally.skipped);
    }
    Ok(tally)
}

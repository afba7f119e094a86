//! `cargo xtask lab`: scenarios by hand.

use std::num::NonZero;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::{fs, hint, thread};

use anyhow::{Context as _, anyhow, bail, ensure};
use clap::{Args, Subcommand};
use lab_guest::scenario::{Needs, SCENARIOS, Suite};

use crate::lab::{self, Kernel, Lab, Programs, Request, Said};
use crate::{needs, workspace};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the scenarios, their machines and their parameters
    List,
    /// Run one scenario and show what it says
    Run {
        /// Its name, as `list` shows it
        name: String,
        /// The kernel to run it on
        #[arg(long, value_enum, default_value = "6.12")]
        kernel: Kernel,
        /// A parameter of the scenario; may be given several times
        #[arg(long = "param", value_name = "NAME=VALUE")]
        parameters: Vec<String>,
    },
    /// Run one scenario many times, on a machine that is busy, and count how often it fails or is started again
    Repeat {
        /// Its name, as `list` shows it
        name: String,
        /// The kernel to run it on
        #[arg(long, value_enum, default_value = "6.12")]
        kernel: Kernel,
        /// How many times
        #[arg(long, default_value_t = 100)]
        times: usize,
        /// How many machines run at a time
        #[arg(long, default_value = "1", value_name = "MACHINES")]
        at_a_time: NonZero<usize>,
        /// How many threads keep this machine busy meanwhile
        #[arg(long, default_value_t = 0)]
        load: usize,
        /// A parameter of the scenario; may be given several times
        #[arg(long = "param", value_name = "NAME=VALUE")]
        parameters: Vec<String>,
    },
    /// Enter a guest with two PFs and configured VFs
    Shell {
        /// The kernel it runs
        #[arg(long, value_enum, default_value = "6.12")]
        kernel: Kernel,
    },
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    match &arguments.verb {
        Verb::List => {
            list();
            Ok(())
        }
        Verb::Run { name, kernel, parameters } => run_one(&Request::new(name, *kernel, parameters)?),
        Verb::Repeat { name, kernel, times, at_a_time, load, parameters } => {
            repeat(&Request::new(name, *kernel, parameters)?, *times, *at_a_time, *load)
        }
        Verb::Shell { kernel } => {
            let (lab, programs) = prepare(*kernel)?;
            lab.shell(&Request::new("shell", *kernel, &[])?, &programs)
        }
    }
}

fn list() {
    for scenario in SCENARIOS {
        let topology = scenario.topology;
        let when = match scenario.suite {
            Suite::Test => "in `cargo xtask test`",
            Suite::TestOnNewest => "in `cargo xtask test`, newest kernel",
            Suite::TestOnOldest => "in `cargo xtask test`, oldest kernel",
            Suite::OnDemand => "with `cargo xtask test --all`",
            Suite::ByHand => "by name alone",
        };
        println!("{:<14} {}", scenario.name, scenario.summary);
        println!(
            "{:<14} {} igb PFs, {} MiB, at most {} s, {when}",
            "",
            topology.igb_pfs,
            topology.memory_mib,
            scenario.timeout.as_secs()
        );
        for parameter in scenario.parameters {
            println!("{:<14} --param {}={}: {}", "", parameter.name, parameter.default, parameter.meaning);
        }
    }
}

/// Runs one scenario and shows what it says.
pub(crate) fn run_one(request: &Request) -> anyhow::Result<()> {
    let (lab, programs) = prepare(request.kernel)?;
    ensure!(
        request.scenario.needs == Needs::Nothing || programs.has_nic_driver(),
        "the scenario {} needs the program nic-driver, which the workspace does not have",
        request.scenario.name
    );
    needs::make(&lab, &programs, &workspace::metadata()?, &[(request.scenario, request.kernel)])?;
    let run = lab.run(request, &programs, |said| match said {
        Said::Progress(text) | Said::Report(text) => println!("{text}"),
    })?;
    println!("console: {}", run.log.display());
    println!("results: {}", run.results.display());
    match run.judgement.failure {
        None => {
            println!("{} passed in {:.1} s", request.scenario.name, run.judgement.time.as_secs_f64());
            Ok(())
        }
        Some(reason) => bail!("{} failed: {reason}", request.scenario.name),
    }
}

/// Runs a scenario `times` times, in `at_a_time` machines, beside `load` threads that do nothing but keep the processors
/// busy. A failure does not end it: how many there are is what is asked.
fn repeat(request: &Request, times: usize, at_a_time: NonZero<usize>, load: usize) -> anyhow::Result<()> {
    let (lab, programs) = prepare(request.kernel)?;
    let (over, begun) = (AtomicBool::new(false), AtomicUsize::new(0));
    let counts = thread::scope(|scope| {
        for _ in 0..load {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    hint::spin_loop();
                }
            });
        }
        let seats: Vec<_> = (1..=at_a_time.get())
            .map(|seat| Request { seat: Some(seat), ..request.clone() })
            .map(|request| {
                let (lab, programs, begun) = (&lab, &programs, &begun);
                scope.spawn(move || count(lab, programs, &request, begun, times))
            })
            .collect();
        let counts =
            seats.into_iter().map(|seat| seat.join().unwrap_or_else(|_| Err(anyhow!("a run panicked"))));
        let counts: anyhow::Result<Vec<(usize, usize)>> = counts.collect();
        over.store(true, Ordering::Relaxed);
        counts
    })?;
    let (failures, again) = counts.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    println!(
        "{} on {}: {times} times, {at_a_time} machines at a time, beside {load} busy threads: {failures} failed, {again} \
         starts again",
        request.scenario.name, request.kernel
    );
    ensure!(failures == 0 && again == 0, "not all of them passed at the first start");
    Ok(())
}

/// Runs the scenario until it was begun `times` times in all seats together. Returns how often it failed, and how often a
/// machine was started again.
fn count(
    lab: &Lab,
    programs: &Programs,
    request: &Request,
    begun: &AtomicUsize,
    times: usize,
) -> anyhow::Result<(usize, usize)> {
    let (mut failures, mut again) = (0, 0);
    loop {
        let time = begun.fetch_add(1, Ordering::Relaxed) + 1;
        if time > times {
            return Ok((failures, again));
        }
        let run = lab.run(request, programs, |_| {})?;
        again += run.breakdowns.len();
        for reason in &run.breakdowns {
            println!("{time:>4} broke down or stood still: {reason}");
        }
        let seconds = run.judgement.time.as_secs_f64();
        match run.judgement.failure {
            None => println!("{time:>4} passed {seconds:6.1} s"),
            Some(reason) => {
                failures += 1;
                let kept = run.log.with_extension(format!("failed-{time}.log"));
                fs::copy(&run.log, &kept).with_context(|| format!("cannot keep {}", kept.display()))?;
                println!("{time:>4} FAILED {seconds:6.1} s: {reason}; console: {}", kept.display());
            }
        }
    }
}

fn prepare(kernel: Kernel) -> anyhow::Result<(Lab, Programs)> {
    lab::set_up_machine()?;
    let metadata = workspace::metadata()?;
    let programs = Programs::build(&metadata)?;
    Ok((Lab::open(metadata.target_directory.as_std_path(), &[kernel])?, programs))
}

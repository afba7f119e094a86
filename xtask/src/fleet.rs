//! `cargo xtask fleet`: an upgrade of many nodes, played from what reports of few nodes tell.
//!
//! `docs/fleet.md` says what is assumed. `measured` reads the reports, `policy` is what the operator is told, `play` is the
//! upgrade as a list of events, and `outcome` and `picture` tell what came of it. Only this file reads and writes files.

mod measured;
mod outcome;
mod picture;
mod play;
mod policy;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use clap::{Args, ValueEnum};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use measured::{Measured, Rates};
use outcome::Outcome;
use policy::{Attention, Build, Drain, Limit, Policy};

const SECOND_MS: u64 = 1000;
const MINUTE_MS: u64 = 60 * SECOND_MS;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// How many nodes are upgraded
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    nodes: u32,
    /// A report of a night with an upgrade (`nic-driver report --output json`); may be given several times
    #[arg(long = "report", value_name = "FILE", required = true)]
    reports: Vec<PathBuf>,
    /// `maxParallelUpgrades`: how many nodes are upgraded at a time; 0 for as many as there are
    #[arg(long, default_value_t = 1)]
    max_parallel: u32,
    /// `maxUnavailable`: how many nodes may be cordoned at a time, or how many of a hundred
    #[arg(long, default_value = "25%", value_name = "N|P%")]
    max_unavailable: Limit,
    /// `drain`: how long it takes, at least and at most, in seconds; without it, nodes are cordoned and not drained
    #[arg(long, value_name = "FROM-TO")]
    drain: Option<Drain>,
    /// `drain.timeoutSeconds`: after how long a drain has failed; 0 for never
    #[arg(long, default_value_t = 300, value_name = "SECONDS")]
    drain_timeout: u32,
    /// `safeLoad`: the new container waits for one step more of the operator
    #[arg(long)]
    safe_load: bool,
    /// How long the operator takes for one step of a node, in seconds
    #[arg(long, default_value_t = 5, value_name = "SECONDS")]
    step: u32,
    /// Where packages come from
    #[arg(long, value_enum, default_value_t = Build::Node)]
    build: Build,
    /// How many kernels the nodes have between them
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    kernels: u32,
    /// How many of a hundred nodes go back to the driver that they had; otherwise as often as the reports tell
    #[arg(long, value_name = "PERCENT")]
    back: Option<f64>,
    /// How many of a hundred nodes are left without what they had; otherwise as often as the reports tell
    #[arg(long, value_name = "PERCENT")]
    dark: Option<f64>,
    /// After how many minutes a person has looked at a node that is stuck, and its place is free again
    #[arg(long, default_value_t = 30, value_name = "MINUTES")]
    attend: u32,
    /// How many nodes must be stuck for that person to stop the upgrade
    #[arg(long, default_value_t = 5, value_name = "NODES")]
    stop_at: u32,
    /// The first of the seeds, which are counted up
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many times it is played, each with its seed
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    runs: u32,
    /// Where to put a picture of the first run, as SVG
    #[arg(long, value_name = "FILE")]
    picture: Option<PathBuf>,
}

/// The driver of an upgrade.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Driver {
    /// Fails as often as was measured or is said.
    Good,
    /// Fails on every node, and each goes back to the one that it had.
    Bad,
    /// Fails on every node, and none has a way back.
    BadWithoutWayBack,
}

impl Driver {
    const ALL: [Self; 3] = [Self::Good, Self::Bad, Self::BadWithoutWayBack];

    fn title(self) -> &'static str {
        match self {
            Self::Good => "The upgrade",
            Self::Bad => "A driver that comes up on no node, and each goes back",
            Self::BadWithoutWayBack => "A driver that comes up on no node, without a way back",
        }
    }

    /// How often nodes fail under it.
    fn rates(self, said: Rates) -> Rates {
        match self {
            Self::Good => said,
            Self::Bad => Rates { back: 1.0, dark: 0.0 },
            Self::BadWithoutWayBack => Rates { back: 0.0, dark: 1.0 },
        }
    }
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let measured = read(&arguments.reports)?;
    let said = Rates {
        back: share("--back", arguments.back)?.unwrap_or(measured.rates.back),
        dark: share("--dark", arguments.dark)?.unwrap_or(measured.rates.dark),
    };
    ensure!(said.back + said.dark <= 1.0, "--back and --dark are more than all nodes together");
    let policy = policy(arguments);
    print!("{}", measured.describe(&arguments.reports));
    print!("{}", policy.describe(arguments.nodes));
    for driver in Driver::ALL {
        let rates = driver.rates(said);
        let mut outcomes = Vec::new();
        for run in 0..u64::from(arguments.runs) {
            let mut random = StdRng::seed_from_u64(arguments.seed.wrapping_add(run));
            let nodes = play::play(arguments.nodes, &policy, &measured, rates, &mut random);
            if let (Driver::Good, 0, Some(file)) = (driver, run, &arguments.picture) {
                fs::write(file, picture::svg(&nodes))
                    .with_context(|| format!("cannot write {}", file.display()))?;
            }
            outcomes.push(Outcome::of(&nodes));
        }
        print!("\n{}{}", driver.title(), outcome::table(rates, &outcomes));
    }
    Ok(())
}

fn read(files: &[PathBuf]) -> anyhow::Result<Measured> {
    let mut measured = Measured::default();
    for file in files {
        let name = || file.display().to_string();
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", name()))?;
        measured.add(&text).with_context(name)?;
    }
    measured.finish()
}

/// A number of a hundred as a share of one.
fn share(option: &str, percent: Option<f64>) -> anyhow::Result<Option<f64>> {
    if let Some(percent) = percent {
        ensure!((0.0..=100.0).contains(&percent), "{option} is {percent}; it is a number from 0 to 100");
    }
    Ok(percent.map(|percent| percent / 100.0))
}

fn policy(arguments: &Arguments) -> Policy {
    let timeout_ms = u64::from(arguments.drain_timeout) * SECOND_MS;
    Policy {
        max_parallel: arguments.max_parallel,
        max_unavailable: arguments.max_unavailable,
        drain: arguments.drain,
        drain_timeout_ms: (timeout_ms > 0).then_some(timeout_ms),
        safe_load: arguments.safe_load,
        step_ms: u64::from(arguments.step) * SECOND_MS,
        build: arguments.build,
        kernels: arguments.kernels,
        attention: Attention {
            after_ms: u64::from(arguments.attend) * MINUTE_MS,
            stop_at: arguments.stop_at,
        },
    }
}

//! `cargo xtask soak`: kill the program at random moments for as long as one likes.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use clap::Args;

use crate::lab::{Kernel, Request};
use crate::lab_verb;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// How long, in minutes
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1440))]
    minutes: u32,
    /// The kernel of the guest
    #[arg(long, value_enum, default_value = "6.12")]
    kernel: Kernel,
    /// Which random moments; as printed by an earlier run [default: others each time]
    #[arg(long)]
    seed: Option<u64>,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let seed = match arguments.seed {
        Some(seed) => seed,
        None => SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?.as_secs(),
    };
    println!("seed {seed}");
    let parameters = [format!("minutes={}", arguments.minutes), format!("seed={seed}")];
    lab_verb::run_one(&Request::new("soak", arguments.kernel, &parameters)?)
}

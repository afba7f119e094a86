//! How soon the driver container's side of the handshake with the build sidecar notices what the sidecar's side says,
//! beside a poll.
//!
//! Runs on this machine and not in a guest: all of it is files in one folder. Both sides are of one program, an example
//! of `nic-dtk`, with a thread each.

use std::process::Command;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::median;
use crate::lab::process;

/// How often the incumbent's driver container looks, in milliseconds.
const POLL: f64 = 30_000.0;

/// How often the incumbent's driver container looks for failures: never. It gives up after this, in milliseconds.
const INCUMBENT_DEADLINE: f64 = 40.0 * 60_000.0;

/// Times in milliseconds.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// From the done flag to the next step.
    done: Figures,
    /// From the end of a build to packages that are checked and in the driver container's hands.
    built: Figures,
    /// From a build that fails to the error.
    failed: Figures,
    /// What is expected of a poll: half of its period. Calculated, not measured.
    poll_expected: f64,
}

#[derive(Debug, Serialize)]
struct Figures {
    median: f64,
    most: f64,
    all: Vec<f64>,
}

/// What the example prints.
#[derive(Debug, Deserialize)]
struct Times {
    done: Vec<f64>,
    built: Vec<f64>,
    failed: Vec<f64>,
}

pub(super) fn measure(rounds: u32) -> anyhow::Result<Report> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["run", "--release", "--quiet", "--package", "nic-dtk", "--example", "latency", "--"]);
    let told = process::output(cargo.arg(rounds.to_string()))?;
    let times: Times = serde_json::from_str(&told).context("the example's times do not parse")?;
    let report = Report {
        done: Figures::of(times.done),
        built: Figures::of(times.built),
        failed: Figures::of(times.failed),
        poll_expected: POLL / 2.0,
    };
    report.print();
    Ok(report)
}

impl Figures {
    fn of(all: Vec<f64>) -> Self {
        let most = all.iter().copied().fold(f64::NAN, f64::max);
        Self { median: median(all.clone()), most, all }
    }
}

impl Report {
    fn print(&self) {
        println!("\nhandshake with the build sidecar, {} rounds (ms):", self.done.all.len());
        println!("{:<40} {:>10} {:>10} {:>22}", "", "median", "most", "30 s poll, expected");
        for (what, figures, poll) in [
            ("done flag to the next step", &self.done, self.poll_expected),
            ("end of the build to checked packages", &self.built, self.poll_expected),
            ("failed build to the error", &self.failed, INCUMBENT_DEADLINE),
        ] {
            println!("{what:<40} {:>10.1} {:>10.1} {poll:>22.0}", figures.median, figures.most);
        }
        println!("(a poll of the flags does not see a failed build: there it is the incumbent's deadline)\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures() {
        let figures = Figures::of(vec![1.0, 9.0, 2.0]);
        assert!((figures.median - 2.0).abs() < 1e-9);
        assert!((figures.most - 9.0).abs() < 1e-9);
    }
}

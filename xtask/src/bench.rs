//! `cargo xtask bench`: how long a restore takes, as a multiple of what the kernel takes for the VFs alone.
//!
//! Absolute times say little: guests run by software emulation, beside whatever else this machine does. Both sides are
//! measured in the same guest and in turns, so their ratio says something. Nothing is asserted about it.

mod timeline;

use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail};
use clap::Args;
use lab_guest::bench::{MEASUREMENTS_FILE, Measurement, Measurements, journal_file};
use serde::Serialize;

use crate::lab::{self, Kernel, Lab, Programs, Request, Said};
use crate::workspace;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The kernel of the guest
    #[arg(long, value_enum, default_value = "6.12")]
    kernel: Kernel,
    /// How many runs of each
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

/// The result file.
#[derive(Debug, Serialize)]
struct Report {
    kernel: String,
    sizes: Vec<Size>,
    runs: Vec<Measurement>,
}

/// The medians of one number of VFs. Times are in seconds.
#[derive(Debug, Serialize)]
struct Size {
    vfs: usize,
    runs: usize,
    floor: f64,
    restore: f64,
    snapshot: f64,
    /// Of the medians.
    restore_to_floor: f64,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    lab::set_up_machine()?;
    let metadata = workspace::metadata()?;
    let target = metadata.target_directory.as_std_path();
    let programs = Programs::build_released(&metadata)?;
    let lab = Lab::open(target, &[arguments.kernel])?;
    let request = Request::new("bench", arguments.kernel, &[format!("rounds={}", arguments.rounds)])?;
    let run = lab.run(&request, &programs, |said| {
        if let Said::Report(text) = said {
            println!("{text}");
        }
    })?;
    if let Some(reason) = run.judgement.failure {
        bail!("{reason}; console: {}", run.log.display());
    }
    let file = run.results.join(MEASUREMENTS_FILE);
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let measured: Measurements =
        serde_json::from_str(&text).with_context(|| format!("{} does not parse", file.display()))?;
    let report = Report::of(measured);
    report.print();
    write_results(&report, &run.results, &target.join("bench"))
}

fn write_results(report: &Report, results: &Path, folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let write = |name: &str, text: String| {
        let file = folder.join(name);
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        println!("{}", file.display());
        anyhow::Ok(())
    };
    write("bench.json", serde_json::to_string_pretty(report).context("cannot write the results as JSON")?)?;
    let largest = report.sizes.iter().map(|size| size.vfs).max().context("nothing was measured")?;
    let journal = results.join(journal_file(largest));
    let journal =
        fs::read_to_string(&journal).with_context(|| format!("cannot read {}", journal.display()))?;
    write("timeline.svg", timeline::svg(&journal)?)
}

impl Report {
    fn of(measured: Measurements) -> Self {
        let mut counts: Vec<_> = measured.runs.iter().map(|run| run.vfs).collect();
        counts.sort_unstable();
        counts.dedup();
        let sizes = counts.into_iter().map(|vfs| Size::of(vfs, &measured.runs)).collect();
        Self { kernel: measured.kernel, sizes, runs: measured.runs }
    }

    fn print(&self) {
        println!("\nkernel {}, medians:", self.kernel);
        println!(
            "{:>4} {:>5} {:>17} {:>10} {:>10} {:>16}",
            "VFs", "runs", "kernel alone (s)", "restore (s)", "ratio", "snapshot (s)"
        );
        for Size { vfs, runs, floor, restore, snapshot, restore_to_floor } in &self.sizes {
            println!(
                "{vfs:>4} {runs:>5} {floor:>17.2} {restore:>11.2} {restore_to_floor:>10.2} {snapshot:>15.2}"
            );
        }
        println!();
    }
}

impl Size {
    fn of(vfs: usize, runs: &[Measurement]) -> Self {
        let of: Vec<_> = runs.iter().filter(|run| run.vfs == vfs).collect();
        let middle = |time: fn(&Measurement) -> f64| median(of.iter().map(|run| time(run)).collect());
        let (floor, restore, snapshot) =
            (middle(|run| run.floor), middle(|run| run.restore), middle(|run| run.snapshot));
        Self { vfs, runs: of.len(), floor, restore, snapshot, restore_to_floor: restore / floor }
    }
}

/// The middle value, or the mean of the two in the middle. NaN when there is none.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
    let upper = values.len() / 2;
    if values.len() % 2 == 1 { at(upper) } else { f64::midpoint(at(upper.wrapping_sub(1)), at(upper)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert!((median(vec![3.0, 1.0, 9.0]) - 3.0).abs() < 1e-9);
        assert!((median(vec![4.0, 1.0, 2.0, 9.0]) - 3.0).abs() < 1e-9);
        assert!(median(Vec::new()).is_nan());
    }

    #[test]
    fn sizes_are_kept_apart() {
        let run = |vfs, restore| Measurement { vfs, round: 1, floor: 2.0, restore, snapshot: 0.1 };
        let measured =
            Measurements { kernel: "6.12".to_owned(), runs: vec![run(49, 8.0), run(14, 3.0), run(14, 5.0)] };
        let report = Report::of(measured);
        let ratios: Vec<_> =
            report.sizes.iter().map(|size| (size.vfs, size.runs, size.restore_to_floor)).collect();
        assert_eq!(ratios, [(14, 2, 2.0), (49, 1, 4.0)]);
    }
}

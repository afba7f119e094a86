//! `restore-sriov` and `snapshot`, against what the kernel takes for the VFs alone.

use std::fs;

use anyhow::Context as _;
use lab_guest::bench::{MEASUREMENTS_FILE, Measurement, Measurements, journal_file};
use serde::Serialize;

use super::{Bench, median, read, timeline};

/// What was measured of restores.
#[derive(Debug, Serialize)]
pub(super) struct Restores {
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

/// Measures, and draws the last restore of the largest number of VFs.
pub(super) fn measure(bench: &Bench) -> anyhow::Result<Restores> {
    let results = bench.scenario("bench")?;
    let report = Restores::of(read::<Measurements>(&results.join(MEASUREMENTS_FILE))?);
    let largest = report.sizes.iter().map(|size| size.vfs).max().context("nothing was measured")?;
    let journal = results.join(journal_file(largest));
    let journal =
        fs::read_to_string(&journal).with_context(|| format!("cannot read {}", journal.display()))?;
    bench.write("timeline.svg", &timeline::svg(&journal)?)?;
    report.print();
    Ok(report)
}

impl Restores {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_kept_apart() {
        let run = |vfs, restore| Measurement { vfs, round: 1, floor: 2.0, restore, snapshot: 0.1 };
        let measured =
            Measurements { kernel: "6.12".to_owned(), runs: vec![run(49, 8.0), run(14, 3.0), run(14, 5.0)] };
        let report = Restores::of(measured);
        let ratios: Vec<_> =
            report.sizes.iter().map(|size| (size.vfs, size.runs, size.restore_to_floor)).collect();
        assert_eq!(ratios, [(14, 2, 2.0), (49, 1, 4.0)]);
    }
}

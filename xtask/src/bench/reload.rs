//! The modules' part of a reload, against modprobe alone; and what a driver container takes while it waits.

use lab_guest::bench::{Memory, RELOADS_FILE, Reloads};
use serde::Serialize;

use super::{Bench, median, read};

/// What was measured of reloads. Times are in seconds.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// The median of bare modprobe.
    bare: f64,
    /// The median of the reload's part.
    modules: f64,
    /// The median of the whole command.
    reload: f64,
    /// Of the medians.
    modules_to_bare: f64,
    measured: Reloads,
}

pub(super) fn measure(bench: &Bench) -> anyhow::Result<Report> {
    let results = bench.scenario("bench-reload")?;
    let report = Report::of(read(&results.join(RELOADS_FILE))?);
    report.print();
    Ok(report)
}

impl Report {
    fn of(measured: Reloads) -> Self {
        let bare = median(measured.runs.iter().map(|run| run.bare).collect());
        let modules = median(measured.runs.iter().map(|run| run.modules).collect());
        let reload = median(measured.runs.iter().map(|run| run.reload).collect());
        Self { bare, modules, reload, modules_to_bare: modules / bare, measured }
    }

    fn print(&self) {
        let Self { bare, modules, reload, modules_to_bare, measured } = self;
        println!(
            "\nkernel {}, {} PFs without VFs, medians of {}:",
            measured.kernel,
            measured.pfs,
            measured.runs.len()
        );
        println!(
            "{:>17} {:>20} {:>10} {:>22}",
            "modprobe alone (s)", "reload's modules (s)", "ratio", "the whole reload (s)"
        );
        println!("{bare:>18.2} {modules:>20.2} {modules_to_bare:>10.2} {reload:>22.2}");
        println!("\na driver container that is ready and waits: {}\n", Memory::summary(&measured.waiting));
    }
}

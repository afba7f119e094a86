//! `cargo xtask bench`: what the program takes, as a multiple of what the kernel, modprobe or modinfo takes for the same alone.
//!
//! Absolute times say little: guests run by software emulation, beside whatever else this machine does. Both sides are
//! measured in the same run and in turns, so their ratio says something. Nothing is asserted about it.

mod handshake;
mod identity;
mod probe;
mod reload;
mod restore;
mod timeline;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::lab::{self, Kernel, Lab, Programs, Request, Said};
use crate::workspace;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The kernel of the guest, and whose modules are compared
    #[arg(long, value_enum, default_value = "6.12")]
    kernel: Kernel,
    /// How many runs of each
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// What is measured; all of it when not given
    #[arg(long, value_enum)]
    only: Option<Subject>,
}

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Subject {
    /// restore-sriov and snapshot, against the kernel alone
    Restore,
    /// The modules' part of reload, against modprobe alone
    Reload,
    /// The comparison of the mlx5 family's modules with those on the disk, against modinfo
    Identity,
    /// How soon the build sidecar's answer is noticed, beside a poll
    Handshake,
    /// What a probe of the kubelet takes, beside the smallest program and the shell's probes
    Probe,
}

/// What all measurements need.
struct Bench {
    lab: Lab,
    programs: Programs,
    kernel: Kernel,
    rounds: u32,
    /// Where results go.
    folder: PathBuf,
}

/// The result file.
#[derive(Debug, Default, Serialize)]
struct Report {
    #[serde(skip_serializing_if = "Option::is_none")]
    restore: Option<restore::Restores>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reload: Option<reload::Report>,
    #[serde(skip_serializing_if = "Option::is_none")]
    identity: Option<identity::Report>,
    #[serde(skip_serializing_if = "Option::is_none")]
    handshake: Option<handshake::Report>,
    #[serde(skip_serializing_if = "Option::is_none")]
    probe: Option<probe::Report>,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let metadata = workspace::metadata()?;
    let target = metadata.target_directory.as_std_path();
    let folder = target.join("bench");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let wanted = |subject| arguments.only.is_none_or(|only| only == subject);
    let mut report = Report::default();
    if wanted(Subject::Handshake) {
        report.handshake = Some(handshake::measure(arguments.rounds)?);
    }
    if wanted(Subject::Probe) {
        report.probe = Some(probe::measure(&metadata, arguments.rounds)?);
    }
    if matches!(arguments.only, Some(Subject::Handshake | Subject::Probe)) {
        // Neither a kernel nor a guest is needed.
        return write(&folder, &report);
    }
    lab::set_up_machine()?;
    let bench = Bench {
        programs: Programs::build_released(&metadata)?,
        lab: Lab::open(target, &[arguments.kernel])?,
        kernel: arguments.kernel,
        rounds: arguments.rounds,
        folder,
    };
    if wanted(Subject::Identity) {
        report.identity = Some(identity::measure(&bench)?);
    }
    if wanted(Subject::Reload) {
        report.reload = Some(reload::measure(&bench)?);
    }
    if wanted(Subject::Restore) {
        report.restore = Some(restore::measure(&bench)?);
    }
    write(&bench.folder, &report)
}

fn write(folder: &Path, report: &Report) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(report).context("cannot write the results as JSON")?;
    write_file(folder, "bench.json", &text)
}

/// Writes a result.
fn write_file(folder: &Path, name: &str, text: &str) -> anyhow::Result<()> {
    let file = folder.join(name);
    fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    println!("{}", file.display());
    Ok(())
}

impl Bench {
    /// Runs a scenario that measures, and returns the folder of what it handed out.
    fn scenario(&self, name: &str) -> anyhow::Result<PathBuf> {
        let request = Request::new(name, self.kernel, &[format!("rounds={}", self.rounds)])?;
        let run = self.lab.run(&request, &self.programs, |said| {
            if let Said::Report(text) = said {
                println!("{text}");
            }
        })?;
        if let Some(reason) = run.judgement.failure {
            bail!("{reason}; console: {}", run.log.display());
        }
        Ok(run.results)
    }

    /// Writes a result.
    fn write(&self, name: &str, text: &str) -> anyhow::Result<()> {
        write_file(&self.folder, name, text)
    }
}

/// What a guest has measured.
fn read<T: DeserializeOwned>(file: &Path) -> anyhow::Result<T> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} does not parse", file.display()))
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
}

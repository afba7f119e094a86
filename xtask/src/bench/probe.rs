//! What a probe of the kubelet takes, beside the smallest program there is and beside what the shell's probes run.
//!
//! Runs on this machine and not in a guest: a tree stands for a node that is ready. `lsmod` reads this machine's own modules,
//! where its kernel has any.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, ensure};
use cargo_metadata::Metadata;
use serde::Serialize;

use super::median;
use crate::lab::process;

/// Starts of each program in a round, in turns: one takes milliseconds.
const STARTS: u32 = 20;

/// Of the node's modules, and of the boot.
const SRCVERSION: &str = "1BC29B36F623BA82AAF6724";
const BOOT_ID: &str = "00000000-0000-4000-8000-000000000000";

/// What was measured. Times are in milliseconds.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    starts: u32,
    programs: Vec<Figures>,
}

#[derive(Debug, Serialize)]
struct Figures {
    what: &'static str,
    median: f64,
    most: f64,
    /// Of the medians: how often the smallest program could have been started meanwhile.
    to_true: f64,
    /// Of the medians: beside the shell's probe of the readiness file.
    to_ls: f64,
}

pub(super) fn measure(metadata: &Metadata, rounds: u32) -> anyhow::Result<Report> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(&metadata.workspace_root);
    process::stream(cargo.args(["build", "--release", "--package", "nic-driver", "--bin", "nic-driver"]))?;
    let nic_driver = metadata.target_directory.join("release/nic-driver").into_std_path_buf();
    let tree = tempfile::tempdir().context("cannot make a folder for the machine")?;
    let ready = make_ready_node(tree.path())?;
    let command = |program: &Path, arguments: &[&str]| {
        let mut command = Command::new(program);
        command.args(arguments);
        command
    };
    let probe = |asked: &str| {
        let mut command = command(&nic_driver, &["--root"]);
        command.arg(tree.path()).args(["probe", asked]);
        command
    };
    let ls = format!("ls {}", ready.display());
    let mut programs = vec![
        ("true", command(Path::new("/bin/true"), &[])),
        ("sh -c 'ls FILE'", command(Path::new("/bin/sh"), &["-c", &ls])),
        ("nic-driver --version", command(&nic_driver, &["--version"])),
        ("nic-driver probe startup", probe("startup")),
        ("nic-driver probe ready", probe("ready")),
        ("nic-driver probe live", probe("live")),
    ];
    if Path::new("/proc/modules").exists() {
        programs.push(("lsmod", command(Path::new("lsmod"), &[])));
    } else {
        println!("lsmod is not measured: this machine's kernel has no loadable modules");
    }
    let mut taken = vec![Vec::new(); programs.len()];
    for _ in 0..rounds * STARTS {
        for ((what, command), taken) in programs.iter_mut().zip(&mut taken) {
            taken.push(time(what, command)?);
        }
    }
    let report = Report::of(programs.iter().map(|(what, _)| *what).zip(taken));
    report.print();
    Ok(report)
}

/// A node with the driver, the record of it, and the readiness file; returns the latter.
fn make_ready_node(root: &Path) -> anyhow::Result<std::path::PathBuf> {
    let write = |path: &str, content: &str| {
        let file = root.join(path);
        let folder = file.parent().context("a file without a folder")?;
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        fs::write(&file, content).with_context(|| format!("cannot write {}", file.display()))?;
        Ok::<_, anyhow::Error>(file)
    };
    let mut kept = Vec::new();
    for module in ["mlx5_core", "mlx5_ib", "ib_core"] {
        write(&format!("sys/module/{module}/initstate"), "live\n")?;
        write(&format!("sys/module/{module}/srcversion"), &format!("{SRCVERSION}\n"))?;
        let file = serde_json::Value::Null;
        kept.push(serde_json::json!({
            "module": module, "srcversion": SRCVERSION, "build_id": file, "file": file, "found_at": file,
        }));
    }
    let verified = serde_json::json!({
        "schema": 2, "kept_at": "2026-01-02T03:04:05Z", "boot_id": BOOT_ID, "kernel": "6.12.1", "modules": kept,
    });
    write("proc/sys/kernel/random/boot_id", &format!("{BOOT_ID}\n"))?;
    write("run/mellanox/drivers/.nic-driver/mlx5/previous-modules/manifest.json", &verified.to_string())?;
    write("run/mellanox/drivers/.driver-ready", "")
}

/// Runs a program that must end well, and returns how long that took.
fn time(what: &str, command: &mut Command) -> anyhow::Result<f64> {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let start = Instant::now();
    let status = command.status().with_context(|| format!("cannot start {what}"))?;
    let taken = start.elapsed().as_secs_f64() * 1000.0;
    ensure!(status.success(), "{what} ended with {status}");
    Ok(taken)
}

impl Report {
    fn of(taken: impl Iterator<Item = (&'static str, Vec<f64>)>) -> Self {
        let taken: Vec<_> = taken.collect();
        let middle = |at: usize| taken.get(at).map_or(f64::NAN, |(_, taken)| median(taken.clone()));
        let (of_true, of_ls) = (middle(0), middle(1));
        let starts = taken.first().map_or(0, |(_, taken)| u32::try_from(taken.len()).unwrap_or(u32::MAX));
        let programs = taken
            .iter()
            .enumerate()
            .map(|(at, (what, taken))| Figures {
                what,
                median: middle(at),
                most: taken.iter().copied().fold(f64::NAN, f64::max),
                to_true: middle(at) / of_true,
                to_ls: middle(at) / of_ls,
            })
            .collect();
        Self { starts, programs }
    }

    fn print(&self) {
        println!("\nprobes of a ready node, {} starts of each (ms):", self.starts);
        println!("{:<26} {:>8} {:>8} {:>10} {:>8}", "", "median", "most", "to true", "to ls");
        for Figures { what, median, most, to_true, to_ls } in &self.programs {
            println!("{what:<26} {median:>8.2} {most:>8.2} {to_true:>10.2} {to_ls:>8.2}");
        }
        println!();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_of_medians() {
        let taken = [("true", vec![1.0, 9.0, 1.0]), ("ls", vec![2.0]), ("probe", vec![4.0, 3.0])];
        let report = Report::of(taken.into_iter());
        let ratios: Vec<_> = report.programs.iter().map(|one| (one.what, one.to_true, one.to_ls)).collect();
        assert_eq!(report.starts, 3);
        assert_eq!(ratios, [("true", 1.0, 0.5), ("ls", 2.0, 1.0), ("probe", 3.5, 1.75)]);
    }

    #[test]
    fn a_program_that_fails_is_no_measurement() {
        assert!(time("false", &mut Command::new("/bin/false")).is_err());
        assert!(time("true", &mut Command::new("/bin/true")).unwrap() > 0.0);
    }
}

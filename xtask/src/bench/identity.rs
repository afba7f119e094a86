//! Comparing the loaded modules of the mlx5 family with those on the disk, against `modinfo` for the same files.
//!
//! Runs on this machine and not in a guest: the modules are the distribution's, the machine around them is a tree in which
//! all of them are loaded. Their files are dropped from the page cache before each run.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use serde::Serialize;

use super::{Bench, median};
use crate::lab::{KernelTree, modules, process};

/// The family's identity; `crates/nic-driver/families/mlx5.toml` has the same list, which the run makes sure of.
const MODULES: [&str; 9] =
    ["mlx5_core", "mlx5_ib", "ib_core", "ib_uverbs", "ib_umad", "ib_cm", "rdma_cm", "rdma_ucm", "ib_ipoib"];

/// What was measured. Times are in milliseconds.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    kernel: String,
    modules: usize,
    /// Of the files, as they lie on the disk.
    bytes: u64,
    /// The median of `modinfo -F srcversion`, one process for each module, one after the other.
    modinfo: f64,
    /// The median of `plan reload`, the whole process.
    identity: f64,
    /// Of the medians.
    identity_to_modinfo: f64,
    runs: Vec<Run>,
}

#[derive(Debug, Serialize)]
struct Run {
    modinfo: f64,
    identity: f64,
}

pub(super) fn measure(bench: &Bench) -> anyhow::Result<Report> {
    let tree = bench.lab.kernel_tree(bench.kernel)?;
    let machine = tempfile::tempdir().context("cannot make a folder for the machine")?;
    let files = make_machine(tree, machine.path())?;
    let bytes = files.iter().map(|file| Ok(fs::metadata(file)?.len())).sum::<std::io::Result<u64>>();
    let bytes = bytes.context("cannot read the size of the modules")?;
    process::run(&mut Command::new("sync"))?;
    let mut runs = Vec::new();
    for _ in 0..bench.rounds {
        drop_from_page_cache(&files)?;
        let start = Instant::now();
        for file in &files {
            process::run(Command::new("/sbin/modinfo").args(["-F", "srcversion"]).arg(file))?;
        }
        let modinfo = milliseconds(start);
        drop_from_page_cache(&files)?;
        let start = Instant::now();
        let told = process::output(
            Command::new(bench.programs.nic_driver()?)
                .args(["--family", "mlx5", "--output", "json", "--root"])
                .arg(machine.path())
                .arg("--state-dir")
                .arg(machine.path().join("state"))
                .args(["plan", "reload"]),
        )?;
        let identity = milliseconds(start);
        ensure_all_are_equal(&told)?;
        runs.push(Run { modinfo, identity });
    }
    let report = Report::of(tree.release(), bytes, runs);
    report.print();
    Ok(report)
}

impl Report {
    fn of(kernel: &str, bytes: u64, runs: Vec<Run>) -> Self {
        let modinfo = median(runs.iter().map(|run| run.modinfo).collect());
        let identity = median(runs.iter().map(|run| run.identity).collect());
        let (kernel, modules) = (kernel.to_owned(), MODULES.len());
        Self { kernel, modules, bytes, modinfo, identity, identity_to_modinfo: identity / modinfo, runs }
    }

    fn print(&self) {
        let Self { kernel, modules, bytes, modinfo, identity, identity_to_modinfo, runs } = self;
        println!("\nkernel {kernel}, {modules} modules of {bytes} bytes, cold, medians of {}:", runs.len());
        println!("{:>13} {:>20} {:>10}", "modinfo (ms)", "identity check (ms)", "ratio");
        println!("{modinfo:>13.1} {identity:>20.1} {identity_to_modinfo:>10.2}\n");
    }
}

/// A machine on which the distribution's own modules are loaded. Returns their files.
fn make_machine(tree: &KernelTree, root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let indexed = modules::index_whole(tree, root)?;
    let index = fs::read_to_string(indexed.join("modules.dep")).context("cannot read the index")?;
    let index: BTreeMap<String, Vec<String>> = modules::parse_index(&index);
    let write = |path: &str, content: &[u8]| {
        let file = root.join(path);
        let folder = file.parent().context("a file without a folder")?;
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        fs::write(&file, content).with_context(|| format!("cannot write {}", file.display()))
    };
    write("proc/sys/kernel/osrelease", format!("{}\n", tree.release()).as_bytes())?;
    write("proc/sys/kernel/random/boot_id", b"00000000-0000-4000-8000-000000000000\n")?;
    write("etc/os-release", b"ID=debian\nVERSION_ID=12\n")?;
    let mut files = Vec::new();
    let mut loaded = String::new();
    for module in MODULES {
        let paths = index.get(module).with_context(|| format!("the kernel has no module {module}"))?;
        let file = indexed.join(paths.first().with_context(|| format!("{module} has no file"))?);
        write(&format!("sys/module/{module}/initstate"), b"live\n")?;
        write(&format!("sys/module/{module}/notes/.note.gnu.build-id"), &build_id_note(&file)?)?;
        loaded.push_str(&format!("{module} 16384 0 - Live 0x0000000000000000\n"));
        files.push(file);
    }
    write("proc/modules", loaded.as_bytes())?;
    Ok(files)
}

/// The note as the kernel shows it of a module that was loaded from this file.
fn build_id_note(file: &Path) -> anyhow::Result<Vec<u8>> {
    let folder = tempfile::tempdir().context("cannot make a folder")?;
    let name = file.file_name().context("a module without a name")?.to_string_lossy().into_owned();
    let packed = folder.path().join(&name);
    symlink(file, &packed).context("cannot link to a module")?;
    let elf = folder.path().join("module.ko");
    if name.ends_with(".xz") {
        let plain = fs::File::create(&elf).context("cannot create a module")?;
        let mut xz = Command::new("xz");
        let status = xz.args(["--decompress", "--stdout", "--force"]).arg(&packed).stdout(plain).status();
        ensure!(status.context("cannot start xz")?.success(), "xz does not unpack {name}");
    } else {
        fs::copy(file, &elf).context("cannot copy a module")?;
    }
    let note = folder.path().join("note");
    let section = ["--only-section=.note.gnu.build-id", "--output-target=binary"];
    process::run(Command::new("objcopy").args(section).arg(&elf).arg(&note))?;
    fs::read(&note).with_context(|| format!("{name} has no build-id"))
}

/// A file that is read without a byte of it being asked for, and with the advice to keep nothing of it.
fn drop_from_page_cache(files: &[PathBuf]) -> anyhow::Result<()> {
    for file in files {
        let file = format!("if={}", file.display());
        process::run(Command::new("dd").args([file.as_str(), "of=/dev/null", "iflag=nocache", "count=0"]))?;
    }
    Ok(())
}

fn ensure_all_are_equal(told: &str) -> anyhow::Result<()> {
    let plan: serde_json::Value = serde_json::from_str(told).context("the plan does not parse")?;
    let modules =
        plan.pointer("/identity").and_then(|identity| identity.as_array()).context("no identity")?;
    let equal: Vec<_> = modules
        .iter()
        .filter(|module| module.pointer("/verdict/is").is_some_and(|verdict| verdict == "equal"))
        .filter_map(|module| module.get("module")?.as_str())
        .collect();
    ensure!(equal == MODULES, "not all modules were compared and found equal: {told}");
    Ok(())
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}

//! Driver packages as the program gets them: built by the real tools of the distribution from real kernel sources, in the build
//! sidecar, here or by DKMS, and installed in containers. What comes out is what the scenario `built-night` runs.
//!
//! The containers are of one image of Debian. Those that play the driver container and the sidecar of an OpenShift node have
//! RHEL's and RHCOS's os-release, and a `dnf` that has everything; rpmbuild, rpm, depmod, apt-get, dpkg, dkms and the compiler are
//! real.

pub(crate) mod container;
mod on_debian;
mod on_openshift;
pub(crate) mod vendor;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, anyhow, ensure};
use cargo_metadata::Metadata;
use clap::Args;
use lab_guest::wiring::BUILT_PACKAGES;
use serde::Serialize;

use crate::lab::{self, Kernel, KernelTree, Lab, Programs, cpio};
use crate::{sidecar, workspace};
use container::Container;

/// The node's kernel.
const KERNEL: Kernel = Kernel::OLDEST;

/// Folders of the inbox driver and of what it depends on.
const INBOX: [&str; 6] = [
    "kernel/drivers/net/ethernet/intel/igb",
    "kernel/drivers/net/ethernet/intel/igbvf",
    "kernel/drivers/i2c/algos",
    "kernel/drivers/dca",
    "kernel/drivers/ptp",
    "kernel/drivers/pps",
];

#[derive(Debug, Args)]
pub(crate) struct Arguments {}

pub(crate) fn run(Arguments {}: &Arguments) -> anyhow::Result<()> {
    lab::set_up_machine()?;
    let metadata = workspace::metadata()?;
    let programs = Programs::build(&metadata)?;
    let lab = Lab::open(metadata.target_directory.as_std_path(), &[KERNEL])?;
    let built = build(&lab, &programs, &metadata)?;
    println!("packages for the scenario built-night: {}", built.display());
    Ok(())
}

/// What all containers are made of.
struct Workshop<'a> {
    image: PathBuf,
    tree: &'a KernelTree,
    program: &'a Path,
    /// The program of the build sidecar, which lies beside it.
    sidecar_program: PathBuf,
    /// A layer with what an image has of its node's kernel: its list of modules, and the inbox driver.
    node: PathBuf,
    /// A folder for what is thrown away.
    scratch: PathBuf,
    /// What packages and versions are put into.
    packages: PathBuf,
}

/// A version that was built, as the guest reads of it.
#[derive(Debug, Serialize)]
struct Version {
    version: &'static str,
    srcversions: BTreeMap<&'static str, String>,
}

/// Has packages built and installed in each way, and returns the part of a guest that holds them.
pub(crate) fn build(lab: &Lab, programs: &Programs, metadata: &Metadata) -> anyhow::Result<PathBuf> {
    let (part, dkms_part) = (lab.built_packages(), lab.dkms_built());
    // What is left of another run is another program's.
    for part in [&part, &dkms_part] {
        match fs::remove_file(part) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", part.display()));
            }
            _ => {}
        }
    }
    let scratch = tempfile::Builder::new()
        .prefix("pipeline-")
        .tempdir_in(lab.root())
        .context("cannot create a folder for containers")?;
    let packages = scratch.path().join("packages");
    fs::create_dir(&packages).context("cannot create a folder for packages")?;
    let tree = lab.kernel_tree(KERNEL)?;
    let node = scratch.path().join("node");
    link_inbox(tree, &node)?;
    let workshop = Workshop {
        image: lab.image()?,
        tree,
        node,
        program: programs.nic_driver()?,
        sidecar_program: sidecar::build(metadata, scratch.path())?,
        scratch: scratch.path().to_owned(),
        packages,
    };
    let workshop = &workshop;
    let versions = thread::scope(|scope| {
        let debian = scope.spawn(move || on_debian::all(workshop, &dkms_part));
        let versions = on_openshift::all(workshop);
        let by_dkms = debian.join();
        let by_dkms =
            by_dkms.unwrap_or_else(|_| Err(anyhow!("the thread for Debian's containers panicked")))?;
        let mut versions = versions?;
        versions.insert(on_debian::LETTER, by_dkms);
        anyhow::Ok(versions)
    })?;
    let json = serde_json::to_string_pretty(&versions).context("cannot write the versions as JSON")?;
    fs::write(workshop.packages.join("versions.json"), json).context("cannot write versions.json")?;

    let file = fs::File::create(&part).with_context(|| format!("cannot create {}", part.display()))?;
    let mut archive = cpio::Archive::new(BufWriter::new(file));
    // Names in an archive begin at the guest's root.
    let place = BUILT_PACKAGES.trim_start_matches('/');
    archive.directory(place, 0o755).context("cannot write built.cpio")?;
    archive.tree_below(&workshop.packages, place, |_| true)?;
    archive.finish().context("cannot write built.cpio")?;
    Ok(part)
}

impl Workshop<'_> {
    /// A container that has the program and the sources of `version`.
    fn driver_container(&self, name: &'static str, version: &'static str) -> anyhow::Result<Container> {
        let mut container =
            Container::new(name, &[&self.node, &self.image], self.tree.release(), &self.scratch)?;
        for (name, program) in [("nic-driver", self.program), ("nic-driver-sidecar", &self.sidecar_program)] {
            let content = fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
            container.put(&format!("usr/bin/{name}"), content)?;
        }
        let sources = format!("/run/mellanox/src/MLNX_OFED_SRC-{version}");
        vendor::lay_out(self.tree, version, &container.written(&sources))?;
        container.set("NVIDIA_NIC_DRIVER_VER", version);
        container.set("NVIDIA_NIC_DRIVER_PATH", sources);
        Ok(container)
    }
}

/// Links into `node` what [`Workshop::node`] holds.
fn link_inbox(tree: &KernelTree, node: &Path) -> anyhow::Result<()> {
    let modules = Path::new("usr/lib/modules").join(tree.release());
    let (from, to) = (tree.root().join(&modules), node.join(&modules));
    for part in INBOX.iter().copied().chain(["modules.order", "modules.builtin"]) {
        let into = to.join(part);
        let folder = into.parent().unwrap_or(&to);
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        lab::process::run(
            Command::new("cp").args(["--recursive", "--link"]).arg(from.join(part)).arg(&into),
        )?;
    }
    Ok(())
}

impl Container {
    /// Runs the program with the family igb, which is to succeed, and returns what it printed, which is JSON.
    fn nic_driver(&self, arguments: &[&str]) -> anyhow::Result<serde_json::Value> {
        let program = ["nic-driver", "--family", "igb", "--output", "json"];
        let text = self.output(&[&program, arguments].concat())?;
        serde_json::from_str(&text).with_context(|| format!("the program printed no JSON: {text}"))
    }

    /// The srcversion of each module that modprobe would load for `kernel`, all of which are to lie below `folder`.
    fn srcversions(&self, kernel: &str, folder: &str) -> anyhow::Result<BTreeMap<&'static str, String>> {
        let mut srcversions = BTreeMap::new();
        for module in ["igb", "igbvf"] {
            let field = |name| self.output(&["modinfo", "-k", kernel, "-F", name, module]);
            let file = field("filename")?;
            let expected = format!("/lib/modules/{kernel}/{folder}/");
            ensure!(
                file.contains(&expected),
                "modprobe would load {}, which is not below {expected}",
                file.trim()
            );
            srcversions.insert(module, field("srcversion")?.trim().to_owned());
        }
        Ok(srcversions)
    }
}

/// An error unless a value of what the program printed is as expected.
fn expect(printed: &serde_json::Value, pointer: &str, expected: &serde_json::Value) -> anyhow::Result<()> {
    ensure!(printed.pointer(pointer) == Some(expected), "{pointer} is not {expected} in {printed:#}");
    Ok(())
}

/// Runs one case and says how long it took.
fn case<T>(name: &str, run: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let start = Instant::now();
    let result = run().with_context(|| name.to_owned())?;
    println!("{name}: {:.1} s", start.elapsed().as_secs_f64());
    Ok(result)
}

fn copy_files(from: &Path, into: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(into).with_context(|| format!("cannot create {}", into.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot list {}", from.display()))? {
        let entry = entry.with_context(|| format!("cannot list {}", from.display()))?;
        fs::copy(entry.path(), into.join(entry.file_name()))
            .with_context(|| format!("cannot copy {}", entry.path().display()))?;
    }
    Ok(())
}

//! Packages as a user has them: installed by the distribution's tools in a container, run, and removed again without a trace.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use cargo_metadata::Metadata;

use super::architecture::Architecture;
use crate::lab;
use crate::pipeline::container::Container;

/// A node that lies in the repository.
const NODE: &str = "fixtures/documented-node/before";
const UNIT: &str = "nic-driver.service";
/// For the container's /proc: no module of it is looked at.
const KERNEL: &str = "6.1.0";

/// How a kind of package comes and goes.
struct Kind {
    extension: &'static str,
    install: &'static [&'static str],
    remove: &'static [&'static str],
    /// What lists the package's files.
    list: &'static [&'static str],
}

const PACKAGE: &str = "/package";
const KINDS: [Kind; 2] = [
    Kind {
        extension: "deb",
        install: &["dpkg", "--install", PACKAGE],
        remove: &["dpkg", "--purge", "nic-driver"],
        list: &["dpkg-query", "--listfiles", "nic-driver"],
    },
    // Debian's rpm knows no package that it has not installed itself.
    Kind {
        extension: "rpm",
        install: &["rpm", "--install", "--nodeps", PACKAGE],
        remove: &["rpm", "--erase", "nic-driver"],
        list: &["rpm", "--query", "--list", "nic-driver"],
    },
];

/// Tries the packages in `dist` that are for this machine.
pub(super) fn run(metadata: &Metadata, dist: &Path, own: Architecture) -> anyhow::Result<()> {
    let root = metadata.workspace_root.as_std_path();
    let image = lab::image(metadata.target_directory.as_std_path())?;
    let scratch = tempfile::Builder::new()
        .prefix("dist-")
        .tempdir_in(metadata.target_directory.as_std_path())
        .context("cannot create a folder for containers")?;
    for kind in KINDS {
        let package = package(dist, &kind, own)?;
        one(&kind, &package, &image, &root.join(NODE), scratch.path())
            .with_context(|| format!("{}, tried in a container", package.display()))?;
        println!("{}: installed, run and removed in a container", package.display());
    }
    verify_unit(
        &root.join("deploy/systemd").join(UNIT),
        &dist.join("bin").join(own.of_debian()),
        scratch.path(),
    )
}

fn package(dist: &Path, kind: &Kind, own: Architecture) -> anyhow::Result<PathBuf> {
    let end = [own.of_debian(), own.of_kernel()].map(|name| format!("{name}.{}", kind.extension));
    let entries = fs::read_dir(dist).with_context(|| format!("cannot list {}", dist.display()))?;
    let mut packages = entries.filter_map(Result::ok).map(|entry| entry.path());
    packages
        .find(|path| end.iter().any(|end| path.to_string_lossy().ends_with(end)))
        .with_context(|| format!("{} has no .{} for {}", dist.display(), kind.extension, own.of_debian()))
}

fn one(kind: &Kind, package: &Path, image: &Path, node: &Path, scratch: &Path) -> anyhow::Result<()> {
    let mut container = Container::new(kind.extension, &[image], KERNEL, scratch)?;
    let content = fs::read(package).with_context(|| format!("cannot read {}", package.display()))?;
    container.put(PACKAGE, content)?;
    container.bind(node, "/node");
    let files = |container: &Container| container.output(&["find", "/usr", "/etc", "/lib/systemd", "-xdev"]);
    let before = files(&container)?;
    container.output(kind.install)?;
    for file in container.output(kind.list)?.lines().filter(|line| line.starts_with('/') && *line != "/.") {
        container.output(&["test", "-e", file])?;
    }
    let version = container.output(&["nic-driver", "--version"])?;
    ensure!(version.contains(env!("CARGO_PKG_VERSION")), "`nic-driver --version` prints {version:?}");
    let version = container.output(&["nic-driver-sidecar", "--version"])?;
    ensure!(version.contains(env!("CARGO_PKG_VERSION")), "`nic-driver-sidecar --version` prints {version:?}");
    let snapshot = ["nic-driver", "--root", "/node", "--state-dir", "/state", "--output", "json", "snapshot"];
    let snapshot: serde_json::Value =
        serde_json::from_str(&container.output(&snapshot)?).context("`snapshot` prints no JSON")?;
    let pfs = snapshot.pointer("/snapshot/nics/pfs").and_then(serde_json::Value::as_array);
    ensure!(pfs.is_some_and(|pfs| !pfs.is_empty()), "the node's PFs are not in its snapshot: {snapshot}");
    container.output(kind.remove)?;
    let (before, after) = (lines(&before), lines(&files(&container)?));
    let left: Vec<_> = after.difference(&before).filter(|file| file.contains("nic-driver")).collect();
    ensure!(left.is_empty(), "the package leaves {left:?}");
    Ok(())
}

fn lines(text: &str) -> std::collections::BTreeSet<String> {
    text.lines().map(str::to_owned).collect()
}

/// Has systemd read the unit. It looks for the program, too, which this machine has elsewhere.
fn verify_unit(unit: &Path, programs: &Path, scratch: &Path) -> anyhow::Result<()> {
    let text = fs::read_to_string(unit).with_context(|| format!("cannot read {}", unit.display()))?;
    let here = scratch.join(UNIT);
    fs::write(&here, text.replace("/usr/bin/", &format!("{}/", programs.display())))
        .with_context(|| format!("cannot write {}", here.display()))?;
    let mut analyze = Command::new("systemd-analyze");
    let said =
        analyze.args(["verify", "--man=no"]).arg(&here).output().context("cannot start systemd-analyze")?;
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    // What this machine's own units are wrong about is told, too.
    let ours: Vec<_> = said.lines().filter(|line| line.contains(UNIT)).collect();
    ensure!(ours.is_empty(), "systemd says of {UNIT}:\n  {}", ours.join("\n  "));
    println!("{UNIT}: systemd takes it");
    Ok(())
}

//! `cargo xtask sidecar`: the program of the build sidecar, linked so that it runs in any image, and proven to.

mod bare_root;
mod linkage;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use cargo_metadata::Metadata;
use clap::Args;

use crate::{lab, workspace};

/// How cargo is told of the program.
pub(crate) const WHICH: [&str; 4] = ["--package", "nic-sidecar", "--bin", PROGRAM];
pub(crate) const PROGRAM: &str = "nic-driver-sidecar";

/// For the program alone: what it is linked from is compiled as ever, so that the build of the workspace can be used.
pub(crate) const STATIC: [&str; 2] = ["-C", "target-feature=+crt-static"];

#[derive(Debug, Args)]
pub(crate) struct Arguments {}

/// Builds the program as it is released, proves it, and puts it where images take it from.
pub(crate) fn run(Arguments {}: &Arguments) -> anyhow::Result<()> {
    println!("{}", released(&workspace::metadata()?)?.display());
    Ok(())
}

/// The same, for a release.
pub(crate) fn released(metadata: &Metadata) -> anyhow::Result<PathBuf> {
    let scratch = scratch(metadata)?;
    let released = folder(metadata).join(PROGRAM);
    // One that was proven before must not be taken for one that fails now.
    match fs::remove_file(&released) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot remove {}", released.display()));
        }
        Ok(()) | Err(_) => {}
    }
    let program = proven(metadata, &["--release"], "release", scratch.path())?;
    fs::rename(&program, &released).with_context(|| format!("cannot write {}", released.display()))?;
    Ok(released)
}

/// Whether a program of another machine's needs nothing, as far as its file tells.
pub(crate) fn needs_nothing(program: &Path) -> anyhow::Result<()> {
    let content = fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
    let needs = linkage::needs(&content).with_context(|| format!("cannot tell what {PROGRAM} needs"))?;
    ensure!(
        needs.is_empty(),
        "{PROGRAM} must need nothing of the image that it runs in, and needs:\n  {}",
        needs.join("\n  ")
    );
    Ok(())
}

/// Proves it of a build with the dev profile, which takes little beside the workspace's and is linked in the same way. Nothing of
/// it is left beside the released one.
pub(crate) fn check(metadata: &Metadata) -> anyhow::Result<()> {
    let scratch = scratch(metadata)?;
    proven(metadata, &[], "debug", scratch.path()).map(drop)
}

fn folder(metadata: &Metadata) -> PathBuf {
    metadata.target_directory.as_std_path().join("sidecar")
}

fn scratch(metadata: &Metadata) -> anyhow::Result<tempfile::TempDir> {
    let folder = folder(metadata);
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    tempfile::tempdir_in(&folder).with_context(|| format!("cannot create a folder in {}", folder.display()))
}

/// The program of a build with the dev profile, not proven: a stripped copy, in `into`.
pub(crate) fn build(metadata: &Metadata, into: &Path) -> anyhow::Result<PathBuf> {
    built(metadata, &[], "debug", into)
}

fn built(metadata: &Metadata, profile: &[&str], built_in: &str, into: &Path) -> anyhow::Result<PathBuf> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(&metadata.workspace_root).arg("rustc").args(WHICH);
    lab::process::stream(cargo.args(profile).arg("--").args(STATIC))?;
    lab::strip(&metadata.target_directory.as_std_path().join(built_in).join(PROGRAM), into)
}

/// Builds the program and proves the very file that is returned: a stripped copy, in `scratch`.
fn proven(metadata: &Metadata, profile: &[&str], built_in: &str, scratch: &Path) -> anyhow::Result<PathBuf> {
    let program = built(metadata, profile, built_in, scratch)?;
    needs_nothing(&program)?;
    let size = fs::metadata(&program).with_context(|| format!("cannot read {}", program.display()))?.len();
    bare_root::run(&program, scratch).with_context(|| format!("{PROGRAM}, in a root of its own"))?;
    println!(
        "{PROGRAM}, {:.1} MiB: needs no loader, library or name service, and builds in a root that holds nothing else",
        size as f64 / f64::from(1 << 20)
    );
    Ok(program)
}

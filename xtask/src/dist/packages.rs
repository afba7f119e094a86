//! Packages, by the tools that people know: their lists of files are in `crates/nic-driver/Cargo.toml`.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};
use cargo_metadata::Metadata;

use super::stage::Stage;
use crate::lab::process;

const TOOLS: [&str; 2] = ["cargo-deb", "cargo-generate-rpm"];

/// Whether both tools are there; what gets them, otherwise.
pub(super) fn have_tools() -> anyhow::Result<()> {
    let is_missing = |tool: &&str| process::output(Command::new(tool).arg("--version")).is_err();
    // The second has no such option.
    let has_help = |tool: &&str| process::output(Command::new(tool).arg("--help")).is_ok();
    let missing: Vec<_> = TOOLS.into_iter().filter(|tool| is_missing(tool) && !has_help(tool)).collect();
    if !missing.is_empty() {
        bail!("missing programs; run:\n\n  cargo install --locked {}\n", missing.join(" "));
    }
    Ok(())
}

/// Makes both packages of what is staged.
pub(super) fn make(metadata: &Metadata, stage: &Stage, dist: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(dist).with_context(|| format!("cannot create {}", dist.display()))?;
    let root = metadata.workspace_root.as_std_path();
    let mut git = Command::new("git");
    let time = process::output(git.current_dir(root).args(["log", "-1", "--format=%ct"]))?;
    let time = time.trim();
    let target = stage.architecture.target();
    let is_own = !stage.folder.ends_with(format!("{target}/release/package"));
    let mut deb = Command::new("cargo-deb");
    deb.args(["--no-build", "--no-strip", "--package", "nic-driver", "--deb-revision", ""]);
    let mut rpm = Command::new("cargo-generate-rpm");
    rpm.args(["--package", "crates/nic-driver", "--arch", stage.architecture.of_kernel()]);
    rpm.arg("--target-dir").arg(&metadata.target_directory);
    for command in [&mut deb, &mut rpm] {
        if !is_own {
            command.args(["--target", &target]);
        }
        // The same sources give the same packages.
        command.current_dir(root).env("SOURCE_DATE_EPOCH", time);
        process::run(command.arg("--output").arg(dist))?;
    }
    Ok(())
}

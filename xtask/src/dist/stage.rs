//! What goes into packages of one architecture, in one folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use cargo_metadata::Metadata;

use super::architecture::Architecture;
use super::{glibc, sidecar_program};
use crate::lab;

pub(super) const PROGRAMS: [&str; 2] = ["nic-driver", "nic-driver-sidecar"];
pub(super) const COMPLETIONS: [&str; 3] = ["nic-driver.bash", "_nic-driver", "nic-driver.fish"];

/// The name that shells' files are asked for by, in the order of [`COMPLETIONS`].
const SHELLS: [&str; 3] = ["bash", "zsh", "fish"];

/// The folder, and what its programs run on.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) architecture: Architecture,
    pub(super) folder: PathBuf,
}

/// Builds the programs and puts everything where `Cargo.toml`'s lists of files for packages expect it.
pub(super) fn make(
    metadata: &Metadata,
    architecture: Architecture,
    own: Architecture,
) -> anyhow::Result<Stage> {
    let target = metadata.target_directory.as_std_path();
    let built = if architecture == own { target.join("release") } else { architecture.built(metadata) };
    let folder = built.join("package");
    let man = folder.join("man");
    // What an earlier version had is in none of this one's packages.
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    fs::create_dir_all(&man).with_context(|| format!("cannot create {}", man.display()))?;
    let sidecar = sidecar_program(metadata, architecture, own)?;
    let arguments = ["build", "--package", "nic-driver", "--bin", "nic-driver"];
    if architecture == own {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(&metadata.workspace_root).args(arguments).args(["--locked", "--release"]);
        lab::process::stream(&mut cargo)?;
    } else {
        architecture.cargo(metadata, &arguments)?;
    }
    for program in [&built.join("nic-driver"), &sidecar] {
        architecture.strip(program, &folder)?;
    }
    glibc::check(&folder.join("nic-driver"))?;
    // They are the same for all architectures, and this machine can run its own program alone.
    let program = target.join("release/nic-driver");
    print(&program, &["man"], &man.join("nic-driver.1"))?;
    for (shell, name) in SHELLS.into_iter().zip(COMPLETIONS) {
        print(&program, &["completions", shell], &folder.join(name))?;
    }
    Ok(Stage { architecture, folder })
}

/// Keeps what a program prints.
fn print(program: &Path, arguments: &[&str], file: &Path) -> anyhow::Result<()> {
    let text = lab::process::output(Command::new(program).args(arguments))?;
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

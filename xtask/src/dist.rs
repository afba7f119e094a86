//! `cargo xtask dist`: all that a release consists of, in `target/dist`.
//!
//! | there | what |
//! |---|---|
//! | `bin/ARCHITECTURE/` | the programs; the folder is the context for `deploy/images/` |
//! | `*.deb`, `*.rpm` | packages of the tool, with its manual page, completions, unit and documents |
//! | `man/`, `completions/` | the same by themselves |
//! | `deploy/` | recipes for images, manifests, the unit |
//! | `SHA256SUMS` | for `sha256sum --check`, of all files |

mod architecture;
mod glibc;
mod packages;
mod stage;
mod sums;
mod trial;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use cargo_metadata::Metadata;
use clap::Args;

use crate::{lab, sidecar, workspace};
use architecture::Architecture;
use stage::Stage;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Also for this architecture
    #[arg(long, value_enum)]
    also: Option<Architecture>,
    /// Install, run and remove the packages of this machine's architecture, in containers
    #[arg(long = "try")]
    try_packages: bool,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    lab::set_up_machine()?;
    packages::have_tools()?;
    let metadata = workspace::metadata()?;
    let dist = metadata.target_directory.as_std_path().join("dist");
    match fs::remove_dir_all(&dist) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot remove {}", dist.display()));
        }
        Ok(()) | Err(_) => {}
    }
    let own = Architecture::of_this_machine()?;
    for architecture in [Some(own), arguments.also.filter(|also| *also != own)].into_iter().flatten() {
        let stage = stage::make(&metadata, architecture, own)?;
        packages::make(&metadata, &stage, &dist)?;
        give(&stage, &dist)?;
    }
    let root = metadata.workspace_root.as_std_path();
    copy(&root.join("deploy"), &dist.join("deploy"))?;
    for name in ["LICENSE", "CHANGELOG.md"] {
        fs::copy(root.join(name), dist.join(name)).with_context(|| format!("cannot copy {name}"))?;
    }
    sums::write(&dist)?;
    if arguments.try_packages {
        trial::run(&metadata, &dist, own)?;
    }
    println!("{}", dist.display());
    Ok(())
}

/// Copies what was staged to where it is taken from.
fn give(stage: &Stage, dist: &Path) -> anyhow::Result<()> {
    let bin = dist.join("bin").join(stage.architecture.of_debian());
    copy(&stage.folder.join("man"), &dist.join("man"))?;
    for (names, into) in [(&stage::PROGRAMS[..], bin), (&stage::COMPLETIONS, dist.join("completions"))] {
        fs::create_dir_all(&into).with_context(|| format!("cannot create {}", into.display()))?;
        for name in names {
            let from = stage.folder.join(name);
            fs::copy(&from, into.join(name)).with_context(|| format!("cannot copy {}", from.display()))?;
        }
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot create {}", to.display()))?;
    // With everything in it, and its permissions.
    lab::process::run(Command::new("cp").arg("--recursive").arg("--").arg(from.join(".")).arg(to))
}

/// The program of the build sidecar for an architecture: for this machine's it is proven, another's cannot be started here.
fn sidecar_program(
    metadata: &Metadata,
    architecture: Architecture,
    own: Architecture,
) -> anyhow::Result<PathBuf> {
    if architecture == own { sidecar::released(metadata) } else { architecture.sidecar(metadata) }
}

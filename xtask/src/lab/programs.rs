//! The programs under test, built and put into a guest.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use cargo_metadata::{Metadata, TargetKind};

use super::{cpio, process};

/// The built programs.
#[derive(Debug)]
pub(crate) struct Programs {
    guest: PathBuf,
    /// `None` when the workspace has no such program.
    nic_driver: Option<PathBuf>,
}

impl Programs {
    /// Builds PID 1 and `nic-driver` with the dev profile, and strips copies of them: a guest carries them in memory.
    pub(crate) fn build(metadata: &Metadata) -> anyhow::Result<Self> {
        Self::build_as(metadata, "debug")
    }

    /// The same with `nic-driver` as it is released, for measuring.
    pub(crate) fn build_released(metadata: &Metadata) -> anyhow::Result<Self> {
        Self::build_as(metadata, "release")
    }

    fn build_as(metadata: &Metadata, profile: &str) -> anyhow::Result<Self> {
        let has_nic_driver = metadata.workspace_packages().iter().any(|package| {
            let is_binary = |target: &cargo_metadata::Target| target.kind.contains(&TargetKind::Bin);
            package.targets.iter().any(|target| target.name == "nic-driver" && is_binary(target))
        });
        let cargo = |arguments: &[&str]| {
            let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
            process::stream(cargo.current_dir(&metadata.workspace_root).arg("build").args(arguments))
        };
        const GUEST: [&str; 4] = ["--package", "lab-guest", "--bin", "lab-guest"];
        const NIC_DRIVER: [&str; 4] = ["--package", "nic-driver", "--bin", "nic-driver"];
        match (has_nic_driver, profile) {
            (false, _) => cargo(&GUEST)?,
            (true, "debug") => cargo(&[GUEST, NIC_DRIVER].concat())?,
            (true, _) => {
                cargo(&GUEST)?;
                cargo(&[NIC_DRIVER.as_slice(), &["--profile", profile]].concat())?;
            }
        }
        let target = metadata.target_directory.as_std_path();
        let strip = |profile, name| strip(&target.join(profile).join(name), &target.join("lab/programs"));
        Ok(Self {
            guest: strip("debug", "lab-guest")?,
            nic_driver: has_nic_driver.then(|| strip(profile, "nic-driver")).transpose()?,
        })
    }

    /// Whether there is a `nic-driver`.
    pub(crate) fn has_nic_driver(&self) -> bool {
        self.nic_driver.is_some()
    }

    /// The built and stripped `nic-driver`.
    pub(crate) fn nic_driver(&self) -> anyhow::Result<&Path> {
        self.nic_driver.as_deref().context("the workspace has no program nic-driver")
    }

    /// Writes the part of an initramfs that holds them.
    pub(crate) fn archive(&self, writer: impl Write) -> anyhow::Result<()> {
        let mut archive = cpio::Archive::new(writer);
        let programs = [("init", Some(&self.guest)), ("usr/bin/nic-driver", self.nic_driver.as_ref())];
        for (name, program) in programs {
            let Some(program) = program else { continue };
            let content = fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
            archive.file(name, 0o755, &content).with_context(|| format!("cannot archive {name}"))?;
        }
        archive.finish().context("cannot archive the programs").map(drop)
    }
}

/// Puts a copy of a program without what debuggers read into the folder `into`.
pub(crate) fn strip(program: &Path, into: &Path) -> anyhow::Result<PathBuf> {
    fs::create_dir_all(into).with_context(|| format!("cannot create {}", into.display()))?;
    let name = program.file_name().context("a program without a name")?;
    let stripped = tempfile::NamedTempFile::new_in(into).context("cannot create a temporary file")?;
    process::run(Command::new("strip").arg("--strip-debug").arg("-o").arg(stripped.path()).arg(program))?;
    let path = into.join(name);
    stripped.persist(&path).with_context(|| format!("cannot write {}", path.display()))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("cannot make {} executable", path.display()))?;
    Ok(path)
}

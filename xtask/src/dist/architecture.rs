//! The machines that a release is for, and building for one that this machine is not.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use cargo_metadata::Metadata;
use clap::ValueEnum;

use crate::{lab, sidecar};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Architecture {
    Amd64,
    Arm64,
}

impl Architecture {
    pub(super) fn of_this_machine() -> anyhow::Result<Self> {
        match std::env::consts::ARCH {
            "x86_64" => Ok(Self::Amd64),
            "aarch64" => Ok(Self::Arm64),
            other => bail!("no release is made on {other}"),
        }
    }

    /// As Debian calls it, and images' tags do.
    pub(super) fn of_debian(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// As the kernel and rpm call it.
    pub(super) fn of_kernel(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64",
            Self::Arm64 => "aarch64",
        }
    }

    /// As rustc calls it.
    pub(super) fn target(self) -> String {
        format!("{}-unknown-linux-gnu", self.of_kernel())
    }

    /// A program of Debian's cross compiler for it.
    fn tool(self, name: &str) -> String {
        format!("{}-linux-gnu-{name}", self.of_kernel())
    }

    /// Builds for it with the given arguments of cargo.
    pub(super) fn cargo(self, metadata: &Metadata, arguments: &[&str]) -> anyhow::Result<()> {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.current_dir(&metadata.workspace_root);
        // After `--` come arguments of the compiler.
        let (verb, rest) = arguments.split_first().context("no command of cargo")?;
        let target = self.target();
        command.args([verb, "--locked", "--release", "--target", &target]).args(rest);
        let linker = format!("CARGO_TARGET_{}_LINKER", target.to_uppercase().replace('-', "_"));
        let libraries = self.libraries(metadata)?;
        command.env(linker, self.tool("gcc")).env("PKG_CONFIG_ALLOW_CROSS", "1");
        command.env(
            "PKG_CONFIG_LIBDIR",
            libraries.join(format!("usr/lib/{}-linux-gnu/pkgconfig", self.of_kernel())),
        );
        lab::process::stream(command.env("PKG_CONFIG_SYSROOT_DIR", libraries)).with_context(|| {
            format!(
                "cannot build for {target}; that needs `rustup target add {target}`, and of Debian {}",
                ["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"].join(" and ")
            )
        })
    }

    /// The folder of what cargo has built for it.
    pub(super) fn built(self, metadata: &Metadata) -> PathBuf {
        metadata.target_directory.as_std_path().join(self.target()).join("release")
    }

    /// The build sidecar's program, linked statically.
    pub(super) fn sidecar(self, metadata: &Metadata) -> anyhow::Result<PathBuf> {
        let arguments = [&["rustc"], &sidecar::WHICH[..], &["--"], &sidecar::STATIC].concat();
        self.cargo(metadata, &arguments)?;
        let program = self.built(metadata).join(sidecar::PROGRAM);
        sidecar::needs_nothing(&program)?;
        Ok(program)
    }

    /// Puts a copy of a program of it, without what debuggers read, into a folder.
    pub(super) fn strip(self, program: &Path, into: &Path) -> anyhow::Result<()> {
        let name = program.file_name().context("a program without a name")?;
        let strip = if self == Self::of_this_machine()? { "strip".to_owned() } else { self.tool("strip") };
        lab::process::run(
            Command::new(strip).arg("--strip-debug").arg("-o").arg(into.join(name)).arg(program),
        )
    }

    /// A folder with the libraries that programs for it are linked with, beside the C library of the cross compiler.
    fn libraries(self, metadata: &Metadata) -> anyhow::Result<PathBuf> {
        lab::libraries(
            metadata.target_directory.as_std_path(),
            self.of_debian(),
            &["libudev-dev", "libudev1"],
        )
    }
}

//! Packing kernel modules as vendors do: an .rpm below `extra/` with a depmod override, a .deb below `updates/dkms/`.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};
use rpm::{BuildConfig, CompressionType, FileOptions, PackageBuilder};

use super::module_build::Built;
use super::process;

const NAME: &str = "lab-igb-modules";
const SUMMARY: &str = "igb and igbvf for the lab";

/// Packs `modules` for the kernel `release` as .rpm, into `folder`.
pub(crate) fn rpm(modules: &[Built], version: &str, release: &str, folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let Some((version, build)) = version.split_once('-') else { bail!("{version} is no VERSION-RELEASE") };
    let mut package = PackageBuilder::new(NAME, version, "GPL-2.0-only", "x86_64", SUMMARY);
    package.using_config(BuildConfig::default().compression(CompressionType::Gzip));
    // A dash separates version and release, so the kernel's own become underscores, as in the vendors' packages.
    package.release(format!("{build}.kver.{}", release.replace('-', "_")));
    package.description(format!("{SUMMARY}, built for the kernel {release}"));
    let mut overrides = String::new();
    for built in modules {
        let directory = format!("extra/lab-igb/{}", built.folder);
        let path = format!("/lib/modules/{release}/{directory}/{}.ko.xz", built.module);
        package
            .with_file_contents(compress(&built.file)?, FileOptions::new(path).permissions(0o644))
            .with_context(|| format!("cannot pack {}", built.module))?;
        overrides.push_str(&format!("override {} {release} {directory}\n", built.module));
    }
    package
        .with_file_contents(overrides, FileOptions::new("/etc/depmod.d/lab-igb.conf").permissions(0o644))
        .context("cannot pack the depmod configuration")?;
    let package = package.build().context("cannot build the rpm")?;
    package.write_to(folder).context("cannot write the rpm").map(drop)
}

/// Packs `modules` for the kernel `release` as .deb, into `folder`.
pub(crate) fn deb(modules: &[Built], version: &str, release: &str, folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let tree = tempfile::tempdir().context("cannot create a temporary folder")?;
    let updates = tree.path().join("lib/modules").join(release).join("updates/dkms");
    let control = tree.path().join("DEBIAN");
    for folder in [&updates, &control] {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    for built in modules {
        fs::copy(&built.file, updates.join(format!("{}.ko", built.module)))
            .with_context(|| format!("cannot copy {}", built.file.display()))?;
    }
    let text = format!(
        "Package: {NAME}\nVersion: {version}\nArchitecture: amd64\nSection: kernel\nPriority: optional\n\
         Maintainer: The lab <lab@localhost>\nDescription: {SUMMARY}\n Built for the kernel {release}.\n"
    );
    fs::write(control.join("control"), text).context("cannot write the control file")?;
    let target = folder.join(format!("{NAME}_{version}_amd64.deb"));
    process::run(
        Command::new("dpkg-deb").args(["--root-owner-group", "--build"]).arg(tree.path()).arg(target),
    )
}

/// As the kernel's own build compresses modules (scripts/Makefile.modinst).
fn compress(file: &Path) -> anyhow::Result<Vec<u8>> {
    let output = Command::new("xz")
        .args(["--check=crc32", "--lzma2=dict=1MiB", "--keep", "--stdout"])
        .arg(file)
        .output()
        .context("cannot start xz")?;
    if !output.status.success() {
        bail!("xz cannot compress {}: {}", file.display(), String::from_utf8_lossy(&output.stderr));
    }
    Ok(output.stdout)
}

//! Builds on the node itself: with the distribution's own prerequisites into .deb packages, and by DKMS.

use std::fs;
use std::io::BufWriter;
use std::path::Path;

use anyhow::{Context as _, ensure};
use serde_json::json;

use super::container::Container;
use super::{Version, Workshop, case, copy_files, expect, vendor};
use crate::lab::cpio;

const VERSION: &str = "25.10-1.2.8.0";

/// The letter of the version that dkms builds, among the workshop's packages.
pub(super) const LETTER: &str = "D";
const INVENTORY: &str = "/mnt/drivers-inventory";
/// dkms, and what it calls that a guest does not have: where the image has it, and what a guest calls it.
const DKMS_PROGRAMS: [(&str, &str); 2] =
    [("usr/sbin/dkms", "usr/sbin/dkms"), ("usr/bin/mawk", "usr/bin/awk")];

/// Packages, and then DKMS. What dkms built, and dkms, become `part` of a guest.
pub(super) fn all(workshop: &Workshop<'_>, part: &Path) -> anyhow::Result<Version> {
    case(&format!("{VERSION} built and installed as .deb"), || packages(workshop))?;
    case(&format!("{VERSION} built by dkms"), || dkms(workshop, part))
}

fn packages(workshop: &Workshop<'_>) -> anyhow::Result<()> {
    let kernel = workshop.tree.release();
    let container = workshop.driver_container("deb", VERSION)?;
    let printed = container.nic_driver(&["install", "sources"])?;
    expect(&printed, "/from/is", &json!("build"))?;
    container.srcversions(kernel, "updates/dkms")?;
    let package = format!("{}-modules", vendor::NAME);
    let state = container.output(&["dpkg-query", "--show", "--showformat=${db:Status-Abbrev}", &package])?;
    ensure!(state.starts_with("ii"), "{package} is in the state {state:?}");
    Ok(())
}

fn dkms(workshop: &Workshop<'_>, part: &Path) -> anyhow::Result<Version> {
    let kernel = workshop.tree.release();
    let mut container = workshop.driver_container("dkms", VERSION)?;
    container.set("USE_DKMS", "true");
    container.create_folder(INVENTORY)?;
    container.set("NVIDIA_NIC_DRIVERS_INVENTORY_PATH", INVENTORY);
    container.nic_driver(&["install", "sources"])?;
    let srcversions = container.srcversions(kernel, "updates/dkms")?;
    let told = container.output(&["dkms", "status", "-k", kernel])?;
    let installed = format!("{}/{VERSION}, {kernel}, x86_64: installed", vendor::NAME);
    ensure!(told.trim() == installed, "dkms says {told:?} and not {installed:?}");
    // What is done is done.
    let printed = container.nic_driver(&["install", "sources"])?;
    expect(&printed, "/changed", &json!(false))?;
    let packages = workshop.packages.join(LETTER).join("deb");
    copy_files(&container.written(format!("{INVENTORY}/{kernel}/{VERSION}")), &packages)?;
    hand_over(workshop, &container, part)?;
    Ok(Version { version: VERSION, srcversions })
}

/// Archives what dkms left, and dkms itself, for a guest to go on with.
fn hand_over(workshop: &Workshop<'_>, container: &Container, part: &Path) -> anyhow::Result<()> {
    let file = fs::File::create(part).with_context(|| format!("cannot create {}", part.display()))?;
    let mut archive = cpio::Archive::new(BufWriter::new(file));
    for (from, name) in DKMS_PROGRAMS {
        let program = workshop.image.join(from);
        let content = fs::read(&program).with_context(|| format!("cannot read {}", program.display()))?;
        archive.file(name, 0o755, &content).with_context(|| format!("cannot archive {name}"))?;
    }
    let built = format!("usr/lib/modules/{}/updates", workshop.tree.release());
    for (root, name) in [
        (workshop.image.join("etc/dkms"), "etc/dkms"),
        (container.written("var/lib/dkms"), "var/lib/dkms"),
        (container.written(&built), &*built),
    ] {
        archive.directory(name, 0o755).with_context(|| format!("cannot archive {name}"))?;
        archive.tree_below(&root, name, |_| true)?;
    }
    archive.finish().context("cannot write the archive of dkms").map(drop)
}

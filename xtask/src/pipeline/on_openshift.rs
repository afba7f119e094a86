//! The handshake on an OpenShift node: each side ours, and each with the incumbent's on the other, with real builds.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use serde_json::json;

use super::container::{Container, Process};
use super::{Version, Workshop, case, copy_files, expect, vendor};

const SHARED: &str = "/mnt/shared-nvidia-nic-driver-toolkit";
const INVENTORY: &str = "/mnt/drivers-inventory";
/// RHEL's release on the node, as both os-release texts have it.
const RHEL: &str = "rhel9.6";
const CONTAINER_OS: &str = include_str!("../../../crates/nic-packages/tests/os-release/rhel-9.6");
const HOST_OS: &str = include_str!("../../../crates/nic-packages/tests/os-release/rhcos-4.19");
/// The peers that were written from the contract.
const DNF: &str = include_str!("../../../crates/nic-dtk/tests/peers/dnf");
const POD_LOOP: &str = include_str!("../../../crates/nic-dtk/tests/peers/pod_loop.sh");
const INCUMBENT_BUILD: &str = include_str!("../../../crates/nic-dtk/tests/peers/incumbent_dtk_build.sh");
const INCUMBENT_DRIVER: &str = include_str!("../../../crates/nic-dtk/tests/peers/incumbent_driver.sh");
/// The pod's loop where the sidecar's program is the incumbent's.
const INCUMBENT_LOOP: &str = "#!/bin/sh\nwhile [ ! -f \"$1/dtk_start_compile\" ]; do sleep 3; done\n\
                              . \"$1/dtk.env\"\nexec /incumbent_dtk_build.sh dtk-build\n";

/// Whose program a side is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Ours,
    Incumbents,
}

/// Each pair, with the version that it builds. DKMS is given sources where `with_dkms`.
struct Pair {
    letter: &'static str,
    version: &'static str,
    driver: Side,
    sidecar: Side,
    with_dkms: bool,
}

const PAIRS: [Pair; 3] = [
    Pair { letter: "A", version: "25.07-0.9.7.0", driver: Side::Ours, sidecar: Side::Ours, with_dkms: true },
    Pair {
        letter: "B",
        version: "25.10-1.2.8.0",
        driver: Side::Ours,
        sidecar: Side::Incumbents,
        with_dkms: false,
    },
    Pair {
        letter: "C",
        version: "26.01-1.0.0.0",
        driver: Side::Incumbents,
        sidecar: Side::Ours,
        with_dkms: false,
    },
];

/// All pairs, one after another; what they built lies in the workshop's packages by letter.
pub(super) fn all(workshop: &Workshop<'_>) -> anyhow::Result<BTreeMap<&'static str, Version>> {
    let inventory = folder(&workshop.scratch, "inventory")?;
    let mut versions = BTreeMap::new();
    for pair in &PAIRS {
        let title = format!(
            "{} built in the sidecar ({:?}) for the driver container ({:?})",
            pair.version, pair.sidecar, pair.driver
        );
        let srcversions = case(&title.to_lowercase(), || one(workshop, &inventory, pair))?;
        versions.insert(pair.letter, Version { version: pair.version, srcversions });
    }
    Ok(versions)
}

fn one(
    workshop: &Workshop<'_>,
    inventory: &Path,
    pair: &Pair,
) -> anyhow::Result<BTreeMap<&'static str, String>> {
    let kernel = workshop.tree.release();
    let shared = folder(&workshop.scratch, &format!("shared-{}", pair.letter))?;
    let sidecar = start_sidecar(workshop, &shared, pair)?;
    let packages = folder(&workshop.packages, pair.letter)?.join("rpm");
    let container = || driver_container(workshop, &shared, inventory, pair);
    let srcversions = match pair.driver {
        Side::Ours => {
            let first = container()?;
            let printed = first.nic_driver(&["install", "dtk"])?;
            expect(&printed, "/from/is", &json!("sidecar"))?;
            let found = check_installed(&first, kernel, pair)?;
            // The next container needs no sidecar.
            let next = container()?;
            let printed = next.nic_driver(&["install", "dtk"])?;
            expect(&printed, "/from/is", &json!("inventory"))?;
            let again = check_installed(&next, kernel, pair)?;
            ensure!(found == again, "the inventory gave {again:?}, the sidecar {found:?}");
            copy_files(&inventory.join(kernel).join(pair.version), &packages)?;
            found
        }
        Side::Incumbents => {
            let driver = container()?;
            driver.put("incumbent_driver.sh", INCUMBENT_DRIVER)?;
            let flags =
                format!("--without-mlnx-nfsrdma --without-mlnx-nvme --kernel {kernel} --distro {RHEL}");
            let (folder, version) = (format!("{SHARED}/{kernel}"), pair.version);
            let sources = format!("/run/mellanox/src/MLNX_OFED_SRC-{version}");
            driver.output(&[
                "/incumbent_driver.sh",
                &folder,
                version,
                &sources,
                "/usr/bin/nic-driver-sidecar",
                &flags,
                "false",
                "/built",
            ])?;
            driver.nic_driver(&["install", "packages", "/built"])?;
            copy_files(&driver.written("built"), &packages)?;
            check_installed(&driver, kernel, pair)?
        }
    };
    if pair.sidecar == Side::Ours {
        let read = |file: &Path| fs::read(file).with_context(|| format!("cannot read {}", file.display()));
        let executed = shared.join(kernel).join("entrypoint");
        ensure!(
            read(&executed)? == read(&workshop.sidecar_program)?,
            "the sidecar executed another program than {}",
            workshop.sidecar_program.display()
        );
        let ended = sidecar.stop()?;
        ensure!(ended.success(), "the sidecar, told to stop, ended with {ended}");
    }
    Ok(srcversions)
}

/// The toolkit's container: the kernel's headers, and the pod's loop.
fn start_sidecar(workshop: &Workshop<'_>, shared: &Path, pair: &Pair) -> anyhow::Result<Process> {
    let kernel = workshop.tree.release();
    let layers = [&*workshop.tree.root(), &workshop.image];
    let mut container = Container::new("sidecar", &layers, kernel, &workshop.scratch)?;
    container.put("etc/os-release", CONTAINER_OS)?;
    container.put("usr/bin/dnf", DNF)?;
    container.bind(shared, SHARED);
    let (name, text) = match pair.sidecar {
        Side::Ours => ("pod_loop.sh", POD_LOOP),
        Side::Incumbents => ("incumbent_loop.sh", INCUMBENT_LOOP),
    };
    container.put(name, text)?;
    container.put("incumbent_dtk_build.sh", INCUMBENT_BUILD)?;
    let log = workshop.scratch.join(format!("sidecar-{}.log", pair.letter));
    container.start_for_good(&[&format!("/{name}"), &format!("{SHARED}/{kernel}")], &log)
}

fn driver_container(
    workshop: &Workshop<'_>,
    shared: &Path,
    inventory: &Path,
    pair: &Pair,
) -> anyhow::Result<Container> {
    let mut container = workshop.driver_container("driver", pair.version)?;
    container.put("etc/os-release", CONTAINER_OS)?;
    container.put("host/etc/os-release", HOST_OS)?;
    container.bind(shared, SHARED);
    container.bind(inventory, INVENTORY);
    container.set("NVIDIA_NIC_DRIVERS_INVENTORY_PATH", INVENTORY);
    container.set("USE_DKMS", if pair.with_dkms { "true" } else { "false" });
    Ok(container)
}

/// What must be there after an installation: the package, modules that modprobe prefers, and what DKMS was told.
fn check_installed(
    container: &Container,
    kernel: &str,
    pair: &Pair,
) -> anyhow::Result<BTreeMap<&'static str, String>> {
    let listed = container.output(&["rpm", "-qa", &format!("{}*", vendor::NAME)])?;
    let version = pair.version;
    for (package, expected) in [("modules", true), ("dkms", pair.with_dkms)] {
        let name = format!("{}-{package}-{version}", vendor::NAME);
        let is_there = listed.lines().any(|line| line.starts_with(&name));
        ensure!(is_there == expected, "of {name}, rpm says: {listed:?}");
    }
    let status = container.output(&["dkms", "status"])?;
    let added = format!("{}/{version}: added", vendor::NAME);
    ensure!(status.trim() == if pair.with_dkms { &*added } else { "" }, "dkms says: {status:?}");
    container.srcversions(kernel, &format!("extra/{}", vendor::NAME))
}

fn folder(below: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let folder = below.join(name);
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    Ok(folder)
}

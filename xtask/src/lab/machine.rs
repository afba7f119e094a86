//! This machine: what it needs before anything can be built, and getting it.

use std::process::Command;

use anyhow::{Context as _, bail};

use super::process;

/// Debian packages, beyond what a Rust toolchain needs, for the workspace and for the lab.
const PACKAGES: &[&str] = &[
    // nic-netlink listens to udev through its library.
    "libudev-dev",
    "pkg-config",
    // The tests of nic-netlink and nic-topology configure network namespaces with it.
    "iproute2",
    // Out-of-tree kernel modules.
    "gcc",
    "make",
    "libelf1",
    "kmod",
    "xz-utils",
    // Driver packages and the guest's user space.
    "dpkg",
    "tar",
    // Images of the distribution, and containers of them.
    "mmdebstrap",
    "e2fsprogs",
    "util-linux",
];

/// Installs what is missing, as root; says which command would do it, otherwise.
pub(crate) fn set_up() -> anyhow::Result<()> {
    let missing: Vec<_> = PACKAGES.iter().copied().filter(|package| !is_installed(package)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages = missing.join(" ");
    if !is_root()? {
        bail!("missing packages; as root, run:\n\n  apt-get update && apt-get install -y {packages}\n");
    }
    super::announce(&format!("installing with apt-get: {packages}"));
    let apt = || {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").args(["-o", "Acquire::Retries=5"]);
        command
    };
    if let Err(error) = process::run(apt().arg("update")) {
        // One unreachable third-party archive must not stop what the others can give.
        super::announce(&format!("continuing although {error:#}"));
    }
    process::run(apt().args(["install", "--yes", "--no-install-recommends"]).args(&missing))
        .context("cannot install what the lab needs")
}

fn is_installed(package: &str) -> bool {
    let status = process::output(Command::new("dpkg-query").args([
        "--show",
        "--showformat=${db:Status-Status}",
        package,
    ]));
    status.is_ok_and(|status| status.starts_with("installed"))
}

fn is_root() -> anyhow::Result<bool> {
    Ok(process::output(Command::new("id").arg("-u"))?.trim() == "0")
}

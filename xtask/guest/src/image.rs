//! A container's image on this machine: its own module tree holds nothing but the packages', the node's is below `/host`.

use std::fs;

use anyhow::Context as _;

use crate::command::run;
use crate::drivers::{self, Flow};
use crate::write;

/// Makes this machine what a container sees that has nothing in its image's module tree yet.
pub(crate) fn become_container(kernel: &str, flow: Flow) -> anyhow::Result<()> {
    drivers::pretend_distribution(flow)?;
    let own = format!("/usr/lib/modules/{kernel}");
    for folder in ["/host/lib/modules", "/host/etc/modprobe.d"] {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {folder}"))?;
    }
    fs::rename(&own, format!("/host/lib/modules/{kernel}")).context("cannot give the modules to the host")?;
    fs::copy("/etc/os-release", "/host/etc/os-release").context("cannot name the host's distribution")?;
    fs::create_dir(&own).with_context(|| format!("cannot create {own}"))?;
    for index in ["modules.order", "modules.builtin"] {
        write(format!("{own}/{index}"), "")?;
    }
    run("depmod", [kernel]).map(drop)
}

/// Puts a version of the driver into the image, as its build does: by the distribution's package manager.
pub(crate) fn put_driver(kernel: &str, letter: &str) -> anyhow::Result<()> {
    let package = drivers::only_file(&drivers::folder(letter, Flow::Deb))?;
    let package = package.to_str().context("a package's path is no UTF-8")?;
    run("dpkg", ["--install", "--force-downgrade", package])?;
    run("depmod", [kernel]).map(drop)
}

/// The file that modprobe would load on the host.
pub(crate) fn found_on_host(module: &str) -> anyhow::Result<String> {
    let shown = run("modprobe", ["-d", "/host", "--show-depends", module])?;
    let last = shown.lines().rev().find_map(|line| line.strip_prefix("insmod "));
    Ok(last.with_context(|| format!("modprobe finds no {module} on the host"))?.trim().to_owned())
}

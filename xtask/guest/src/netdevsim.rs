//! The kernel's simulated NIC, seen as from outside: an eswitch, VF attributes and representors, without VF netdevs.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::command::run;
use crate::observe::{Nics, flatten, links, settings};
use crate::{boot, read, wait, write};

/// The bus's devices are called netdevsim and a number; devlink and sysfs call them the same.
const ID: u32 = 10;
const MODULE: &str = "/lab/packages/netdevsim.ko";

/// How devlink calls the device.
pub(crate) fn handle() -> String {
    format!("netdevsim/netdevsim{ID}")
}

/// Loads the module.
pub(crate) fn load() -> anyhow::Result<()> {
    for needed in run("modinfo", ["-F", "depends", MODULE])?.trim().split(',').filter(|name| !name.is_empty())
    {
        run("modprobe", [needed])?;
    }
    run("insmod", [MODULE]).map(drop)
}

/// Makes the device: ports, no VFs, and nothing configured.
pub(crate) fn create(ports: u32, max_vfs: u32) -> anyhow::Result<()> {
    write("/sys/bus/netdevsim/new_device", &format!("{ID} {ports}"))?;
    write(format!("/sys/kernel/debug/netdevsim/netdevsim{ID}/max_vfs"), &max_vfs.to_string())?;
    boot::settle_udev()?;
    wait::until("udev names the uplinks", Duration::from_secs(20), || {
        let unnamed = links()?.into_iter().any(|(name, link)| is_ours(&link) && name.starts_with("eth"));
        Ok((!unnamed).then_some(()))
    })
}

/// Removes the device and all that was configured.
pub(crate) fn destroy() -> anyhow::Result<()> {
    write("/sys/bus/netdevsim/del_device", &ID.to_string())?;
    boot::settle_udev()
}

/// Writes `sriov_numvfs`.
pub(crate) fn set_vfs(count: u32) -> anyhow::Result<()> {
    write(folder().join("sriov_numvfs"), &count.to_string())
}

/// Sets the eswitch's mode and waits until udev has named what came of it.
pub(crate) fn set_mode(mode: &str) -> anyhow::Result<()> {
    run("devlink", ["dev", "eswitch", "set", &handle(), "mode", mode])?;
    boot::settle_udev()
}

/// The names of the netdevs by phys_port_name.
pub(crate) fn netdevs() -> anyhow::Result<BTreeMap<String, String>> {
    let mut netdevs = BTreeMap::new();
    for (name, link) in links()?.into_iter().filter(|(_, link)| is_ours(link)) {
        netdevs.insert(port(&link).with_context(|| format!("{name} has no port name"))?, name);
    }
    Ok(netdevs)
}

/// All that can be lost: the mode, the VFs' attributes, and the netdevs of all ports.
pub(crate) fn observe() -> anyhow::Result<Nics> {
    let mut things = BTreeMap::new();
    let mut device = BTreeMap::new();
    device.insert("sriov_numvfs".to_owned(), read(folder().join("sriov_numvfs"))?);
    let eswitch: Value = serde_json::from_str(&run("devlink", ["-j", "dev", "eswitch", "show", &handle()])?)
        .context("`devlink -j dev eswitch show` wrote no JSON")?;
    flatten("eswitch", &eswitch, &mut device);
    things.insert("device".to_owned(), device);
    for (name, link) in links()?.into_iter().filter(|(_, link)| is_ours(link)) {
        let port = port(&link).with_context(|| format!("{name} has no port name"))?;
        let mut seen = settings(&link);
        seen.insert("name".to_owned(), name);
        if let Some(vfs) = link.get("vfinfo_list").and_then(Value::as_array) {
            for vf in vfs {
                let index = vf.get("vf").context("a VF without a number")?;
                flatten(&format!("vf {index}"), vf, &mut seen);
            }
        }
        if things.insert(port.clone(), seen).is_some() {
            bail!("two netdevs are port {port}");
        }
    }
    Ok(Nics::of(things))
}

fn folder() -> std::path::PathBuf {
    Path::new("/sys/bus/netdevsim/devices").join(format!("netdevsim{ID}"))
}

fn is_ours(link: &Value) -> bool {
    let parent = link.get("parentdev").and_then(Value::as_str);
    parent.is_some_and(|parent| parent == format!("netdevsim{ID}"))
}

fn port(link: &Value) -> Option<String> {
    link.get("phys_port_name").and_then(Value::as_str).map(ToOwned::to_owned)
}

//! The model kernel's `/proc`, `/sys` and netlink.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use nic_kmod::ModuleName;
use nic_netlink::{IfIndex, Link, Links};
use nic_sriov::DeviceAddress;

use super::build::{Build, MODALIAS};

/// A module in the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Loaded {
    pub(super) name: ModuleName,
    pub(super) build: Build,
    pub(super) needs: Vec<ModuleName>,
    /// References that are of no module.
    pub(super) users: usize,
}

/// A physical function.
#[derive(Debug, Clone)]
pub(super) struct Pf {
    pub(super) address: DeviceAddress,
    pub(super) is_there: bool,
    pub(super) is_bound: bool,
    pub(super) has_netdev: bool,
    pub(super) mtu: u32,
}

/// Writes what the kernel shows of its modules and its PFs, in place of what it has shown.
pub(super) fn show(root: &Path, loaded: &[Loaded], pfs: &[Pf]) {
    show_modules(root, loaded);
    show_pfs(root, pfs);
}

fn show_modules(root: &Path, loaded: &[Loaded]) {
    let folder = root.join("sys/module");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    let mut proc_modules = String::new();
    // The kernel has the last one first.
    for module in loaded.iter().rev() {
        let holders: Vec<&str> = loaded
            .iter()
            .filter(|other| other.needs.contains(&module.name))
            .map(|other| other.name.as_str())
            .collect();
        let references = holders.len() + module.users;
        let list = if holders.is_empty() { "-".to_owned() } else { format!("{},", holders.join(",")) };
        proc_modules.push_str(&format!("{} 4096 {references} {list} Live 0x0\n", module.name));
        let own = folder.join(module.name.as_str());
        fs::create_dir_all(own.join("holders")).unwrap();
        for holder in holders {
            symlink(format!("../../{holder}"), own.join("holders").join(holder)).unwrap();
        }
        let attributes = [
            ("srcversion", module.build.srcversion(module.name.as_str())),
            ("initstate", "live".to_owned()),
            ("refcnt", references.to_string()),
        ];
        for (name, value) in attributes {
            fs::write(own.join(name), format!("{value}\n")).unwrap();
        }
    }
    fs::create_dir_all(root.join("proc")).unwrap();
    fs::write(root.join("proc/modules"), proc_modules).unwrap();
}

fn show_pfs(root: &Path, pfs: &[Pf]) {
    let folder = root.join("sys/bus/pci/devices");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    let mut links = Vec::new();
    for (number, pf) in (2..).zip(pfs) {
        if !pf.is_there {
            continue;
        }
        let device = folder.join(pf.address.name());
        fs::create_dir(&device).unwrap();
        let attributes = [("vendor", "0x15b3"), ("device", "0x101d"), ("modalias", MODALIAS)];
        for (name, value) in attributes {
            fs::write(device.join(name), format!("{value}\n")).unwrap();
        }
        if pf.is_bound {
            symlink("../../drivers/mlx5_core", device.join("driver")).unwrap();
        }
        if pf.has_netdev {
            let mut link = Link::new(IfIndex(number), format!("eth{number}").parse().unwrap());
            link.mtu = pf.mtu;
            link.parent_device = Some(pf.address.name().to_owned());
            link.parent_bus = Some("pci".to_owned());
            links.push(link);
        }
    }
    fs::create_dir_all(root.join("netlink")).unwrap();
    let links = serde_json::to_vec(&Links::new(links)).unwrap();
    fs::write(root.join("netlink/links.json"), links).unwrap();
}

//! Which modules file systems, swap and storage controllers stand on.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use nic_host::{Host, ReadError};

use super::{ModuleUser, ObserveUsersError, UserKind};
use crate::ModuleName;

/// How deep block devices are followed: a file system on a loop device on a file on a mapped device on…
pub(super) const DEPTH: usize = 8;

/// The mounts of a namespace that stand on modules. One that cannot be read has gone with its process.
pub(super) fn mounts(host: &Host, mountinfo: &str) -> Vec<ModuleUser> {
    let text = match host.read(mountinfo) {
        Ok(text) => text,
        Err(error) => {
            tracing::debug!(%error, "the mounts cannot be read and are not looked at");
            return Vec::new();
        }
    };
    let table = MountTable::parse(&text);
    let users = table.0.iter().map(|mount| ModuleUser {
        kind: UserKind::Mount {
            source: mount.source.clone(),
            target: mount.target.clone(),
            file_system: mount.file_system.clone(),
        },
        modules: mount.modules(host, &table, DEPTH),
    });
    users.filter(|user| !user.modules.is_empty()).collect()
}

/// The swap areas (`/proc/swaps`) that stand on modules.
pub(super) fn swaps(host: &Host) -> Result<Vec<ModuleUser>, ReadError> {
    let users = swap_areas(host)?;
    let users =
        users.into_iter().map(|(device, modules)| ModuleUser { kind: UserKind::Swap { device }, modules });
    Ok(users.filter(|user| !user.modules.is_empty()).collect())
}

/// The swap areas, each with the modules that it stands on.
pub(super) fn swap_areas(host: &Host) -> Result<Vec<(PathBuf, BTreeSet<ModuleName>)>, ReadError> {
    let Some(text) = host.read_if_exists("/proc/swaps")? else { return Ok(Vec::new()) };
    let table = MountTable::parse(&host.read_if_exists("/proc/self/mountinfo")?.unwrap_or_default());
    let area = |line: &str| {
        let mut fields = line.split_whitespace();
        let (device, kind) = (PathBuf::from(unescape(fields.next()?)), fields.next()?);
        let modules = if kind == "partition" {
            of_device_file(host, &device, &table, DEPTH)
        } else {
            table.of_file(host, &device, DEPTH)
        };
        Some((device, modules))
    };
    Ok(text.lines().skip(1).filter_map(area).collect())
}

/// The connected controllers of NVMe over fabrics, and the hosts that iSER and SRP have made, each for a session. Whatever is on them, a
/// volume manager or a virtual machine, ends with them.
pub(super) fn controllers(host: &Host) -> Result<Vec<ModuleUser>, ObserveUsersError> {
    let mut users = Vec::new();
    for name in host.list_if_exists("/sys/class/nvme")? {
        let folder = Path::new("/sys/class/nvme").join(&name);
        let Some(module) = nvme_transport(host, &folder) else { continue };
        let address = host.attribute(folder.join("address"))?.unwrap_or_default();
        let kind = UserKind::Controller { name, address };
        users.push(ModuleUser { kind, modules: BTreeSet::from([module]) });
    }
    for name in host.list_if_exists("/sys/class/scsi_host")? {
        let of = host.attribute(format!("/sys/class/scsi_host/{name}/proc_name"))?.unwrap_or_default();
        if RDMA_HOSTS.contains(&of.as_str())
            && let Some(module) = scsi_module(of.clone())
        {
            let kind = UserKind::Controller { name, address: format!("a session of {of}") };
            users.push(ModuleUser { kind, modules: BTreeSet::from([module]) });
        }
    }
    Ok(users)
}

/// What the SCSI hosts of iSER and SRP are called (`iscsi_iser_sht` in `drivers/infiniband/ulp/iser/iscsi_iser.c`, `srp_template` in
/// `drivers/infiniband/ulp/srp/ib_srp.c`).
const RDMA_HOSTS: &[&str] = &["iscsi_iser", "ib_srp"];

/// What this machine serves over RDMA: ports of the NVMe target, and NFS.
pub(super) fn exports(host: &Host) -> Result<Vec<ModuleUser>, ObserveUsersError> {
    let mut users = Vec::new();
    let mut served = |what: String, module: &str| {
        let kind = UserKind::Export { what };
        users.push(ModuleUser { kind, modules: module.parse().into_iter().collect() });
    };
    let ports = Path::new("/sys/kernel/config/nvmet/ports");
    for port in host.list_if_exists(ports)? {
        let folder = ports.join(&port);
        let over_rdma = host.attribute(folder.join("addr_trtype"))?.is_some_and(|kind| kind == "rdma");
        // Only an enabled port keeps the module (`nvmet_enable_port` in `drivers/nvme/target/core.c`).
        if over_rdma && !host.list_if_exists(folder.join("subsystems"))?.is_empty() {
            let address = host.attribute(folder.join("addr_traddr"))?.unwrap_or_default();
            served(format!("NVMe over RDMA on {address} (nvmet port {port})"), "nvmet_rdma");
        }
    }
    let targets = Path::new("/sys/kernel/config/target/iscsi");
    for target in host.list_if_exists(targets)? {
        for group in
            host.list_if_exists(targets.join(&target))?.iter().filter(|name| name.starts_with("tpgt_"))
        {
            let portals = targets.join(&target).join(group).join("np");
            for portal in host.list_if_exists(&portals)? {
                if host.attribute(portals.join(&portal).join("iser"))?.is_some_and(|on| on == "1") {
                    served(format!("iSCSI over RDMA on {portal} ({target})"), "ib_isert");
                }
            }
        }
    }
    let listening = host.read_if_exists("/proc/fs/nfsd/portlist")?.unwrap_or_default();
    if listening.lines().any(|line| line.starts_with("rdma")) {
        served("NFS over RDMA".to_owned(), "rpcrdma");
    }
    Ok(users)
}

/// One line of `/proc/<pid>/mountinfo` (`show_mountinfo` in `fs/proc_namespace.c`).
pub(super) struct Mount {
    /// Major and minor number of the device.
    device: String,
    pub(super) target: PathBuf,
    pub(super) file_system: String,
    pub(super) source: String,
    pub(super) options: String,
}

pub(super) struct MountTable(Vec<Mount>);

impl MountTable {
    pub(super) fn parse(text: &str) -> Self {
        let mount = |line: &str| {
            let (left, right) = line.split_once(" - ")?;
            let mut left = left.split(' ').skip(2);
            let (device, _root, target) = (left.next()?, left.next()?, left.next()?);
            let mut right = right.split(' ');
            Some(Mount {
                device: device.to_owned(),
                target: unescape(target).into(),
                file_system: right.next()?.to_owned(),
                source: unescape(right.next()?),
                options: right.next().unwrap_or_default().to_owned(),
            })
        };
        Self(text.lines().filter_map(mount).collect())
    }

    pub(super) fn mounts(&self) -> impl Iterator<Item = &Mount> {
        self.0.iter()
    }

    /// The modules under the file system that holds a file.
    fn of_file(&self, host: &Host, path: &Path, depth: usize) -> BTreeSet<ModuleName> {
        // Of several mounts on one place the last one is seen.
        let holding = self.0.iter().filter(|mount| path.starts_with(&mount.target));
        let holding = holding.max_by_key(|mount| mount.target.components().count());
        holding.map(|mount| mount.modules(host, self, depth)).unwrap_or_default()
    }
}

impl Mount {
    pub(super) fn modules(&self, host: &Host, table: &MountTable, depth: usize) -> BTreeSet<ModuleName> {
        if let Some(module) = rdma_transport(&self.file_system, &self.options) {
            return module.parse().into_iter().collect();
        }
        if self.device.starts_with("0:") {
            // btrfs and others have a number of their own, and name their device.
            return of_device_file(host, Path::new(&self.source), table, depth);
        }
        of_block_device(host, &Path::new("/sys/dev/block").join(&self.device), table, depth)
    }
}

/// The module that carries a file system over RDMA, by its options: NFS over both versions of IP (`RPCBIND_NETID_RDMA`,
/// `RPCBIND_NETID_RDMA6` in `include/linux/sunrpc/msg_prot.h`), SMB Direct (`cifs_show_options` in `fs/smb/client/cifsfs.c`), 9P
/// (`net/9p/trans_rdma.c`).
fn rdma_transport(file_system: &str, options: &str) -> Option<&'static str> {
    let has = |wanted: &[&str]| options.split(',').any(|option| wanted.contains(&option));
    match file_system {
        "nfs" | "nfs4" if has(&["proto=rdma", "proto=rdma6"]) => Some("rpcrdma"),
        "cifs" | "smb3" if has(&["rdma"]) => Some("cifs"),
        "9p" if has(&["trans=rdma"]) => Some("9pnet_rdma"),
        _ => None,
    }
}

fn of_device_file(host: &Host, path: &Path, table: &MountTable, depth: usize) -> BTreeSet<ModuleName> {
    let name = path.strip_prefix("/dev").ok().and_then(Path::file_name);
    name.map(|name| of_block_device(host, &Path::new("/sys/class/block").join(name), table, depth))
        .unwrap_or_default()
}

/// The modules of the drivers that a block device stands on. `device` is its folder in sysfs, or a link to it.
fn of_block_device(host: &Host, device: &Path, table: &MountTable, depth: usize) -> BTreeSet<ModuleName> {
    let mut modules = BTreeSet::new();
    let Ok(device) = fs::canonicalize(host.path(device)) else { return modules };
    let Some(depth) = depth.checked_sub(1) else { return modules };
    // As a path of the host again.
    let root = fs::canonicalize(host.path("/")).unwrap_or_else(|_| host.root().to_path_buf());
    let Ok(device) = device.strip_prefix(&root) else { return modules };
    let device = Path::new("/").join(device);
    let list = |folder: &Path| host.list_if_exists(folder).unwrap_or_default();
    let attribute = |path: PathBuf| host.attribute(path).ok().flatten();

    for ancestor in device.ancestors().take_while(|path| *path != Path::new("/sys/devices")) {
        for slave in list(&ancestor.join("slaves")) {
            modules.extend(of_block_device(host, &ancestor.join("slaves").join(slave), table, depth));
        }
        if let Some(file) = attribute(ancestor.join("loop/backing_file")) {
            modules.extend(table.of_file(host, Path::new(&file), depth));
        }
        modules.extend(nvme_transport(host, ancestor));
        let name = ancestor.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with("nvme-subsys") {
            let controllers = list(ancestor).into_iter().filter(|entry| entry.starts_with("nvme"));
            modules.extend(controllers.filter_map(|entry| nvme_transport(host, &ancestor.join(entry))));
        }
        modules
            .extend(attribute(ancestor.join("scsi_host").join(name).join("proc_name")).and_then(scsi_module));
        let driver = host.path(ancestor.join("driver"));
        if let Ok(module) = fs::canonicalize(driver.join("module")) {
            modules.extend(module.file_name().and_then(|name| name.to_str()?.parse().ok()));
        }
    }
    modules
}

/// The module of an NVMe controller's transport, where it is one of the fabrics.
fn nvme_transport(host: &Host, controller: &Path) -> Option<ModuleName> {
    let module = match host.attribute(controller.join("transport")).ok()??.as_str() {
        "rdma" => "nvme_rdma",
        "tcp" => "nvme_tcp",
        "fc" => "nvme_fc",
        _ => return None,
    };
    module.parse().ok()
}

/// The module behind a SCSI host's `proc_name`, which mostly is the module's own name.
fn scsi_module(proc_name: String) -> Option<ModuleName> {
    let module = if proc_name == "iscsi_iser" { "ib_iser".to_owned() } else { proc_name };
    module.parse().ok()
}

/// Undoes `\040` and its like (`mangle` in `fs/proc_namespace.c`).
fn unescape(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        plain.push_str(before);
        let code = after.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match (code, after.get(3..)) {
            (Some(code), Some(tail)) if code.is_ascii() => {
                plain.push(char::from(code));
                rest = tail;
            }
            _ => {
                plain.push('\\');
                rest = after;
            }
        }
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::file;

    #[test]
    fn fault_4_a_file_system_over_rdma_is_known_by_its_options() {
        for (file_system, options, module) in [
            ("nfs4", "rw,vers=4.2,proto=rdma,port=20049", Some("rpcrdma")),
            ("nfs", "rw,proto=rdma6", Some("rpcrdma")),
            ("nfs4", "rw,proto=tcp6", None),
            ("cifs", "rw,vers=3.1.1,rdma", Some("cifs")),
            ("smb3", "rw,username=rdma", None),
            ("9p", "rw,trans=rdma,port=5640", Some("9pnet_rdma")),
            ("ext4", "rw,rdma", None),
        ] {
            assert_eq!(rdma_transport(file_system, options), module, "{file_system} {options}");
        }
    }

    #[test]
    fn fault_4_sessions_and_exports_over_rdma_are_found_without_a_mount() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for (host, of) in [("host0", "ahci"), ("host3", "iscsi_iser"), ("host4", "ib_srp")] {
            file(root, &format!("sys/class/scsi_host/{host}/proc_name"), of);
        }
        for (portal, iser) in [("10.0.0.1:3260", "1"), ("10.0.0.2:3260", "0")] {
            let np = format!("sys/kernel/config/target/iscsi/iqn.2026-01.lab:data/tpgt_1/np/{portal}");
            file(root, &format!("{np}/iser"), iser);
        }
        let host = Host::at(root);
        let told = |users: Vec<ModuleUser>| -> Vec<String> {
            let modules =
                |user: &ModuleUser| user.modules.iter().map(ToString::to_string).collect::<String>();
            users.iter().map(|user| format!("{}: {}", modules(user), user.kind)).collect()
        };
        assert_eq!(
            told(controllers(&host).unwrap()),
            [
                "ib_iser: the controller host3 is connected (a session of iscsi_iser)",
                "ib_srp: the controller host4 is connected (a session of ib_srp)"
            ]
        );
        assert_eq!(
            told(exports(&host).unwrap()),
            ["ib_isert: this machine serves iSCSI over RDMA on 10.0.0.1:3260 (iqn.2026-01.lab:data)"]
        );
    }
}

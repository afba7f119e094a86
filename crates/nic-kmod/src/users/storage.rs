//! Which modules file systems, swap and storage controllers stand on.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use nic_host::{Host, ReadError};

use super::ground::{Ground, MountTable, swap_areas};
use super::{ModuleUser, ObserveUsersError, UserKind};
use crate::ModuleName;

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
    let users = table.mounts().map(|mount| ModuleUser {
        kind: UserKind::Mount {
            source: mount.source.clone(),
            target: mount.target.clone(),
            file_system: mount.file_system.clone(),
        },
        modules: modules(host, &table.grounds(host, mount)),
    });
    users.filter(|user| !user.modules.is_empty()).collect()
}

/// The swap areas (`/proc/swaps`) that stand on modules.
pub(super) fn swaps(host: &Host) -> Result<Vec<ModuleUser>, ReadError> {
    let users = swap_areas(host)?.into_iter().map(|(device, grounds)| ModuleUser {
        kind: UserKind::Swap { device },
        modules: modules(host, &grounds),
    });
    Ok(users.filter(|user| !user.modules.is_empty()).collect())
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

/// The modules that carry what storage stands on.
fn modules(host: &Host, grounds: &[Ground]) -> BTreeSet<ModuleName> {
    let mut modules = BTreeSet::new();
    for ground in grounds {
        match ground {
            Ground::FileSystem(mount) => {
                let carrier = rdma_transport(&mount.file_system, &mount.options);
                modules.extend(carrier.and_then(|module| module.parse().ok()));
            }
            Ground::Device(folder) => modules.extend(drivers(host, folder)),
        }
    }
    modules
}

/// The modules of the drivers of one device.
fn drivers(host: &Host, folder: &Path) -> impl Iterator<Item = ModuleName> {
    let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let scsi = host.attribute(folder.join("scsi_host").join(name).join("proc_name")).ok().flatten();
    let driver = fs::canonicalize(host.path(folder.join("driver")).join("module")).ok();
    let driver = driver.and_then(|module| module.file_name()?.to_str()?.parse().ok());
    [nvme_transport(host, folder), scsi.and_then(scsi_module), driver].into_iter().flatten()
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

//! Storage that is reached over IP: it keeps no module of a NIC's, and stalls while the NIC is away.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use nic_host::{HOST_MOUNT, Host};

use super::ObserveUsersError;
use super::storage::{DEPTH, Mount, MountTable, swap_areas};
use crate::ModuleName;

/// Storage on another machine.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RemoteStorage {
    /// What is used.
    pub source: String,
    /// Its file system's type, or what carries it, such as `nvme_tcp`.
    pub kind: String,
    /// What it is used for.
    pub used_for: RemoteUse,
    /// Where it is; empty where that cannot be told.
    pub peers: BTreeSet<IpAddr>,
}

/// What remote storage is used for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum RemoteUse {
    /// It holds the machine's own files, or a container's: programs that a swap runs may lie there.
    System(PathBuf),
    /// The kernel swaps to it.
    Swap,
    /// It is mounted here.
    Mount(PathBuf),
}

impl RemoteStorage {
    /// Whether the machine itself stops with it.
    #[must_use]
    pub fn is_needed(&self) -> bool {
        match self.used_for {
            RemoteUse::System(_) | RemoteUse::Swap => true,
            RemoteUse::Mount(_) => false,
        }
    }
}

impl fmt::Display for RemoteStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.source, self.kind)?;
        match &self.used_for {
            RemoteUse::System(target) => write!(f, ", which holds {}", target.display()),
            RemoteUse::Swap => f.write_str(", to which the kernel swaps"),
            RemoteUse::Mount(target) => write!(f, ", mounted on {}", target.display()),
        }
    }
}

/// The modules that carry block devices over IP.
const CARRIERS: [&str; 6] = ["nvme_tcp", "iscsi_tcp", "libiscsi_tcp", "nbd", "rbd", "drbd"];
/// The file systems of other machines; what is behind a FUSE file system of a name that is not here is not known.
const FILE_SYSTEMS: [&str; 11] =
    ["nfs", "nfs4", "cifs", "smb3", "ceph", "9p", "lustre", "beegfs", "afs", "fuse.glusterfs", "fuse.sshfs"];
/// Where the programs of the machine are, and what containers are made of.
const SYSTEM: [&str; 6] = ["/", "/usr", "/var", "/var/lib", "/var/lib/containers", "/var/lib/containerd"];

/// Finds storage of other machines in what this process and the first one see mounted, and in the swap areas.
///
/// What cannot be read is passed over, with a log line.
///
/// # Errors
/// A file or folder that tells of controllers or swap could not be read.
pub fn observe_remote_storage(host: &Host) -> Result<Vec<RemoteStorage>, ObserveUsersError> {
    let carriers = Carriers::read(host)?;
    let mut found = BTreeSet::new();
    for file in ["/proc/1/mountinfo", "/proc/self/mountinfo"] {
        let text = host.read_if_exists(file).unwrap_or_else(|error| {
            tracing::info!(
                error = nic_host::error_chain(&error),
                "storage of other machines is looked for in part"
            );
            None
        });
        let table = MountTable::parse(&text.unwrap_or_default());
        found.extend(table.mounts().filter_map(|mount| carriers.of_mount(host, &table, mount)));
    }
    for (device, modules) in swap_areas(host)? {
        found.extend(carriers.of_modules(&modules).map(|(kind, peers)| RemoteStorage {
            source: device.display().to_string(),
            kind,
            used_for: RemoteUse::Swap,
            peers,
        }));
    }
    Ok(found.into_iter().collect())
}

/// Where the carriers of block devices lead to.
struct Carriers {
    nvme: BTreeSet<IpAddr>,
    iscsi: BTreeSet<IpAddr>,
    rbd: BTreeSet<IpAddr>,
}

impl Carriers {
    fn read(host: &Host) -> Result<Self, ObserveUsersError> {
        let each = |folder: &str, file: &str| -> Result<Vec<String>, ObserveUsersError> {
            let mut values = Vec::new();
            for name in host.list_if_exists(folder)? {
                values.extend(host.attribute(Path::new(folder).join(name).join(file))?);
            }
            Ok(values)
        };
        // `traddr=192.0.2.1,trsvcid=4420,src_addr=…` (`nvmf_get_address` in drivers/nvme/host/fabrics.c); over RDMA it is an IP address,
        // too, and a module of the NIC's is held besides.
        let nvme = each("/sys/class/nvme", "address")?;
        let nvme =
            nvme.iter().flat_map(|text| text.split(',')).filter_map(|part| part.strip_prefix("traddr="));
        let mut iscsi = each("/sys/class/iscsi_connection", "persistent_address")?;
        iscsi.extend(each("/sys/class/iscsi_connection", "address")?);
        // The monitors, as they were given: `192.0.2.1:6789,192.0.2.2:6789 name=…` (`config_info_show` in drivers/block/rbd.c).
        let rbd = each("/sys/bus/rbd/devices", "config_info")?;
        let rbd = rbd.iter().flat_map(|text| text.split([',', ' ']));
        Ok(Self {
            nvme: nvme.filter_map(address).collect(),
            iscsi: iscsi.iter().filter_map(|text| address(text)).collect(),
            rbd: rbd.filter_map(address).collect(),
        })
    }

    fn of_mount(&self, host: &Host, table: &MountTable, mount: &Mount) -> Option<RemoteStorage> {
        let (kind, peers) = if FILE_SYSTEMS.contains(&mount.file_system.as_str()) {
            (mount.file_system.clone(), peers_of(mount))
        } else {
            self.of_modules(&mount.modules(host, table, DEPTH))?
        };
        let target = mount.target.clone();
        let on_host =
            target.strip_prefix(HOST_MOUNT).map_or(target.clone(), |below| Path::new("/").join(below));
        let is_system = SYSTEM.iter().any(|folder| on_host == Path::new(folder));
        let used_for = if is_system { RemoteUse::System(target) } else { RemoteUse::Mount(target) };
        Some(RemoteStorage { source: mount.source.clone(), kind, used_for, peers })
    }

    /// What carries a block device that stands on these modules.
    fn of_modules(&self, modules: &BTreeSet<ModuleName>) -> Option<(String, BTreeSet<IpAddr>)> {
        let carrier =
            CARRIERS.iter().find(|carrier| modules.iter().any(|module| module.as_str() == **carrier))?;
        let peers = match *carrier {
            "nvme_tcp" => self.nvme.clone(),
            "iscsi_tcp" | "libiscsi_tcp" => self.iscsi.clone(),
            "rbd" => self.rbd.clone(),
            // The kernel does not tell.
            _ => BTreeSet::new(),
        };
        Some(((*carrier).to_owned(), peers))
    }
}

/// `addr=` of NFS and SMB, and the addresses before the path of Ceph's source.
fn peers_of(mount: &Mount) -> BTreeSet<IpAddr> {
    let options = mount.options.split(',');
    let named = options.filter_map(|option| option.strip_prefix("addr=")).filter_map(address);
    let monitors = mount.source.split(":/").next().unwrap_or_default().split(',').filter_map(address);
    named.chain(monitors).collect()
}

/// An IP address, alone or with a port.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let alone = text.trim_start_matches('[').trim_end_matches(']').parse().ok();
    alone.or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::file;

    fn told(host: &Host) -> Vec<String> {
        let all = observe_remote_storage(host).unwrap();
        all.iter()
            .map(|one| format!("{one} at {:?}{}", one.peers, if one.is_needed() { ", needed" } else { "" }))
            .collect()
    }

    #[test]
    fn fault_3_5_file_systems_of_other_machines() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::at(dir.path());
        assert_eq!(told(&host), [""; 0]);
        file(
            dir.path(),
            "/proc/self/mountinfo",
            "22 1 0:21 / / rw - overlay overlay rw\n\
             23 22 0:30 / /host rw - nfs4 192.0.2.1:/root rw,vers=4.2,addr=192.0.2.1,clientaddr=192.0.2.9\n\
             24 22 0:31 / /data rw - nfs server:/data rw,proto=tcp,addr=2001:db8::1\n\
             25 22 0:32 / /share rw - cifs //server/share rw,addr=192.0.2.2\n\
             26 22 0:33 / /ceph rw - ceph 192.0.2.3:6789,[2001:db8::3]:6789:/ rw,name=admin\n\
             27 22 0:34 / /gluster rw - fuse.glusterfs server:/volume rw\n\
             28 22 8:1 / /local rw - ext4 /dev/sda1 rw\n",
        );
        insta::assert_snapshot!(told(&host).join("\n"), @r"
        //server/share (cifs), mounted on /share at {192.0.2.2}
        192.0.2.1:/root (nfs4), which holds /host at {192.0.2.1}, needed
        192.0.2.3:6789,[2001:db8::3]:6789:/ (ceph), mounted on /ceph at {192.0.2.3, 2001:db8::3}
        server:/data (nfs), mounted on /data at {2001:db8::1}
        server:/volume (fuse.glusterfs), mounted on /gluster at {}
        ");
    }

    #[test]
    fn fault_3_5_block_devices_of_other_machines() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let link = |to: &str, at: &str| {
            let at = root.join(at);
            std::fs::create_dir_all(at.parent().unwrap()).unwrap();
            std::os::unix::fs::symlink(root.join(to), at).unwrap();
        };
        let folder = |path: &str| std::fs::create_dir_all(root.join(path)).unwrap();
        folder("sys/devices/virtual/block/nbd0");
        folder("sys/module/nbd");
        folder("sys/devices/virtual/nvme-fabrics/ctl/nvme3/nvme3n1");
        link("sys/devices/virtual/nvme-fabrics/ctl/nvme3/nvme3n1", "sys/dev/block/259:7");
        link("sys/devices/virtual/nvme-fabrics/ctl/nvme3", "sys/class/nvme/nvme3");
        file(root, "/sys/devices/virtual/nvme-fabrics/ctl/nvme3/transport", "tcp\n");
        file(root, "/sys/devices/virtual/nvme-fabrics/ctl/nvme3/address", "traddr=192.0.2.7,trsvcid=4420\n");
        link("sys/devices/virtual/nvme-fabrics/ctl/nvme3/nvme3n1", "sys/class/block/nvme3n1");
        file(
            root,
            "/proc/self/mountinfo",
            "22 1 259:7 / / rw - ext4 /dev/nvme3n1 rw\n28 22 259:7 / /data rw - xfs /dev/nvme3n1 rw\n",
        );
        file(root, "/proc/swaps", "Filename Type Size Used Priority\n/dev/nvme3n1 partition 1 0 -2\n");
        insta::assert_snapshot!(told(&Host::at(root)).join("\n"), @r"
        /dev/nvme3n1 (nvme_tcp), which holds / at {192.0.2.7}, needed
        /dev/nvme3n1 (nvme_tcp), to which the kernel swaps at {192.0.2.7}, needed
        /dev/nvme3n1 (nvme_tcp), mounted on /data at {192.0.2.7}
        ");
    }
}

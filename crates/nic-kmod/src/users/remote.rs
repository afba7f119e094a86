//! Storage that is reached over IP: it keeps no module of a NIC's, and stalls while the NIC is away.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use nic_host::{HOST_MOUNT, Host};

use super::ObserveUsersError;
use super::ground::{Ground, Mount, MountTable, swap_areas};

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
    pub peers: BTreeSet<Peer>,
}

/// The other end of a connection.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Peer {
    /// Its address.
    pub address: IpAddr,
    /// The interface that the connection is bound to, whatever the routes say.
    pub interface: Option<String>,
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

/// The file systems of other machines; what is behind a FUSE file system of a name that is not here is not known.
const FILE_SYSTEMS: [&str; 11] =
    ["nfs", "nfs4", "cifs", "smb3", "ceph", "9p", "lustre", "beegfs", "afs", "fuse.glusterfs", "fuse.sshfs"];
/// The block devices of other machines whose other end the kernel does not tell.
const SILENT: [&str; 2] = ["nbd", "drbd"];
/// Where the programs of the machine are, and what containers are made of.
const SYSTEM: [&str; 6] = ["/", "/usr", "/var", "/var/lib", "/var/lib/containers", "/var/lib/containerd"];

/// Finds storage of other machines in what this process and the first one see mounted, and in the swap areas.
///
/// What cannot be read is passed over, with a log line.
///
/// # Errors
/// The list of swap areas could not be read.
pub fn observe_remote_storage(host: &Host) -> Result<Vec<RemoteStorage>, ObserveUsersError> {
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
        for mount in table.mounts() {
            let use_of = |(kind, peers)| {
                let (source, used_for) = (mount.source.clone(), use_of_mount(mount));
                RemoteStorage { source, kind, used_for, peers }
            };
            found.extend(carrier(host, &table.grounds(host, mount)).map(use_of));
        }
    }
    for (device, grounds) in swap_areas(host)? {
        found.extend(carrier(host, &grounds).map(|(kind, peers)| RemoteStorage {
            source: device.display().to_string(),
            kind,
            used_for: RemoteUse::Swap,
            peers,
        }));
    }
    Ok(found.into_iter().collect())
}

fn use_of_mount(mount: &Mount) -> RemoteUse {
    let target = mount.target.clone();
    let on_host = target.strip_prefix(HOST_MOUNT).map_or(target.clone(), |below| Path::new("/").join(below));
    let is_system = SYSTEM.iter().any(|folder| on_host == Path::new(folder));
    if is_system { RemoteUse::System(target) } else { RemoteUse::Mount(target) }
}

/// What carries storage that stands on this to other machines, and all of those.
fn carrier(host: &Host, grounds: &[Ground]) -> Option<(String, BTreeSet<Peer>)> {
    let mut carriers = grounds.iter().filter_map(|ground| match ground {
        Ground::FileSystem(mount) => {
            is_remote(mount).then(|| (mount.file_system.clone(), peers_of_mount(mount)))
        }
        Ground::Device(folder) => device_carrier(host, folder),
    });
    let (kind, mut peers) = carriers.next()?;
    for (_, more) in carriers {
        peers.extend(more);
    }
    Some((kind, peers))
}

/// Whether it is of another machine. A hypervisor gives 9P by other ways than a network, too (net/9p/trans_virtio.c, trans_xen.c).
fn is_remote(mount: &Mount) -> bool {
    let given = |option: &str| matches!(option, "trans=virtio" | "trans=xen");
    FILE_SYSTEMS.contains(&mount.file_system.as_str()) && !mount.options.split(',').any(given)
}

/// What carries one device, where that is one of another machine.
fn device_carrier(host: &Host, folder: &Path) -> Option<(String, BTreeSet<Peer>)> {
    let attribute = |path: PathBuf| host.attribute(path).ok().flatten();
    let name = folder.file_name()?.to_str()?;
    if attribute(folder.join("transport")).is_some_and(|transport| transport == "tcp") {
        let address = attribute(folder.join("address")).unwrap_or_default();
        return Some(("nvme_tcp".to_owned(), nvme_peer(&address).into_iter().collect()));
    }
    let kind = attribute(folder.join("scsi_host").join(name).join("proc_name"));
    if kind.as_deref() == Some("iscsi_tcp") {
        return Some(("iscsi_tcp".to_owned(), iscsi_peers(host, folder)));
    }
    // Block devices of no driver: their names alone say whose they are.
    let kind = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let number = name.strip_prefix(kind).filter(|number| !number.is_empty())?;
    if kind == "rbd" {
        // The monitors, as they were given: `192.0.2.1:6789,192.0.2.2:6789 name=…` (`config_info_show` in drivers/block/rbd.c).
        let told = attribute(Path::new("/sys/bus/rbd/devices").join(number).join("config_info"));
        let peers = told.unwrap_or_default().split([',', ' ']).filter_map(peer).collect();
        return Some((kind.to_owned(), peers));
    }
    SILENT.contains(&kind).then(|| (kind.to_owned(), BTreeSet::new()))
}

/// `traddr=192.0.2.1,trsvcid=4420,host_iface=eth0,src_addr=…` (`nvmf_get_address` in drivers/nvme/host/fabrics.c). What is bound to an
/// interface (`nvme_tcp_alloc_queue` in tcp.c beside it) goes over that one.
fn nvme_peer(address: &str) -> Option<Peer> {
    let part = |key: &str| address.split(',').find_map(|part| part.trim().strip_prefix(key));
    let Peer { address, interface } = peer(part("traddr=")?)?;
    Some(Peer { address, interface: part("host_iface=").map(str::to_owned).or(interface) })
}

/// The portals of a SCSI host's sessions (`session1/connection1:0/iscsi_connection/connection1:0`, `iscsi_create_conn` in
/// drivers/scsi/scsi_transport_iscsi.c).
fn iscsi_peers(host: &Host, scsi_host: &Path) -> BTreeSet<Peer> {
    let below = |folder: &Path, prefix: &str| {
        let names = host.list_if_exists(folder).unwrap_or_default();
        let paths = names.into_iter().filter(|name| name.starts_with(prefix)).map(|name| folder.join(name));
        paths.collect::<Vec<_>>()
    };
    let sessions = below(scsi_host, "session").into_iter();
    let connections = sessions.flat_map(|session| below(&session, "connection"));
    let told = connections.filter_map(|connection| {
        let folder = connection.join("iscsi_connection").join(connection.file_name()?);
        // The one that it was sent on to, and else the one that was asked for.
        let address =
            |file: &str| host.attribute(folder.join(file)).ok().flatten().and_then(|text| peer(&text));
        address("address").or_else(|| address("persistent_address"))
    });
    told.collect()
}

/// `addr=` of NFS and SMB, and the addresses before the path of Ceph's source.
fn peers_of_mount(mount: &Mount) -> BTreeSet<Peer> {
    let options = mount.options.split(',');
    let named = options.filter_map(|option| option.strip_prefix("addr=")).filter_map(peer);
    let monitors = mount.source.split(":/").next().unwrap_or_default().split(',').filter_map(peer);
    named.chain(monitors).collect()
}

/// An IP address, alone or with a port, and behind `%` the interface that it is of.
fn peer(text: &str) -> Option<Peer> {
    let text = text.trim();
    let (text, interface) = match text.split_once('%') {
        Some((address, interface)) => (address, Some(interface.to_owned())),
        None => (text, None),
    };
    let alone = text.trim_start_matches('[').trim_end_matches(']').parse().ok();
    let address = alone.or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))?;
    Some(Peer { address, interface })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::file;

    fn told(host: &Host) -> Vec<String> {
        let all = observe_remote_storage(host).unwrap();
        let peers = |one: &RemoteStorage| {
            let peers = one.peers.iter().map(|peer| match &peer.interface {
                Some(interface) => format!("{} over {interface}", peer.address),
                None => peer.address.to_string(),
            });
            peers.collect::<Vec<_>>().join(", ")
        };
        all.iter()
            .map(|one| format!("{one} at {}{}", peers(one), if one.is_needed() { ", needed" } else { "" }))
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
             28 22 8:1 / /local rw - ext4 /dev/sda1 rw\n\
             29 22 0:35 / /given rw - 9p share rw,access=client,trans=virtio\n\
             30 22 0:36 / /served rw - 9p 192.0.2.4 rw,access=client,trans=tcp\n",
        );
        insta::assert_snapshot!(told(&host).join("\n"), @r"
        //server/share (cifs), mounted on /share at 192.0.2.2
        192.0.2.1:/root (nfs4), which holds /host at 192.0.2.1, needed
        192.0.2.3:6789,[2001:db8::3]:6789:/ (ceph), mounted on /ceph at 192.0.2.3, 2001:db8::3
        192.0.2.4 (9p), mounted on /served at 192.0.2.4
        server:/data (nfs), mounted on /data at 2001:db8::1
        server:/volume (fuse.glusterfs), mounted on /gluster at 
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
        // As the kernel of the lab has it: the device is a subsystem's, and each of its paths a controller.
        for (subsystem, controllers) in [
            (0, &[(0, "traddr=192.0.2.7,trsvcid=4420,src_addr=192.0.2.1\n")][..]),
            (
                1,
                &[
                    (1, "traddr=192.0.2.8,trsvcid=4420,host_iface=pf0\n"),
                    (2, "traddr=2001:db8::8,trsvcid=4420\n"),
                ],
            ),
        ] {
            let folder = format!("sys/devices/virtual/nvme-subsystem/nvme-subsys{subsystem}");
            for (number, address) in controllers {
                let controller = format!("sys/devices/virtual/nvme-fabrics/ctl/nvme{number}");
                file(root, &format!("/{controller}/transport"), "tcp\n");
                file(root, &format!("/{controller}/address"), address);
                link(&controller, &format!("{folder}/nvme{number}"));
            }
            file(root, &format!("/{folder}/nvme{subsystem}n1/dev"), format!("259:{subsystem}\n"));
            link(&format!("{folder}/nvme{subsystem}n1"), &format!("sys/dev/block/259:{subsystem}"));
            link(&format!("{folder}/nvme{subsystem}n1"), &format!("sys/class/block/nvme{subsystem}n1"));
        }
        let session = "sys/devices/platform/host3/session1";
        file(root, "/sys/devices/platform/host3/scsi_host/host3/proc_name", "iscsi_tcp\n");
        let connection = format!("{session}/connection1:0/iscsi_connection/connection1:0");
        file(root, &format!("/{connection}/persistent_address"), "192.0.2.99\n");
        file(root, &format!("/{connection}/address"), "192.0.2.9\n");
        let disk = format!("{session}/target3:0:0/3:0:0:1/block/sdb");
        file(root, &format!("/{disk}/dev"), "8:16\n");
        link(&disk, "sys/dev/block/8:16");
        file(root, "/sys/bus/rbd/devices/3/config_info", "192.0.2.10:6789,[2001:db8::10]:6789 name=admin\n");
        for (device, number, partition) in
            [("nbd0", "43:1", "nbd0p1"), ("rbd3", "252:0", ""), ("zram0", "253:0", "")]
        {
            let folder = format!("sys/devices/virtual/block/{device}");
            file(root, &format!("/{folder}/{partition}/dev"), number);
            link(&format!("{folder}/{partition}"), &format!("sys/dev/block/{number}"));
        }
        file(
            root,
            "/proc/self/mountinfo",
            "22 1 259:0 / / rw - ext4 /dev/nvme0n1 rw\n28 22 259:1 / /data rw - xfs /dev/nvme1n1 rw\n\
             29 22 8:16 / /iscsi rw - xfs /dev/sdb rw\n30 22 43:1 / /nbd rw - xfs /dev/nbd0p1 rw\n\
             31 22 252:0 / /rbd rw - xfs /dev/rbd3 rw\n32 22 253:0 / /zram rw - xfs /dev/zram0 rw\n",
        );
        file(root, "/proc/swaps", "Filename Type Size Used Priority\n/dev/nvme0n1 partition 1 0 -2\n");
        insta::assert_snapshot!(told(&Host::at(root)).join("\n"), @r"
        /dev/nbd0p1 (nbd), mounted on /nbd at 
        /dev/nvme0n1 (nvme_tcp), which holds / at 192.0.2.7, needed
        /dev/nvme0n1 (nvme_tcp), to which the kernel swaps at 192.0.2.7, needed
        /dev/nvme1n1 (nvme_tcp), mounted on /data at 192.0.2.8 over pf0, 2001:db8::8
        /dev/rbd3 (rbd), mounted on /rbd at 192.0.2.10, 2001:db8::10
        /dev/sdb (iscsi_tcp), mounted on /iscsi at 192.0.2.9
        ");
    }

    #[test]
    fn fault_3_5_an_address_may_name_its_interface() {
        let over = |text: &str| nvme_peer(text).map(|peer| (peer.address.to_string(), peer.interface));
        let named = |address: &str, interface: &str| Some((address.to_owned(), Some(interface.to_owned())));
        assert_eq!(over("traddr=fe80::1%pf0,trsvcid=4420,host_iface=pf1"), named("fe80::1", "pf1"));
        assert_eq!(over("traddr=fe80::1%pf0,trsvcid=4420"), named("fe80::1", "pf0"));
        assert_eq!(over("traddr=192.0.2.1"), Some(("192.0.2.1".to_owned(), None)));
        assert_eq!(over("trsvcid=4420,host_iface=pf1"), None);
    }
}

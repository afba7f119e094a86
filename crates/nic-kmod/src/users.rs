//! Who uses modules without being one: processes, mounts, swap, controllers, sockets, exports.
//!
//! The kernel counts references and does not say whose they are. What can be found is found here, each user with the
//! modules that it keeps. What is not found need not be absent: a container sees its own processes and mounts.

mod ground;
mod remote;
mod storage;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use nic_host::{Host, ListError, OpenDevice, ReadError};
use serde::{Deserialize, Serialize};

pub use self::remote::{Peer, RemoteStorage, RemoteUse, observe_remote_storage};
use crate::ModuleName;

/// A user of modules that is no module.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ModuleUser {
    /// Who it is.
    #[serde(flatten)]
    pub kind: UserKind,
    /// The modules that it is known to keep. A device's driver, which the kernel does not name, is not among them.
    pub modules: BTreeSet<ModuleName>,
}

/// Who uses modules.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "user", rename_all = "snake_case")]
pub enum UserKind {
    /// A process has a device open.
    Process {
        /// Its id in this process's namespace.
        pid: u32,
        /// The process's name, such as `opensm`.
        command: String,
        /// The device file.
        device: PathBuf,
    },
    /// A file system is mounted.
    Mount {
        /// What is mounted.
        source: String,
        /// Where.
        target: PathBuf,
        /// The file system's type, such as `nfs`.
        file_system: String,
    },
    /// The kernel swaps to it.
    Swap {
        /// The device or file.
        device: PathBuf,
    },
    /// A storage controller of this machine is connected.
    Controller {
        /// The controller's name, such as `nvme1`.
        name: String,
        /// What it is connected to, as the kernel says it.
        address: String,
    },
    /// This machine serves storage to others.
    Export {
        /// What is served.
        what: String,
    },
    /// Sockets are open.
    Sockets {
        /// Of this protocol.
        protocol: String,
        /// How many.
        count: u32,
        /// A process in the network namespace they are in; `None` for this process's own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        namespace_of: Option<String>,
    },
}

impl UserKind {
    /// Whether it has data there: what it uses must not be taken away, whoever allows it, and although the kernel
    /// would let it go. A connected controller keeps no reference to its transport's module, and ends with it
    /// (`nvmf_create_ctrl` in `drivers/nvme/host/fabrics.c`, `nvme_rdma_cleanup_module` in `rdma.c` beside it).
    #[must_use]
    pub fn has_data(&self) -> bool {
        matches!(self, Self::Mount { .. } | Self::Swap { .. } | Self::Controller { .. })
    }
}

impl fmt::Display for UserKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process { pid, command, device } => {
                write!(f, "process {pid} ({command}) has {} open", device.display())
            }
            Self::Mount { source, target, file_system } => {
                write!(f, "{source} ({file_system}) is mounted on {}", target.display())
            }
            Self::Swap { device } => write!(f, "the kernel swaps to {}", device.display()),
            Self::Controller { name, address } => write!(f, "the controller {name} is connected ({address})"),
            Self::Export { what } => write!(f, "this machine serves {what}"),
            Self::Sockets { protocol, count, namespace_of } => {
                write!(f, "{count} sockets of the protocol {protocol} are open")?;
                match namespace_of {
                    Some(process) => write!(f, " in the network namespace of process {process}"),
                    None => Ok(()),
                }
            }
        }
    }
}

/// What could be found of users.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleUsers {
    /// The users, sorted.
    pub users: Vec<ModuleUser>,
    /// Whether the processes of the whole machine were seen, and neither those of one container alone nor only those that this process may
    /// look at.
    pub sees_all_processes: bool,
}

/// Users could not be looked for.
#[derive(Debug, thiserror::Error)]
pub enum ObserveUsersError {
    /// A file could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A folder could not be listed.
    #[error(transparent)]
    List(#[from] ListError),
}

/// Looks for users of modules in `/proc` and `/sys`.
///
/// What goes while it is looked at, and what may not be looked at, is passed over.
pub fn observe_users(host: &Host) -> Result<ModuleUsers, ObserveUsersError> {
    let mut users = BTreeSet::new();
    let namespace =
        |process: &str, kind: &str| host.link_name(format!("/proc/{process}/ns/{kind}")).ok().flatten();
    // Each mount namespace and each network namespace once; this process's own network is looked at below.
    let mut namespaces: BTreeSet<String> = namespace("self", "net").into_iter().collect();
    let processes = host.processes()?;
    for &pid in &processes {
        users.extend(open_devices(host, pid));
        let is_new =
            |kind: &str| namespace(&pid.to_string(), kind).is_some_and(|found| namespaces.insert(found));
        let [mounts, network] = ["mnt", "net"].map(is_new);
        if mounts {
            users.extend(storage::mounts(host, &format!("/proc/{pid}/mountinfo")));
        }
        // The process may have ended.
        if network && let Ok(Some(text)) = host.read_if_exists(format!("/proc/{pid}/net/protocols")) {
            users.extend(sockets(&text, Some(&format!("{pid} ({})", host.command_of(pid)))));
        }
    }
    users.extend(storage::mounts(host, "/proc/self/mountinfo"));
    users.extend(storage::swaps(host)?);
    users.extend(storage::controllers(host)?);
    users.extend(storage::exports(host)?);
    if let Some(text) = host.read_if_exists("/proc/net/protocols")? {
        users.extend(sockets(&text, None));
    }
    let sees_all_processes = host.sees_all(&processes);
    Ok(ModuleUsers { users: users.into_iter().collect(), sees_all_processes })
}

/// The devices of a process that keep modules.
fn open_devices(host: &Host, pid: u32) -> Vec<ModuleUser> {
    let open = host.open_devices(pid).into_iter();
    let devices: BTreeMap<PathBuf, ModuleName> =
        open.filter_map(|open| Some((open.file.clone(), module_of_device(host, &open)?))).collect();
    if devices.is_empty() {
        return Vec::new();
    }
    let command = host.command_of(pid);
    let user = |(device, module): (PathBuf, ModuleName)| ModuleUser {
        kind: UserKind::Process { pid, command: command.clone(), device },
        modules: BTreeSet::from([module]),
    };
    devices.into_iter().map(user).collect()
}

/// The module that serves a device file of the RDMA subsystem, or a NIC's pulses. That of a class of devices stands nowhere in sysfs.
///
/// A container may have the file under any name: by the device's number the kernel tells its own (`/sys/dev/char`).
fn module_of_device(host: &Host, open: &OpenDevice) -> Option<ModuleName> {
    let number = open.number.map(|number| format!("/sys/dev/char/{number}"));
    let by_number = number.and_then(|link| host.link_name(link).ok().flatten());
    let by_path = || {
        let below = |folder| open.file.strip_prefix(folder).ok()?.to_str().map(str::to_owned);
        below("/dev/infiniband").or_else(|| below("/dev").filter(|name| name.starts_with("pps")))
    };
    let name = by_number.or_else(by_path)?;
    if name.starts_with("pps") {
        return module_of_pulses(host, &name);
    }
    let module = match name.trim_end_matches(|c: char| c.is_ascii_digit()) {
        "uverbs" => "ib_uverbs",
        "umad" | "issm" => "ib_umad",
        "rdma_cm" => "rdma_ucm",
        "ucm" => "ib_ucm",
        _ => return None,
    };
    module.parse().ok()
}

/// The module of the driver whose PTP clock gives these pulses: to have them open keeps it (`pps_register_cdev` in `drivers/pps/pps.c`, with
/// the owner and the name that `ptp_clock_register` in `drivers/ptp/ptp_clock.c` gives). `None` for pulses of anything else.
fn module_of_pulses(host: &Host, name: &str) -> Option<ModuleName> {
    let clock = host.attribute(format!("/sys/class/pps/{name}/name")).ok()??;
    let driver = host.path(format!("/sys/class/ptp/{clock}/device/driver"));
    std::fs::canonicalize(driver.join("module")).ok()?.file_name()?.to_str()?.parse().ok()
}

/// Protocols with open sockets, from `/proc/net/protocols` (`proto_seq_printf` in `net/core/sock.c`): name, size, number
/// of sockets, memory, pressure, header, slab, module. It is of one network namespace alone: that of `process`.
fn sockets(text: &str, process: Option<&str>) -> Vec<ModuleUser> {
    let user = |line: &str| {
        let mut fields = line.split_whitespace();
        let (protocol, count) = (fields.next()?, fields.nth(1)?);
        let count: u32 = count.parse().ok().filter(|count| *count > 0)?;
        let module = fields.nth(4).filter(|module| *module != "kernel")?.parse().ok()?;
        let kind = UserKind::Sockets {
            protocol: protocol.to_owned(),
            count,
            namespace_of: process.map(str::to_owned),
        };
        Some(ModuleUser { kind, modules: BTreeSet::from([module]) })
    };
    text.lines().skip(1).filter_map(user).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::*;
    use crate::fixture::file;

    fn link(root: &Path, path: &str, target: &str) {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
    }

    fn told(host: &Host) -> Vec<String> {
        let users = observe_users(host).unwrap().users;
        users
            .iter()
            .map(|user| {
                let modules: Vec<_> = user.modules.iter().map(ModuleName::as_str).collect();
                format!("{}: {}", modules.join(" "), user.kind)
            })
            .collect()
    }

    #[test]
    fn processes_with_devices_open() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        file(root, "proc/42/comm", "ib_write_bw\n");
        link(root, "proc/42/fd/0", "/dev/null");
        link(root, "proc/42/fd/7", "/dev/infiniband/uverbs0");
        link(root, "proc/42/fd/8", "/dev/infiniband/uverbs0");
        link(root, "proc/42/fd/9", "/dev/infiniband/rdma_cm");
        link(root, "proc/42/fd/10", "socket:[123]");
        file(root, "proc/7/comm", "opensm\n");
        link(root, "proc/7/fd/3", "/dev/infiniband/umad12");
        file(root, "proc/9/comm", "bash\n");
        link(root, "proc/9/fd/3", "/dev/infiniband/other");
        // One that has ended meanwhile.
        std::fs::create_dir_all(root.join("proc/11")).unwrap();
        let host = Host::at(root);
        insta::assert_snapshot!(told(&host).join("\n"), @r"
        ib_umad: process 7 (opensm) has /dev/infiniband/umad12 open
        rdma_ucm: process 42 (ib_write_bw) has /dev/infiniband/rdma_cm open
        ib_uverbs: process 42 (ib_write_bw) has /dev/infiniband/uverbs0 open
        ");
        assert!(!observe_users(&host).unwrap().sees_all_processes);
        link(root, "proc/self/ns/pid", "pid:[4026531836]");
        assert!(observe_users(&host).unwrap().sees_all_processes);
        // What is no link cannot be read as one, whoever asks.
        file(root, "proc/7/ns/mnt", "");
        assert!(!observe_users(&host).unwrap().sees_all_processes);
        std::fs::remove_file(root.join("proc/7/comm")).unwrap();
        assert!(observe_users(&host).unwrap().sees_all_processes, "it has ended");
    }

    #[test]
    fn fault_4_a_device_file_is_known_by_its_number_under_any_name() {
        let dir = tempfile::tempdir().unwrap();
        link(
            dir.path(),
            "sys/dev/char/231:192",
            "../../devices/pci0000:00/0000:01:00.0/infiniband_verbs/uverbs0",
        );
        link(dir.path(), "sys/dev/char/1:3", "../../devices/virtual/mem/null");
        let host = Host::at(dir.path());
        let module = |file: &str, number: Option<&str>| {
            let number = number.map(|number| number.parse().unwrap());
            let module = module_of_device(&host, &OpenDevice { pid: 1, file: file.into(), number });
            module.map(|module| module.to_string())
        };
        assert_eq!(module("/rdma/first", Some("231:192")).as_deref(), Some("ib_uverbs"));
        assert_eq!(module("/dev/infiniband/uverbs7", Some("1:3")), None);
        // A kernel that does not tell it, and a tree.
        assert_eq!(module("/dev/infiniband/uverbs7", Some("7:7")).as_deref(), Some("ib_uverbs"));
        assert_eq!(module("/dev/infiniband/umad7", None).as_deref(), Some("ib_umad"));
    }

    #[test]
    fn fault_4_who_has_the_pulses_of_a_nics_clock_keeps_its_driver() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let device = "sys/devices/pci0000:00/0000:01:00.0";
        std::fs::create_dir_all(root.join("sys/module/igb")).unwrap();
        link(root, "sys/bus/pci/drivers/igb/module", "../../../../module/igb");
        link(root, &format!("{device}/driver"), "../../../bus/pci/drivers/igb");
        std::fs::create_dir_all(root.join(device).join("ptp/ptp3")).unwrap();
        link(root, &format!("{device}/ptp/ptp3/device"), "../..");
        link(root, "sys/class/ptp/ptp3", "../../devices/pci0000:00/0000:01:00.0/ptp/ptp3");
        for (pulses, of) in [("pps1", "ptp3\n"), ("pps0", "serial0\n")] {
            file(root, &format!("sys/class/pps/{pulses}/name"), of);
        }
        file(root, "proc/42/comm", "chronyd\n");
        link(root, "proc/42/fd/5", "/dev/pps0");
        link(root, "proc/42/fd/6", "/dev/pps1");
        assert_eq!(told(&Host::at(root)), ["igb: process 42 (chronyd) has /dev/pps1 open"]);
    }

    #[test]
    fn sockets_of_a_modules_protocol() {
        let text = "protocol  size sockets  memory press maxhdr  slab module     cl co di\n\
                    SMC       1024      3      -1   NI       0   no   smc         y  y  y\n\
                    RDS       1024      0      -1   NI       0   no   rds         y  y  y\n\
                    TCP       2344     10       2   no     320   yes  kernel      y  y  y\n";
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        file(root, "proc/net/protocols", text);
        link(root, "proc/self/ns/net", "net:[1]");
        // Two pods, one with two processes; and one on the host's network, which is this process's own.
        for (pid, namespace, sockets) in [(7, 1, "3"), (41, 2, "5"), (42, 2, "5"), (43, 3, "0")] {
            link(root, &format!("proc/{pid}/ns/net"), &format!("net:[{namespace}]"));
            file(root, &format!("proc/{pid}/comm"), "rds-ping\n");
            file(root, &format!("proc/{pid}/net/protocols"), text.replace(" 3 ", &format!(" {sockets} ")));
        }
        insta::assert_snapshot!(told(&Host::at(root)).join("\n"), @r"
        smc: 3 sockets of the protocol SMC are open
        smc: 5 sockets of the protocol SMC are open in the network namespace of process 41 (rds-ping)
        ");
    }

    #[test]
    fn storage_down_to_the_modules_that_carry_it() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        std::fs::create_dir_all(root.join("proc/1")).unwrap();
        // NVMe over RDMA, with a partition; NVMe on PCI; a multipath namespace; a mapped device on the first.
        let fabrics = "devices/virtual/nvme-fabrics/ctl/nvme1";
        file(root, &format!("sys/{fabrics}/transport"), "rdma\n");
        file(root, &format!("sys/{fabrics}/address"), "traddr=10.0.0.1,trsvcid=4420\n");
        file(root, &format!("sys/{fabrics}/nvme1n1/nvme1n1p1/dev"), "259:2\n");
        file(root, "sys/devices/pci0000:00/0000:00:04.0/nvme/nvme0/transport", "pcie\n");
        file(root, "sys/devices/pci0000:00/0000:00:04.0/nvme/nvme0/nvme0n1/dev", "259:0\n");
        link(root, "sys/devices/pci0000:00/0000:00:04.0/driver", "../../../bus/pci/drivers/nvme");
        link(root, "sys/bus/pci/drivers/nvme/module", "../../../../module/nvme");
        std::fs::create_dir_all(root.join("sys/module/nvme")).unwrap();
        let subsystem = "devices/virtual/nvme-subsystem/nvme-subsys1";
        file(root, &format!("sys/{subsystem}/nvme1n9/dev"), "259:9\n");
        link(root, &format!("sys/{subsystem}/nvme1"), "../../nvme-fabrics/ctl/nvme1");
        file(root, "sys/devices/virtual/block/dm-0/dev", "253:0\n");
        link(
            root,
            "sys/devices/virtual/block/dm-0/slaves/nvme1n1p1",
            &format!("../../../../../{fabrics}/nvme1n1/nvme1n1p1"),
        );
        file(root, "sys/devices/virtual/block/loop0/loop/backing_file", "/data/image\n");
        file(root, "sys/devices/platform/host3/scsi_host/host3/proc_name", "iscsi_iser\n");
        file(root, "sys/devices/platform/host3/session1/target3:0:0/3:0:0:1/block/sdb/dev", "8:16\n");
        for (number, path) in [
            ("259:2", format!("{fabrics}/nvme1n1/nvme1n1p1")),
            ("259:0", "devices/pci0000:00/0000:00:04.0/nvme/nvme0/nvme0n1".to_owned()),
            ("259:9", format!("{subsystem}/nvme1n9")),
            ("253:0", "devices/virtual/block/dm-0".to_owned()),
            ("7:0", "devices/virtual/block/loop0".to_owned()),
            ("8:16", "devices/platform/host3/session1/target3:0:0/3:0:0:1/block/sdb".to_owned()),
        ] {
            link(root, &format!("sys/dev/block/{number}"), &format!("../../{path}"));
        }
        link(root, "sys/class/block/nvme1n1p1", &format!("../../{fabrics}/nvme1n1/nvme1n1p1"));
        link(root, "sys/class/nvme/nvme1", &format!("../../{fabrics}"));
        link(root, "sys/class/nvme/nvme0", "../../devices/pci0000:00/0000:00:04.0/nvme/nvme0");
        file(
            root,
            "proc/self/mountinfo",
            "22 1 259:0 / / rw shared:1 - ext4 /dev/nvme0n1 rw\n\
             30 22 253:0 / /data rw - xfs /dev/mapper/data rw\n\
             31 22 7:0 / /image\\040one ro - squashfs /dev/loop0 ro\n\
             32 22 0:55 / /home rw - nfs4 server:/home rw,vers=4.2,proto=rdma,port=20049\n\
             33 22 0:56 / /tcp rw - nfs4 server:/tcp rw,proto=tcp\n\
             34 22 259:9 / /multi rw - ext4 /dev/nvme1n9 rw\n\
             35 22 8:16 / /iser rw - ext4 /dev/sdb rw\n\
             36 22 0:60 / /sub rw - btrfs /dev/nvme1n1p1 rw\n\
             23 22 0:5 / /proc rw - proc proc rw\n",
        );
        file(
            root,
            "proc/swaps",
            "Filename Type Size Used Priority\n/dev/nvme1n1p1 partition 1 0 -2\n/data/swap file 1 0 -3\n",
        );
        file(root, "sys/kernel/config/nvmet/ports/1/addr_trtype", "rdma\n");
        file(root, "sys/kernel/config/nvmet/ports/1/addr_traddr", "10.0.0.2\n");
        file(root, "sys/kernel/config/nvmet/ports/1/subsystems/nqn.lab", "");
        file(root, "sys/kernel/config/nvmet/ports/2/addr_trtype", "tcp\n");
        file(root, "proc/fs/nfsd/portlist", "rdma 20049\ntcp 2049\n");
        insta::assert_snapshot!(told(&Host::at(root)).join("\n"), @r"
        nvme_rdma: /dev/loop0 (squashfs) is mounted on /image one
        nvme_rdma: /dev/mapper/data (xfs) is mounted on /data
        nvme: /dev/nvme0n1 (ext4) is mounted on /
        nvme_rdma: /dev/nvme1n1p1 (btrfs) is mounted on /sub
        nvme_rdma: /dev/nvme1n9 (ext4) is mounted on /multi
        ib_iser: /dev/sdb (ext4) is mounted on /iser
        rpcrdma: server:/home (nfs4) is mounted on /home
        nvme_rdma: the kernel swaps to /data/swap
        nvme_rdma: the kernel swaps to /dev/nvme1n1p1
        nvme_rdma: the controller nvme1 is connected (traddr=10.0.0.1,trsvcid=4420)
        rpcrdma: this machine serves NFS over RDMA
        nvmet_rdma: this machine serves NVMe over RDMA on 10.0.0.2 (nvmet port 1)
        ");
    }
}

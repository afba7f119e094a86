//! What the kernel takes away with the driver, without waiting for anybody: what programs have of the NICs, and what was attached to them.
//! Whoever has made it has to make it again.
//!
//! | what | what the kernel does |
//! |---|---|
//! | a socket of AF_XDP | takes it off the interface, and tells its program ENETDOWN (`xsk_notifier` in `net/xdp/xsk.c`) |
//! | a queueing discipline with its filters, an XDP program | ends it with the netdev (`dev_shutdown` in `net/sched/sch_generic.c`, `dev_xdp_uninstall` in `net/core/dev.c`) |
//! | a PTP clock's file | keeps it, and answers ENODEV from then on (`posix_clock_unregister` in `kernel/time/posix-clock.c`); an open file keeps the module of the PTP core alone, and not the driver's (`ptp_clock_ops` in `drivers/ptp/ptp_clock.c`) |
//!
//! A mapped `resourceN` is not asked for: a mapping keeps neither the device nor a module (`kernfs_fop_mmap` in `fs/kernfs/file.c`), so that
//! nothing of a swap waits for it. Where the kernel is strict about it (CONFIG_IO_STRICT_DEVMEM), a device that has a driver cannot be mapped
//! (`iomem_is_exclusive` in `kernel/resource.c`), and who has mapped it before loses it to the driver (`revoke_iomem` there). To find out, the
//! maps of every process would have to be read, for which the kernel takes a lock that a process that hangs may hold.

use std::collections::BTreeMap;
use std::path::Path;

use nic_host::{DeviceNumber, Host, error_chain};
use nic_netlink::{Attached, IfIndex, XdpSocket};
use nic_sriov::{DeviceAddress, LinkSource, NicState};
use nic_topology::NetworkState;

use crate::context::Context;

/// What is lost so, a line each. What cannot be told is a line, too.
pub(crate) async fn lost_uses(
    context: &Context,
    source: &LinkSource,
    nics: &NicState,
    network: &NetworkState,
) -> Vec<String> {
    let mut lost = Vec::new();
    let goes = |index| network.link(index).filter(|link| link.goes()).map(|link| link.name.to_string());
    if let LinkSource::Kernel(kernel) = source {
        match kernel.netlink.attached().await {
            Ok(attached) => lost.extend(of_attached(&attached, goes)),
            Err(error) => {
                lost.push(format!("what is attached to the NICs cannot be told: {}", error_chain(&error)));
            }
        }
        if has_xdp_sockets(&context.host) {
            match kernel.netlink.xdp_sockets().await {
                Ok(sockets) => lost.extend(of_sockets(&context.host, &sockets, goes)),
                Err(error) => lost.push(format!(
                    "sockets of AF_XDP are open, and whether they are on the NICs cannot be told: {}",
                    error_chain(&error)
                )),
            }
        }
    }
    let devices = nics.pfs.iter().flat_map(|pf| {
        let vfs = pf.vfs.iter().filter_map(|vf| vf.address.map(DeviceAddress::from));
        std::iter::once(pf.address.clone()).chain(vfs)
    });
    lost.extend(of_clocks(&context.host, &devices.collect::<Vec<_>>()));
    lost
}

/// Whether this network namespace has any (`proto_seq_printf` in `net/core/sock.c`: name, size, number of sockets). Without the question,
/// the kernel would load a module for each look.
fn has_xdp_sockets(host: &Host) -> bool {
    let text = host.read_if_exists("/proc/net/protocols").ok().flatten().unwrap_or_default();
    let count = |line: &str| line.split_whitespace().nth(2)?.parse::<u32>().ok();
    text.lines().any(|line| line.starts_with("XDP ") && count(line).is_some_and(|count| count > 0))
}

/// `goes` has the names of the links that go.
fn of_attached(
    attached: &BTreeMap<IfIndex, Vec<Attached>>,
    goes: impl Fn(IfIndex) -> Option<String>,
) -> Vec<String> {
    let on_nics = attached.iter().filter_map(|(index, attached)| Some((goes(*index)?, attached)));
    let lines = on_nics.flat_map(|(netdev, attached)| {
        attached
            .iter()
            .map(move |what| format!("{what} on {netdev} goes with it, and is made again by nobody here"))
    });
    lines.collect()
}

fn of_sockets(host: &Host, sockets: &[XdpSocket], goes: impl Fn(IfIndex) -> Option<String>) -> Vec<String> {
    let on_nics = sockets.iter().filter_map(|socket| Some((socket, goes(socket.interface)?)));
    let on_nics: Vec<_> = on_nics.collect();
    if on_nics.is_empty() {
        return Vec::new();
    }
    let users: BTreeMap<u64, u32> = processes(host)
        .into_iter()
        .flat_map(|pid| host.open_sockets(pid).into_iter().map(move |inode| (inode, pid)))
        .collect();
    let line = |(socket, netdev): (&XdpSocket, String)| {
        let user = users.get(&socket.inode).map_or_else(
            || "a process that is not seen".to_owned(),
            |pid| format!("process {pid} ({})", host.command_of(*pid)),
        );
        format!(
            "{user} has a socket of AF_XDP on queue {} of {netdev}, which is taken off it: it has to open another",
            socket.queue
        )
    };
    on_nics.into_iter().map(line).collect()
}

/// PTP clocks of the devices, the virtual ones among them (`ptp/ptp0/ptp1`, `ptp_vclock_register` in `drivers/ptp/ptp_vclock.c`), which
/// processes that are seen have open.
fn of_clocks(host: &Host, devices: &[DeviceAddress]) -> Vec<String> {
    let mut clocks = Vec::new();
    for device in devices {
        let mut folders = vec![format!("{}/ptp", device.sysfs())];
        while let Some(folder) = folders.pop() {
            let names = host.list_if_exists(&folder).unwrap_or_default();
            for name in names.into_iter().filter(|name| is_clock(name)) {
                let path = format!("{folder}/{name}");
                let number = host.attribute(format!("{path}/dev")).ok().flatten();
                if let Some(number) = number.and_then(|number| number.parse::<DeviceNumber>().ok()) {
                    clocks.push((number, format!("/dev/{name}"), device));
                }
                folders.push(path);
            }
        }
    }
    if clocks.is_empty() {
        return Vec::new();
    }
    let mut lost = Vec::new();
    for pid in processes(host) {
        let open = host.open_devices(pid);
        for (number, file, device) in &clocks {
            if open.iter().any(|open| open.is(*number, Path::new(file))) {
                lost.push(format!(
                    "process {pid} ({}) has {file} open, the clock of {device}, which goes: it has to open the one that comes",
                    host.command_of(pid)
                ));
            }
        }
    }
    lost
}

fn is_clock(name: &str) -> bool {
    name.strip_prefix("ptp").is_some_and(|number| number.parse::<u32>().is_ok())
}

/// The processes that are seen; none where `/proc` cannot be listed, which the look at users of modules has named.
fn processes(host: &Host) -> Vec<u32> {
    host.processes().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn fault_4_who_has_a_clock_of_the_nics_open_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::at(dir.path());
        let file = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let ptp = "sys/bus/pci/devices/0000:01:00.0/ptp/ptp3";
        file(&format!("{ptp}/dev"), "249:3\n");
        file(&format!("{ptp}/ptp12/dev"), "249:12\n");
        file(&format!("{ptp}/power/control"), "auto\n");
        for (pid, name, open) in [(7, "ptp4l", "ptp3"), (8, "phc2sys", "ptp12"), (9, "chronyd", "ptp0")] {
            file(&format!("proc/{pid}/comm"), name);
            fs::create_dir_all(dir.path().join(format!("proc/{pid}/fd"))).unwrap();
            symlink(format!("/dev/{open}"), dir.path().join(format!("proc/{pid}/fd/4"))).unwrap();
        }
        let device = DeviceAddress::new("pci", "0000:01:00.0").unwrap();
        assert_eq!(
            of_clocks(&host, &[device]),
            [
                "process 7 (ptp4l) has /dev/ptp3 open, the clock of 0000:01:00.0, which goes: it has to open the one that comes",
                "process 8 (phc2sys) has /dev/ptp12 open, the clock of 0000:01:00.0, which goes: it has to open the one that comes",
            ]
        );
    }

    #[test]
    fn fault_3_4_what_is_attached_to_netdevs_that_go_is_named() {
        let clsact = Attached::Discipline { kind: "clsact".to_owned(), handle: 0xffff_0000 };
        let attached = BTreeMap::from([
            (IfIndex(3), vec![clsact.clone(), Attached::XdpProgram { id: 42 }]),
            (IfIndex(4), vec![clsact]),
        ]);
        assert_eq!(
            of_attached(&attached, |index| (index == IfIndex(3)).then(|| "enp1s0np0".to_owned())),
            [
                "the queueing discipline clsact ffff: with its filters on enp1s0np0 goes with it, and is made again by nobody here",
                "the XDP program 42 on enp1s0np0 goes with it, and is made again by nobody here",
            ]
        );
    }

    #[test]
    fn fault_4_sockets_of_af_xdp_are_asked_for_where_there_are_some() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::at(dir.path());
        assert!(!has_xdp_sockets(&host));
        fs::create_dir_all(dir.path().join("proc/net")).unwrap();
        for (count, has) in [(0, false), (2, true)] {
            let text = format!(
                "protocol  size sockets  memory press maxhdr  slab module     cl co di\n\
                 XDP       1088      {count}      -1   NI       0   no   kernel      n  n  n\n\
                 TCP       2344     10       2   no     320   yes  kernel      y  y  y\n"
            );
            fs::write(dir.path().join("proc/net/protocols"), text).unwrap();
            assert_eq!(has_xdp_sockets(&host), has);
        }
    }
}

//! Disks of other machines, over NVMe/TCP: one from the far end of the hub through the PF, one from beside it. What is on the first is named before
//! the PF goes, with its mount and its way, and where the machine itself needs it, nothing goes; what is on the second is nobody's concern.
//! A mounted disk that the machine can do without for a moment goes on behind the reload, and has lost nothing.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use lab_guest::wiring::{BYSTANDER_MACS, PEER_MAC, pf_mac};
use nic_driver::Exit;

use crate::command::{ip_batch, run as command};
use crate::drivers::{self, Flow};
use crate::guest::Guest;
use crate::installed;
use crate::netdevs::await_carrier;
use crate::observe::{Nics, netdev_by_mac};
use crate::pinger::FarEnd;
use crate::program::{NicDriver, Outcome};
use crate::{boot, read, report, say, vfs, wait, write};

/// The far end of the PF's hub, and of the other one.
const FAR: Target =
    Target { number: 1, namespace: "peer", address: "192.0.2.9", nqn: "nqn.2026-01.lab:far", disks: 2 };
const BESIDE: Target = Target {
    number: 2,
    namespace: "beside",
    address: "198.51.100.9",
    nqn: "nqn.2026-01.lab:beside",
    disks: 1,
};
const TARGETS: &str = "/sys/kernel/config/nvmet";
/// The first disk of each: a controller's number is that of its connection.
const DATA: &str = "/dev/nvme0n1";
const SWAP: &str = "/dev/nvme0n2";
const BESIDE_DISK: &str = "/dev/nvme1n1";
const PATIENCE: Duration = Duration::from_secs(30);

/// Who serves disks, in a namespace of its own.
struct Target {
    number: u8,
    namespace: &'static str,
    address: &'static str,
    nqn: &'static str,
    disks: u8,
}

/// The PF, and the machine as it is to stay.
struct Node {
    pf: String,
    bystander: String,
    before: Nics,
}

pub(crate) fn run(_guest: &Guest) -> anyhow::Result<()> {
    drivers::pretend_distribution(Flow::Rpm)?;
    vfs::configure_each(2)?;
    installed::install("A")?;
    let node = connect()?;

    say("== a disk through the PF, mounted, and one from beside it");
    for (disk, target) in [(DATA, "/mnt/data"), (BESIDE_DISK, "/mnt/beside")] {
        command("mkfs.minix", [disk])?;
        mount(disk, target)?;
    }
    write("/mnt/data/file", "before")?;
    let way = format!("{} over {}", FAR.address, node.pf);
    named(
        &NicDriver::new(["preflight"]).run()?,
        &format!("{DATA} (nvme_tcp), mounted on /mnt/data, at {way}"),
    )?;

    say("== bound to the PF, whatever the routes say");
    write("/dev/nvme-fabrics", &format!("{},host_iface={}", FAR.connection(), node.pf))?;
    let diverted = format!("{}/32 dev {}", FAR.address, node.bystander);
    ip_batch(&format!("route add {diverted}\n"))?;
    named(
        &NicDriver::new(["preflight"]).run()?,
        &format!("{DATA} (nvme_tcp), mounted on /mnt/data, at {way}"),
    )?;
    ip_batch(&format!("route del {diverted}\n"))?;
    write("/sys/class/nvme/nvme2/delete_controller", "1")?;

    say("== the machine needs the disk: it swaps to it, or has its containers there");
    command("mkswap", [SWAP])?;
    command("swapon", [SWAP])?;
    blocked(&node, &format!("{SWAP} (nvme_tcp), to which the kernel swaps, at {way}"))?;
    command("swapoff", [SWAP])?;
    mount(DATA, "/var/lib/containerd")?;
    blocked(&node, &format!("{DATA} (nvme_tcp), which holds /var/lib/containerd, at {way}"))?;
    command("umount", ["/var/lib/containerd"])?;

    say("== a reload with the disk mounted");
    let reloaded = NicDriver::new(["reload"]).run()?.expect(Exit::Success)?;
    named(&reloaded, "mounted on /mnt/data")?;
    NicDriver::new(["restore-sriov"]).quietly().run()?.expect(Exit::Success)?;
    drivers::expect_loaded(&drivers::version("A")?)?;
    node.before.expect_unchanged()?;
    carries_on()?;

    say("== without the disk nothing is said");
    command("umount", ["/mnt/data"])?;
    write("/sys/class/nvme/nvme0/delete_controller", "1")?;
    let silent = NicDriver::new(["preflight", "--force"]).run()?.expect(Exit::Success)?;
    ensure!(!silent.says_any(&["storage on another machine"]), "a disk is named that is not connected");
    report(
        "a disk over NVMe/TCP through a PF: named with its mount and its way; blocks where the machine swaps to it or runs from it",
    );
    Ok(())
}

impl Target {
    /// Serves its disks: loop devices, from its namespace.
    fn serve(&self) -> anyhow::Result<()> {
        let (subsystem, port) =
            (format!("{TARGETS}/subsystems/{}", self.nqn), format!("{TARGETS}/ports/{}", self.number));
        let create = |folder: &str| fs::create_dir(folder).with_context(|| format!("cannot create {folder}"));
        create(&subsystem)?;
        write(format!("{subsystem}/attr_allow_any_host"), "1")?;
        for disk in 1..=self.disks {
            let file = format!("/tmp/disk-{}-{disk}", self.namespace);
            command("truncate", ["--size", "16M", &file])?;
            let device = command("losetup", ["--find", "--show", &file])?;
            let namespace = format!("{subsystem}/namespaces/{disk}");
            create(&namespace)?;
            write(format!("{namespace}/device_path"), device.trim())?;
            write(format!("{namespace}/enable"), "1")?;
        }
        create(&port)?;
        for (attribute, value) in [
            ("addr_trtype", "tcp"),
            ("addr_adrfam", "ipv4"),
            ("addr_traddr", self.address),
            ("addr_trsvcid", "4420"),
        ] {
            write(format!("{port}/{attribute}"), value)?;
        }
        // The socket is of the network namespace of whoever enables the port (`nvmet_tcp_add_port` in drivers/nvme/target/tcp.c).
        let network = format!("--net=/run/netns/{}", self.namespace);
        let link = format!("{port}/subsystems/{}", self.nqn);
        command("nsenter", [network.as_str(), "ln", "-s", &subsystem, &link]).map(drop)
    }

    /// What is written to connect to it.
    fn connection(&self) -> String {
        format!("transport=tcp,traddr={},trsvcid=4420,nqn={},reconnect_delay=1", self.address, self.nqn)
    }
}

/// The PF and a NIC beside it with an address each, and the disks from their far ends.
fn connect() -> anyhow::Result<Node> {
    let [near, far] = BYSTANDER_MACS;
    let (pf, bystander) = (netdev_by_mac(&pf_mac(1))?, netdev_by_mac(near)?);
    for (target, mac) in [(&FAR, PEER_MAC), (&BESIDE, far)] {
        let netdev = netdev_by_mac(mac)?;
        FarEnd::new(target.namespace, &netdev)?;
        let address = format!("{}/24", target.address);
        command("ip", ["-n", target.namespace, "address", "add", &address, "dev", &netdev])?;
    }
    ip_batch(&format!(
        "link set dev {pf} up\naddress add 192.0.2.1/24 dev {pf}\n\
         link set dev {bystander} up\naddress add 198.51.100.1/24 dev {bystander}\n"
    ))?;
    await_carrier(&pf)?;
    await_carrier(&bystander)?;
    boot::settle_udev()?;
    let before = Nics::observe()?;

    command("modprobe", ["-a", "loop", "minix", "nvmet_tcp", "nvme_tcp"])?;
    if !Path::new(TARGETS).exists() {
        command("mount", ["-t", "configfs", "none", "/sys/kernel/config"])?;
    }
    for (target, disks) in [(&FAR, &[DATA, SWAP][..]), (&BESIDE, &[BESIDE_DISK])] {
        target.serve()?;
        // A link that has just come up may lose the first packets, and the kernel gives up the first connection.
        wait::until("a connection to the target", PATIENCE, || {
            Ok(write("/dev/nvme-fabrics", &target.connection()).ok())
        })?;
        for disk in disks {
            wait::until(disk, PATIENCE, || Ok(Path::new(disk).exists().then_some(())))?;
        }
    }
    Ok(Node { pf, bystander, before })
}

fn mount(disk: &str, target: &str) -> anyhow::Result<()> {
    fs::create_dir_all(target).with_context(|| format!("cannot create {target}"))?;
    command("mount", ["-t", "minix", disk, target]).map(drop)
}

/// It says this of the disk behind the PF, and nothing of the one beside it.
fn named(outcome: &Outcome, words: &str) -> anyhow::Result<()> {
    outcome.expect_words(&[words])?;
    ensure!(!outcome.says_any(&["/mnt/beside", BESIDE.address]), "a disk is named that is not behind the PF");
    Ok(())
}

/// Preflight and reload are blocked, say this, and change nothing.
fn blocked(node: &Node, words: &str) -> anyhow::Result<()> {
    let (indices, driver) = (Nics::interface_indices()?, drivers::loaded("igb")?);
    for phase in ["preflight", "reload"] {
        let outcome = NicDriver::new([phase]).run()?.expect(Exit::Blocked)?;
        named(&outcome, words)?;
        outcome.expect_words(&["--assume-ok remote-storage"])?;
    }
    ensure!(Nics::interface_indices()? == indices, "the blocked reload took netdevs away");
    ensure!(drivers::loaded("igb")? == driver, "the blocked reload has changed the driver");
    node.before.expect_unchanged()
}

/// The disk answers again, and has what was written before.
fn carries_on() -> anyhow::Result<()> {
    write("/proc/sys/vm/drop_caches", "3")?;
    let found = read("/mnt/data/file")?;
    ensure!(found == "before", "the disk has {found:?} in its file");
    write("/mnt/data/file", "after")?;
    command("sync", ["/mnt/data/file"]).map(drop)
}

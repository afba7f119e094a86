//! QEMU: getting it, and the command line of a guest.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use lab_guest::scenario::{Topology, Wires};
use lab_guest::wiring::{BYSTANDER_HUB, BYSTANDER_MACS, DATA_HUB, PEER_MAC, SHARE_TAG, pf_mac};

use super::apt::{Apt, BACKPORTS};
use super::cache::Cache;
use super::unpack;

/// An unpacked QEMU.
#[derive(Debug, Clone)]
pub(crate) struct Qemu {
    root: PathBuf,
}

/// How a guest's instructions are executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Accelerator {
    /// By the processor.
    Kvm,
    /// By software.
    Tcg,
}

/// A guest, as QEMU is told about it.
#[derive(Debug)]
pub(crate) struct Machine<'a> {
    pub(crate) accelerator: Accelerator,
    pub(crate) topology: Topology,
    pub(crate) kernel: &'a Path,
    pub(crate) initramfs: &'a Path,
    pub(crate) share: &'a Path,
    /// A disk image that is to be there, for reading.
    pub(crate) drive: Option<&'a Path>,
    pub(crate) command_line: String,
    /// Whether the console is the terminal, for a person, or a pipe.
    pub(crate) interactive: bool,
}

impl Qemu {
    /// Downloads and unpacks QEMU: the emulated igb came with QEMU 8.
    pub(crate) fn unpack(apt: &Apt, cache: &Cache) -> anyhow::Result<Self> {
        let cached = cache.folder("qemu", &[include_str!("qemu.rs")], |folder| {
            let packages = apt.closure(&["qemu-system-x86"], Some(BACKPORTS))?;
            let downloads = folder.join("packages");
            fs::create_dir(&downloads).context("cannot create a folder for downloads")?;
            apt.download(&packages, &downloads)?;
            unpack::into_root(
                &unpack::packages_in(&downloads)?,
                &folder.join("root"),
                &["./usr/share/doc/*", "./usr/share/man/*", "./usr/share/locale/*"],
            )?;
            fs::remove_dir_all(&downloads).context("cannot remove the downloads")
        })?;
        Ok(Self { root: cached.path().join("root") })
    }

    /// The program with its own libraries and firmware. It is started through its own dynamic loader, so that nothing of it
    /// need be installed.
    fn program(&self) -> Command {
        let libraries = self.root.join("usr/lib/x86_64-linux-gnu");
        let mut command = Command::new(libraries.join("ld-linux-x86-64.so.2"));
        command.arg("--library-path").arg(&libraries);
        command.arg(self.root.join("usr/bin/qemu-system-x86_64"));
        for firmware in ["usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu"] {
            command.arg("-L").arg(self.root.join(firmware));
        }
        command.env("QEMU_MODULE_DIR", libraries.join("qemu"));
        command
    }

    /// The command that runs `machine`.
    pub(crate) fn command(&self, machine: &Machine<'_>) -> Command {
        let mut command = self.program();
        match machine.accelerator {
            Accelerator::Kvm => command.args(["-accel", "kvm", "-cpu", "host"]),
            // A newer processor would cost: its vector instructions are emulated too.
            Accelerator::Tcg => command.args(["-accel", "tcg,thread=single", "-cpu", "Nehalem"]),
        };
        command.args(["-M", "q35", "-smp", "2", "-m", &machine.topology.memory_mib.to_string()]);
        command.args(["-nodefaults", "-nographic", "-no-reboot"]);
        command.args(["-serial", if machine.interactive { "mon:stdio" } else { "stdio" }]);
        command.arg("-kernel").arg(machine.kernel).arg("-initrd").arg(machine.initramfs);
        command.args(["-append", &machine.command_line]);
        let share = machine.share.display();
        command.args(["-virtfs", &format!("local,path={share},mount_tag={SHARE_TAG},security_model=none")]);
        if let Some(drive) = machine.drive {
            let file = drive.display();
            command.args(["-drive", &format!("file={file},format=raw,if=virtio,readonly=on")]);
        }
        if machine.topology.iommu {
            command.args(["-device", "intel-iommu"]);
        }
        command.args(devices(machine.topology));
        command
    }
}

/// The NICs, each behind a root port of its own, and the hubs between them.
fn devices(topology: Topology) -> Vec<String> {
    let mut nics: Vec<(&str, u8, String)> =
        (1..=topology.igb_pfs).map(|number| ("igb", DATA_HUB, pf_mac(number))).collect();
    if topology.wires == Wires::PeerAndBystanders {
        nics.push(("e1000e", DATA_HUB, PEER_MAC.to_owned()));
        nics.extend(BYSTANDER_MACS.map(|mac| ("e1000e", BYSTANDER_HUB, mac.to_owned())));
    }
    nics.iter()
        .zip(1_u32..)
        .flat_map(|((model, hub, mac), n)| {
            [
                "-netdev".to_owned(),
                format!("hubport,id=u{n},hubid={hub}"),
                "-device".to_owned(),
                format!("pcie-root-port,id=rp{n},slot={n},chassis={n}"),
                "-device".to_owned(),
                // Without boot firmware of its own: a guest never boots from the network.
                format!("{model},bus=rp{n},id=n{n},netdev=u{n},mac={mac},romfile="),
            ]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use lab_guest::scenario::Security;

    use super::*;

    #[test]
    fn each_nic_has_its_root_port_hub_and_address() {
        let topology = Topology {
            igb_pfs: 1,
            wires: Wires::PeerAndBystanders,
            iommu: false,
            security: Security::AsShipped,
            memory_mib: 1024,
        };
        let arguments = devices(topology);
        assert_eq!(
            arguments.chunks(6).map(|nic| (nic[1].as_str(), nic[5].as_str())).collect::<Vec<_>>(),
            [
                ("hubport,id=u1,hubid=1", "igb,bus=rp1,id=n1,netdev=u1,mac=52:54:00:00:01:00,romfile="),
                ("hubport,id=u2,hubid=1", "e1000e,bus=rp2,id=n2,netdev=u2,mac=52:54:00:00:f0:01,romfile="),
                ("hubport,id=u3,hubid=2", "e1000e,bus=rp3,id=n3,netdev=u3,mac=52:54:00:00:f1:01,romfile="),
                ("hubport,id=u4,hubid=2", "e1000e,bus=rp4,id=n4,netdev=u4,mac=52:54:00:00:f1:02,romfile="),
            ]
        );
    }
}

//! Every VF has something else that can be lost. The driver is swapped, once by hand and once by the program, and all of it
//! comes back, or is stated to be what cannot come back.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use lab_guest::wiring::VFS_PER_PF;
use nic_driver::Exit;

use crate::command::{ip_batch, run as command};
use crate::drivers::{self, Flow};
use crate::guest::Guest;
use crate::netdevs::swap_names;
use crate::observe::{Nics, igb_pfs, netdev_of, pci_device, vfs_of};
use crate::planned::Planned;
use crate::program::{NicDriver, snapshot_of};
use crate::restored::{Restored, ToldDifference};
use crate::vfs::{self, VF_DRIVER, concurrently};
use crate::{boot, journal, report, say, wait, write};

/// A function: a PF, or one of its VFs. PFs are counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Function {
    Pf(usize),
    Vf(usize, u32),
}

use Function::{Pf, Vf};

/// These two have the names that udev would give to each other.
const SWAPPED: [Function; 2] = [Vf(1, 0), Vf(1, 1)];
/// Its admin MAC was set while it ran, so that its own is another.
const TWO_MACS: Function = Vf(1, 3);
const OTHER_MAC: &str = "02:1a:b0:ff:ff:03";
const ON_VFIO: Function = Vf(1, 4);
const UNBOUND: Function = Vf(1, 5);
const IN_NAMESPACE: Function = Vf(1, 6);
const NAMESPACE: &str = "pod";
/// Taken to the namespace when all is done.
const TAKEN: Function = Vf(0, 0);
/// Nobody ever set its MAC.
const UNTOUCHED_MAC: Function = Vf(0, 6);
/// The MAC that [`Vf`] (0, 5) gave itself.
const OWN_MAC: Function = Vf(0, 5);

/// What PFs hold for VFs that have not been probed yet.
const ADMIN: &[(Function, &str)] = &[
    (Vf(0, 1), "vlan 100 qos 3"),
    (Vf(0, 2), "spoofchk off"),
    (Vf(0, 3), "trust on"),
    (Vf(0, 3), "vlan 7"),
    (Vf(0, 5), "vlan 200 qos 5"),
    (Vf(1, 2), "spoofchk off"),
    (Vf(1, 2), "trust on"),
    (Vf(1, 4), "vlan 4"),
    (Vf(1, 5), "vlan 5 qos 1"),
    (Vf(1, 6), "trust on"),
];

/// For these the PF's link must be up (igb_main.c, `igb_ndo_set_vf_bw`).
const RATES: &[(Function, &str)] =
    &[(Vf(0, 0), "max_tx_rate 200"), (Vf(0, 4), "max_tx_rate 300"), (Vf(1, 5), "max_tx_rate 150")];

/// Own properties of netdevs that are down. `{}` is the netdev's name, which is given anew before each line.
const OWN: &[(Function, &str)] = &[
    (Pf(0), "link set dev {} mtu 4000 txqueuelen 700"),
    (Pf(0), "link set dev {} alias \"uplink of rack 4\""),
    (Pf(1), "link property add dev {} altname storage-uplink"),
    (Pf(1), "link set dev {} group 9"),
    (Pf(2), "link set dev {} mtu 9000"),
    (Pf(2), "link set dev {} address 02:1a:b0:00:02:00"),
    (Pf(2), "link property add dev {} altname backup-of-rack-4-with-a-long-name"),
    (Pf(2), "link set dev {} name backup0"),
    (Vf(0, 0), "link set dev {} mtu 1400"),
    (Vf(0, 1), "link set dev {} master red"),
    (Vf(0, 2), "link set dev {} mtu 3000"),
    (Vf(0, 2), "link set dev {} allmulticast on"),
    (Vf(0, 3), "link set dev {} promisc on"),
    (Vf(0, 4), "link set dev {} name eth7"),
    (Vf(0, 5), "link set dev {} address 02:1a:b0:00:00:06"),
    (Vf(0, 5), "link set dev {} mtu 1300"),
    (Vf(0, 6), "link set dev {} group 7"),
    (Vf(1, 2), "link set dev {} mtu 2000 txqueuelen 500"),
    (Vf(1, 2), "link set dev {} alias \"tenant A\""),
    (Vf(1, 2), "link property add dev {} altname tenant-a-data"),
    (Vf(1, 2), "link property add dev {} altname a-data"),
    (Vf(1, 2), "link set dev {} name tenant-a0"),
];

const DOWN: &[Function] = &[Vf(0, 5), Pf(2)];

pub(crate) fn run(guest: &Guest) -> anyhow::Result<()> {
    drivers::pretend_distribution(Flow::Rpm)?;
    let pfs = igb_pfs()?;
    ensure!(pfs.len() == 3, "this scenario is for 3 PFs");
    for line in ["link add red type vrf table 100", "link set red up", "netns add pod"] {
        command("ip", line.split(' '))?;
    }
    // First: a PF that gets another MTU while it is up resets its VFs.
    set_up_netdevs(&pfs, |function| matches!(function, Pf(_)))?;
    create(&pfs)?;
    configure(&pfs)?;
    let before = Nics::observe()?;
    ensure_nothing_is_default(&pfs, &before)?;
    say(&format!("{} VFs are configured, each in its own way", before.vf_count()));

    say("== the driver is swapped by hand");
    NicDriver::new(["snapshot"]).run()?.expect(Exit::Success)?;
    guest.keep(&snapshot_of("igb"))?;
    vfs::swap_driver_by_hand()?;
    restore_and_compare(&pfs, &before)?;

    say("== the driver is swapped by the program");
    give_to_namespace(&pfs)?;
    let folder = drivers::folder("A", Flow::Rpm);
    NicDriver::install(&folder).run()?.expect(Exit::Success)?;
    let planned = Planned::ask(|arguments| NicDriver::new(arguments.iter().copied()))?;
    NicDriver::new(["reload"]).run()?.expect(Exit::Success)?;
    planned.expect_done()?;
    let result = restore_and_compare(&pfs, &before);
    for file in [snapshot_of("igb"), journal::path()] {
        guest.keep(&file)?;
    }
    result?;
    drivers::expect_loaded(&drivers::version("A")?)?;
    leave_to_its_user(&pfs)?;
    report("two swaps: everything came back that can, and what cannot was stated");
    Ok(())
}

/// A container has taken a VF since, and its network plugin has given it a VLAN: a restore does not take it away again.
fn leave_to_its_user(pfs: &[String]) -> anyhow::Result<()> {
    say("== a VF is taken to another namespace");
    NicDriver::new(["snapshot"]).run()?.expect(Exit::Success)?;
    let (vf, netdev) = (address(pfs, TAKEN)?, name(pfs, TAKEN)?);
    command("ip", ["link", "set", "dev", &netdev, "netns", NAMESPACE])?;
    let Vf(pf, index) = TAKEN else { bail!("{TAKEN:?} is no VF") };
    let index = index.to_string();
    command("ip", ["link", "set", "dev", &name(pfs, Pf(pf))?, "vf", &index, "vlan", "77"])?;
    boot::settle_udev()?;
    let before = Nics::observe()?;
    let (told, _) = Restored::run("igb", &[], Exit::Success)?;
    let differences = before.differences(&Nics::observe()?);
    ensure!(differences.is_empty(), "the VF was not left alone: {differences}");
    command("ip", ["-netns", NAMESPACE, "link", "show", "dev", &netdev])?;
    for attribute in ["netdev", "admin.vlan"] {
        let stated = |told: &ToldDifference| {
            told.address() == vf && told.attribute == attribute && told.gravity == "stated"
        };
        ensure!(told.differences().iter().any(stated), "the {attribute} of {vf} is not stated; {told}");
    }
    Ok(())
}

fn restore_and_compare(pfs: &[String], before: &Nics) -> anyhow::Result<()> {
    let (told, _) = Restored::run("igb", &[], Exit::Success)?;
    let now = Nics::observe()?;
    // The kernel brings a netdev back into the namespace that it is told nothing about.
    let away = address(pfs, IN_NAMESPACE)?;
    let own_side = |attribute: &str| !attribute.starts_with("admin") && !attribute.starts_with("driver");
    let mut hidden = vec![(away.clone(), "netdev".to_owned())];
    let mut expected = before.clone().without(&away, own_side);
    let mut found = now.without(&away, own_side);
    // igb has no admin MAC apart from the one a VF gave itself last (igb_main.c, `igb_set_vf_mac_addr`): a VF whose MAC was
    // the driver's choice is given it back as its own, and the PF says so.
    let untouched = address(pfs, UNTOUCHED_MAC)?;
    if found.attribute(&untouched, "admin.address") == found.attribute(&untouched, "mac") {
        expected = expected.without(&untouched, |attribute| attribute == "admin.address");
        found = found.without(&untouched, |attribute| attribute == "admin.address");
        hidden.push((untouched, "admin.mac".to_owned()));
    }
    let differences = expected.differences(&found);
    ensure!(differences.is_empty(), "after the restore: {differences}; {told}");
    ensure!(
        told.differences().iter().any(|told| told.address() == away && told.gravity == "stated"),
        "that {away} is no longer in its namespace is not stated; {told}"
    );
    for difference in told.differences() {
        let known = (difference.address(), difference.attribute.clone());
        ensure!(hidden.contains(&known) && difference.gravity == "stated", "{told}");
    }
    told.expect_failed(&[])?;

    let plan = NicDriver::new(["plan", "restore-sriov", "--from-record"]).run()?.expect(Exit::Success)?;
    ensure!(
        plan.stdout.contains("nothing to do"),
        "the plan of a restored machine is not empty: {}",
        plan.stdout
    );
    Ok(())
}

/// The PCI address.
fn address(pfs: &[String], function: Function) -> anyhow::Result<String> {
    let (pf, vf) = match function {
        Pf(pf) => (pf, None),
        Vf(pf, vf) => (pf, Some(vf)),
    };
    let pf = pfs.get(pf).with_context(|| format!("there is no PF {pf}"))?;
    let Some(vf) = vf else { return Ok(pf.clone()) };
    let found = vfs_of(pf)?.into_iter().find(|(index, _)| *index == vf);
    found.map(|(_, address)| address).with_context(|| format!("{pf} has no VF {vf}"))
}

fn name(pfs: &[String], function: Function) -> anyhow::Result<String> {
    netdev_of(&address(pfs, function)?)
}

/// VFs under the first two PFs, with admin MACs that they take when they probe.
fn create(pfs: &[String]) -> anyhow::Result<()> {
    command("modprobe", ["-a", VF_DRIVER, "vfio-pci"])?;
    let with_vfs = pfs.get(..2).context("too few PFs")?;
    concurrently(with_vfs, |pf| {
        command("ip", ["link", "set", "dev", &netdev_of(pf)?, "up"])?;
        write(pci_device(pf).join("sriov_drivers_autoprobe"), "0")?;
        write(pci_device(pf).join("sriov_numvfs"), &VFS_PER_PF.to_string())
    })?;
    let mut batch = String::new();
    for (index, pf) in (0..).zip(with_vfs) {
        let netdev = netdev_of(pf)?;
        for vf in 0..VFS_PER_PF {
            if ![OWN_MAC, UNTOUCHED_MAC].contains(&Vf(index, vf)) {
                batch.push_str(&format!("link set dev {netdev} vf {vf} mac {}\n", vfs::vf_mac(index, vf)));
            }
        }
    }
    batch.push_str(&admin_lines(pfs, ADMIN)?);
    ip_batch(&batch)?;
    let mut bound = Vec::new();
    for (index, pf) in (0..).zip(with_vfs) {
        write(pci_device(pf).join("sriov_drivers_autoprobe"), "1")?;
        let vfs = vfs_of(pf)?.into_iter();
        bound.extend(
            vfs.filter(|(vf, _)| ![UNBOUND, ON_VFIO].contains(&Vf(index, *vf))).map(|(_, address)| address),
        );
    }
    let on_vfio = address(pfs, ON_VFIO)?;
    write(pci_device(&on_vfio).join("driver_override"), "vfio-pci")?;
    vfs::bind(&on_vfio, "vfio-pci")?;
    concurrently(&bound, |vf| vfs::bind(vf, VF_DRIVER))?;
    boot::settle_udev()
}

fn admin_lines(pfs: &[String], attributes: &[(Function, &str)]) -> anyhow::Result<String> {
    let mut batch = String::new();
    for (function, attribute) in attributes {
        let Vf(pf, vf) = *function else { continue };
        batch.push_str(&format!("link set dev {} vf {vf} {attribute}\n", name(pfs, Pf(pf))?));
    }
    Ok(batch)
}

/// Gives netdevs that are down their own properties.
fn set_up_netdevs(pfs: &[String], which: impl Fn(Function) -> bool) -> anyhow::Result<()> {
    let mut batch = String::new();
    let mut renamed: Vec<(Function, &str)> = Vec::new();
    for (function, line) in OWN.iter().filter(|(function, _)| which(*function)) {
        let netdev = match renamed.iter().find(|(renamed, _)| renamed == function) {
            Some((_, name)) => (*name).to_owned(),
            None => name(pfs, *function)?,
        };
        batch.push_str(&line.replace("{}", &netdev));
        batch.push('\n');
        if let Some((_, name)) = line.split_once(" name ") {
            renamed.push((*function, name));
        }
    }
    ip_batch(&batch)
}

fn configure(pfs: &[String]) -> anyhow::Result<()> {
    set_up_netdevs(pfs, |function| matches!(function, Vf(..)))?;
    let [first, second] = SWAPPED;
    swap_names(&name(pfs, first)?, &name(pfs, second)?)?;
    give_to_namespace(pfs)?;

    let all_vfs = (0..2).flat_map(|pf| (0..VFS_PER_PF).map(move |vf| Vf(pf, vf)));
    let without_netdev = [ON_VFIO, UNBOUND, IN_NAMESPACE];
    let mut batch = String::new();
    for function in all_vfs.filter(|vf| !DOWN.contains(vf) && !without_netdev.contains(vf)) {
        batch.push_str(&format!("link set dev {} up\n", name(pfs, function)?));
    }
    ip_batch(&batch)?;
    for pf in 0..2 {
        let carrier = format!("/sys/class/net/{}/carrier", name(pfs, Pf(pf))?);
        let up = || Ok((crate::read(&carrier)? == "1").then_some(()));
        wait::until(&format!("the link of PF {pf}"), Duration::from_secs(20), up)?;
    }
    ip_batch(&admin_lines(pfs, RATES)?)?;
    boot::settle_udev()?;
    // Last: whatever makes this VF's driver reset it makes it take the admin MAC.
    let Vf(pf, vf) = TWO_MACS else { return Ok(()) };
    ip_batch(&format!("link set dev {} vf {vf} mac {OTHER_MAC}\n", name(pfs, Pf(pf))?))
}

fn give_to_namespace(pfs: &[String]) -> anyhow::Result<()> {
    command("ip", ["link", "set", "dev", &name(pfs, IN_NAMESPACE)?, "netns", NAMESPACE]).map(drop)
}

/// The configuration is there as meant; otherwise its return would show nothing.
fn ensure_nothing_is_default(pfs: &[String], seen: &Nics) -> anyhow::Result<()> {
    for (function, attribute, value) in [
        (Pf(0), "mtu", "4000"),
        (Pf(2), "name", "backup0"),
        (Pf(2), "sriov_numvfs", "0"),
        (Pf(2), "mtu", "9000"),
        (Pf(2), "up", "false"),
        (Vf(0, 0), "admin.rate.max_tx", "200"),
        (Vf(0, 1), "admin.vlan_list.0.qos", "3"),
        (Vf(0, 1), "master", "red"),
        (Vf(0, 2), "admin.spoofchk", "false"),
        (Vf(0, 2), "all_multicast", "true"),
        (Vf(0, 3), "admin.trust", "true"),
        (Vf(0, 3), "promiscuous", "true"),
        (Vf(0, 4), "name", "eth7"),
        (Vf(0, 5), "up", "false"),
        (Vf(0, 6), "group", "7"),
        (Vf(1, 2), "altnames", "a-data enp2s0v2 tenant-a-data"),
        (Vf(1, 3), "admin.address", OTHER_MAC),
        (Vf(1, 3), "mac", "02:1a:b0:00:01:04"),
        (ON_VFIO, "driver", "vfio-pci"),
        (ON_VFIO, "driver_override", "vfio-pci"),
        (UNBOUND, "driver", "none"),
        (IN_NAMESPACE, "driver", VF_DRIVER),
        (IN_NAMESPACE, "name", "no netdev"),
    ] {
        let address = address(pfs, function)?;
        let found = seen.attribute(&address, attribute).unwrap_or("not there");
        ensure!(found == value, "{function:?} ({address}): {attribute} is {found}, not {value}");
    }
    let [first, second] = SWAPPED.map(|function| name(pfs, function));
    ensure!(first?.ends_with("v1") && second?.ends_with("v0"), "the names are not swapped");
    Ok(())
}

//! A NIC with an eswitch, 50 VFs, and no VF netdevs: every attribute a PF can hold, then representors with names of the
//! user's own, through the removal of the device and back.

use anyhow::{Context as _, ensure};
use nic_driver::Exit;

use crate::command::ip_batch;
use crate::guest::Guest;
use crate::netdevs::swap_names;
use crate::observe::Nics;
use crate::program::{NicDriver, snapshot_of};
use crate::restored::{ByHand, Restored};
use crate::{boot, journal, netdevsim, report, say};

const VFS: u32 = 50;
const PORTS: u32 = 2;
const ALTNAME: &str = "representor-of-tenant-2";
const FAMILY: &str = "netdevsim";

pub(crate) fn run(guest: &Guest) -> anyhow::Result<()> {
    netdevsim::load()?;
    netdevsim::create(PORTS, VFS)?;
    let result = legacy().and_then(|()| switchdev());
    for file in [snapshot_of(FAMILY), journal::path()] {
        guest.keep(&file)?;
    }
    result
}

/// In legacy mode the PF holds everything about its VFs.
fn legacy() -> anyhow::Result<()> {
    say("== legacy mode");
    netdevsim::set_vfs(VFS)?;
    let uplink = uplink()?;
    let mut batch = format!("link set dev {uplink} mtu 2000\nlink set dev {uplink} up\n");
    for vf in 0..VFS {
        batch.push_str(&admin_lines(&uplink, vf));
    }
    ip_batch(&batch)?;
    boot::settle_udev()?;
    let before = netdevsim::observe()?;
    ensure_configured(&before)?;
    snapshot()?;
    anew()?;
    restore_and_compare(&before, "legacy mode, device made anew")
}

/// In switchdev mode each VF has a representor, whose netdev a user may have configured.
fn switchdev() -> anyhow::Result<()> {
    say("== switchdev mode");
    netdevsim::set_mode("switchdev")?;
    let mut batch = String::new();
    let netdevs = netdevsim::netdevs()?;
    let name = |vf: u32| netdevs.get(&format!("pf0vf{vf}")).map(String::as_str);
    for vf in 0..VFS {
        let name = name(vf).with_context(|| format!("VF {vf} has no representor"))?;
        batch.push_str(&representor_lines(name, vf));
    }
    // Each has the name that udev gives to the other.
    let (Some(first), Some(second)) = (name(0), name(1)) else { return Ok(()) };
    ip_batch(&batch)?;
    swap_names(first, second)?;
    for name in [first, second] {
        ip_batch(&format!("link set dev {name} mtu 1600\nlink set dev {name} up\n"))?;
    }
    boot::settle_udev()?;
    let before = netdevsim::observe()?;
    let see = |port, attribute| before.attribute(port, attribute).unwrap_or("not there");
    for (port, attribute, value) in [
        ("device", "sriov_numvfs", "50"),
        ("pf0vf0", "name", second),
        ("pf0vf1", "name", first),
        ("pf0vf2", "name", "tenant2"),
        ("pf0vf3", "mac", "02:1a:b0:02:00:03"),
        ("pf0vf49", "name", "tenant49"),
        ("pf0vf49", "up", "true"),
        ("p1", "vf 49.vlan_list.0.vlan", "149"),
    ] {
        ensure!(see(port, attribute) == value, "{port} {attribute} is {}, not {value}", see(port, attribute));
    }
    let altnames = see("pf0vf2", "altnames");
    ensure!(altnames.split(' ').any(|name| name == ALTNAME), "pf0vf2 has the altnames {altnames}");
    snapshot()?;

    let by_hand = ByHand::keep(FAMILY)?;
    netdevsim::set_mode("legacy")?;
    netdevsim::set_vfs(0)?;
    boot::settle_udev()?;
    restore_and_compare(&before, "switchdev mode, through legacy mode without VFs")?;
    by_hand.owe_again()?;
    anew()?;
    restore_and_compare(&before, "switchdev mode, device made anew")?;
    by_hand.owe_again()?;
    netdevsim::set_mode("legacy")?;
    restore_and_compare(&before, "switchdev mode, through legacy mode with VFs")?;
    // Drivers take a VLAN in legacy mode only, although netdevsim takes it in both.
    let uplink = uplink()?;
    ip_batch(&format!("link set dev {uplink} vf 7 vlan 1\n"))?;
    ensure!(
        before.differences(&netdevsim::observe()?).to_string().contains("vlan"),
        "the VLAN did not change"
    );
    by_hand.owe_again()?;
    restore_and_compare(&before, "switchdev mode, one VLAN changed in it")
}

/// All that a driver reload takes: the device comes back without VFs, in legacy mode. What its firmware offers stays.
fn anew() -> anyhow::Result<()> {
    netdevsim::destroy()?;
    netdevsim::create(PORTS, VFS)
}

fn snapshot() -> anyhow::Result<()> {
    NicDriver::bare(["--family", FAMILY, "snapshot"]).run()?.expect(Exit::Success).map(drop)
}

fn restore_and_compare(before: &Nics, title: &str) -> anyhow::Result<()> {
    let (told, outcome) = Restored::run(FAMILY, &[], Exit::Success)?;
    // The second port is no part of what the program restores: a PF has one uplink. Its MAC is a new random one, and so
    // are those of representors that got none from a user.
    let given = |nics: Nics| {
        let random = (0..VFS).filter(|vf| !has_own_mac(*vf)).map(|vf| format!("pf0vf{vf}"));
        random
            .chain(["p2".to_owned()])
            .fold(nics, |nics, port| nics.without(&port, |attribute| attribute == "mac"))
    };
    let differences = given(before.clone()).differences(&given(netdevsim::observe()?));
    ensure!(differences.is_empty(), "{title}: {differences}; {told}");
    ensure!(told.differences().is_empty(), "{title}: equal, and yet {told}");
    report(&format!("{title}: {VFS} VFs equal, restored in {:.2} s", outcome.time.as_secs_f64()));
    Ok(())
}

/// The netdev of the first port.
fn uplink() -> anyhow::Result<String> {
    netdevsim::netdevs()?.remove("p1").context("the device has no uplink p1")
}

/// All that `ip link set … vf` knows and netdevsim keeps, another mix for each VF.
fn admin_lines(uplink: &str, vf: u32) -> String {
    let on_off = |on| if on { "on" } else { "off" };
    let state = match vf % 3 {
        0 => "auto",
        1 => "enable",
        _ => "disable",
    };
    let protocol = if vf % 4 == 1 { " proto 802.1ad" } else { "" };
    let mut lines = format!("link set dev {uplink} vf {vf} mac 02:1a:b0:01:00:{vf:02x}\n");
    for attribute in [
        format!("vlan {} qos {}{protocol}", 100 + vf, vf % 8),
        format!("spoofchk {}", on_off(vf.is_multiple_of(2))),
        format!("trust {}", on_off(vf.is_multiple_of(5))),
        format!("query_rss {}", on_off(vf.is_multiple_of(7))),
        format!("state {state}"),
        format!("min_tx_rate {} max_tx_rate {}", 10 + vf, 1000 + vf),
    ] {
        // One in ten has its MAC alone.
        if vf % 10 != 9 || vf == 49 {
            lines.push_str(&format!("link set dev {uplink} vf {vf} {attribute}\n"));
        }
    }
    lines
}

/// Whether the user gives the VF's representor a MAC.
fn has_own_mac(vf: u32) -> bool {
    vf % 7 == 3
}

/// Renamed, and with an MTU and a state of its own, some with a MAC.
fn representor_lines(udev_name: &str, vf: u32) -> String {
    // The first two change names with each other.
    if vf < 2 {
        return String::new();
    }
    let name = format!("tenant{vf}");
    let mut lines = format!("link set dev {udev_name} name {name}\nlink set dev {name} mtu {}\n", 1400 + vf);
    if has_own_mac(vf) {
        lines.push_str(&format!("link set dev {name} address 02:1a:b0:02:00:{vf:02x}\n"));
    }
    if vf == 2 {
        lines.push_str(&format!("link property add dev {name} altname {ALTNAME}\n"));
    }
    if !vf.is_multiple_of(3) {
        lines.push_str(&format!("link set dev {name} up\n"));
    }
    lines
}

/// Attributes of several kinds were taken by the kernel; otherwise their return would show nothing.
fn ensure_configured(seen: &Nics) -> anyhow::Result<()> {
    for (attribute, value) in [
        ("vf 1.address", "02:1a:b0:01:00:01"),
        ("vf 1.vlan_list.0.vlan", "101"),
        ("vf 1.vlan_list.0.qos", "1"),
        ("vf 1.vlan_list.0.protocol", "802.1ad"),
        ("vf 2.spoofchk", "true"),
        ("vf 5.trust", "true"),
        ("vf 7.query_rss_en", "true"),
        ("vf 4.link_state", "enable"),
        ("vf 49.rate.min_tx", "59"),
        ("vf 49.rate.max_tx", "1049"),
        ("mtu", "2000"),
    ] {
        let found = seen.attribute("p1", attribute).unwrap_or("not there");
        ensure!(found == value, "{attribute} is {found}, not {value}");
    }
    Ok(())
}

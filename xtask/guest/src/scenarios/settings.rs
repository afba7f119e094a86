//! What is set of the NICs' netdevs with ethtool(8) comes back: offloads, rings, coalescing, pause frames, private flags and the like, of the PF
//! and of its VFs. The tool itself says what there is, before and after.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use nic_driver::Exit;

use crate::command::run as command;
use crate::guest::Guest;
use crate::observe::{Nics, igb_pfs, netdev_of, vfs_of};
use crate::program::NicDriver;
use crate::{boot, report, say, vfs};

const VFS: u32 = 3;
/// What is set of the PF: nothing of it is what igb comes up with.
const OF_PF: &[&[&str]] = &[
    &["--set-priv-flags", "DEV", "legacy-rx", "on"],
    &["-K", "DEV", "gro", "off", "ntuple", "on", "rx", "off"],
    &["-G", "DEV", "rx", "512", "tx", "1024"],
    &["-C", "DEV", "rx-usecs", "50"],
    &["-A", "DEV", "autoneg", "off", "rx", "on", "tx", "off"],
    &["-s", "DEV", "wol", "g"],
    &["-s", "DEV", "msglvl", "drv", "on", "probe", "off"],
    &["-s", "DEV", "advertise", "0x020"],
];
/// What is set of the VFs: nothing of it is what igbvf comes up with.
const OF_VF: &[&[&str]] = &[
    &["-K", "DEV", "gro", "off", "tso", "off"],
    &["-G", "DEV", "rx", "512", "tx", "768"],
    &["-C", "DEV", "rx-usecs", "40"],
];
/// What ethtool(8) shows of it.
const SHOWN: &[&[&str]] =
    &[&["--show-priv-flags"], &["-k"], &["-l"], &["-g"], &["-c"], &["-a"], &["--show-eee"], &[]];
/// Lines of the last, which tells of the link, too.
const OF_DEVICE: [&str; 5] = [
    "Advertised link modes",
    "Advertised auto-negotiation",
    "Wake-on",
    "Current message level",
    "Auto-negotiation",
];

pub(crate) fn run(_: &Guest) -> anyhow::Result<()> {
    let before = vfs::configure_each(VFS)?;
    boot::settle_udev()?;
    let fresh = shown()?;
    for pf in igb_pfs()? {
        set(&pf, OF_PF)?;
        for (_, vf) in vfs_of(&pf)? {
            set(&vf, OF_VF)?;
        }
    }
    let wanted = shown()?;
    let other =
        |(address, lines): (&String, &Vec<String>)| Some(differing(lines, wanted.get(address)?).len());
    let set: usize = fresh.iter().filter_map(other).sum();
    ensure!(set >= 20, "only {set} lines are other than they were");
    reload_and_compare("the first time", &before, &wanted)?;

    say("== what is as the driver came up with it is nobody's setting");
    let pf = igb_pfs()?.into_iter().next().context("no PF")?;
    command("ethtool", ["-G", &netdev_of(&pf)?, "rx", "256", "tx", "256"])?;
    let wanted = shown()?;
    reload_and_compare("the second time", &before, &wanted)?;

    report(&format!("{set} settings of {} devices came back in two reloads", wanted.len()));
    Ok(())
}

fn reload_and_compare(which: &str, before: &Nics, wanted: &Shown) -> anyhow::Result<()> {
    NicDriver::new(["reload", "--force"]).run()?.expect(Exit::Success)?;
    let restored = NicDriver::new(["restore-sriov"]).run()?.expect(Exit::Success)?;
    let now = shown()?;
    for (address, lines) in wanted {
        let differing = differing(lines, now.get(address).context("a device is gone")?);
        ensure!(differing.is_empty(), "{which}, {address}: {}\n{}", differing.join("; "), restored.stdout);
    }
    let differences = before.differences(&Nics::observe()?);
    ensure!(differences.is_empty(), "{which}: {differences}");
    ensure!(restored.stdout.contains("changes of what was set of the NICs"), "{}", restored.stdout);
    Ok(())
}

fn set(address: &str, settings: &[&[&str]]) -> anyhow::Result<()> {
    let netdev = netdev_of(address)?;
    for words in settings {
        let words = words.iter().map(|word| if *word == "DEV" { netdev.as_str() } else { word });
        command("ethtool", words)?;
    }
    Ok(())
}

/// By PCI address, what ethtool(8) shows of it: names of netdevs are left out.
type Shown = BTreeMap<String, Vec<String>>;

fn shown() -> anyhow::Result<Shown> {
    let mut shown = Shown::new();
    for pf in igb_pfs()? {
        let vfs = vfs_of(&pf)?.into_iter().map(|(_, address)| address);
        for address in std::iter::once(pf.clone()).chain(vfs) {
            let lines = lines_of(&netdev_of(&address)?)?;
            shown.insert(address, lines);
        }
    }
    Ok(shown)
}

fn lines_of(netdev: &str) -> anyhow::Result<Vec<String>> {
    let mut lines = Vec::new();
    for words in SHOWN {
        // A driver that has no such settings is an error of ethtool's.
        let Ok(text) = command("ethtool", words.iter().copied().chain([netdev])) else { continue };
        let about = words.first().copied().unwrap_or("");
        let wanted = text.lines().map(str::trim).filter(|line| {
            !line.contains(netdev)
                && (!about.is_empty() || OF_DEVICE.iter().any(|start| line.starts_with(start)))
        });
        lines.extend(wanted.map(|line| format!("{about} {line}")));
    }
    Ok(lines)
}

fn differing(before: &[String], now: &[String]) -> Vec<String> {
    let gone = before.iter().filter(|line| !now.contains(line)).map(|line| format!("was {line}"));
    let new = now.iter().filter(|line| !before.contains(line)).map(|line| format!("is {line}"));
    gone.chain(new).collect()
}

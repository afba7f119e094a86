//! Shows that the lab is what the other scenarios take it for: real PFs under the inbox driver, real VFs, a real udev
//! that renames them, and wires that carry packets.

use std::time::Duration;

use anyhow::ensure;
use lab_guest::wiring::{BYSTANDER_MACS, PEER_MAC, VFS_PER_PF, pf_mac};

use crate::command::run as command;
use crate::guest::Guest;
use crate::observe::{Nics, igb_pfs, netdev_by_mac, vfs_of};
use crate::pinger::FarEnd;
use crate::{drivers, say, vfs};

pub(crate) fn run(guest: &Guest) -> anyhow::Result<()> {
    let pfs = igb_pfs()?;
    let expected = guest.scenario().topology.igb_pfs;
    ensure!(pfs.len() == usize::from(expected), "{} PFs appeared, not {expected}", pfs.len());
    for number in 1..=expected {
        say(&format!("PF {number} is {}", netdev_by_mac(&pf_mac(number))?));
    }
    let inbox = drivers::loaded("igb")?;
    ensure!(inbox.srcversion.is_none(), "the inbox igb was expected to have no srcversion");

    let nics = vfs::configure_all()?;
    let wanted = pfs.len() * VFS_PER_PF as usize;
    ensure!(nics.vf_count() == wanted, "{} VFs appeared, not {wanted}", nics.vf_count());
    for (index, pf) in pfs.iter().enumerate() {
        for (vf, address) in vfs_of(pf)? {
            let see = |attribute| nics.attribute(&address, attribute).unwrap_or("not there");
            ensure!(see("name").starts_with("enp"), "udev left {address} the name {}", see("name"));
            ensure!(see("mac") == vfs::vf_mac(index, vf), "{address} has the MAC {}", see("mac"));
            ensure!(see("mtu") == "1400", "{address} has the MTU {}", see("mtu"));
            ensure!(see("driver") == "igbvf", "{address} has the driver {}", see("driver"));
            ensure!(see("admin.vf") == vf.to_string(), "the PF does not report VF {vf}");
        }
    }
    ensure!(nics.differences(&Nics::observe()?).is_empty(), "two observations of the same machine differ");

    let peer = FarEnd::new("peer", &netdev_by_mac(PEER_MAC)?)?;
    let [near, far] = BYSTANDER_MACS;
    command("ip", ["link", "set", "dev", &netdev_by_mac(near)?, "up"])?;
    let bystander = FarEnd::new("bystander", &netdev_by_mac(far)?)?;
    for (what, pinger) in [("VF 0", peer.ping(&vfs::vf_mac(0, 0))?), ("bystander", bystander.ping(near)?)] {
        pinger.wait_for_reply(Duration::from_secs(20))?;
        let record = pinger.stop()?;
        say(&format!("{what} answers: {} pings sent, {} lost", record.transmitted(), record.lost()));
    }
    Ok(())
}

//! Netdevs that are made for a scenario: what udev has a say in, and what takes its time, is seen to.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::ensure;

use crate::command::{ip_batch, run};
use crate::{read, wait};

/// What a link takes to come up, and an emulated NIC to be started anew, on a busy host.
const LINK_PATIENCE: Duration = Duration::from_secs(60);

/// Waits until a netdev has a carrier. One without is waited for in vain by all that is sent over it.
pub(crate) fn await_carrier(netdev: &str) -> anyhow::Result<()> {
    wait::until(&format!("the carrier of {netdev}"), LINK_PATIENCE, || {
        // A netdev that is down has no carrier to be read.
        let carrier = read(PathBuf::from("/sys/class/net").join(netdev).join("carrier"));
        Ok(carrier.is_ok_and(|carrier| carrier == "1").then_some(()))
    })
}

/// Makes a bond (active-backup) with a MAC of its own, without ports.
///
/// Without one it takes the MAC of its first port, unless udev has been quicker: that gives a netdev which the kernel has
/// given a random MAC a persistent one, made from its name (systemd's `MACAddressPolicy=persistent`), and then the bond
/// keeps that. On a busy host it depended on the day which of the two a bond had.
pub(crate) fn make_bond(name: &str, mac: &str) -> anyhow::Result<()> {
    ip_batch(&format!("link add {name} address {mac} type bond mode active-backup miimon 100\n"))
}

/// Makes sure that a bond is what was asked for: its MAC, a carrier, and a port that is active and up.
pub(crate) fn expect_bond(name: &str, mac: &str) -> anyhow::Result<()> {
    let attribute = |attribute: &str| read(PathBuf::from("/sys/class/net").join(name).join(attribute));
    let found = attribute("address")?;
    ensure!(found == mac, "{name} was to have the MAC {mac}, and has {found}");
    await_carrier(name)?;
    wait::until(&format!("an active port of {name}"), LINK_PATIENCE, || {
        let port = attribute("bonding/active_slave")?;
        Ok((!port.is_empty()).then_some(port))
    })
    .and_then(|port| await_carrier(&port))
}

/// Two netdevs get each other's names.
///
/// udev, told of a rename, keeps the name that it would have given itself as an alternative one, which in the midst of an
/// exchange takes the name away that the next step is to give. So it is told after the exchange.
pub(crate) fn swap_names(first: &str, second: &str) -> anyhow::Result<()> {
    let mut batch = String::new();
    for (from, to) in [(first, "between"), (second, first), ("between", second)] {
        batch.push_str(&format!("link set dev {from} name {to}\n"));
    }
    run("udevadm", ["control", "--stop-exec-queue"])?;
    let swapped = ip_batch(&batch);
    run("udevadm", ["control", "--start-exec-queue"])?;
    swapped
}

//! What stands on the NICs comes back with them: addresses, a bond of two PFs with a VLAN that carries the default route,
//! a VLAN on a PF in a bridge, a VXLAN with its forwarding entries, tunnels that are bound to a PF, routes of another table with a rule, IPv6, a permanent neighbour; a routing daemon's route is left to it, and
//! so is a port of Open vSwitch, which takes it back late. All is compared by what iproute2 says, and two pings go on throughout: over the bond's VLAN, and to a PF of its own.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use lab_guest::wiring::{PEER_MAC, pf_mac};
use nic_driver::Exit;
use nic_driver::state::{Entry, Named, Step};

use crate::command::{ip_batch, run as command};
use crate::drivers::{self, Flow};
use crate::guest::Guest;
use crate::netdevs::{await_carrier, expect_bond, make_bond};
use crate::observe::{Nics, netdev_by_mac};
use crate::openvswitch::Datapath;
use crate::pinger::{self, FarEnd};
use crate::program::NicDriver;
use crate::{journal, report, say, wait};

const LINKS: [&str; 8] = ["pf0", "pf1", "pf2", "pf3", "pf2.7", "bond1", "bond1.5", "bridge0"];
/// Those that have no carrier of their own.
const TUNNELS: [&str; 3] = ["vxlan9", "gretap9", "ipip9"];
/// What the second port had before it joined the bond.
const OWN_ADDRESS: &str = "02:00:00:00:0f:01";
const CARRIES_AGAIN: Duration = Duration::from_secs(20);
/// What Open vSwitch's daemon takes to have its port back: longer than the kernel alone is waited for.
const DAEMON_TAKES: Duration = Duration::from_secs(10);
/// What a look at the network takes at most where nothing is waited for, on a busy host.
const NOT_WAITED: Duration = Duration::from_secs(4);

pub(crate) fn run(guest: &Guest) -> anyhow::Result<()> {
    drivers::pretend_distribution(Flow::Rpm)?;
    configure()?;
    let datapath = Datapath::make("ovs-system")?;
    datapath.add_port("pf3")?;
    let peer = FarEnd::new("peer", &netdev_by_mac(PEER_MAC)?)?;
    for link in LINKS {
        await_carrier(link)?;
    }
    expect_bond("bond1", &pf_mac(1))?;
    let over_bond = peer.vlan(5)?.ping(&pf_mac(1))?;
    let to_pf = peer.ping(&pf_mac(3))?;
    over_bond.wait_for_reply(CARRIES_AGAIN).context("the VLAN on the bond does not carry")?;
    to_pf.wait_for_reply(CARRIES_AGAIN).context("the PF does not answer")?;
    let before = seen()?;
    ensure!(own_address("pf1")? == OWN_ADDRESS, "the port lost its address when it joined");
    if guest.parameter("set-up-only")? {
        return Ok(());
    }

    // A routing daemon's: gone with the PF, and the daemon's to make again.
    ip_batch("route add 10.88.0.0/16 via 192.0.2.9 dev pf2 proto bgp\n")?;

    let packages = drivers::folder("A", Flow::Rpm);
    NicDriver::install(&packages).run()?.expect(Exit::Success)?;
    refused()?;

    let from = pinger::now()?;
    let warned = NicDriver::new(["reload"]).run()?.expect(Exit::Success)?;
    ensure!(
        warned.says_any(&["the node itself is reached"]),
        "reload does not say that the default route goes"
    );
    ensure!(warned.says_any(&["dev bond1.5"]), "reload does not name the default route");
    let restore = NicDriver::new(["restore-sriov"]).start()?;
    restore.wait_until_it_says("left to the daemon of its master")?;
    std::thread::sleep(DAEMON_TAKES);
    datapath.add_port("pf3")?;
    let restored = restore.wait()?.expect(Exit::Success)?;
    ensure!(
        restored.says_any(&["bgpd has to make it again"]),
        "the restore does not say whose the route 10.88.0.0/16 is: {}",
        restored.last_words()
    );
    drivers::expect_loaded(&drivers::version("A")?)?;
    over_bond.wait_for_reply(CARRIES_AGAIN).context("the VLAN on the bond carries no more")?;
    to_pf.wait_for_reply(CARRIES_AGAIN).context("the PF answers no more")?;
    let to = pinger::now()?;
    compare(&before, "the reload")?;

    // Nothing is up to anybody.
    NicDriver::new(["restore-sriov", "--from-record"]).run()?.expect(Exit::Success)?;
    let took = last_look_at_network()?;
    say(&format!("  where nothing is owed, the network took {} ms", took.as_millis()));
    ensure!(took < NOT_WAITED, "a restore of a network that lacks nothing took {took:?}");

    // What is changed after a verified restore stays changed.
    ip_batch("address del 192.0.2.2/24 dev pf2\n")?;
    let changed = seen()?;
    NicDriver::new(["restore-sriov"]).run()?.expect(Exit::Success)?;
    compare(&changed, "a second restore")?;

    report("Longest interruption, measured by ping from a peer every 20 ms:");
    for (path, pinger) in [("VLAN on a bond of two PFs", over_bond), ("PF with addresses of its own", to_pf)]
    {
        let outage = pinger.stop()?.longest_outage(from, to).context("no replies around the reload")?;
        report(&format!("  {path:<32} {outage} of {:.2} s", to - from));
    }
    Ok(())
}

/// How long the last restore was about what stood on the NICs.
fn last_look_at_network() -> anyhow::Result<Duration> {
    let took = journal::lines()?.into_iter().rev().find_map(|line| match line.entry {
        Entry::StepEnded { step: Named::Known(Step::RestoreNetwork), took_ms, .. } => Some(took_ms),
        _ => None,
    });
    Ok(Duration::from_millis(took.context("no restore was about the network")?))
}

/// With `refuse` nothing is changed, and what is behind the NICs is named.
fn refused() -> anyhow::Result<()> {
    let (indices, driver) = (Nics::interface_indices()?, drivers::loaded("igb")?);
    let refused = NicDriver::new(["reload", "--management-nic", "refuse"]).run()?.expect(Exit::Blocked)?;
    for word in ["default via 10.5.0.254 dev bond1.5", "bond bond1"] {
        ensure!(refused.says_any(&[word]), "the refusal does not name {word:?}");
    }
    ensure!(Nics::interface_indices()? == indices, "the refused reload took netdevs away");
    ensure!(drivers::loaded("igb")? == driver, "the refused reload has changed the driver");
    Ok(())
}

fn configure() -> anyhow::Result<()> {
    let mut batch = String::new();
    for (number, name) in [(1, "pf0"), (2, "pf1"), (3, "pf2"), (4, "pf3")] {
        let now = netdev_by_mac(&pf_mac(number))?;
        batch.push_str(&format!("link set dev {now} down\nlink set dev {now} name {name}\n"));
    }
    ip_batch(&batch)?;
    // Its MAC is the first port's, as it would be by itself: the far end knows the bond by it.
    make_bond("bond1", &pf_mac(1))?;
    ip_batch(
        "link set dev pf1 address 02:00:00:00:0f:01\n\
         link set dev pf0 master bond1\n\
         link set dev pf1 master bond1\n\
         link set dev pf1 type bond_slave queue_id 3\n\
         link set dev bond1 up\n\
         link add link bond1 name bond1.5 type vlan id 5\n\
         link set dev bond1.5 up\n\
         address add 10.5.0.1/24 brd + dev bond1.5\n\
         route add default via 10.5.0.254 dev bond1.5\n\
         link set dev pf2 up\n\
         link set dev pf3 up\n\
         address add 192.0.2.1/24 brd + dev pf2 label pf2:x\n\
         address add 192.0.2.2/24 dev pf2\n\
         address add 198.51.100.7/24 dev pf2 noprefixroute metric 50\n\
         address add 2001:db8::1/64 dev pf2\n\
         address add 2001:db8::2/64 dev pf2 nodad\n\
         route add 10.0.0.0/8 via 192.0.2.9 dev pf2 src 192.0.2.2 mtu 1400\n\
         route add 172.16.0.0/12 dev pf2 table 1000\n\
         route add default via 192.0.2.9 dev pf2 table 1000\n\
         route add 10.77.0.0/16 nexthop via 192.0.2.9 dev pf2 nexthop via 10.5.0.9 dev bond1.5 weight 3\n\
         route add 2001:db8:7::/48 via 2001:db8::9 dev pf2\n\
         rule add priority 100 from 192.0.2.0/24 iif pf2 lookup 1000\n\
         neighbour add 192.0.2.9 lladdr 02:00:00:00:0d:01 dev pf2 nud permanent\n\
         neighbour add 2001:db8::9 lladdr 02:00:00:00:0d:02 dev pf2 nud permanent\n\
         link add bridge0 address 02:00:00:00:0b:00 type bridge\n\
         link set dev bridge0 up\n\
         link add link pf2 name pf2.7 type vlan id 7 egress-qos-map 1:3\n\
         link set dev pf2.7 up mtu 1400 alias storage master bridge0\n\
         link set dev pf2.7 type bridge_slave isolated on\n\
         link add vxlan9 address 02:00:00:00:0e:01 type vxlan id 9 dev pf2 local 192.0.2.1 dstport 4789 nolearning\n\
         link set dev vxlan9 up\n\
         address add 10.244.0.1/24 dev vxlan9\n\
         route add 10.244.1.0/24 via 10.244.0.2 dev vxlan9\n\
         link add gretap9 type gretap local 192.0.2.1 remote 192.0.2.99 dev pf2 ttl 33\n\
         link set dev gretap9 up\n\
         address add 10.99.0.1/24 dev gretap9\n\
         link add ipip9 type ipip local 192.0.2.1 remote 192.0.2.98 dev pf2 ttl 34\n\
         link set dev ipip9 up\n",
    )?;
    for entry in
        ["00:00:00:00:00:00 dev vxlan9 dst 192.0.2.77", "02:00:00:00:0e:02 dev vxlan9 dst 192.0.2.78 via pf2"]
    {
        command("bridge", ["fdb", "append"].into_iter().chain(entry.split(' ')))?;
    }
    Ok(())
}

/// What iproute2 says of all that stands on links, one line for each thing, without indexes and times.
fn seen() -> anyhow::Result<Vec<String>> {
    wait::until("the end of duplicate address detection", Duration::from_secs(20), || {
        let links = command("ip", ["-o", "link"])?;
        let of = |name: &&str| {
            links.lines().any(|line| line.contains(&format!(" {name}")) && line.contains("state UP"))
        };
        let tentative = command("ip", ["-6", "address"])?.contains("tentative");
        Ok((LINKS.iter().all(of) && !tentative).then_some(()))
    })?;
    let mut lines = Vec::new();
    for question in [
        &["-o", "address"][..],
        &["-o", "-4", "route", "show", "table", "all"],
        &["-o", "-6", "route", "show", "table", "all"],
        &["rule"],
        &["-6", "rule"],
        &["neighbour", "show", "nud", "permanent"],
    ] {
        lines.extend(command("ip", question)?.lines().map(without_numbers));
    }
    for link in LINKS {
        let line = command("ip", ["-d", "-o", "link", "show", "dev", link])?;
        // Behind it are counters and the drivers' limits.
        let words: Vec<&str> = line.split_whitespace().collect();
        let value = |key: &str| words.iter().skip_while(|word| **word != key).nth(1).copied().unwrap_or("-");
        for key in ["mtu", "master", "link/ether", "id", "alias", "queue_id", "isolated", "state"] {
            lines.push(format!("{link}: {key} {}", value(key)));
        }
        lines.push(format!("{link}: QoS {}", line.contains("EGRESS-QOS") || line.contains("egress-qos-map")));
    }
    for tunnel in TUNNELS {
        lines.push(without_numbers(&command("ip", ["-d", "-o", "link", "show", "dev", tunnel])?));
    }
    lines.extend(command("bridge", ["fdb", "show", "dev", "vxlan9"])?.lines().map(str::to_owned));
    lines.push(format!("pf1: its own address is {}", own_address("pf1")?));
    lines.sort();
    Ok(lines)
}

/// What a bond keeps of its port's address.
fn own_address(port: &str) -> anyhow::Result<String> {
    let text = command("ip", ["-d", "-o", "link", "show", "dev", port])?;
    let words = text.split_whitespace();
    Ok(words.skip_while(|word| *word != "perm_hwaddr").nth(1).context("no port of a bond")?.to_owned())
}

/// `7: pf2    inet 192.0.2.1/24 … \       valid_lft forever …` → `pf2 inet 192.0.2.1/24 …`
fn without_numbers(line: &str) -> String {
    let named = match line.split_once(": ") {
        Some((index, rest)) if index.parse::<u32>().is_ok() && !rest.starts_with("from ") => rest,
        _ => line,
    };
    let named = named.split("valid_lft").next().unwrap_or_default();
    let words: Vec<&str> = named.split_whitespace().filter(|word| *word != "linkdown").collect();
    words.join(" ")
}

fn compare(before: &[String], after_what: &str) -> anyhow::Result<()> {
    let now = seen()?;
    let lacks = |a: &[String], b: &[String]| {
        a.iter().filter(|line| !b.contains(line)).cloned().collect::<Vec<_>>().join("\n  ")
    };
    let (missing, new) = (lacks(before, &now), lacks(&now, before));
    ensure!(missing.is_empty() && new.is_empty(), "after {after_what}, missing:\n  {missing}\nnew:\n  {new}");
    say(&format!("after {after_what} all {} lines of iproute2 are what they were", now.len()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_and_times_do_not_count() {
        assert_eq!(
            without_numbers("7: pf2    inet 192.0.2.1/24 scope global pf2\\       valid_lft forever"),
            "pf2 inet 192.0.2.1/24 scope global pf2\\"
        );
        assert_eq!(
            without_numbers("100:\tfrom all iif pf2 lookup 1000"),
            "100: from all iif pf2 lookup 1000"
        );
        assert_eq!(
            without_numbers("default via 192.0.2.9 dev pf2 linkdown"),
            "default via 192.0.2.9 dev pf2"
        );
    }
}

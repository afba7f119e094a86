//! Addresses, routes, rules, neighbours and children against the running kernel: iproute2 configures a link, the link
//! goes and comes back, and what this crate gives it is compared by what iproute2 says.
//!
//! Where no namespace can be made the test says that it was skipped; in CI and as root that is a failure.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test says what it expects by panicking; its functions, too"
)]

mod namespace;

use std::process::Command;
use std::time::{Duration, Instant};

use namespace::{in_namespace, run};
use nic_netlink::{IfIndex, LinkChange, Netlink, NetworkChange, NetworkEvents, NewChild, Route, StackedLink};

fn ip(line: &str) -> String {
    let output = Command::new("ip").args(line.split_whitespace()).output().expect("iproute2 is needed");
    assert!(output.status.success(), "ip {line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Waits until the links carry and the addresses that the kernel gives them are there, with their routes: on a busy machine
/// that is some time after the links were set up.
fn wait_for_the_kernel() {
    let is_done = || {
        ["test0", "child0"].iter().all(|link| {
            let addresses = ip(&format!("-6 -o address show dev {link} scope link"));
            ip(&format!("-o link show dev {link}")).contains("state UP")
                && addresses.contains("fe80::")
                && !addresses.contains("tentative")
        })
    };
    let begun = Instant::now();
    while !is_done() {
        assert!(begun.elapsed() < Duration::from_secs(30), "{}", ip("address"));
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What iproute2 says, with the interfaces' indexes left out.
fn seen() -> Vec<String> {
    wait_for_the_kernel();
    let addresses = ip("-o address show dev test0") + &ip("-o address show dev child0");
    let addresses = addresses.lines().map(|line| {
        let (_, address) = line.split_once(": ").unwrap();
        address.split_whitespace().filter(|word| *word != "tentative").collect::<Vec<_>>().join(" ")
    });
    let mut lines: Vec<String> = addresses.collect();
    for question in [
        "-4 route show table all",
        "-6 route show table all",
        "rule",
        "-6 rule",
        "neighbour show nud permanent",
        "-d -o link show dev child0",
    ] {
        let answer = ip(question);
        // The peer has another address each time.
        let lines_of =
            answer.lines().filter(|line| !["dev lo", "dev test1"].iter().any(|dev| line.contains(dev)));
        // The link's own line has what differs at each creation in front of its kind.
        let mut lines_of: Vec<String> = lines_of
            .map(|line| match line.split_once("macvlan mode") {
                Some((_, kind)) => format!("macvlan mode{kind}"),
                None => line.split_whitespace().collect::<Vec<_>>().join(" "),
            })
            .collect();
        // Routes of the kernel's own with the same metric stand in the order in which it made them.
        if question.contains("route") {
            lines_of.sort_unstable();
        }
        lines.extend(lines_of);
    }
    lines
}

fn configure() {
    for line in [
        "link add test0 type veth peer name test1",
        "link set test1 up",
        "link set test0 up",
        "link add child0 link test0 address 02:00:00:00:0c:01 type macvlan mode bridge",
        "link set child0 up",
        "address add 192.0.2.1/24 brd + dev test0 label test0:x",
        "address add 192.0.3.1/24 dev test0 noprefixroute",
        "address add 192.0.2.2/24 dev test0",
        "address add 198.51.100.1 peer 198.51.100.2/32 dev test0 metric 77",
        "address add 203.0.113.5/28 dev child0",
        "-6 address add 2001:db8::1/64 dev test0 nodad",
        "-6 address add 2001:db8:0:1::1/64 dev child0 nodad home",
        "route add 10.0.0.0/8 via 192.0.2.9 dev test0 src 192.0.2.2 metric 5 mtu 1400",
        "route add default dev test0 table 1000 proto static scope link",
        "route add 10.9.0.0/16 table 1000 nexthop via 192.0.2.9 dev test0 weight 3 nexthop via 203.0.113.6 dev child0",
        "route add 10.10.0.0/16 via 172.16.0.1 dev test0 onlink",
        "-6 route add default via 2001:db8::9 dev test0 metric 99",
        "-6 route add 2001:db8:5::/48 nexthop via 2001:db8::9 dev test0 nexthop via 2001:db8:0:1::9 dev child0 weight 2",
        "rule add priority 100 iif test0 from 192.0.2.0/24 fwmark 0x7/0xff lookup 1000",
        "-6 rule add priority 101 oif child0 lookup 1000",
        "neighbour add 192.0.2.9 lladdr 02:00:00:00:0d:01 dev test0 nud permanent",
        "-6 neighbour add 2001:db8::9 lladdr 02:00:00:00:0d:02 dev test0 nud permanent router",
    ] {
        ip(line);
    }
}

async fn stacked(netlink: &Netlink, name: &str) -> StackedLink {
    let links = netlink.stacked_links().await.unwrap().entries;
    links.into_iter().find(|link| link.link.name == *name).unwrap_or_else(|| panic!("no {name}"))
}

#[test]
fn what_stood_on_a_link_stands_on_it_again() {
    if in_namespace("what_stood_on_a_link_stands_on_it_again") {
        run(async {
            configure();
            let before = seen();
            let netlink = Netlink::connect().unwrap();
            let (below, child) = (stacked(&netlink, "test0").await, stacked(&netlink, "child0").await);
            let addresses = netlink.addresses().await.unwrap().entries;
            let routes = netlink.routes().await.unwrap().entries;
            let rules = netlink.rules().await.unwrap().entries;
            let neighbours = netlink.permanent_neighbours().await.unwrap().entries;

            ip("link delete test0");
            ip("rule delete priority 100");
            ip("-6 rule delete priority 101");
            assert!(
                netlink.stacked_links().await.unwrap().entries.iter().all(|link| link.link.name != "child0")
            );
            ip("link add test0 type veth peer name test1");
            ip(&format!("link set test0 address {}", below.link.address));
            ip("link set test1 up");
            ip("link set test0 up");

            let new_below = stacked(&netlink, "test0").await.link.index;
            let change = async |change| netlink.change_network(&change).await.unwrap();
            change(NetworkChange::AddChild(NewChild {
                name: child.link.name.clone(),
                kind: child.child.clone().unwrap(),
                lower: new_below,
                address: Some(child.link.address.clone()),
                mtu: Some(child.link.mtu),
            }))
            .await;
            let new_child = stacked(&netlink, "child0").await.link.index;
            netlink.change(new_child, &LinkChange::Up(true)).await.unwrap();
            let now = |index: IfIndex| match index {
                index if index == below.link.index => Some(new_below),
                index if index == child.link.index => Some(new_child),
                _ => None,
            };
            for address in addresses.iter().filter(|address| !address.is_made_by_kernel()) {
                let Some(index) = now(address.index) else { continue };
                change(NetworkChange::Address(nic_netlink::Address { index, ..address.clone() })).await;
            }
            for neighbour in neighbours {
                let index = now(neighbour.index).unwrap();
                change(NetworkChange::Neighbour(nic_netlink::Neighbour { index, ..neighbour })).await;
            }
            let is_own = |route: &&Route| route.protocol != Route::BY_KERNEL;
            let mut own: Vec<Route> = routes.iter().filter(is_own).cloned().collect();
            own.sort_by_key(Route::has_gateway);
            assert_eq!(own.len(), 6, "{own:?}");
            for mut route in own {
                for hop in &mut route.next_hops {
                    hop.index = Some(now(hop.index.unwrap()).unwrap());
                }
                change(NetworkChange::AppendRoute(route)).await;
            }
            for rule in rules.into_iter().filter(|rule| [100, 101].contains(&rule.priority)) {
                change(NetworkChange::Rule(rule)).await;
            }
            let (before, after) = (before.join("\n"), seen().join("\n"));
            assert!(before == after, "BEFORE\n{before}\nAFTER\n{after}");
        });
    }
}

#[test]
fn the_settings_of_a_bridge_port_are_set_one_by_one() {
    if in_namespace("the_settings_of_a_bridge_port_are_set_one_by_one") {
        run(async {
            for line in [
                "link add bridge0 type bridge",
                "link add test0 type veth peer name test1",
                "link set test0 master bridge0",
                "link set dev test0 type bridge_slave isolated on hairpin on priority 40",
            ] {
                ip(line);
            }
            let netlink = Netlink::connect().unwrap();
            let saved = stacked(&netlink, "test0").await;
            ip("link set dev test0 nomaster");
            ip("link set dev test0 master bridge0");
            let found = stacked(&netlink, "test0").await;
            let (saved, index) = (saved.port.unwrap(), found.link.index);
            let missing = saved.settings_not_in(&found.port.unwrap());
            assert_eq!(missing.len(), 3, "{missing:?}");
            for setting in missing {
                let master_kind = saved.master_kind.clone();
                netlink
                    .change_network(&NetworkChange::PortSetting { index, master_kind, setting })
                    .await
                    .unwrap();
            }
            assert_eq!(stacked(&netlink, "test0").await.port, Some(saved));
        });
    }
}

#[test]
fn a_change_is_announced_and_a_route_looked_up() {
    if in_namespace("a_change_is_announced_and_a_route_looked_up") {
        run(async {
            ip("link add test0 type veth peer name test1");
            ip("link set test0 up");
            let mut events = NetworkEvents::subscribe().unwrap();
            ip("address add 192.0.2.1/24 dev test0");
            events.changed().await.unwrap();
            let netlink = Netlink::connect().unwrap();
            let index = stacked(&netlink, "test0").await.link.index;
            let route = netlink.route_to("192.0.2.9".parse().unwrap()).await.unwrap().unwrap();
            assert!(route.goes_through(index), "{route}");
            assert_eq!(netlink.route_to("203.0.113.1".parse().unwrap()).await.unwrap(), None);
        });
    }
}

#[test]
fn a_refusal_names_the_change_and_the_kernels_reason() {
    if in_namespace("a_refusal_names_the_change_and_the_kernels_reason") {
        run(async {
            ip("link add test0 type veth peer name test1");
            ip("link set test0 up");
            ip("address add 192.0.2.1/24 dev test0");
            ip("route add 10.0.0.0/8 via 192.0.2.9");
            let netlink = Netlink::connect().unwrap();
            let routes = netlink.routes().await.unwrap().entries;
            let mut route = routes.into_iter().find(Route::has_gateway).unwrap();
            route.next_hops[0].gateway = Some("203.0.113.1".parse().unwrap());
            let index = route.next_hops[0].index.unwrap();
            let error = netlink.change_network(&NetworkChange::AppendRoute(route)).await.unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("the kernel did not carry out `route add 10.0.0.0/8 via 203.0.113.1 dev {index}`")
            );
            assert_eq!(error.errno(), Some(rustix::io::Errno::NETUNREACH));
        });
    }
}

//! Against the running kernel: iproute2 configures a link and what stands on it, the link goes and comes back bare, and
//! what [`nic_topology::restore`] gives it is compared by what iproute2 says.
//!
//! Where no namespace can be made the test says that it was skipped; in CI and as root that is a failure.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test says what it expects by panicking; its functions, too"
)]

#[path = "../../nic-netlink/tests/namespace/mod.rs"]
mod namespace;

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::time::Duration;

use namespace::{in_namespace, run};
use nic_host::Host;
use nic_netlink::{IfIndex, Netlink};
use nic_topology::{NetworkState, Place, RestoreOptions, RestoreOutcome, restore};

const OPTIONS: RestoreOptions = RestoreOptions {
    deadline: Duration::from_secs(20),
    others_deadline: Duration::from_secs(2),
    patience: Duration::from_secs(4),
    age: Duration::ZERO,
};

fn ip(line: &str) -> String {
    run_line(&format!("ip {line}"))
}

/// Waits until duplicate address detection has ended.
fn settle() {
    while ip("-6 address show").contains("tentative") {
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn configure() {
    for line in [
        "link add bridge0 type bridge",
        "link set bridge0 up",
        "link add test0 type veth peer name test1 address 02:00:00:00:0c:09",
        "link set test1 up",
        "link set test0 up",
        "link add child0 link test0 address 02:00:00:00:0c:01 type macvlan mode bridge",
        "link add child1 link test0 address 02:00:00:00:0c:02 type macvlan mode bridge",
        "link set child0 up alias storage txqueuelen 77 mtu 1400",
        "link set child1 up master bridge0",
        "link set dev child1 type bridge_slave isolated on",
        "address add 192.0.2.1/24 brd + dev test0 label test0:x",
        "address add 192.0.2.2/24 dev test0",
        "address add 203.0.113.5/28 dev child0 valid_lft 1000 preferred_lft 500",
        "-6 address add 2001:db8::1/64 dev test0",
        "-6 address add 2001:db8::2/64 dev test0",
        "-6 address add 2001:db8:0:1::1/64 dev child0",
        "route add 10.0.0.0/8 via 192.0.2.9 dev test0 src 192.0.2.2 metric 5",
        "route add default dev test0 table 1000 proto static scope link",
        "route add 10.9.0.0/16 table 1000 nexthop via 192.0.2.9 dev test0 weight 3 nexthop via 203.0.113.6 dev child0",
        "-6 route add default via 2001:db8::9 dev test0 metric 99",
        "rule add priority 100 iif test0 lookup 1000",
        "neighbour add 192.0.2.9 lladdr 02:00:00:00:0d:01 dev test0 nud permanent",
    ] {
        ip(line);
    }
    // The kernel refuses a tentative address as a route's source.
    settle();
    ip("-6 route add 2001:db8:7::/48 via 2001:db8::9 dev test0 src 2001:db8::2");
}

/// What iproute2 says, without indexes and lifetimes.
fn seen() -> String {
    settle();
    let mut lines = Vec::new();
    for question in [
        "-o address",
        "-4 route show table all",
        "-6 route show table all",
        "rule",
        "neighbour show nud permanent",
        "-d -o link show dev child0",
        "-d -o link show dev child1",
    ] {
        for line in ip(question).lines() {
            let line = line
                .split_once(": ")
                .filter(|(index, _)| index.parse::<u32>().is_ok())
                .map_or(line, |(_, rest)| rest);
            let line = line.split("valid_lft").next().unwrap();
            let of_port = line.split_once("designated_port").map_or(line, |(line, _)| line);
            let hidden = ["tentative", "linkdown"];
            let words: Vec<_> = of_port.split_whitespace().filter(|word| !hidden.contains(word)).collect();
            lines.push(words.join(" "));
        }
    }
    // Which of two links is listed first follows from their indexes.
    lines.sort();
    lines.join("\n")
}

async fn index(netlink: &Netlink) -> IfIndex {
    netlink.links().await.unwrap().by_name("test0").unwrap_or_else(|| panic!("no test0")).index
}

/// The link goes and comes back as a driver would make it. Returns which index is now which.
async fn reload(netlink: &Netlink) -> BTreeMap<IfIndex, IfIndex> {
    let before = netlink.link(index(netlink).await).await.unwrap().unwrap();
    ip("link delete test0");
    ip(&format!(
        "link add test0 address {} type veth peer name test1 address 02:00:00:00:0c:09",
        before.address
    ));
    ip("link set test1 up");
    ip("link set test0 up");
    BTreeMap::from([(before.index, index(netlink).await)])
}

async fn restored(
    host: &Host,
    netlink: &Netlink,
    saved: &NetworkState,
    devices: &BTreeMap<IfIndex, IfIndex>,
) -> RestoreOutcome {
    restore(host, netlink, saved, devices, OPTIONS).await.unwrap()
}

#[test]
fn everything_that_went_with_a_link_is_back_and_a_second_restore_has_nothing_to_do() {
    if in_namespace("everything_that_went_with_a_link_is_back_and_a_second_restore_has_nothing_to_do") {
        run(async {
            configure();
            let dir = tempfile::tempdir().unwrap();
            let (host, netlink) = (Host::at(dir.path()), Netlink::connect().unwrap());
            let saved = NetworkState::observe(&host, &netlink, &[index(&netlink).await]).await.unwrap();
            let before = seen();
            let devices = reload(&netlink).await;
            assert!(!ip("-o address").contains("192.0.2.1"), "the kernel removes the addresses");
            let outcome = restored(&host, &netlink, &saved, &devices).await;
            assert!(outcome.is_verified() && outcome.failures.is_empty(), "{outcome:#?}");
            let after = seen();
            assert!(before == after, "BEFORE\n{before}\nAFTER\n{after}\n{:#?}", outcome.done);
            let again = restored(&host, &netlink, &saved, &devices).await;
            assert_eq!((again.done.len(), again.differences.len()), (0, 0), "{again:#?}");
        });
    }
}

#[test]
fn a_manager_is_waited_for_and_what_it_did_not_do_is_done() {
    if in_namespace("a_manager_is_waited_for_and_what_it_did_not_do_is_done") {
        run(async {
            configure();
            let dir = tempfile::tempdir().unwrap();
            let (host, netlink) = (Host::at(dir.path()), Netlink::connect().unwrap());
            let folder = dir.path().join("run/NetworkManager/devices");
            fs::create_dir_all(&folder).unwrap();
            let managed = |index: IfIndex| {
                fs::write(folder.join(index.to_string()), "[device]\nmanaged=true\n").unwrap();
            };
            let old = index(&netlink).await;
            managed(old);
            let saved = NetworkState::observe(&host, &netlink, &[old]).await.unwrap();
            let devices = reload(&netlink).await;
            managed(index(&netlink).await);
            let start = std::time::Instant::now();
            let manager = std::thread::spawn(|| {
                std::thread::sleep(Duration::from_millis(300));
                ip("address add 192.0.2.1/24 brd + dev test0");
            });
            let outcome = restored(&host, &netlink, &saved, &devices).await;
            manager.join().unwrap();
            assert!(start.elapsed() >= OPTIONS.others_deadline, "it was waited for");
            assert!(outcome.is_verified(), "{outcome:#?}");
            assert!(!outcome.done.iter().any(|step| step.contains("192.0.2.1/24")), "{outcome:#?}");
            assert!(outcome.done.iter().any(|step| step.contains("192.0.2.2/24")), "{outcome:#?}");
            let [left] = &outcome.left_to[..] else { panic!("{outcome:#?}") };
            assert_eq!((left.link.as_str(), left.did_all), ("test0", false));
            let labels: Vec<_> = outcome.differences.iter().map(ToString::to_string).collect();
            assert_eq!(labels, ["address 192.0.2.1/24 dev test0: label is test0, was test0:x"]);
        });
    }
}

/// The route of metric 5 leads to a router that nothing saved leads to.
fn lead_to_another_router(saved: &mut NetworkState) {
    let route = saved.routes.iter_mut().find(|route| route.priority == 5).unwrap();
    route.next_hops.first_mut().unwrap().gateway = Some("172.16.0.1".parse().unwrap());
}

#[test]
fn what_cannot_be_given_back_is_named_with_the_kernels_reason() {
    if in_namespace("what_cannot_be_given_back_is_named_with_the_kernels_reason") {
        run(async {
            configure();
            let dir = tempfile::tempdir().unwrap();
            let (host, netlink) = (Host::at(dir.path()), Netlink::connect().unwrap());
            let mut saved = NetworkState::observe(&host, &netlink, &[index(&netlink).await]).await.unwrap();
            let devices = reload(&netlink).await;
            // A router that no route leads to.
            lead_to_another_router(&mut saved);
            let outcome = restored(&host, &netlink, &saved, &devices).await;
            assert!(!outcome.is_verified());
            let [failure] = &outcome.failures[..] else { panic!("{outcome:#?}") };
            assert_eq!(failure.step, "route add 10.0.0.0/8 via 172.16.0.1 dev test0 metric 5");
            assert!(failure.cause.contains("Nexthop has invalid gateway"), "{failure:?}");
            assert_eq!(outcome.differences.len(), 1, "{outcome:#?}");
        });
    }
}

/// Patience for the kernel that is shorter than what the others below take.
const SHORT: RestoreOptions = RestoreOptions {
    patience: Duration::from_millis(500),
    others_deadline: Duration::from_secs(15),
    ..OPTIONS
};
const OTHERS_TAKE: Duration = Duration::from_secs(2);

#[test]
fn fault_6_6_what_is_up_to_others_is_waited_for_and_nothing_else_is() {
    if in_namespace("fault_6_6_what_is_up_to_others_is_waited_for_and_nothing_else_is") {
        run(async {
            configure();
            let dir = tempfile::tempdir().unwrap();
            let (host, netlink) = (Host::at(dir.path()), Netlink::connect().unwrap());
            let mut saved = NetworkState::observe(&host, &netlink, &[index(&netlink).await]).await.unwrap();
            let devices = reload(&netlink).await;
            // A router that an address leads to which keepalived sets, and which is no part of what is saved.
            lead_to_another_router(&mut saved);
            // A link that somebody else makes again, and that nothing here can make.
            let lost = saved.links.iter_mut().find(|link| link.name.as_str() == "child0").unwrap();
            let Place::Child { lower, .. } = lost.place else { panic!("{lost:?}") };
            lost.place = Place::LostChild { lower };
            let start = std::time::Instant::now();
            let others = std::thread::spawn(|| {
                std::thread::sleep(OTHERS_TAKE);
                ip("address add 172.16.0.9/24 dev test0");
                std::thread::sleep(OTHERS_TAKE);
                ip("link add child0 link test0 address 02:00:00:00:0c:01 type macvlan mode bridge");
            });
            let outcome = restore(&host, &netlink, &saved, &devices, SHORT).await.unwrap();
            assert!(start.elapsed() >= 2 * OTHERS_TAKE, "the others were not waited for: {outcome:#?}");
            others.join().unwrap();
            assert!(start.elapsed() < SHORT.others_deadline, "what nobody owes was waited for");
            assert!(outcome.is_verified(), "{outcome:#?}");
            let start = std::time::Instant::now();
            let again = restore(&host, &netlink, &saved, &devices, SHORT).await.unwrap();
            assert!(again.is_verified() && again.done.is_empty(), "{again:#?}");
            assert!(start.elapsed() < SHORT.patience, "nothing is owed, and took {:?}", start.elapsed());
        });
    }
}

fn run_line(line: &str) -> String {
    let mut words = line.split_whitespace();
    let output = Command::new(words.next().unwrap()).args(words).output().expect("iproute2 is needed");
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What iproute2 says of the VXLAN, without indexes.
fn vxlan_seen() -> String {
    let lines = [
        "ip -d -o link show dev vx0",
        "bridge fdb show dev vx0",
        "ip -4 address show dev vx0",
        "ip route show dev vx0",
    ];
    let text: Vec<String> = lines.map(run_line).to_vec();
    let mut words: Vec<String> = text.join("\n").split_whitespace().skip(1).map(str::to_owned).collect();
    // Indexes, and the long numbers of ports and times.
    let is_number = |word: &str| word.parse::<u32>().is_ok();
    words.retain(|word| {
        !word.strip_suffix(':').is_some_and(is_number) && (!is_number(word) || word.len() < 3)
    });
    words.sort();
    words.join(" ")
}

#[test]
fn fault_6_1_a_vxlan_is_back_with_its_entries() {
    if in_namespace("fault_6_1_a_vxlan_is_back_with_its_entries") {
        run(async {
            configure();
            let dir = tempfile::tempdir().unwrap();
            let (host, netlink) = (Host::at(dir.path()), Netlink::connect().unwrap());
            for line in [
                "ip link add vx0 address 02:00:00:00:0e:01 type vxlan id 7 dev test0 dstport 4789 local 192.0.2.1 \
                 remote 192.0.2.66 nolearning ttl inherit tos 4 gbp udpcsum srcport 5000 6000",
                "ip link set vx0 up mtu 1300",
                "ip address add 10.244.0.1/24 dev vx0",
                "ip route add 10.244.1.0/24 via 10.244.0.2 dev vx0",
                "bridge fdb append 00:00:00:00:00:00 dev vx0 dst 192.0.2.77",
                "bridge fdb append 02:00:00:00:0e:02 dev vx0 dst 192.0.2.77 port 4790 vni 8 via test0",
                "ip link add bridge1 type bridge",
                "ip link add vx1 type vxlan id 8 dev test0 dstport 4789",
                "ip link set vx1 master bridge1",
                "bridge fdb add 02:00:00:00:0e:03 dev vx1 master static",
            ] {
                run_line(line);
            }
            let old = index(&netlink).await;
            let saved = NetworkState::observe(&host, &netlink, &[old]).await.unwrap();
            let (before, bridge) = (vxlan_seen(), run_line("bridge fdb show dev vx1"));
            let devices = reload(&netlink).await;
            assert!(!ip("-o link").contains("vx0"), "the kernel removes it");
            let outcome = restored(&host, &netlink, &saved, &devices).await;
            assert!(outcome.is_verified() && outcome.failures.is_empty(), "{outcome:#?}");
            assert_eq!(vxlan_seen(), before);
            let now = run_line("bridge fdb show dev vx1");
            assert!(now.contains("02:00:00:00:0e:03"), "BEFORE {bridge}\nAFTER {now}");
            let again = restored(&host, &netlink, &saved, &devices).await;
            assert_eq!((again.done.len(), again.differences.len()), (0, 0), "{again:#?}");
        });
    }
}

//! Against the running kernel, each test in a network namespace of its own, with a pair of veth links.
//!
//! A test starts itself again under unshare(1). Where that is refused (no user namespaces, no unshare) the test says
//! that it was skipped; in CI and as root that is a failure.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test says what it expects by panicking; its functions, too"
)]

mod namespace;

use std::process::{Command, Stdio};
use std::time::Duration;

use namespace::{in_namespace, run};
use nic_netlink::{
    Change, ChangeError, Changes, Devlink, DevlinkHandle, IfIndex, Link, LinkChange, LinkElsewhere,
    LinkEvent, LinkEvents, LinkLayer, LinkName, MacAddress, Netlink, VfChange,
};
use rtnetlink::{LinkBridge, LinkVeth};
use rustix::io::Errno;

fn name(text: &str) -> LinkName {
    text.parse().unwrap()
}

/// Creates links by the library this crate builds its messages with.
struct Maker(rtnetlink::Handle);

impl Maker {
    fn new() -> Self {
        let (connection, handle, _) = rtnetlink::new_connection().unwrap();
        tokio::spawn(connection);
        Self(handle)
    }

    async fn veth(&self, one: &str, other: &str) {
        self.0.link().add(LinkVeth::new(one, other).build()).execute().await.unwrap();
    }

    async fn delete(&self, index: IfIndex) {
        self.0.link().del(index.0).execute().await.unwrap();
    }
}

async fn index_of(netlink: &Netlink, name: &str) -> IfIndex {
    netlink.links().await.unwrap().by_name(name).unwrap_or_else(|| panic!("no {name}")).index
}

async fn read(netlink: &Netlink, index: IfIndex) -> Link {
    netlink.link(index).await.unwrap().expect("the link is gone")
}

/// A container's macvlan on a link of this namespace, and one on a link of its own.
#[test]
fn fault_4_what_stands_on_a_link_in_another_namespace_is_found() {
    if in_namespace("fault_4_what_stands_on_a_link_in_another_namespace_is_found") {
        run(async {
            Maker::new().veth("test0", "test1").await;
            let netlink = Netlink::connect().unwrap();
            assert_eq!(netlink.links_elsewhere().await.unwrap().links, []);
            let ip = |line: &str| {
                let done = Command::new("ip").args(line.split(' ')).output().unwrap();
                assert!(done.status.success(), "ip {line}: {}", String::from_utf8_lossy(&done.stderr));
            };
            let mut container = Command::new("unshare").args(["--net", "sleep", "100"]).spawn().unwrap();
            let of = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/net"));
            let process = container.id().to_string();
            while of(&process).unwrap() == of("self").unwrap() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            ip("link add kid link test0 type macvlan mode bridge");
            ip("link add brother link test1 type macvlan mode bridge");
            ip(&format!("link set kid netns {process}"));
            Maker::new().veth("test2", "test3").await;
            ip(&format!("link set test3 netns {process}"));
            let lower = index_of(&netlink, "test0").await;
            let kid = LinkElsewhere { name: name("kid"), kind: Some("macvlan".to_owned()), lower };
            let found = netlink.links_elsewhere().await.unwrap();
            assert!(found.not_known.is_empty(), "{found:?}");
            let found = found.links;
            // The other end of a pair of veth links names this one, too, and stands on nothing.
            assert!(found.contains(&kid), "{found:?}");
            assert!(
                found.iter().all(|link| *link == kid || link.kind.as_deref() == Some("veth")),
                "{found:?}"
            );
            container.kill().unwrap();
            container.wait().unwrap();
        });
    }
}

#[test]
fn every_change_is_carried_out_and_read_back() {
    if in_namespace("every_change_is_carried_out_and_read_back") {
        run(async {
            Maker::new().veth("test0", "test1").await;
            let netlink = Netlink::connect().unwrap();
            let index = index_of(&netlink, "test0").await;
            let before = read(&netlink, index).await;
            assert_eq!((before.kind.as_deref(), before.link_layer), (Some("veth"), LinkLayer::Ethernet));
            assert!(!before.up);
            let vfs = netlink.vfs(index).await.unwrap().unwrap();
            assert_eq!((vfs.count(), vfs.iter().count()), (0, 0));
            let mac = MacAddress([2, 0, 0, 0, 0x0b, 1]);
            let changes = [
                LinkChange::Name(name("renamed0")),
                LinkChange::Mtu(9000),
                LinkChange::Address(mac.into()),
                LinkChange::TxQueueLength(500),
                LinkChange::Alias("uplink of rack 7".to_owned()),
                LinkChange::Group(7),
                LinkChange::Promiscuous(true),
                LinkChange::AllMulticast(true),
                LinkChange::AddAltName("a-name-of-more-than-fifteen-bytes".to_owned()),
                LinkChange::Up(true),
            ];
            for change in &changes {
                netlink.change(index, change).await.unwrap();
            }
            let after = read(&netlink, index).await;
            let expected = Link {
                name: name("renamed0"),
                mtu: 9000,
                address: mac.into(),
                tx_queue_length: 500,
                alias: Some("uplink of rack 7".to_owned()),
                group: 7,
                promiscuous: true,
                all_multicast: true,
                altnames: vec!["a-name-of-more-than-fifteen-bytes".to_owned()],
                up: true,
                // Whether it works follows from its peer, in a way that differs between kernels.
                oper_state: after.oper_state,
                running: after.running,
                ..before.clone()
            };
            assert_eq!(after, expected);
            let links = netlink.links().await.unwrap();
            assert_eq!(links.get(index), Some(&after), "listed and asked for alone, a link is the same");
            assert_eq!(
                links.by_name("a-name-of-more-than-fifteen-bytes").map(|link| link.index),
                Some(index)
            );

            let back = [
                LinkChange::Up(false),
                LinkChange::Name(before.name.clone()),
                LinkChange::Mtu(before.mtu),
                LinkChange::Address(before.address.clone()),
                LinkChange::TxQueueLength(before.tx_queue_length),
                LinkChange::Alias(String::new()),
                LinkChange::Group(0),
                LinkChange::Promiscuous(false),
                LinkChange::AllMulticast(false),
                LinkChange::RemoveAltName("a-name-of-more-than-fifteen-bytes".to_owned()),
            ];
            for change in &back {
                netlink.change(index, change).await.unwrap();
            }
            let restored = read(&netlink, index).await;
            assert_eq!(
                restored,
                Link { oper_state: restored.oper_state, running: restored.running, ..before }
            );
        });
    }
}

#[test]
fn a_refusal_names_the_link_the_change_and_the_kernels_reason() {
    if in_namespace("a_refusal_names_the_link_the_change_and_the_kernels_reason") {
        run(async {
            Maker::new().veth("test0", "test1").await;
            let netlink = Netlink::connect().unwrap();
            let index = index_of(&netlink, "test0").await;
            let error = netlink.change(index, &LinkChange::Mtu(70_000)).await.unwrap_err();
            assert_eq!(error.to_string(), format!("cannot set mtu 70000 of test0 (ifindex {index})"));
            assert_eq!(error.errno(), Some(Errno::INVAL));
            assert_eq!(error.source.kernel_message(), Some("mtu greater than device maximum"));

            let taken = netlink.change(index, &LinkChange::Name(name("test1"))).await.unwrap_err();
            assert_eq!(taken.errno(), Some(Errno::EXIST));

            let error = netlink.change_vf(index, 3, &VfChange::Trust(true)).await.unwrap_err();
            assert_eq!(error.to_string(), format!("cannot set trust on of VF 3 of test0 (ifindex {index})"));
            assert_eq!(error.errno(), Some(Errno::OPNOTSUPP));

            let missing = IfIndex(4_000);
            assert_eq!(netlink.link(missing).await.unwrap(), None);
            let error: ChangeError = netlink.change(missing, &LinkChange::Up(true)).await.unwrap_err();
            assert_eq!((error.errno(), error.name), (Some(Errno::NODEV), None));
        });
    }
}

#[test]
fn events_follow_a_link_through_its_life() {
    if in_namespace("events_follow_a_link_through_its_life") {
        run(async {
            let mut events = LinkEvents::subscribe().unwrap();
            let maker = Maker::new();
            maker.veth("test0", "test1").await;
            let netlink = Netlink::connect().unwrap();
            let index = index_of(&netlink, "test0").await;
            netlink.change(index, &LinkChange::Name(name("renamed0"))).await.unwrap();
            maker.delete(index).await;
            let mut names = Vec::new();
            loop {
                match events.recv().await.unwrap() {
                    LinkEvent::Changed(link) if link.index == index => names.push(link.name.to_string()),
                    LinkEvent::Changed(_) => {}
                    LinkEvent::Gone(gone) if gone == index => break,
                    LinkEvent::Gone(_) => {}
                    LinkEvent::Overrun => panic!("a few events overran the buffer"),
                }
            }
            names.dedup();
            assert_eq!(names, ["test0", "renamed0"]);
        });
    }
}

#[test]
fn leaving_a_bridge_is_not_the_end_of_a_link() {
    if in_namespace("leaving_a_bridge_is_not_the_end_of_a_link") {
        run(async {
            let maker = Maker::new();
            maker.veth("test0", "test1").await;
            maker.0.link().add(LinkBridge::new("bridge0").build()).execute().await.unwrap();
            let netlink = Netlink::connect().unwrap();
            let (index, bridge) = (index_of(&netlink, "test0").await, index_of(&netlink, "bridge0").await);
            let mut events = LinkEvents::subscribe().unwrap();
            netlink.change(index, &LinkChange::Master(Some(bridge))).await.unwrap();
            assert_eq!(read(&netlink, index).await.master, Some(bridge));
            netlink.change(index, &LinkChange::Master(None)).await.unwrap();
            netlink.change(index, &LinkChange::Mtu(1400)).await.unwrap();
            let mut masters = Vec::new();
            loop {
                match events.recv().await.unwrap() {
                    LinkEvent::Changed(link) if link.index == index => {
                        masters.push(link.master);
                        if link.mtu == 1400 {
                            break;
                        }
                    }
                    LinkEvent::Changed(_) => {}
                    LinkEvent::Gone(gone) => panic!("{gone} is not gone"),
                    LinkEvent::Overrun => panic!("a few events overran the buffer"),
                }
            }
            assert!(masters.contains(&Some(bridge)), "{masters:?}");
        });
    }
}

#[test]
fn a_list_that_changes_while_it_is_read_loses_no_link() {
    if in_namespace("a_list_that_changes_while_it_is_read_loses_no_link") {
        run(async {
            let maker = Maker::new();
            for number in 0..40 {
                maker.veth(&format!("stay{number}"), &format!("peer{number}")).await;
            }
            let netlink = Netlink::connect().unwrap();
            let churn = tokio::spawn(async move {
                loop {
                    maker.veth("churn0", "churn1").await;
                    let index = maker.0.link().get().match_name("churn0".to_owned()).execute();
                    let link =
                        futures_util::TryStreamExt::try_next(&mut Box::pin(index)).await.unwrap().unwrap();
                    maker.delete(IfIndex(link.header.index)).await;
                }
            });
            for _ in 0..50 {
                let links = netlink.links().await.unwrap();
                let staying = links.iter().filter(|link| link.name.as_str().starts_with("stay")).count();
                assert_eq!(staying, 40);
            }
            assert!(!churn.is_finished(), "{:?}", churn.await);
        });
    }
}

#[test]
fn a_link_that_moves_to_another_namespace_is_gone() {
    if in_namespace("a_link_that_moves_to_another_namespace_is_gone") {
        run(async {
            Maker::new().veth("test0", "test1").await;
            let netlink = Netlink::connect().unwrap();
            let index = index_of(&netlink, "test0").await;
            let mut changes = Changes::subscribe(&nic_host::Host::running()).unwrap();
            // It says when it is in its namespace, and ends with its standard input.
            let mut other = Command::new("unshare")
                .args(["--net", "sh", "-c", "echo ready; read end"])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut ready = [0; 6];
            std::io::Read::read_exact(other.stdout.as_mut().unwrap(), &mut ready).unwrap();
            netlink.change(index, &LinkChange::NamespaceOfPid(other.id())).await.unwrap();
            while changes.recv().await.unwrap() != Change::Link(LinkEvent::Gone(index)) {}
            assert_eq!(netlink.link(index).await.unwrap(), None);
            let peer = read(&netlink, index_of(&netlink, "test1").await).await;
            assert!(peer.link_netns_id.is_some(), "{peer:?}");
            drop(other.stdin.take());
            other.wait().unwrap();
        });
    }
}

#[test]
fn many_requests_at_once_are_all_answered() {
    if in_namespace("many_requests_at_once_are_all_answered") {
        run(async {
            Maker::new().veth("test0", "test1").await;
            let netlink = Netlink::connect().unwrap();
            let index = index_of(&netlink, "test0").await;
            let mut requests = tokio::task::JoinSet::new();
            for vf in 0..500 {
                let netlink = netlink.clone();
                requests.spawn(async move {
                    netlink.change_vf(index, vf, &VfChange::Trust(true)).await.unwrap_err()
                });
            }
            for error in requests.join_all().await {
                assert_eq!(error.errno(), Some(Errno::OPNOTSUPP), "{error}");
            }
        });
    }
}

#[test]
fn a_dropped_connection_leaves_no_thread() {
    if in_namespace("a_dropped_connection_leaves_no_thread") {
        run(async {
            let threads = || {
                let tasks = std::fs::read_dir("/proc/self/task").unwrap();
                let names =
                    tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok());
                names.filter(|name| name.trim() == "netlink").count()
            };
            let netlink = Netlink::connect().unwrap();
            let events = LinkEvents::subscribe().unwrap();
            netlink.links().await.unwrap();
            assert_eq!(threads(), 2);
            drop((netlink, events));
            while threads() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
    }
}

#[test]
fn a_device_without_devlink_has_no_eswitch() {
    if in_namespace("a_device_without_devlink_has_no_eswitch") {
        run(async {
            let devlink = Devlink::connect().unwrap();
            let nowhere = DevlinkHandle::pci("ffff:ff:1f.7");
            assert_eq!(devlink.eswitch(&nowhere).await.unwrap(), None);
            assert_eq!(devlink.ports(Some(&nowhere)).await.unwrap(), []);
            devlink.devices().await.unwrap();
        });
    }
}

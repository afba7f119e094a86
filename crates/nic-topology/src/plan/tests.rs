use nic_netlink::{
    Address, AddressFlags, ChildKind, HexBytes, IpVersion, Link, LinkAddress, Neighbour, NextHop, OperState,
    Port, Prefix, RawAttribute, Route, Rule, StackedLink, VlanProtocol,
};

mod check;
mod many;
mod not_known;
mod standing;

use super::*;
use crate::{Difference, Gravity, Uplinks, compare};

const NOW: Duration = Duration::ZERO;

fn link(index: u32, name: &str, kind: Option<&str>) -> StackedLink {
    let link = Link {
        kind: kind.map(str::to_owned),
        address: LinkAddress(vec![2, 0, 0, 0, 0, u8::try_from(index % 100).unwrap()]),
        mtu: 1500,
        up: true,
        running: true,
        oper_state: OperState::Up,
        tx_queue_length: 1000,
        ..Link::new(IfIndex(index), name.parse().unwrap())
    };
    StackedLink { link, standing: Standing::Alone, child: None, port: None }
}

fn vlan(index: u32, name: &str, lower: u32, id: u16) -> StackedLink {
    let mut link = link(index, name, Some("vlan"));
    link.link.link = Some(IfIndex(lower));
    link.standing = Standing::GoesWith(vec![IfIndex(lower)]);
    link.child = Some(ChildKind::Vlan {
        id,
        protocol: VlanProtocol::Ieee8021Q,
        flags: 1,
        ingress_qos: Vec::new(),
        egress_qos: Vec::new(),
    });
    link
}

fn port_of(master: u32, kind: &str, settings: &[(u16, u8)], mut link: StackedLink) -> StackedLink {
    let setting =
        |(number, value): &(u16, u8)| RawAttribute { number: *number, value: HexBytes(vec![*value]) };
    link.link.master = Some(IfIndex(master));
    link.port = Some(Port { master_kind: kind.to_owned(), settings: settings.iter().map(setting).collect() });
    link
}

fn address(index: u32, text: &str) -> Address {
    let (address, length) = text.split_once('/').unwrap();
    Address {
        index: IfIndex(index),
        address: address.parse().unwrap(),
        prefix_length: length.parse().unwrap(),
        peer: None,
        broadcast: None,
        label: None,
        scope: 0,
        flags: AddressFlags::PERMANENT,
        preferred_s: None,
        valid_s: None,
        metric: None,
        origin: 0,
    }
}

fn hop(index: u32, gateway: Option<&str>) -> NextHop {
    NextHop {
        index: Some(IfIndex(index)),
        gateway: gateway.map(|gateway| gateway.parse().unwrap()),
        weight: 1,
        onlink: false,
        realm: None,
        encapsulation: None,
    }
}

fn route(destination: &str, next_hops: Vec<NextHop>) -> Route {
    let (address, length) = destination.split_once('/').unwrap();
    let destination = Prefix { address: address.parse().unwrap(), length: length.parse().unwrap() };
    Route {
        version: if destination.address.is_ipv4() { IpVersion::V4 } else { IpVersion::V6 },
        destination,
        source: None,
        table: Route::MAIN_TABLE,
        kind: Route::UNICAST,
        scope: 0,
        protocol: 4,
        tos: 0,
        priority: 0,
        preferred_source: None,
        next_hops,
        metrics: Vec::new(),
        expires_s: None,
        preference: None,
        next_hop_object: None,
    }
}

fn by_kernel(destination: &str, index: u32) -> Route {
    Route { protocol: Route::BY_KERNEL, ..route(destination, vec![hop(index, None)]) }
}

fn rule(interface: &str) -> Rule {
    Rule {
        version: IpVersion::V4,
        priority: 100,
        source: None,
        destination: None,
        input_interface: Some(interface.to_owned()),
        output_interface: None,
        tos: 0,
        action: 1,
        inverted: false,
        table: 1000,
        others: Vec::new(),
    }
}

fn neighbour(index: u32, address: &str) -> Neighbour {
    Neighbour {
        index: IfIndex(index),
        address: address.parse().unwrap(),
        link_address: "02:00:00:00:0d:01".parse().unwrap(),
        flags: 0,
        protocol: 0,
    }
}

fn json(state: &NetworkState) -> serde_json::Value {
    serde_json::to_value(state).unwrap()
}

fn links(links: Vec<StackedLink>) -> BTreeMap<IfIndex, StackedLink> {
    links.into_iter().map(|link| (link.link.index, link)).collect()
}

/// PFs 2 and 3 in a bond with a VLAN, which carries the default route; PF 4 with addresses and a VLAN in a bridge; 5 is
/// another driver's.
fn node() -> Network {
    let mut bond = link(20, "bond0", Some("bond"));
    bond.link.address = LinkAddress(vec![2, 0, 0, 0, 0, 2]);
    let mut child = port_of(22, "bridge", &[(33, 1)], vlan(23, "pf2.7", 4, 7));
    child.link.alias = Some("storage".to_owned());
    Network {
        links: links(vec![
            port_of(20, "bond", &[(5, 3)], link(2, "pf0", None)),
            port_of(20, "bond", &[(5, 0)], link(3, "pf1", None)),
            link(4, "pf2", None),
            link(5, "other", None),
            bond,
            vlan(21, "bond0.5", 20, 5),
            link(22, "bridge0", Some("bridge")),
            child,
        ]),
        addresses: vec![
            address(4, "192.0.2.1/24"),
            address(4, "192.0.2.2/24"),
            address(21, "203.0.113.1/24"),
            address(5, "198.51.100.1/24"),
            address(4, "2001:db8::2/64"),
            address(4, "2001:db8::1/64"),
            Address { origin: 3, ..address(4, "fe80::1/64") },
        ],
        neighbours: vec![neighbour(4, "192.0.2.9"), neighbour(5, "198.51.100.9")],
        routes: vec![
            route("0.0.0.0/0", vec![hop(21, Some("203.0.113.254"))]),
            Route { table: 1000, ..route("10.0.0.0/8", vec![hop(4, Some("192.0.2.9"))]) },
            Route { table: 1000, ..route("172.16.0.0/12", vec![hop(4, None)]) },
            Route {
                preferred_source: Some("192.0.2.2".parse().unwrap()),
                ..route("10.1.0.0/16", vec![hop(5, None)])
            },
            by_kernel("192.0.2.0/24", 4),
            by_kernel("203.0.113.0/24", 21),
            Route { kind: 2, table: 255, ..by_kernel("192.0.2.1/32", 4) },
            by_kernel("2001:db8::/64", 4),
            by_kernel("fe80::/64", 4),
            Route {
                protocol: Route::BY_ROUTER_ADVERTISEMENT,
                ..route("::/0", vec![hop(4, Some("fe80::9"))])
            },
        ],
        rules: vec![rule("pf2"), rule("other")],
        ..Network::default()
    }
}

const PFS: [IfIndex; 3] = [IfIndex(2), IfIndex(3), IfIndex(4)];

/// The PFs' new indexes.
fn new_indexes() -> BTreeMap<IfIndex, IfIndex> {
    PFS.into_iter().map(|index| (index, IfIndex(index.0 + 100))).collect()
}

fn renumbered(index: IfIndex) -> IfIndex {
    // What goes has another index afterwards.
    if [2, 3, 4, 23].contains(&index.0) { IfIndex(index.0 + 100) } else { index }
}

/// The node with everything back, under new indexes.
fn restored() -> Network {
    let node = node();
    let links_now = node.links.into_values().map(|mut stacked| {
        stacked.link.index = renumbered(stacked.link.index);
        stacked.link.link = stacked.link.link.map(renumbered);
        if let Standing::GoesWith(lowers) = &mut stacked.standing {
            lowers.iter_mut().for_each(|lower| *lower = renumbered(*lower));
        }
        stacked
    });
    let hops = |route: &Route| {
        let hop = |hop: &NextHop| NextHop { index: hop.index.map(renumbered), ..hop.clone() };
        route.next_hops.iter().map(hop).collect()
    };
    Network {
        links: links(links_now.collect()),
        addresses: node
            .addresses
            .iter()
            .map(|one| Address { index: renumbered(one.index), ..one.clone() })
            .collect(),
        neighbours: node
            .neighbours
            .iter()
            .map(|one| Neighbour { index: renumbered(one.index), ..one.clone() })
            .collect(),
        routes: node.routes.iter().map(|route| Route { next_hops: hops(route), ..route.clone() }).collect(),
        rules: node.rules,
        ..Network::default()
    }
}

/// What the kernel leaves, with the PFs back and bare, and up.
fn reloaded() -> Network {
    let all = restored();
    let mut links = all.links;
    links.remove(&IfIndex(123));
    for index in [102, 103, 104] {
        let stacked = links.get_mut(&IfIndex(index)).unwrap();
        (stacked.link.master, stacked.port) = (None, None);
    }
    links.get_mut(&IfIndex(20)).unwrap().link.address = LinkAddress(vec![6; 6]);
    let stays = |index: IfIndex| index.0 < 100;
    Network {
        links,
        addresses: all.addresses.into_iter().filter(|one| stays(one.index)).collect(),
        neighbours: all.neighbours.into_iter().filter(|one| stays(one.index)).collect(),
        routes: all
            .routes
            .into_iter()
            .filter(|route| route.next_hops.iter().all(|hop| hop.index.is_some_and(stays)))
            .filter(|route| route.preferred_source.is_none())
            .collect(),
        rules: all.rules,
        ..Network::default()
    }
}

fn words(saved: &NetworkState, now: &Network, age: Duration) -> Vec<String> {
    let mapping = LinkMapping::new(saved, now, &new_indexes());
    plan(saved, &mapping, age).iter().map(|step| step.iproute2_text(saved)).collect()
}

#[test]
fn all_that_the_kernel_removed_in_an_order_that_works() {
    let saved = NetworkState::standing_on(&node(), &PFS);
    insta::assert_snapshot!(words(&saved, &reloaded(), NOW).join("\n"), @r#"
    link add pf2.7 link pf2 type vlan protocol 802.1Q id 7
    link set dev pf0 down
    link set dev pf0 master bond0
    link set dev pf1 down
    link set dev pf1 master bond0
    link set dev pf2.7 master bridge0
    link set dev pf2.7 alias "storage"
    link set dev pf0 up
    link set dev pf1 up
    link set dev pf2.7 up
    address add 192.0.2.1/24 dev pf2
    address add 192.0.2.2/24 dev pf2
    address add 2001:db8::1/64 dev pf2
    address add 2001:db8::2/64 dev pf2
    neighbour add 192.0.2.9 lladdr 02:00:00:00:0d:01 dev pf2
    route add 172.16.0.0/12 dev pf2 table 1000
    route add 10.1.0.0/16 dev ifindex 5
    route add 10.0.0.0/8 via 192.0.2.9 dev pf2 table 1000
    "#);
}

#[test]
fn nothing_is_missing_of_a_restored_machine() {
    let saved = NetworkState::standing_on(&node(), &PFS);
    let now = restored();
    assert_eq!(words(&saved, &now, NOW), [""; 0]);
    assert_eq!(compare(&saved, &LinkMapping::new(&saved, &now, &new_indexes()), NOW), []);
}

#[test]
fn what_stays_is_left_as_somebody_has_made_it() {
    let saved = NetworkState::standing_on(&node(), &PFS);
    let mut now = restored();
    now.addresses.retain(|address| address.index != IfIndex(21));
    now.routes.retain(|route| !route.goes_through(IfIndex(21)));
    now.links.get_mut(&IfIndex(21)).unwrap().link.up = false;
    assert_eq!(words(&saved, &now, NOW), [""; 0]);
}

#[test]
fn a_bond_without_its_ports_own_address_gets_it_when_the_ports_are_back() {
    let saved = NetworkState::standing_on(&node(), &PFS);
    let mut now = restored();
    now.links.get_mut(&IfIndex(20)).unwrap().link.address = LinkAddress(vec![6; 6]);
    assert_eq!(words(&saved, &now, NOW), ["link set dev bond0 address 02:00:00:00:00:02"]);
}

#[test]
fn a_port_that_has_joined_gets_the_settings_that_it_lacks() {
    let saved = NetworkState::standing_on(&node(), &PFS);
    let mut now = restored();
    for port in [102, 123] {
        now.links.get_mut(&IfIndex(port)).unwrap().port.as_mut().unwrap().settings[0].value =
            HexBytes(vec![0]);
    }
    assert_eq!(
        words(&saved, &now, NOW),
        ["link set dev pf0 type bond_slave 5 03", "link set dev pf2.7 type bridge_slave 33 01"]
    );
}

#[test]
fn a_missing_device_is_named_and_nothing_is_tried_on_it() {
    let saved = NetworkState::standing_on(&node(), &PFS);
    let mut now = reloaded();
    now.links.remove(&IfIndex(104));
    let mapping = LinkMapping::new(&saved, &now, &new_indexes());
    let left: Vec<_> = plan(&saved, &mapping, NOW).iter().map(|step| step.iproute2_text(&saved)).collect();
    assert!(left.iter().all(|step| !step.contains("pf2")), "{left:?}");
    let differences = compare(&saved, &mapping, NOW);
    let missing = differences.iter().find(|difference| difference.what == "link pf2").unwrap();
    assert_eq!((missing.found.as_str(), missing.gravity), ("missing", Gravity::Wrong));
}

#[test]
fn a_route_in_the_place_of_another_stays_and_is_named() {
    let saved = NetworkState::standing_on(&node(), &PFS);
    let mut now = restored();
    let mine =
        now.routes.iter_mut().find(|route| route.goes_through(IfIndex(104)) && route.has_gateway()).unwrap();
    mine.next_hops[0].gateway = Some("192.0.2.10".parse().unwrap());
    let mapping = LinkMapping::new(&saved, &now, &new_indexes());
    assert_eq!(plan(&saved, &mapping, NOW), []);
    let differences: Vec<String> = compare(&saved, &mapping, NOW).iter().map(ToString::to_string).collect();
    assert_eq!(
        differences,
        [
            "route 10.0.0.0/8 via 192.0.2.9 dev pf2 table 1000: in its place is 10.0.0.0/8 via 192.0.2.10 dev pf2 table 1000"
        ]
    );
}

#[test]
fn a_multipath_route_that_lost_a_way_is_replaced() {
    let mut node = node();
    node.routes =
        vec![route("2001:db8:7::/48", vec![hop(4, Some("2001:db8::9")), hop(5, Some("2001:db8:5::9"))])];
    let saved = NetworkState::standing_on(&node, &PFS);
    let mut now = restored();
    now.routes = vec![route("2001:db8:7::/48", vec![hop(5, Some("2001:db8:5::9"))])];
    let steps = words(&saved, &now, NOW);
    assert_eq!(
        steps,
        [
            "route replace 2001:db8:7::/48 nexthop via 2001:db8::9 dev pf2 nexthop via 2001:db8:5::9 dev ifindex 5"
        ]
    );
    // The kernel lists the ways in any order.
    now.routes =
        vec![route("2001:db8:7::/48", vec![hop(5, Some("2001:db8:5::9")), hop(104, Some("2001:db8::9"))])];
    assert_eq!(words(&saved, &now, NOW), [""; 0]);
}

#[test]
fn what_has_run_out_meanwhile_is_not_given_back() {
    let mut node = node();
    for address in &mut node.addresses {
        (address.preferred_s, address.valid_s) = (Some(20), Some(60));
    }
    node.routes = vec![Route { expires_s: Some(30), ..route("2001:db8:7::/48", vec![hop(4, None)]) }];
    let saved = NetworkState::standing_on(&node, &PFS);
    let mut now = restored();
    (now.addresses, now.routes) = (Vec::new(), Vec::new());
    let mapping = LinkMapping::new(&saved, &now, &new_indexes());
    let steps = plan(&saved, &mapping, Duration::from_secs(25));
    let lifetimes: Vec<_> = steps
        .iter()
        .filter_map(|step| match &step.action {
            Action::Network(NetworkChange::Address(address)) => Some((address.preferred_s, address.valid_s)),
            Action::Network(NetworkChange::AppendRoute(route)) => Some((None, route.expires_s)),
            _ => None,
        })
        .collect();
    let address = (Some(0), Some(35));
    assert_eq!(lifetimes, [address, address, address, address, (None, Some(5))]);
    assert_eq!(plan(&saved, &mapping, Duration::from_secs(60)), []);
}

#[test]
fn a_route_through_an_object_is_its_owners() {
    let mut node = node();
    node.routes =
        vec![Route { next_hop_object: Some(7), ..route("10.0.0.0/8", vec![hop(4, Some("192.0.2.9"))]) }];
    let saved = NetworkState::standing_on(&node, &PFS);
    let now = Network { routes: Vec::new(), ..restored() };
    let mapping = LinkMapping::new(&saved, &now, &new_indexes());
    assert_eq!(plan(&saved, &mapping, NOW), []);
    let differences = compare(&saved, &mapping, NOW);
    assert_eq!(differences.iter().map(|one| one.gravity).collect::<Vec<_>>(), [Gravity::CannotRestore]);
}

#[test]
fn fault_6_4_a_routing_daemons_route_is_its_own_to_make_again() {
    let route_of = |protocol| Route { protocol, ..route("10.0.0.0/8", vec![hop(4, Some("192.0.2.9"))]) };
    for (protocol, whose) in [
        (0, None),
        (3, None),
        (4, None),
        (16, None),
        (11, Some("zebra")),
        (12, Some("bird")),
        (186, Some("bgpd")),
        (188, Some("ospfd")),
        (80, Some("whoever makes routes of protocol 80")),
    ] {
        let saved = NetworkState::standing_on(&Network { routes: vec![route_of(protocol)], ..node() }, &PFS);
        let now = Network { routes: Vec::new(), ..restored() };
        let mapping = LinkMapping::new(&saved, &now, &new_indexes());
        let differences = compare(&saved, &mapping, NOW);
        match whose {
            None => {
                assert_eq!(plan(&saved, &mapping, NOW).len(), 1, "{protocol}");
                assert!(differences.iter().all(Difference::is_wrong), "{protocol}: {differences:?}");
            }
            Some(daemon) => {
                assert_eq!(plan(&saved, &mapping, NOW), [], "{protocol}");
                let [difference] = &differences[..] else { panic!("{protocol}: {differences:?}") };
                assert!(!difference.is_wrong(), "{difference}");
                assert!(
                    difference.to_string().ends_with(&format!("missing: {daemon} has to make it again")),
                    "{difference}"
                );
            }
        }
        // Once it has, nothing is different.
        let now = Network {
            routes: vec![Route { next_hops: vec![hop(104, Some("192.0.2.9"))], ..route_of(protocol) }],
            ..restored()
        };
        assert_eq!(compare(&saved, &LinkMapping::new(&saved, &now, &new_indexes()), NOW), [], "{protocol}");
    }
}

#[test]
fn a_kind_that_cannot_be_made_is_named() {
    let mut node = node();
    let mut macsec = link(30, "macsec0", Some("macsec"));
    macsec.link.link = Some(IfIndex(4));
    macsec.standing = Standing::GoesWith(vec![IfIndex(4)]);
    node.links.insert(IfIndex(30), macsec);
    node.addresses.push(address(30, "10.9.9.1/24"));
    let saved = NetworkState::standing_on(&node, &PFS);
    let now = restored();
    let mapping = LinkMapping::new(&saved, &now, &new_indexes());
    let differences: Vec<String> = compare(&saved, &mapping, NOW).iter().map(ToString::to_string).collect();
    assert_eq!(differences, ["link macsec0: missing: a macsec on pf2, which cannot be made again"]);
}

#[test]
fn fault_3_4_what_will_be_lost_is_named_beforehand() {
    let mut node = node();
    assert_eq!(NetworkState::standing_on(&node, &PFS).lost(), [""; 0]);
    let mut macsec = link(30, "macsec0", Some("macsec"));
    macsec.standing = Standing::GoesWith(vec![IfIndex(4)]);
    let mut xfrm = link(31, "xfrm0", Some("xfrm"));
    xfrm.standing = Standing::BoundTo { lower: IfIndex(4), tunnel: None };
    let mut elsewhere = link(32, "macsec1", Some("macsec"));
    elsewhere.standing = Standing::GoesWith(vec![IfIndex(5)]);
    node.links.extend([macsec, xfrm, elsewhere].map(|stacked| (stacked.link.index, stacked)));
    assert_eq!(
        NetworkState::standing_on(&node, &PFS).lost(),
        [
            "macsec macsec0 on pf2 goes with it, and cannot be made again",
            "xfrm xfrm0 stays bound to pf2, which is gone by then, and cannot be bound anew"
        ]
    );
}

/// Each kind of way out with what the kernel shows of it, and whether it goes through the PFs.
#[test]
fn fault_3_7_a_way_out_that_the_kernel_does_not_show_to_its_end_is_not_taken_for_another() {
    let open_vswitch = |port: IfIndex| {
        let mut node = node();
        node.links.insert(IfIndex(40), link(40, "ovs-system", Some("openvswitch")));
        node.links.insert(IfIndex(41), link(41, "br-ex", Some("openvswitch")));
        node.links.entry(port).and_modify(|stacked| stacked.link.master = Some(IfIndex(40)));
        node.routes = vec![route("0.0.0.0/0", vec![hop(41, Some("192.0.2.1"))])];
        node
    };
    let ours = Uplinks::of(&open_vswitch(PFS[0]), &PFS, &[]);
    assert_eq!(ours.default_routes, ["default via 192.0.2.1 dev br-ex"]);
    // Another vendor's NIC is the datapath's port.
    assert!(!Uplinks::of(&open_vswitch(IfIndex(5)), &PFS, &[]).carry_management());
    for kind in ["wireguard", "tun", "ppp", "veth", "netkit", "dummy", "newkind"] {
        let mut node = node();
        node.links.insert(IfIndex(42), link(42, "out0", Some(kind)));
        let way = route("0.0.0.0/0", vec![hop(42, None)]);
        node.routes = vec![way.clone()];
        let uplinks = Uplinks::of(&node, &PFS, &[("192.0.2.7".parse().unwrap(), way)]);
        assert!(uplinks.carry_management() && uplinks.default_routes.is_empty(), "{kind}");
        assert_eq!(
            uplinks.not_known,
            [
                "route default dev out0, which is lost in out0",
                "the way to the Kubernetes API 192.0.2.7, which is lost in out0"
            ],
            "{kind}"
        );
    }
    let mut node = node();
    node.routes = vec![route("0.0.0.0/0", vec![hop(5, Some("192.0.2.1"))])];
    assert!(!Uplinks::of(&node, &PFS, &[]).carry_management(), "a NIC of another driver is an end");
}

#[test]
fn the_ways_out_are_found_through_bonds_and_vlans() {
    let node = node();
    let api = "10.96.0.1".parse().unwrap();
    let way = route("0.0.0.0/0", vec![hop(21, Some("203.0.113.254"))]);
    let uplinks = Uplinks::of(&node, &PFS[..1], &[(api, way.clone())]);
    insta::assert_snapshot!(uplinks, @"route default via 203.0.113.254 dev bond0.5, the Kubernetes API 10.96.0.1 over bond0.5, bond bond0, vlan bond0.5, address 203.0.113.1/24 of bond0.5");
    assert!(uplinks.carry_management());
    let other = Uplinks::of(&node, &PFS[2..], &[(api, way)]);
    assert_eq!(other.api, []);
    assert!(other.default_routes.iter().all(|route| route.starts_with("-6")), "{other:?}");
    assert!(!Uplinks::of(&node, &[IfIndex(5)], &[]).carry_management());
}

#[test]
fn a_snapshot_is_what_serde_writes() {
    let saved = NetworkState::standing_on(&node(), &PFS);
    let text = serde_json::to_string(&saved).unwrap();
    assert_eq!(json(&serde_json::from_str(&text).unwrap()), json(&saved));
    assert!(!saved.is_bare());
    assert!(NetworkState::standing_on(&node(), &[]).is_bare());
}

#[test]
fn what_stood_on_a_device_that_is_lost_goes_with_it() {
    let saved = NetworkState::standing_on(&node(), &PFS);
    let without = saved.clone().without_devices(&[IfIndex(4)]);
    let names = |state: &NetworkState| -> Vec<String> {
        state.links.iter().map(|link| link.name.as_str().to_owned()).collect()
    };
    // The VLAN went with its device; the bridge that it was in stays.
    assert!(names(&saved).contains(&"pf2.7".to_owned()));
    assert!(!names(&without).iter().any(|name| name == "pf2" || name == "pf2.7"), "{:?}", names(&without));
    assert!(names(&without).contains(&"bond0".to_owned()));
    let on_lost = |index: IfIndex| [4, 23].contains(&index.0);
    assert!(without.addresses.iter().all(|address| !on_lost(address.index)));
    assert!(without.neighbours.is_empty());
    assert!(without.rules.is_empty());
    let only_way = |route: &Route| route.next_hops.iter().all(|hop| hop.index.is_some_and(on_lost));
    assert!(without.routes.iter().all(|route| route.next_hops.is_empty() || !only_way(route)));
    assert!(without.routes.len() < saved.routes.len() && !without.routes.is_empty());
    assert_eq!(json(&saved.clone().without_devices(&[IfIndex(99)])), json(&saved));
}

/// One comparison of each with each would be 10¹⁰ of them, and would not end while somebody waits.
#[test]
fn fault_5_4_as_many_routes_as_a_router_has_are_planned_and_compared() {
    let routes: Vec<Route> = (0..100_000_u32)
        .map(|number| {
            let [_, a, b, c] = number.to_be_bytes();
            route(&format!("10.{a}.{b}.{c}/32"), vec![hop(3, Some("192.0.2.9"))])
        })
        .collect();
    let mut network = Network { links: links(vec![link(3, "pf0", None)]), ..Network::default() };
    network.routes = routes;
    let devices = [IfIndex(3)];
    let saved = NetworkState::standing_on(&network, &devices);
    assert_eq!(saved.routes.len(), 100_000);
    let here = BTreeMap::from([(IfIndex(3), IfIndex(3))]);
    let mapping = LinkMapping::new(&saved, &network, &here);
    assert!(plan(&saved, &mapping, NOW).is_empty());
    assert!(compare(&saved, &mapping, NOW).is_empty());

    let mut now = network.clone();
    now.routes[7].next_hops = vec![hop(3, Some("192.0.2.10"))];
    now.routes.truncate(50_000);
    let mapping = LinkMapping::new(&saved, &now, &here);
    assert_eq!(plan(&saved, &mapping, NOW).len(), 50_000);
    assert_eq!(compare(&saved, &mapping, NOW).len(), 50_001);
}

//! What goes with a link, what stays bound to it, and what nothing is known of.

use nic_netlink::{ForwardingEntry, LinkLayer, MacAddress, Standing, Tunnel};

use super::*;

fn on(kind: &str, index: u32, standing: Standing) -> StackedLink {
    StackedLink { standing, ..link(index, "x0", Some(kind)) }
}

fn goes_with(lower: u32) -> Standing {
    Standing::GoesWith(vec![IfIndex(lower)])
}

fn bound_to(lower: u32, tunnel: Option<&str>) -> Standing {
    let tunnel = tunnel.map(|kind| Tunnel { kind: kind.to_owned(), parameters: Vec::new() });
    Standing::BoundTo { lower: IfIndex(lower), tunnel }
}

/// The node with one more link, and how it is afterwards with `after` in its place.
fn with(before: StackedLink, after: Option<StackedLink>) -> (NetworkState, Network) {
    let mut node = node();
    node.links.insert(before.link.index, before);
    let mut now = restored();
    now.links.extend(after.map(|after| (after.link.index, after)));
    let saved = NetworkState::standing_on(&node, &PFS);
    assert_eq!(saved.check(), Ok(()));
    (saved, now)
}

fn place(saved: &NetworkState) -> &Place {
    &saved.links.iter().find(|link| link.name == "x0").unwrap().place
}

fn told(saved: &NetworkState, now: &Network) -> Vec<String> {
    let mapping = LinkMapping::new(saved, now, &new_indexes());
    compare(saved, &mapping, NOW).iter().map(ToString::to_string).collect()
}

fn entry(index: u32, last: u8, far_end: &str) -> ForwardingEntry {
    ForwardingEntry {
        index: IfIndex(index),
        link_address: MacAddress([2, 0, 0, 0, 0, last]),
        state: 0x80,
        flags: 2,
        vlan: None,
        far_end: Some(far_end.parse().unwrap()),
        port: None,
        vni: None,
        source_vni: None,
        through: None,
        next_hop_object: None,
    }
}

fn vxlan(index: u32, lower: u32) -> StackedLink {
    let attributes = vec![RawAttribute { number: 1, value: HexBytes(7_u32.to_ne_bytes().to_vec()) }];
    let child = Some(ChildKind::Vxlan { attributes });
    StackedLink { child, ..on("vxlan", index, goes_with(lower)) }
}

#[test]
fn fault_6_1_a_vxlan_goes_with_its_interface_and_comes_back_with_its_entries() {
    let mut node = node();
    node.links.insert(IfIndex(30), vxlan(30, 4));
    node.addresses.push(address(30, "10.244.0.1/24"));
    node.routes.push(route("10.244.1.0/24", vec![hop(30, Some("10.244.0.2"))]));
    let through = ForwardingEntry { through: Some(IfIndex(4)), ..entry(30, 8, "192.0.2.78") };
    node.forwarding = vec![entry(30, 7, "192.0.2.77"), through, entry(9, 9, "192.0.2.79")];
    let saved = NetworkState::standing_on(&node, &PFS);
    assert_eq!(saved.forwarding, node.forwarding[..2]);
    let steps = words(&saved, &restored(), NOW);
    assert_eq!(
        steps,
        [
            "link add x0 link pf2 type vxlan id 7",
            "link set dev x0 up",
            "address add 10.244.0.1/24 dev x0",
            "fdb append 02:00:00:00:00:07 dev x0 self dst 192.0.2.77",
            "fdb append 02:00:00:00:00:08 dev x0 self dst 192.0.2.78 via pf2",
            "route add 10.244.1.0/24 via 10.244.0.2 dev x0",
        ]
    );
    let mapping_of = |now| LinkMapping::new(&saved, now, &new_indexes());
    let bare = restored();
    let plan_now = plan(&saved, &mapping_of(&bare), NOW);
    let Some(Step { action: Action::Network(NetworkChange::AddChild(child)), .. }) = plan_now.first() else {
        panic!("{plan_now:?}")
    };
    assert_eq!(child.address, Some(LinkAddress(vec![2, 0, 0, 0, 0, 30])), "peers know it by its address");

    // All but one entry is there, and that under new indexes.
    let mut now = restored();
    now.links.insert(IfIndex(130), vxlan(130, 104));
    now.links.get_mut(&IfIndex(130)).unwrap().link.address = LinkAddress(vec![2, 0, 0, 0, 0, 30]);
    now.addresses.push(address(130, "10.244.0.1/24"));
    now.routes.push(route("10.244.1.0/24", vec![hop(130, Some("10.244.0.2"))]));
    let through = ForwardingEntry { through: Some(IfIndex(104)), ..entry(130, 8, "192.0.2.78") };
    now.forwarding = vec![ForwardingEntry { state: 0x82, ..entry(130, 7, "192.0.2.77") }];
    assert_eq!(
        told(&saved, &now),
        ["fdb append 02:00:00:00:00:08 dev x0 self dst 192.0.2.78 via pf2: missing"]
    );
    now.forwarding.push(through);
    assert_eq!(told(&saved, &now), [""; 0]);
    // On another interface it is another one.
    now.links.insert(IfIndex(130), vxlan(130, 5));
    assert!(words(&saved, &now, NOW).contains(&"link add x0 link pf2 type vxlan id 7".to_owned()));
}

#[test]
fn fault_6_1_of_a_bridge_the_ports_entries_come_back_and_its_own_addresses_are_the_kernels() {
    let mut node = node();
    let of = |last| ForwardingEntry { flags: 4, far_end: None, ..entry(23, last, "192.0.2.77") };
    // The port's address ends in 23, the bridge's in 22.
    node.forwarding = vec![of(23), of(22), of(9), ForwardingEntry { flags: 2, ..of(8) }];
    let saved = NetworkState::standing_on(&node, &PFS);
    assert_eq!(saved.forwarding, [of(9)]);
}

#[test]
fn fault_6_2_a_tunnel_stays_and_is_bound_to_what_came() {
    for kind in ["gretap", "ipip"] {
        let tunnel = |lower| on(kind, 30, bound_to(lower, Some(kind)));
        let (saved, now) = with(tunnel(4), Some(tunnel(4)));
        assert!(matches!(place(&saved), Place::Bound { lower: IfIndex(4), tunnel: Some(_) }), "{saved:?}");
        let step = format!("link set dev x0 type {kind} dev pf2");
        assert_eq!(words(&saved, &now, NOW), [step.as_str()]);
        assert_eq!(told(&saved, &now), [format!("{step}: missing")]);
        // Bound to what came, or to what somebody chose meanwhile.
        for lower in [104, 5] {
            let (saved, now) = with(tunnel(4), Some(tunnel(lower)));
            assert_eq!(told(&saved, &now), [""; 0], "{lower}");
        }
        // Somebody has taken it away.
        let (saved, now) = with(tunnel(4), None);
        let mapping = LinkMapping::new(&saved, &now, &new_indexes());
        let differences = compare(&saved, &mapping, NOW);
        assert!(differences.len() == 1 && !differences[0].is_wrong(), "{differences:?}");
        // Its interface does not come back: nothing is owed to it.
        assert_eq!(plan(&saved.clone().without_devices(&[IfIndex(4)]), &mapping, NOW), []);
    }
}

#[test]
fn fault_6_2_what_cannot_be_bound_anew_is_named() {
    let xfrm = on("xfrm", 30, bound_to(4, None));
    let (saved, now) = with(xfrm.clone(), Some(xfrm));
    assert_eq!(words(&saved, &now, NOW), [""; 0]);
    assert_eq!(
        told(&saved, &now),
        ["link x0: still bound to the pf2 that is gone, and nothing binds a xfrm anew"]
    );
    // A ring of two ports is kept with the one that is left.
    let ring = |ports: &[u32]| {
        on("hsr", 30, Standing::GoesWith(ports.iter().map(|index| IfIndex(*index)).collect()))
    };
    let (saved, now) = with(ring(&[4, 5]), Some(ring(&[5])));
    assert_eq!(
        told(&saved, &now),
        ["link x0: still bound to the pf2 that is gone, and nothing binds a hsr anew"]
    );
    let (saved, now) = with(ring(&[3, 4]), None);
    assert_eq!(told(&saved, &now), ["link x0: missing: a hsr on pf1, which cannot be made again"]);
}

#[test]
fn fault_6_2_a_kind_that_nothing_is_known_of_is_named_by_what_the_kernel_shows() {
    let newkind = |standing| on("newkind", 30, standing);
    let shown =
        |uppers: &[u32]| BTreeMap::from([(IfIndex(4), uppers.iter().map(|one| IfIndex(*one)).collect())]);
    let lost = ["link x0: missing: a newkind on pf2, which cannot be made again"];
    for (standing, uppers, expected) in [
        // Shown above the PF: it goes, whatever it says itself.
        (Standing::Alone, shown(&[23, 30]), &lost[..]),
        (Standing::NotKnown(IfIndex(4)), shown(&[23, 30]), &lost),
        (bound_to(4, Some("newkind")), shown(&[23, 30]), &lost),
        // Not shown: the kernel keeps it.
        (Standing::Alone, shown(&[23]), &[]),
        (Standing::NotKnown(IfIndex(4)), shown(&[23]), &["link x0: missing"]),
        // Not asked.
        (Standing::NotKnown(IfIndex(4)), BTreeMap::new(), &lost),
    ] {
        let mut node = node();
        node.links.insert(IfIndex(30), newkind(standing.clone()));
        node.uppers = uppers;
        let saved = NetworkState::standing_on(&node, &PFS);
        assert_eq!(told(&saved, &restored()), expected, "{standing:?}");
        // It may have been kept after all, and somebody may have made it again.
        let mut now = restored();
        now.links.insert(IfIndex(30), newkind(Standing::Alone));
        assert_eq!(told(&saved, &now), [""; 0], "{standing:?}");
    }
    // A master is shown above its ports, and stays.
    let mut node = node();
    node.uppers = BTreeMap::from([(IfIndex(2), vec![IfIndex(20)])]);
    let saved = NetworkState::standing_on(&node, &PFS);
    assert_eq!(json(&saved), json(&NetworkState::standing_on(&super::node(), &PFS)));
}

#[test]
fn fault_6_2_a_bond_of_other_than_ethernet_goes_with_its_last_port() {
    let mut node = node();
    let bond = node.links.get_mut(&IfIndex(20)).unwrap();
    bond.link.link_layer = LinkLayer::InfiniBand;
    let saved = NetworkState::standing_on(&node, &PFS);
    let mut now = reloaded();
    now.links.retain(|index, _| ![20, 21].contains(&index.0));
    let differences = told(&saved, &now);
    let lost = "link bond0: missing: a bond on pf0, which cannot be made again".to_owned();
    assert!(differences.contains(&lost), "{differences:#?}");
    // What was on it is in the snapshot, for the bond that its owner makes again.
    assert!(saved.addresses.iter().any(|address| address.index == IfIndex(21)));
    // With a port that stays, the bond stays.
    let saved = NetworkState::standing_on(&node, &PFS[..1]);
    assert!(saved.links.iter().any(|link| link.name == "bond0" && !link.goes()));
}

//! What is observed can be, and what was edited may not.

use serde_json::{Value, json};

use super::*;

/// The node with a tunnel that is bound to a PF, a VXLAN with a forwarding entry, and a neighbour that the kernel lists twice.
fn saved() -> NetworkState {
    let mut node = node();
    let mut tunnel = link(30, "gre1", Some("gretap"));
    let bound = nic_netlink::Tunnel { kind: "gretap".to_owned(), parameters: Vec::new() };
    tunnel.standing = Standing::BoundTo { lower: IfIndex(4), tunnel: Some(bound) };
    let mut vxlan = link(31, "vxlan1", Some("vxlan"));
    vxlan.standing = Standing::GoesWith(vec![IfIndex(4)]);
    vxlan.child = Some(ChildKind::Vxlan { attributes: Vec::new() });
    let mut lost = link(32, "macsec0", Some("macsec"));
    lost.standing = Standing::GoesWith(vec![IfIndex(2)]);
    node.links.extend([tunnel, vxlan, lost].map(|link| (link.link.index, link)));
    node.neighbours.push(neighbour(4, "192.0.2.9"));
    node.forwarding.push(nic_netlink::ForwardingEntry {
        index: IfIndex(31),
        link_address: nic_netlink::MacAddress([0; 6]),
        state: 0x80,
        flags: 2,
        vlan: None,
        far_end: Some("192.0.2.77".parse().unwrap()),
        port: None,
        vni: Some(7),
        source_vni: None,
        through: Some(IfIndex(5)),
        next_hop_object: None,
    });
    NetworkState::standing_on(&node, &PFS)
}

#[test]
fn trial_w12_whatever_is_observed_can_be_with_any_of_its_devices_lost() {
    let saved = saved();
    assert_eq!(saved.check(), Ok(()));
    assert_eq!(saved.neighbours.len(), 1);
    for lost in [&PFS[..1], &PFS[1..2], &PFS[2..], &PFS[1..], &PFS] {
        assert_eq!(saved.clone().without_devices(lost).check(), Ok(()), "{lost:?}");
    }
    // A bond that the kernel removes with its last port goes with the first here, and the other is nobody's port then.
    let mut node = node();
    node.links.get_mut(&IfIndex(20)).unwrap().link.link_layer = nic_netlink::LinkLayer::InfiniBand;
    let bonded = NetworkState::standing_on(&node, &PFS);
    assert!(matches!(bonded.link(IfIndex(20)).unwrap().place, Place::LostChild { .. }));
    assert_eq!(bonded.without_devices(&[IfIndex(2)]).check(), Ok(()));
    // Nothing is bound to a device that does not come.
    let without = saved.without_devices(&[IfIndex(4)]);
    let tunnel = without.links.iter().find(|link| link.name == "gre1").unwrap();
    assert_eq!(tunnel.place, Place::Stays { lower: None });
}

/// The place of a link in the list, by its name.
fn at<'a>(state: &'a mut Value, name: &str) -> &'a mut Value {
    state["links"].as_array_mut().unwrap().iter_mut().find(|link| link["name"] == name).unwrap()
}

/// A change of a network's state.
type Edit = fn(&mut Value);

#[test]
fn trial_w12_contradictions_of_the_network_are_named_by_field_and_link() {
    let cases: &[(Edit, &str, &str)] = &[
        (|s| at(s, "pf1")["index"] = 2.into(), "index (pf1)", "there twice"),
        (|s| at(s, "pf1")["index"] = 0.into(), "index (pf1)", "0 is no interface's index"),
        (|s| at(s, "pf1")["index"] = u32::MAX.into(), "index (pf1)", "above 2147483647"),
        (|s| at(s, "pf1")["name"] = "pf0".into(), "name (pf0)", "pf0 is there twice"),
        (|s| at(s, "pf1")["altnames"] = json!(["pf0"]), "altnames (pf1)", "\"pf0\" is there twice"),
        (|s| at(s, "pf1")["altnames"] = json!(["../x\n"]), "altnames (pf1)", r#""../x\n" is no name"#),
        (|s| at(s, "pf1")["altnames"] = json!([""]), "altnames (pf1)", "no name"),
        (|s| at(s, "pf1")["mtu"] = u32::MAX.into(), "mtu (pf1)", "4294967295 is above"),
        (|s| at(s, "pf1")["address"] = "02:".repeat(40)[..119].into(), "address (pf1)", "40 bytes"),
        (|s| at(s, "pf1")["own_address"] = "02:".repeat(33)[..98].into(), "own_address (pf1)", "33 bytes"),
        (|s| at(s, "pf1")["alias"] = "x".repeat(256).into(), "alias (pf1)", "256 characters"),
        (|s| at(s, "bond0")["kind"] = "../x".into(), "kind (bond0)", "no kind of link"),
        (|s| at(s, "pf1")["master"] = 99.into(), "master (pf1)", "ifindex 99 is of no link"),
        (|s| at(s, "pf1")["master"] = 3.into(), "master (pf1)", "the link itself"),
        (|s| at(s, "pf1")["master"] = Value::Null, "port (pf1)", "nobody's port"),
        (|s| at(s, "pf1")["port"]["master_kind"] = "team".into(), "port.master_kind (pf1)", "a \"bond\""),
        (|s| at(s, "pf2.7")["place"]["lower"] = 99.into(), "place.lower (pf2.7)", "comes before it"),
        (|s| at(s, "pf2.7")["place"]["lower"] = 23.into(), "place.lower (pf2.7)", "comes before it"),
        (|s| at(s, "pf2.7")["place"]["child"]["id"] = 4095.into(), "place.child.id (pf2.7)", "above 4094"),
        (|s| at(s, "pf2.7")["kind"] = "macvlan".into(), "place.child.kind (pf2.7)", "a \"macvlan\""),
        (|s| at(s, "macsec0")["place"]["lower"] = 99.into(), "place.lower (macsec0)", "of no link"),
        (|s| at(s, "macsec0")["place"]["lower"] = 32.into(), "place.lower (macsec0)", "the link itself"),
        (|s| at(s, "gre1")["place"]["lower"] = 99.into(), "place.lower (gre1)", "of no link"),
        (
            |s| at(s, "gre1")["place"]["tunnel"]["kind"] = "x".into(),
            "place.tunnel.kind (gre1)",
            "a \"gretap\"",
        ),
        (
            |s| {
                at(s, "pf2.7")["kind"] = "macvlan".into();
                at(s, "pf2.7")["place"]["child"] =
                    json!({"kind": "macvlan", "tap": false, "mode": 3, "flags": 0, "broadcast_queue": null});
            },
            "place.child.mode (pf2.7)",
            "3 is no mode",
        ),
        (
            |s| {
                at(s, "pf2.7")["kind"] = "ipvlan".into();
                at(s, "pf2.7")["place"]["child"] =
                    json!({"kind": "ipvlan", "tap": false, "mode": 9, "flags": 0});
            },
            "place.child.mode (pf2.7)",
            "9 is above 2",
        ),
        (
            |s| {
                at(s, "pf2.7")["kind"] = "ipoib".into();
                at(s, "pf2.7")["place"]["child"] =
                    json!({"kind": "ipoib", "pkey": 32768, "mode": 0, "user_multicast": 0});
            },
            "place.child.pkey (pf2.7)",
            "0x8000 is no partition's key",
        ),
        (|s| s["addresses"][0]["index"] = 99.into(), "addresses[0].index", "ifindex 99 is of no link"),
        (|s| s["addresses"][0]["index"] = 20.into(), "addresses[0].index", "bond0, which stays"),
        (|s| s["addresses"][0]["prefix_length"] = 33.into(), "addresses[0].prefix_length", "33 is more than"),
        (|s| s["addresses"][0]["peer"] = "2001:db8::9".into(), "addresses[0].peer", "no IPv4 address"),
        (|s| s["addresses"][0]["label"] = "x".repeat(16).into(), "addresses[0].label", "longer than 15"),
        (|s| s["addresses"][0]["valid_s"] = 5.into(), "addresses[0].preferred_s", "not preferred for longer"),
        (|s| s["addresses"][1] = s["addresses"][0].clone(), "addresses[1].address", "there twice"),
        (|s| s["addresses"][2]["broadcast"] = "192.0.2.255".into(), "addresses[2].broadcast", "IPv6"),
        (|s| s["neighbours"][0]["index"] = 99.into(), "neighbours[0].index", "of no link"),
        (
            |s| s["neighbours"][0]["link_address"] = "02:".repeat(40)[..119].into(),
            "neighbours[0].link_address",
            "40 bytes",
        ),
        (
            |s| {
                let one = s["neighbours"][0].clone();
                s["neighbours"].as_array_mut().unwrap().push(one);
            },
            "neighbours[1].address",
            "there twice",
        ),
        (|s| s["forwarding"][0]["index"] = 22.into(), "forwarding[0].index", "bridge0, which stays"),
        (|s| s["forwarding"][0]["vni"] = 0x0100_0000.into(), "forwarding[0].vni", "above 16777215"),
        (|s| s["forwarding"][0]["vlan"] = 4095.into(), "forwarding[0].vlan", "above 4094"),
        (|s| s["routes"][0]["destination"]["length"] = 33.into(), "routes[0].destination", "33 is more than"),
        (|s| s["routes"][0]["version"] = "v6".into(), "routes[0].destination", "no IPv6 address"),
        (|s| s["routes"][0]["preferred_source"] = "::1".into(), "routes[0].preferred_source", "no IPv4"),
        (
            |s| s["routes"][0]["source"] = json!({"address": "::1", "length": 1}),
            "routes[0].source",
            "no IPv4",
        ),
        (|s| s["routes"][0]["next_hops"][0]["index"] = 99.into(), "routes[0].next_hops.index", "of no link"),
        (|s| s["routes"][0]["next_hops"][0]["index"] = Value::Null, "routes[0].next_hops.index", "over no"),
        (|s| s["routes"][0]["next_hops"][0]["weight"] = 0.into(), "routes[0].next_hops.weight", "0 is not"),
        (|s| s["rules"][0]["input_interface"] = "../x".into(), "rules[0].input_interface", "no name of"),
        (|s| s["rules"][0]["output_interface"] = "".into(), "rules[0].output_interface", "no name of"),
        (
            |s| s["rules"][0]["source"] = json!({"address": "192.0.2.0", "length": 40}),
            "rules[0].source",
            "40 is more than",
        ),
    ];
    let whole = serde_json::to_value(saved()).unwrap();
    for (edit, field, what) in cases {
        let mut edited = whole.clone();
        edit(&mut edited);
        let edited: NetworkState = serde_json::from_value(edited).unwrap();
        let error = edited.check().expect_err(field).to_string();
        assert!(error.contains(field) && error.contains(what), "{field}, {what}: {error}");
    }
}

/// A child below itself was followed without an end.
#[test]
fn trial_w12_links_that_stand_on_each_other_are_none() {
    let mut whole = serde_json::to_value(saved()).unwrap();
    let child = at(&mut whole, "pf2.7").clone();
    let mut other = child.clone();
    (other["index"], other["name"]) = (24.into(), "pf2.8".into());
    at(&mut whole, "pf2.7")["place"]["lower"] = 24.into();
    other["place"]["lower"] = child["index"].clone();
    whole["links"].as_array_mut().unwrap().push(other);
    let edited: NetworkState = serde_json::from_value(whole).unwrap();
    let error = edited.check().unwrap_err();
    assert_eq!((error.about.as_str(), error.what.contains("before it")), ("pf2.7", true), "{error}");
}

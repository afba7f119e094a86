//! As many entries as a node of a large cluster has: what is looked for one by one would not end while somebody waits.

use std::net::{IpAddr, Ipv4Addr};

use nic_netlink::{ForwardingEntry, MacAddress};

use super::*;

const MANY: u32 = 50_000;

fn ip(number: u32) -> IpAddr {
    Ipv4Addr::from(0x0a00_0000 + number).into()
}

fn many<T>(one: impl Fn(u32) -> T) -> Vec<T> {
    (0..MANY).map(one).collect()
}

/// A far end of a VXLAN for what has no address of its own there.
fn far_end(number: u32) -> ForwardingEntry {
    ForwardingEntry {
        index: IfIndex(30),
        link_address: MacAddress([0; 6]),
        state: 0x80,
        flags: 2,
        vlan: None,
        far_end: Some(ip(number)),
        port: None,
        vni: None,
        source_vni: None,
        through: None,
        next_hop_object: None,
    }
}

/// PF 3 with a VXLAN, and on them so many of each.
fn crowded() -> Network {
    let vxlan =
        StackedLink { standing: Standing::GoesWith(vec![IfIndex(3)]), ..link(30, "vx0", Some("vxlan")) };
    Network {
        links: links(vec![link(3, "pf0", None), vxlan]),
        addresses: many(|number| address(3, &format!("{}/32", ip(number)))),
        neighbours: many(|number| neighbour(3, &ip(number).to_string())),
        forwarding: many(far_end),
        routes: many(|number| Route {
            preferred_source: Some(ip(number)),
            ..by_kernel(&format!("{}/32", ip(number)), 9)
        }),
        rules: many(|priority| Rule { priority, ..rule("pf0") }),
        ..Network::default()
    }
}

#[test]
fn fault_5_4_as_many_addresses_neighbours_forwarding_entries_and_rules_are_planned_and_compared() {
    let network = crowded();
    let saved = NetworkState::standing_on(&network, &[IfIndex(3)]);
    let counts = [
        saved.addresses.len(),
        saved.neighbours.len(),
        saved.forwarding.len(),
        saved.routes.len(),
        saved.rules.len(),
    ];
    let all = usize::try_from(MANY).unwrap();
    assert_eq!(counts, [all; 5]);
    let same = [(IfIndex(3), IfIndex(3)), (IfIndex(30), IfIndex(30))];
    let here = BTreeMap::from(same);
    let mapping = LinkMapping::new(&saved, &network, &here);
    assert!(plan(&saved, &mapping, NOW).is_empty());
    assert!(compare(&saved, &mapping, NOW).is_empty());

    let mut now = network.clone();
    now.addresses.pop();
    now.neighbours.pop();
    now.forwarding.pop();
    now.rules.pop();
    let mapping = LinkMapping::new(&saved, &now, &here);
    assert_eq!(plan(&saved, &mapping, NOW).len(), 4);
    assert_eq!(compare(&saved, &mapping, NOW).len(), 4);
}

/// Bridges with a VLAN each on a PF's VFs, of which there are as many as machines have.
#[test]
fn fault_5_4_as_many_links_are_found_with_what_stands_on_them() {
    let pairs = (0..4000_u32).map(|number| {
        let (vf, bridge) = (10_000 + 2 * number, 10_001 + 2 * number);
        [
            port_of(bridge, "bridge", &[], link(vf, &format!("vf{number}"), None)),
            link(bridge, &format!("br{number}"), Some("bridge")),
        ]
    });
    let mut network = Network { links: links(pairs.flatten().collect()), ..Network::default() };
    let devices: Vec<IfIndex> = network.links.keys().copied().filter(|index| index.0 % 2 == 0).collect();
    network.uppers = devices.iter().map(|vf| (*vf, vec![IfIndex(vf.0 + 1)])).collect();
    let saved = NetworkState::standing_on(&network, &devices);
    assert_eq!(saved.links.len(), 8000);
    let here = devices.iter().map(|index| (*index, *index)).collect();
    let mapping = LinkMapping::new(&saved, &network, &here);
    assert!(plan(&saved, &mapping, NOW).is_empty());
    assert!(compare(&saved, &mapping, NOW).is_empty());
    assert_eq!(saved.without_devices(&devices).links.len(), 4000);
}

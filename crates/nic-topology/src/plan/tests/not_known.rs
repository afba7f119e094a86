//! Entries that could not be read.

use std::fs;

use nic_host::Host;
use nic_netlink::{About, Unread, UnreadEntry};

use super::*;

fn unread(list: &'static str, about: About) -> UnreadEntry {
    UnreadEntry { list, about, unread: Unread::because("it is cut off") }
}

fn whats(state: &NetworkState) -> Vec<&str> {
    state.not_known().map(|entry| entry.what.as_str()).collect()
}

#[test]
fn fault_2_what_cannot_be_read_of_interfaces_that_go_is_not_known_and_a_strangers_is_passed_over() {
    let mut network = node();
    let plain = NetworkState::standing_on(&network, &[IfIndex(4)]);
    network.unread = vec![
        unread("IP addresses", About::Link(IfIndex(4))),
        unread("IP addresses", About::Link(IfIndex(5))),
        unread("links", About::Link(IfIndex(77))),
        unread("rules", About::Links(vec!["pf2".to_owned()])),
        unread("rules", About::Links(vec!["eth9".to_owned()])),
        unread("rules", About::Links(Vec::new())),
        unread("routes", About::NotKnown),
    ];
    let saved = NetworkState::standing_on(&network, &[IfIndex(4)]);
    assert_eq!(
        whats(&saved),
        ["one of the IP addresses of pf2", "one of the rules that name pf2", "one of the routes"]
    );
    // All else is what it would be.
    assert_eq!((&saved.links, &saved.addresses), (&plain.links, &plain.addresses));
    let bare = NetworkState { not_known: saved.not_known.clone(), ..NetworkState::default() };
    assert!(!bare.is_bare(), "something is owed");

    let mapping = LinkMapping::new(&saved, &network, &BTreeMap::from([(IfIndex(4), IfIndex(4))]));
    let gravities = |state: &NetworkState| -> Vec<Gravity> {
        let differences = compare(state, &mapping, NOW).into_iter();
        differences
            .filter(|one| one.found.contains("not known: it is cut off"))
            .map(|one| one.gravity)
            .collect()
    };
    assert_eq!(gravities(&saved), [Gravity::Wrong; 3], "it is never verified");
    let accepted = saved.accepting_not_known();
    assert_eq!((whats(&accepted).len(), gravities(&accepted)), (0, vec![Gravity::CannotRestore; 3]));
    let json = serde_json::to_value(&accepted).unwrap();
    let back: NetworkState = serde_json::from_value(json.clone()).unwrap();
    assert_eq!(serde_json::to_value(back).unwrap(), json);
}

#[test]
fn fault_2_a_link_that_cannot_be_read_is_known_by_what_the_kernel_shows_it_on() {
    let tree = tempfile::tempdir().unwrap();
    let folder = tree.path().join("sys/class/net/pf2");
    fs::create_dir_all(&folder).unwrap();
    for upper in ["upper_pf2.7", "upper_odd0"] {
        fs::write(folder.join(upper), "").unwrap();
    }
    let host = Host::at(tree.path());
    let shown = |mut network: Network| {
        network.read_uppers(&host, &[IfIndex(4)]).unwrap();
        let saved = NetworkState::standing_on(&network, &[IfIndex(4)]);
        whats(&saved).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    // It has gone since the links were listed, or come.
    assert!(shown(node()).is_empty());
    let mut network = node();
    network.unread = vec![unread("links", About::Link(IfIndex(77)))];
    assert_eq!(shown(network), ["the link odd0 on pf2"]);
}

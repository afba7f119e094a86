//! Giving several interfaces their names when the names are held by one another. Pure.

use std::collections::BTreeMap;

use nic_netlink::{IfIndex, LinkName, Links};

/// One rename.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rename {
    /// Which interface.
    pub index: IfIndex,
    /// Its new name, for good or until the other has moved out of the way.
    pub to: LinkName,
}

/// A name that cannot be given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the name {name} is taken by interface {holder}, which is none of the restored ones")]
pub struct NameTaken {
    /// The interface that should have it.
    pub index: IfIndex,
    /// The name.
    pub name: LinkName,
    /// Who has it.
    pub holder: IfIndex,
}

/// Orders the renames so that no name is given before it is free; where names go round in a circle, one of them
/// waits under a temporary name. Names and alternative names are one name space in the kernel
/// (net/core/dev.c, `netdev_name_node_lookup`).
#[must_use]
pub fn plan_names(wanted: &[(IfIndex, LinkName)], links: &Links) -> (Vec<Rename>, Vec<NameTaken>) {
    let mut holders: BTreeMap<String, IfIndex> = links
        .iter()
        .flat_map(|link| {
            let names = std::iter::once(link.name.to_string()).chain(link.altnames.iter().cloned());
            names.map(|name| (name, link.index))
        })
        .collect();
    let mut current: BTreeMap<IfIndex, String> =
        links.iter().map(|link| (link.index, link.name.to_string())).collect();
    let mut pending: Vec<&(IfIndex, LinkName)> = wanted
        .iter()
        .filter(|(index, name)| current.get(index).is_some_and(|current| current != name.as_str()))
        .collect();
    let mut renames = Vec::new();
    let mut taken = Vec::new();
    let mut rename = |index: IfIndex, to: LinkName, holders: &mut BTreeMap<String, IfIndex>| {
        if let Some(old) = current.insert(index, to.to_string()) {
            holders.remove(&old);
        }
        holders.insert(to.to_string(), index);
        renames.push(Rename { index, to });
    };
    while !pending.is_empty() {
        let free = pending.iter().position(|(_, name)| !holders.contains_key(name.as_str()));
        if let Some(position) = free {
            let (index, name) = pending.remove(position);
            rename(*index, name.clone(), &mut holders);
            continue;
        }
        // Every name that is still wanted is held. A holder that waits for a name itself can step aside.
        let movable = pending.iter().find_map(|(_, name)| {
            let holder = holders.get(name.as_str())?;
            pending.iter().any(|(index, _)| index == holder).then_some(*holder)
        });
        let temporary = movable.and_then(|holder| Some((holder, temporary_name(holder, &holders)?)));
        let Some((holder, temporary)) = temporary else {
            taken.extend(pending.iter().filter_map(|(index, name)| {
                let holder = *holders.get(name.as_str())?;
                Some(NameTaken { index: *index, name: name.clone(), holder })
            }));
            break;
        };
        rename(holder, temporary, &mut holders);
    }
    (renames, taken)
}

/// The prefix of temporary names. `nd` and eight hexadecimal digits fit the kernel's 15 bytes, and a process that
/// finds one knows that a rename was cut short.
const TEMPORARY_PREFIX: &str = "ndtmp";

fn temporary_name(index: IfIndex, holders: &BTreeMap<String, IfIndex>) -> Option<LinkName> {
    let name = format!("{TEMPORARY_PREFIX}{:x}", index.0);
    (!holders.contains_key(&name)).then(|| name.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn links(names: &[(u32, &str)]) -> Links {
        let link = |(index, name): &(u32, &str)| {
            let json = serde_json::json!({
                "index": index, "name": name, "altnames": [], "kind": null, "link_layer": "ethernet",
                "address": "02:00:00:00:00:01", "permanent_address": null, "mtu": 1500, "min_mtu": null,
                "max_mtu": null, "up": false, "running": false, "oper_state": "down", "tx_queue_length": 1000,
                "alias": null, "group": 0, "promiscuous": false, "all_multicast": false, "master": null,
                "parent_device": null, "parent_bus": null, "phys_port_name": null, "phys_switch_id": null,
                "link": null, "link_netns_id": null, "num_vf": 0, "vfs": [], "vfs_truncated": false
            });
            serde_json::from_value(json).unwrap()
        };
        Links::new(names.iter().map(link).collect::<Vec<_>>())
    }

    fn plan(wanted: &[(u32, &str)], now: &[(u32, &str)]) -> (Vec<String>, Vec<String>) {
        let wanted: Vec<(IfIndex, LinkName)> =
            wanted.iter().map(|(index, name)| (IfIndex(*index), name.parse().unwrap())).collect();
        let (renames, taken) = plan_names(&wanted, &links(now));
        (
            renames.iter().map(|rename| format!("{} {}", rename.index.0, rename.to)).collect(),
            taken.iter().map(ToString::to_string).collect(),
        )
    }

    #[test]
    fn a_chain_is_renamed_from_its_free_end() {
        let (renames, taken) = plan(&[(1, "b"), (2, "c")], &[(1, "a"), (2, "b")]);
        assert_eq!(renames, ["2 c", "1 b"]);
        assert!(taken.is_empty());
    }

    #[test]
    fn swapped_names_go_through_a_temporary_one() {
        let (renames, taken) = plan(&[(17, "b"), (18, "a")], &[(17, "a"), (18, "b")]);
        assert_eq!(renames, ["18 ndtmp12", "17 b", "18 a"]);
        assert!(taken.is_empty());
    }

    #[test]
    fn a_name_that_a_stranger_has_is_refused_and_the_others_are_given() {
        let (renames, taken) = plan(&[(1, "x"), (2, "y")], &[(1, "a"), (2, "b"), (3, "x")]);
        assert_eq!(renames, ["2 y"]);
        assert_eq!(taken, ["the name x is taken by interface 3, which is none of the restored ones"]);
    }

    proptest! {
        #[test]
        fn any_permutation_is_reached_without_a_clash(wanted in Just((0..9u32).collect::<Vec<_>>()).prop_shuffle()) {
            let name = |number: u32| format!("if{number}");
            let names: Vec<String> = (0..9).map(name).collect();
            let now: Vec<(u32, &str)> = (1..).zip(names.iter().map(String::as_str)).collect();
            let goal: Vec<(IfIndex, LinkName)> =
                (1..).zip(&wanted).map(|(index, number)| (IfIndex(index), name(*number).parse().unwrap())).collect();
            let (renames, taken) = plan_names(&goal, &links(&now));
            prop_assert!(taken.is_empty());
            let mut held: BTreeMap<u32, String> = now.iter().map(|(index, name)| (*index, (*name).to_owned())).collect();
            for rename in renames {
                prop_assert!(!held.values().any(|name| name == rename.to.as_str()), "{} is held", rename.to);
                prop_assert!(rename.to.as_str().len() <= 15);
                held.insert(rename.index.0, rename.to.to_string());
            }
            for (index, name) in goal {
                prop_assert_eq!(held.get(&index.0).map(String::as_str), Some(name.as_str()));
            }
        }
    }
}

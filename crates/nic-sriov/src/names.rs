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

//! Giving several interfaces their names when the names are held by one another. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use nic_netlink::{IfIndex, LinkChange, LinkName, Links};

use crate::{Component, NetdevStep};

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
    let is_due = |(index, name): &&(IfIndex, LinkName)| {
        current.get(index).is_some_and(|current| current != name.as_str())
    };
    let wishes: Vec<&(IfIndex, LinkName)> = wanted.iter().filter(is_due).collect();
    let mut pending: BTreeMap<IfIndex, usize> =
        wishes.iter().zip(0..).map(|((index, _), at)| (*index, at)).collect();
    let mut wishes_of: HashMap<&str, Vec<usize>> = HashMap::new();
    for ((_, name), at) in wishes.iter().zip(0..) {
        wishes_of.entry(name.as_str()).or_default().push(at);
    }
    // The wishes whose name is free, by their place: the first goes first.
    let is_free = |at: &usize| wishes.get(*at).is_some_and(|(_, name)| !holders.contains_key(name.as_str()));
    let mut free: BTreeSet<usize> = (0..wishes.len()).filter(is_free).collect();
    let mut stuck = 0;
    let mut renames = Vec::new();
    loop {
        let (index, to) = if let Some((index, name)) = free.first().and_then(|at| wishes.get(*at)) {
            pending.remove(index);
            (*index, name.clone())
        } else {
            // Every name that is still wanted is held. A holder that waits for a name itself can step aside; one that waits for none keeps
            // its name for good, so that who was passed over once stays so.
            let holder_of = |at: usize| {
                let (index, name) = wishes.get(at)?;
                pending.contains_key(index).then(|| holders.get(name.as_str()).copied())?
            };
            let movable = (stuck..wishes.len())
                .find_map(|at| Some((at, holder_of(at).filter(|holder| pending.contains_key(holder))?)));
            let temporary =
                movable.and_then(|(at, holder)| Some((at, holder, temporary_name(holder, &holders)?)));
            let Some((at, holder, temporary)) = temporary else { break };
            stuck = at;
            (holder, temporary)
        };
        let wishes_for = |name: &str| wishes_of.get(name).into_iter().flatten().copied();
        if let Some(old) = current.insert(index, to.to_string()) {
            holders.remove(&old);
            let waits = |at: &usize| wishes.get(*at).is_some_and(|(index, _)| pending.get(index) == Some(at));
            free.extend(wishes_for(&old).filter(waits));
        }
        for at in wishes_for(to.as_str()) {
            free.remove(&at);
        }
        holders.insert(to.to_string(), index);
        renames.push(Rename { index, to });
    }
    let mut left: Vec<usize> = pending.into_values().collect();
    left.sort_unstable();
    let taken = left.into_iter().filter_map(|at| {
        let (index, name) = wishes.get(at)?;
        let holder = *holders.get(name.as_str())?;
        Some(NameTaken { index: *index, name: name.clone(), holder })
    });
    let taken = taken.collect();
    (renames, taken)
}

/// A step that gives a name or an alternative name, refused because another interface held it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Contested {
    pub(crate) component: Component,
    pub(crate) index: IfIndex,
    pub(crate) step: NetdevStep,
}

/// What is to be done about names that were contested.
#[derive(Debug)]
pub(crate) struct ContestedPlan {
    /// The steps, in their order.
    pub(crate) steps: Vec<Contested>,
    /// What cannot be given.
    pub(crate) taken: Vec<(Contested, NameTaken)>,
}

/// Gives the contested names, now that every interface is there. One that has come without a name to be given
/// (`nameless`) steps aside for one that has. Names go before alternative names, which they may set free.
pub(crate) fn plan_contested(
    contested: &[Contested],
    nameless: &[(Component, IfIndex)],
    links: &Links,
) -> ContestedPlan {
    // A PF's name may have been refused at the beginning and again at the end: it is one wish.
    let mut names: BTreeMap<IfIndex, (LinkName, Component)> = BTreeMap::new();
    let mut altnames: BTreeMap<(IfIndex, &str), &Contested> = BTreeMap::new();
    for entry in contested {
        match &entry.step {
            NetdevStep::Link(LinkChange::Name(name)) => {
                names.insert(entry.index, (name.clone(), entry.component.clone()));
            }
            NetdevStep::Link(LinkChange::AddAltName(name)) => {
                altnames.insert((entry.index, name.as_str()), entry);
            }
            NetdevStep::Link(_) | NetdevStep::Master(_) => {}
        }
    }
    let mut steps = Vec::new();
    let mut links = links.clone();
    let names_wanted = names.values().map(|(name, _)| name.to_string());
    let mut wanted: HashSet<String> =
        names_wanted.chain(altnames.keys().map(|(_, name)| (*name).to_owned())).collect();
    // Numbers of names that are free. One that is taken, or wanted, stays so.
    let mut numbers = 0..=links.len() + wanted.len() + nameless.len();
    for (component, index) in nameless {
        let Some(mut link) = links.get(*index).cloned() else { continue };
        let is_wanted = |name: &str| wanted.contains(name);
        for altname in link.altnames.extract_if(.., |altname| is_wanted(altname)) {
            let step = NetdevStep::Link(LinkChange::RemoveAltName(altname));
            steps.push(Contested { component: component.clone(), index: *index, step });
        }
        if is_wanted(link.name.as_str()) {
            let unwanted = |name: &String| !is_wanted(name) && links.by_name(name).is_none();
            // The kernel's own way of naming (net/core/dev.c, `__dev_alloc_name`).
            let free = numbers.by_ref().map(|number| format!("eth{number}")).find(unwanted);
            if let Some(name) = free.and_then(|name| name.parse::<LinkName>().ok()) {
                wanted.insert(name.to_string());
                names.insert(*index, (name, component.clone()));
            }
        }
        links.update(link);
    }
    let wanted: Vec<(IfIndex, LinkName)> =
        names.iter().map(|(index, (name, _))| (*index, name.clone())).collect();
    let (renames, taken) = plan_names(&wanted, &links);
    let named = |index: IfIndex, change: LinkChange| {
        let (_, component) = names.get(&index)?;
        Some(Contested { component: component.clone(), index, step: NetdevStep::Link(change) })
    };
    for Rename { index, to } in renames {
        let up = links.get(index).is_some_and(|link| link.up);
        let changes = [
            up.then_some(LinkChange::Up(false)),
            Some(LinkChange::Name(to)),
            up.then_some(LinkChange::Up(true)),
        ];
        steps.extend(changes.into_iter().flatten().filter_map(|change| named(index, change)));
    }
    let missing = altnames.into_values().filter(|entry| {
        let NetdevStep::Link(LinkChange::AddAltName(name)) = &entry.step else { return false };
        links.get(entry.index).is_some_and(|link| !link.altnames.contains(name))
    });
    steps.extend(missing.cloned());
    let taken = taken
        .into_iter()
        .filter_map(|taken| Some((named(taken.index, LinkChange::Name(taken.name.clone()))?, taken)));
    ContestedPlan { steps, taken: taken.collect() }
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
    use nic_netlink::Link;
    use proptest::prelude::*;

    use super::*;

    fn links(names: &[(u32, &str)]) -> Links {
        Links::new(names.iter().map(|(index, name)| Link::new(IfIndex(*index), name.parse().unwrap())))
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

    /// What is done about these contested names, on links of which those with an odd index are up.
    fn contested(names: &[(u32, &str)], nameless: &[u32], now: &[(u32, &str)]) -> Vec<String> {
        let component = Component::Pf("0000:01:00.0".parse().unwrap());
        let entry = |(index, name): &(u32, &str)| Contested {
            component: component.clone(),
            index: IfIndex(*index),
            step: NetdevStep::Link(match name.strip_prefix('+') {
                Some(altname) => LinkChange::AddAltName(altname.to_owned()),
                None => LinkChange::Name(name.parse().unwrap()),
            }),
        };
        let contested: Vec<Contested> = names.iter().map(entry).collect();
        let nameless: Vec<(Component, IfIndex)> =
            nameless.iter().map(|at| (component.clone(), IfIndex(*at))).collect();
        let up = links(now).into_iter().map(|mut link| {
            link.up = link.index.0 % 2 == 1;
            link
        });
        let plan = plan_contested(&contested, &nameless, &up.collect());
        let steps = plan.steps.iter().map(|entry| format!("{} {}", entry.index, entry.step));
        steps.chain(plan.taken.iter().map(|(_, taken)| taken.to_string())).collect()
    }

    #[test]
    fn a_name_refused_twice_is_given_once_and_the_link_stays_up_or_down() {
        let steps = contested(&[(1, "b"), (2, "a"), (1, "b")], &[], &[(1, "a"), (2, "b")]);
        assert_eq!(steps, ["2 name ndtmp2", "1 down", "1 name b", "1 up", "2 name a"]);
        assert_eq!(contested(&[(2, "+x"), (2, "+x")], &[], &[(2, "b")]), ["2 additional name \"x\""]);
    }

    #[test]
    fn what_has_no_name_to_be_given_steps_aside() {
        let now = [(2, "eth0"), (4, "eth1"), (6, "eth3")];
        // Interface 4 came back from another namespace and took a name that was another's.
        let steps = contested(&[(2, "eth1"), (6, "eth0")], &[4], &now);
        assert_eq!(steps, ["4 name eth2", "2 name eth1", "6 name eth0"]);
        // Where nobody wants its name it keeps it.
        assert_eq!(contested(&[(6, "eth0")], &[4], &[(6, "eth3"), (4, "eth1")]), ["6 name eth0"]);
        // A stranger is not moved.
        let taken = contested(&[(2, "eth1")], &[], &now);
        assert_eq!(taken, ["the name eth1 is taken by interface 4, which is none of the restored ones"]);
    }

    #[test]
    fn fault_5_4_the_names_of_1016_vfs_that_have_changed_places_are_given() {
        const VFS: u32 = 1016;
        let name = |number: u32| format!("if{number}");
        let held: Vec<String> = (0..VFS).map(name).collect();
        let next: Vec<String> = (0..VFS).map(|number| name((number + 1) % VFS)).collect();
        fn numbered(names: &[String]) -> Vec<(u32, &str)> {
            (1..).zip(names.iter().map(String::as_str)).collect()
        }
        let (renames, taken) = plan(&numbered(&next), &numbered(&held));
        assert_eq!((renames.len(), taken.len()), (held.len() + 1, 0));
        // As many have come back from other namespaces, under the names that are wanted.
        let nameless: Vec<u32> = (1..=VFS).collect();
        let wanting: Vec<(u32, &str)> = (VFS + 1..).zip(held.iter().map(String::as_str)).collect();
        let strays: Vec<String> = (0..VFS).map(|number| format!("stray{number}")).collect();
        let mut now = numbered(&held);
        now.extend((VFS + 1..).zip(strays.iter().map(String::as_str)));
        let steps = contested(&wanting, &nameless, &now);
        assert!(steps.iter().all(|step| !step.contains("taken")), "{steps:?}");
        assert_eq!(steps.iter().filter(|step| step.contains("name if")).count(), held.len());
        assert_eq!(steps.iter().filter(|step| step.contains("name eth")).count(), held.len());
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

//! The names of RDMA devices, which are one space on a machine: they change places as netdevs' names do.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use nic_netlink::Setting;

use super::{PlannedStep, RestoreStep};
use crate::{Component, DeviceAddress, NicState, PfState, Stage};

/// Another name for an RDMA device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RdmaRename {
    /// Whose it is.
    pub component: Component,
    /// The name it has.
    pub from: String,
    /// The name it gets.
    pub to: String,
}

/// The names of one device's RDMA devices; none where there are none, or where that is not known.
#[derive(Debug, Clone)]
pub(crate) struct RdmaNames {
    pub(crate) component: Component,
    pub(crate) device: DeviceAddress,
    pub(crate) names: Vec<String>,
}

/// Those of all PFs and VFs.
#[must_use]
pub(crate) fn rdma_names(state: &NicState) -> Vec<RdmaNames> {
    let names = |rdma: &Setting<Vec<String>>| rdma.as_set().cloned().unwrap_or_default();
    let of_pf = |pf: &PfState| {
        let own = RdmaNames {
            component: Component::Pf(pf.address.clone()),
            device: pf.address.clone(),
            names: names(&pf.rdma),
        };
        let of_vfs = pf.vfs.iter().filter_map(|vf| {
            let device = vf.address?.into();
            Some(RdmaNames { component: Component::of_vf(pf, vf), device, names: names(&vf.rdma) })
        });
        std::iter::once(own).chain(of_vfs).collect::<Vec<_>>()
    };
    state.pfs.iter().flat_map(of_pf).collect()
}

/// The names that are to be given, in an order in which each is free by then; where names have changed places, by way of another.
#[must_use]
pub fn plan_rdma_names(saved: &NicState, found: &NicState) -> Vec<RdmaRename> {
    let wanted = rdma_names(saved);
    let mut now: BTreeMap<DeviceAddress, Vec<String>> =
        rdma_names(found).into_iter().map(|now| (now.device, now.names)).collect();
    let pairs = wanted.iter().filter_map(|wanted| Some((wanted, now.remove(&wanted.device)?)));
    rdma_renames(&pairs.collect::<Vec<_>>())
}

/// The names as a plan tells them: of devices that are there, the renames; of those that only a probe brings, what they are to be called.
pub(super) fn plan_names_once_there(saved: &NicState, left: &NicState) -> Vec<PlannedStep> {
    let now: BTreeMap<DeviceAddress, Vec<String>> =
        rdma_names(left).into_iter().map(|now| (now.device, now.names)).collect();
    let planned = |component, step| PlannedStep { stage: Stage::Names, component, step };
    let renames = plan_rdma_names(saved, left).into_iter();
    let renames =
        renames.map(|RdmaRename { component, from, to }| planned(component, RestoreStep::Rdma { from, to }));
    let is_missing = |wanted: &RdmaNames| {
        now.get(&wanted.device).is_some_and(|now| now.is_empty() && !wanted.names.is_empty())
    };
    let missing = rdma_names(saved).into_iter().filter(is_missing);
    renames
        .chain(missing.map(|wanted| planned(wanted.component, RestoreStep::RdmaOnceThere(wanted.names))))
        .collect()
}

/// [`plan_rdma_names`] of the names that each device has now. Which of several devices of one device is which cannot be told but by their
/// order, and where their number has changed, not at all: such a device makes way where it has another's name.
pub(crate) fn rdma_renames(names: &[(&RdmaNames, Vec<String>)]) -> Vec<RdmaRename> {
    let mut pending = Vec::new();
    let (paired, others): (Vec<_>, Vec<_>) =
        names.iter().partition(|(wanted, now)| wanted.names.len() == now.len());
    for (wanted, now) in &paired {
        let without = |of: &[String], other: &[String]| -> Vec<String> {
            of.iter().filter(|name| !other.contains(name)).cloned().collect()
        };
        let (from, to) = (without(now, &wanted.names), without(&wanted.names, now));
        pending.extend(from.into_iter().zip(to).map(|(from, to)| RdmaRename {
            component: wanted.component.clone(),
            from,
            to,
        }));
    }
    let given: BTreeSet<String> = pending.iter().map(|rename| rename.to.clone()).collect();
    let mut taken: BTreeSet<String> = names.iter().flat_map(|(_, now)| now).chain(&given).cloned().collect();
    for (wanted, now) in others {
        for name in now.iter().filter(|name| given.contains(*name)) {
            let to = free_name(name, &taken);
            taken.insert(to.clone());
            pending.push(RdmaRename { component: wanted.component.clone(), from: name.clone(), to });
        }
    }
    in_order(pending)
}

/// As the kernel names a device: the same name with the first number that is free (`alloc_name` in `drivers/infiniband/core/device.c`).
fn free_name(name: &str, taken: &BTreeSet<String>) -> String {
    let front = name.trim_end_matches(|character: char| character.is_ascii_digit());
    // One more number than there are names: one of them is free.
    let numbers = 0..=taken.len();
    let free = numbers.map(|number| format!("{front}{number}")).find(|name| !taken.contains(name));
    free.unwrap_or_else(|| name.to_owned())
}

/// Orders the renames so that each name is free when it is given.
fn in_order(renames: Vec<RdmaRename>) -> Vec<RdmaRename> {
    let mut pending: BTreeMap<usize, RdmaRename> = (0..).zip(renames).collect();
    let mut next = pending.len();
    let mut held: HashSet<String> = pending.values().map(|rename| rename.from.clone()).collect();
    let mut waiting: HashMap<String, Vec<usize>> = HashMap::new();
    let mut free: BTreeSet<usize> = BTreeSet::new();
    for (at, rename) in &pending {
        waiting.entry(rename.to.clone()).or_default().push(*at);
        if !held.contains(&rename.to) {
            free.insert(*at);
        }
    }
    let mut steps = Vec::new();
    let mut aside = 0;
    while let Some(first) = free.pop_first().or_else(|| pending.keys().next().copied()) {
        let Some(rename) = pending.remove(&first) else { continue };
        let step = if held.contains(&rename.to) {
            // All that are left have changed places: one steps aside.
            let way = format!("nicdriver{aside}");
            aside += 1;
            waiting.entry(rename.to.clone()).or_default().push(next);
            pending.insert(next, RdmaRename { from: way.clone(), ..rename.clone() });
            held.insert(way.clone());
            next += 1;
            RdmaRename { to: way, ..rename }
        } else {
            rename
        };
        held.remove(&step.from);
        let waits = waiting.get(&step.from).into_iter().flatten();
        free.extend(waits.filter(|at| pending.contains_key(at)));
        steps.push(step);
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn renames(pairs: &[(&str, &str)]) -> Vec<String> {
        let names = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let device: DeviceAddress = "0000:01:00.0".parse().unwrap();
        let wanted: Vec<_> = pairs
            .iter()
            .map(|(saved, _)| RdmaNames {
                component: Component::Pf(device.clone()),
                device: device.clone(),
                names: names(saved),
            })
            .collect();
        let pairs: Vec<_> = wanted.iter().zip(pairs).map(|(wanted, (_, now))| (wanted, names(now))).collect();
        let mut held: Vec<String> = pairs.iter().flat_map(|(_, now)| now.clone()).collect();
        let steps = rdma_renames(&pairs);
        for RdmaRename { from, to, .. } in &steps {
            assert!(!held.contains(to), "{to} is taken");
            let at = held.iter().position(|name| name == from).unwrap();
            held[at].clone_from(to);
        }
        steps.iter().map(|step| format!("{} {}", step.from, step.to)).collect()
    }

    #[test]
    fn fault_5_4_the_names_of_1016_devices_that_have_changed_places_change_back() {
        let renames = (0..1016).map(|number| RdmaRename {
            component: Component::Pf("0000:01:00.0".parse().unwrap()),
            from: format!("mlx5_{number}"),
            to: format!("mlx5_{}", (number + 1) % 1016),
        });
        let steps = in_order(renames.collect());
        assert_eq!(steps.len(), 1017);
        assert_eq!(steps.iter().filter(|step| step.to.starts_with("nicdriver")).count(), 1);
    }

    #[test]
    fn fault_2_1_names_that_have_changed_places_change_back() {
        assert!(renames(&[("mlx5_0", "mlx5_0"), ("mlx5_1", "mlx5_1")]).is_empty());
        assert_eq!(
            renames(&[("mlx5_0", "mlx5_1"), ("mlx5_1", "mlx5_0")]),
            ["mlx5_1 nicdriver0", "mlx5_0 mlx5_1", "nicdriver0 mlx5_0"]
        );
        // A row ends without a way about.
        assert_eq!(renames(&[("a", "b"), ("b", "c"), ("c", "d")]), ["b a", "c b", "d c"]);
        let (ring, other) = (("b", "a"), ("d", "c"));
        assert_eq!(renames(&[ring, ("a", "b"), other, ("c", "d")]).len(), 6);
        // Of several, those that stay are left alone; which is which is not guessed where one is missing.
        assert_eq!(renames(&[("p q", "q r")]), ["r p"]);
        assert!(renames(&[("p q", "r")]).is_empty());
        // Who has another's name and none to be given makes way.
        assert_eq!(renames(&[("mlx5_1", "mlx5_0"), ("", "mlx5_1")]), ["mlx5_1 mlx5_2", "mlx5_0 mlx5_1"]);
    }
}

//! What stands on the family's interfaces: saved with them, and given back when they are back.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use nic_netlink::IfIndex;
use nic_sriov::{KernelLinks, LinkSource, NetdevState, NicState, ObserveError, PfState, VfState};
use nic_topology::{
    Difference, Gravity, LinkMapping, Network, NetworkState, RestoreOptions, RestoreOutcome, TopologyError,
    compare, restore,
};

use super::nics_look::NicsLook;
use crate::context::Context;
use crate::machine::Nics;
use crate::state::{Entry, PhaseRecord, Snapshot, Step};

/// What stood on the NICs could not be restored.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The NICs could not be observed.
    #[error(transparent)]
    Observe(#[from] ObserveError),
    /// What stood on the NICs could not be looked at.
    #[error("what stood on the NICs cannot be restored")]
    Topology(#[from] TopologyError),
}

/// How long others are waited for who have to do a part, and nobody where nothing is up to others: a network manager that may be asking a DHCP
/// server, which answers within seconds or not at all; Open vSwitch, which takes its port back; a carrier.
const OTHERS_DEADLINE: Duration = Duration::from_secs(30);
/// Duplicate address detection takes a second, or two by some settings; before it has ended some routes are refused.
const PATIENCE: Duration = Duration::from_secs(5);

/// What stands on the netdevs of these NICs. A tree's network is not recorded.
pub(crate) async fn observe_network(
    context: &Context,
    source: &LinkSource,
    nics: &NicState,
) -> Result<NetworkState, nic_topology::ObserveError> {
    let LinkSource::Kernel(kernel) = source else { return Ok(NetworkState::default()) };
    NetworkState::observe(&context.host, &kernel.netlink, &ifindexes(nics)).await
}

/// Gives back what stood on the netdevs, now that they are back.
pub(crate) async fn restore_network(
    context: &Context,
    phase: &PhaseRecord,
    nics: &dyn Nics,
    look: &NicsLook<'_>,
    snapshot: &Snapshot,
) -> Result<Option<RestoreOutcome>, NetworkError> {
    let Some(kernel) = nics.kernel().filter(|_| !snapshot.network.is_bare()) else { return Ok(None) };
    let step = phase.step(Step::RestoreNetwork);
    let result = find_and_restore(context, kernel, look, snapshot).await;
    match &result {
        Ok(outcome) => step.ok(Some(network_summary(outcome))),
        Err(error) => step.failed(error),
    }
    let outcome = result?;
    phase.write(Entry::NetworkResult { result: Box::new(outcome.clone()) });
    Ok(Some(outcome))
}

/// Whether something of what stood on the netdevs is missing now that [`restore_network`] would give back.
pub(crate) async fn network_differs(
    context: &Context,
    nics: &dyn Nics,
    look: &NicsLook<'_>,
    snapshot: &Snapshot,
) -> Result<bool, NetworkError> {
    let Some(kernel) = nics.kernel().filter(|_| !snapshot.network.is_bare()) else { return Ok(false) };
    let found = find_netdevs(context, look, snapshot).await?;
    let saved = snapshot.network.clone().without_devices(&found.taken);
    let now = Network::read(&kernel.netlink).await.map_err(TopologyError::from)?;
    let mapping = LinkMapping::new(&saved, &now, &found.here);
    let differences = compare(&saved, &mapping, age(snapshot));
    Ok(differences.iter().any(Difference::is_wrong))
}

async fn find_and_restore(
    context: &Context,
    kernel: &KernelLinks,
    look: &NicsLook<'_>,
    snapshot: &Snapshot,
) -> Result<RestoreOutcome, NetworkError> {
    let options = RestoreOptions {
        deadline: context.settings.timeout.max(2 * OTHERS_DEADLINE),
        others_deadline: OTHERS_DEADLINE,
        patience: PATIENCE,
        age: age(snapshot),
    };
    let found = find_netdevs(context, look, snapshot).await?;
    let saved = snapshot.network.clone().without_devices(&found.taken);
    let mut outcome = restore(&context.host, &kernel.netlink, &saved, &found.here, options).await?;
    let taken = snapshot.network.links.iter().filter(|link| found.taken.contains(&link.index));
    outcome.differences.extend(taken.map(|link| Difference {
        what: format!("link {}", link.name),
        found:
            "in another network namespace; what stood on it is left to whoever has taken it there".to_owned(),
        gravity: Gravity::CannotRestore,
    }));
    Ok(outcome)
}

fn age(snapshot: &Snapshot) -> Duration {
    // A clock that was set back must not lengthen a lifetime.
    Duration::try_from(Timestamp::now().duration_since(snapshot.taken_at)).unwrap_or_default()
}

/// Where the saved netdevs are now.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FoundNetdevs {
    /// Which netdev is now which saved one.
    pub(super) here: BTreeMap<IfIndex, IfIndex>,
    /// The saved ones that somebody has taken to another network namespace. Nothing that stood on them is owed.
    taken: Vec<IfIndex>,
}

pub(super) async fn find_netdevs(
    context: &Context,
    look: &NicsLook<'_>,
    snapshot: &Snapshot,
) -> Result<FoundNetdevs, ObserveError> {
    Ok(FoundNetdevs::pair(&snapshot.nics, look.nics(context, &snapshot.nics).await?))
}

impl FoundNetdevs {
    /// Pairs by PF, VF and port, never by name.
    fn pair(saved: &NicState, found: &NicState) -> Self {
        let found_netdevs = netdevs(found);
        let (mut here, mut taken) = (BTreeMap::new(), Vec::new());
        for (key, netdev) in netdevs(saved) {
            if let Some(now) = found_netdevs.get(&key) {
                here.insert(netdev.index, now.index);
            } else if is_in_namespace(found, &key) {
                taken.push(netdev.index);
            }
        }
        Self { here, taken }
    }
}

/// Whether the kernel says that this netdev is in another network namespace. Of PFs and representors it is not asked.
fn is_in_namespace(found: &NicState, (pf, which): &NetdevKey) -> bool {
    let WhichNetdev::Vf(index) = which else { return false };
    let pf = found.pfs.iter().find(|found| found.address.to_string() == *pf);
    let vf = pf.and_then(|pf| pf.vfs.iter().find(|vf| vf.index == *index));
    vf.is_some_and(VfState::is_in_use)
}

/// In one sentence.
pub(crate) fn network_summary(outcome: &RestoreOutcome) -> String {
    let missing = outcome.differences.len();
    let differences = if missing == 0 { String::new() } else { format!("; {missing} differences") };
    format!("{} steps for what stood on the NICs{differences}", outcome.done.len())
}

/// What identifies a netdev across a swap: its PF's address, and which netdev of that PF it is.
pub(super) type NetdevKey = (String, WhichNetdev);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum WhichNetdev {
    Pf,
    Vf(u32),
    Representor(String),
}

/// The interface indexes of all netdevs of these NICs.
pub(super) fn ifindexes(nics: &NicState) -> Vec<IfIndex> {
    netdevs(nics).into_values().map(|netdev| netdev.index).collect()
}

pub(super) fn netdevs(nics: &NicState) -> BTreeMap<NetdevKey, &NetdevState> {
    nics.pfs.iter().flat_map(netdevs_of).collect()
}

fn netdevs_of(pf: &PfState) -> impl Iterator<Item = (NetdevKey, &NetdevState)> {
    let own = pf.netdev.as_set().into_iter().map(|netdev| (WhichNetdev::Pf, netdev));
    let vfs = pf.vfs.iter().filter_map(|vf| Some((WhichNetdev::Vf(vf.index), vf.netdev.here()?)));
    let representors = pf.representors.iter();
    let representors = representors.map(|one| (WhichNetdev::Representor(one.port.to_string()), &one.netdev));
    own.chain(vfs).chain(representors).map(|(which, netdev)| ((pf.address.to_string(), which), netdev))
}

#[cfg(test)]
mod tests {
    use nic_netlink::{Link, Links, Setting};
    use nic_sriov::{OfedAttributes, VfNetdev};

    use super::*;

    fn netdev(index: u32) -> NetdevState {
        NetdevState::of(&Link::new(IfIndex(index), "eth0".parse().unwrap()), &Links::default())
    }

    fn pf(address: &str, index: u32, vfs: &[VfNetdev]) -> PfState {
        let vf = |(index, netdev): (usize, &VfNetdev)| VfState {
            index: u32::try_from(index).unwrap(),
            address: None,
            driver: None,
            driver_override: None,
            admin: Setting::NotThere,
            ofed: OfedAttributes::default(),
            rdma: Setting::NotThere,
            netdev: netdev.clone(),
        };
        PfState {
            address: nic_sriov::DeviceAddress::new("pci", address).unwrap(),
            pci_id: None,
            driver: None,
            total_vfs: None,
            num_vfs: 0,
            drivers_autoprobe: None,
            eswitch: Setting::NotThere,
            netdev: Setting::Set(netdev(index)),
            rdma: Setting::NotThere,
            vfs: vfs.iter().enumerate().map(vf).collect(),
            representors: Vec::new(),
        }
    }

    #[test]
    fn netdevs_are_paired_by_place() {
        let here = |index| VfNetdev::Here(netdev(index));
        let saved = NicState {
            pfs: vec![
                pf("0000:01:00.0", 2, &[here(10), here(11), VfNetdev::Unbound]),
                pf("0000:02:00.0", 3, &[here(12)]),
            ],
            ..NicState::default()
        };
        let found = NicState {
            pfs: vec![
                pf("0000:02:00.0", 102, &[VfNetdev::NotVisible]),
                pf("0000:01:00.0", 103, &[here(111), VfNetdev::InNamespace, here(112)]),
            ],
            ..NicState::default()
        };
        let paired = FoundNetdevs::pair(&saved, &found);
        let pairs: Vec<(u32, u32)> = paired.here.into_iter().map(|(a, b)| (a.0, b.0)).collect();
        assert_eq!(pairs, [(2, 103), (3, 102), (10, 111)]);
        // One that is merely not here may still come: what stood on it is owed.
        assert_eq!(paired.taken, [IfIndex(11)]);
    }
}

//! What journal lines tell beside steps: where they are, what is in the way, what is about to go. Additions, which a version that does not
//! have them passes over.

use nic_host::KernelRelease;
use nic_netlink::IfIndex;
use nic_sriov::{DeviceAddress, PfState};
use nic_topology::{NetworkState, Place};
use serde::{Deserialize, Serialize};

use super::snapshot::Snapshot;

/// Where a phase is carried out, and for what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeFacts {
    /// The host's name, where it can be read: a container may have one of its own.
    pub host: Option<String>,
    /// The kernel's release.
    pub kernel: KernelRelease,
    /// The NIC family.
    pub family: String,
}

/// Something that was found in the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockerSeen {
    /// Of which kind it is; `None` where a version told a sentence alone.
    pub kind: Option<String>,
    /// What it is.
    pub what: String,
}

/// A PF that is about to go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PfCheckpoint {
    /// The PF.
    pub pf: DeviceAddress,
    /// Its driver.
    pub driver: Option<String>,
    /// Its netdev's name.
    pub netdev: Option<String>,
    /// How many VFs it has.
    pub vfs: u32,
    /// The addresses that go with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<AddressCheckpoint>,
}

/// An address that is about to go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressCheckpoint {
    /// The address, with the length of its network.
    pub address: String,
    /// The link on which it stands.
    pub link: String,
    /// Whether that is a VF's, or on top of one: it goes before the PF does.
    pub is_on_vf: bool,
}

/// The PFs of a snapshot, and what stands on them.
pub(crate) fn pfs_about_to_go(snapshot: &Snapshot) -> Vec<PfCheckpoint> {
    let of_pf = |pf: &PfState| PfCheckpoint {
        pf: pf.address.clone(),
        driver: pf.driver.clone(),
        netdev: pf.netdev.as_set().map(|netdev| netdev.name.to_string()),
        vfs: pf.num_vfs,
        addresses: addresses(&snapshot.network, pf),
    };
    snapshot.nics.pfs.iter().map(of_pf).collect()
}

fn addresses(network: &NetworkState, pf: &PfState) -> Vec<AddressCheckpoint> {
    let of_pf = pf.ifindexes();
    let own = pf.netdev.as_set().map(|netdev| netdev.index);
    let mut addresses = Vec::new();
    for address in &network.addresses {
        let Some(device) = device_below(network, address.index).filter(|device| of_pf.contains(device))
        else {
            continue;
        };
        let link = network.links.iter().find(|link| link.index == address.index);
        addresses.push(AddressCheckpoint {
            address: format!("{}/{}", address.address, address.prefix_length),
            link: link.map_or_else(|| address.index.to_string(), |link| link.name.to_string()),
            is_on_vf: Some(device) != own,
        });
    }
    addresses
}

/// The device that a link is, or stands on.
fn device_below(network: &NetworkState, index: IfIndex) -> Option<IfIndex> {
    let mut index = index;
    // Each step goes down by one link.
    for _ in 0..=network.links.len() {
        let link = network.links.iter().find(|link| link.index == index)?;
        match &link.place {
            Place::Device => return Some(index),
            Place::Child { lower, .. } | Place::LostChild { lower } | Place::Bound { lower, .. } => {
                index = *lower;
            }
            Place::Stays { lower } => index = (*lower)?,
        }
    }
    None
}

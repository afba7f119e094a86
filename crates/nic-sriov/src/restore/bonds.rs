//! Bonds over eswitches: no VF of such a bond's PFs is bound before all of these have joined it.

use std::collections::{BTreeMap, BTreeSet};

use nic_netlink::LinkName;
use tokio::sync::watch;

use crate::plan::bond_over_eswitch;
use crate::{DeviceAddress, NicState, PfState};

/// The PFs of each bond over eswitches, and who of them needs to be waited for no more.
#[derive(Debug)]
pub(super) struct Bonds {
    ports: BTreeMap<LinkName, BTreeSet<DeviceAddress>>,
    /// Those that have joined, and those that will not.
    passed: watch::Sender<BTreeSet<DeviceAddress>>,
}

impl Bonds {
    pub(super) fn of(saved: &NicState) -> Self {
        let mut ports: BTreeMap<LinkName, BTreeSet<DeviceAddress>> = BTreeMap::new();
        for pf in &saved.pfs {
            if let Some(bond) = bond_over_eswitch(pf) {
                ports.entry(bond.clone()).or_default().insert(pf.address.clone());
            }
        }
        Self { ports, passed: watch::Sender::new(BTreeSet::new()) }
    }

    /// Waits until all PFs of this one's bond need to be waited for no more.
    pub(super) async fn await_others(&self, saved: &PfState) {
        let Some(ports) = bond_over_eswitch(saved).and_then(|bond| self.ports.get(bond)) else { return };
        // It lasts as long as this, so that the wait ends with what is waited for.
        let _ = self.passed.subscribe().wait_for(|passed| ports.is_subset(passed)).await;
    }

    /// This PF needs to be waited for no more.
    pub(super) fn pass(&self, pf: &DeviceAddress) {
        self.passed.send_if_modified(|passed| passed.insert(pf.clone()));
    }
}

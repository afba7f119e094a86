//! Swaps, as they are read out of events: from what is taken away until it was verified to be back.

use std::collections::BTreeMap;

use nic_sriov::{Component, DeviceAddress, RestoreEvent, RestoreOutcome, Stage};
use nic_topology::RestoreOutcome as NetworkOutcome;

use super::identity::ModuleIdentity;
use super::swaps::{AddressAway, PfAway, Swap, SwapKind, VfTimes};
use crate::state::{
    AddressCheckpoint, Effect, Entry, JournalEvent, Moment, Named, PfCheckpoint, Purpose, Step, StepOutcome,
};

/// Those of a night, in order.
pub(super) fn of(events: &[JournalEvent]) -> Vec<Swap> {
    let mut reader = Reader::default();
    for event in events {
        reader.read(event);
    }
    reader.swaps.into_iter().map(OpenSwap::end).collect()
}

#[derive(Default)]
struct Reader<'a> {
    swaps: Vec<OpenSwap<'a>>,
    /// The driver's module at the last checkpoint.
    driver: Option<ModuleIdentity>,
    /// What was told of the PFs when a snapshot was armed.
    pfs: &'a [PfCheckpoint],
}

impl<'a> Reader<'a> {
    /// The last swap, which goes on being read when it is over: what stood on the NICs may come later.
    fn last(&mut self) -> Option<&mut OpenSwap<'a>> {
        self.swaps.last_mut()
    }

    fn read(&mut self, event: &'a JournalEvent) {
        match &event.entry {
            Entry::Checkpoint { label, modules, nics } => {
                if label.is(&Moment::Armed) {
                    self.pfs = nics;
                }
                let Some(driver) = modules.first().map(ModuleIdentity::of) else { return };
                let first_reload_is_over = label.is(&Moment::AfterReload);
                if let Some(swap) = self.last().filter(|swap| swap.verified.is_none() || first_reload_is_over)
                {
                    swap.after = Some(driver.clone());
                }
                self.driver = Some(driver);
            }
            Entry::StepBegan { step: Named::Known(step), .. } => self.step_began(event, step),
            Entry::StepEnded {
                step: Named::Known(Step::AwaitPfs { pfs }), outcome: StepOutcome::Ok, ..
            } => {
                if let Some(swap) = self.last() {
                    swap.pfs_are_back(event, pfs);
                }
            }
            Entry::Restore { restore } => {
                if let Some(swap) = self.last() {
                    swap.restoring(event, restore);
                }
            }
            Entry::RestoreResult { result, .. } => {
                if let Some(swap) = self.last() {
                    swap.restored(event, result);
                }
            }
            Entry::NetworkResult { result } => {
                if let Some(swap) = self.last() {
                    swap.network_restored(event, result);
                }
            }
            _ => {}
        }
    }

    fn step_began(&mut self, event: &'a JournalEvent, step: &Step) {
        if let (Effect::TakesNicsAway, Step::RemoveVfs { pfs }) = (step.effect(), step) {
            if self.last().is_none_or(|swap| swap.verified.is_some()) {
                self.swaps.push(OpenSwap::begin(event, pfs, self.pfs, self.driver.clone()));
            }
            return;
        }
        let Some(swap) = self.last().filter(|swap| swap.verified.is_none()) else { return };
        match step {
            Step::Unload { module } => {
                swap.goes(event, |driver| driver.is_none_or(|driver| driver == module.as_str()));
            }
            Step::Run { purpose: Purpose::InitScript, .. } => swap.goes(event, |_| true),
            Step::RecordRollback => swap.is_rolled_back = true,
            _ => {}
        }
    }
}

struct OpenSwap<'a> {
    began: &'a JournalEvent,
    before: Option<ModuleIdentity>,
    after: Option<ModuleIdentity>,
    is_rolled_back: bool,
    verified: Option<&'a JournalEvent>,
    pfs: BTreeMap<DeviceAddress, OpenPf<'a>>,
    addresses: Vec<OpenAddress<'a>>,
    vfs: BTreeMap<(String, u32), VfTimes>,
}

#[derive(Default)]
struct OpenPf<'a> {
    told: Option<&'a PfCheckpoint>,
    went: Option<&'a JournalEvent>,
    netdev_back: Option<&'a JournalEvent>,
    restored: Option<&'a JournalEvent>,
    verified: Option<&'a JournalEvent>,
}

struct OpenAddress<'a> {
    pf: DeviceAddress,
    told: &'a AddressCheckpoint,
    back: Option<&'a JournalEvent>,
}

impl<'a> OpenSwap<'a> {
    fn begin(
        began: &'a JournalEvent,
        pfs: &[DeviceAddress],
        told: &'a [PfCheckpoint],
        before: Option<ModuleIdentity>,
    ) -> Self {
        let mut swap = Self {
            began,
            before,
            after: None,
            is_rolled_back: false,
            verified: None,
            pfs: BTreeMap::new(),
            addresses: Vec::new(),
            vfs: BTreeMap::new(),
        };
        for pf in pfs {
            let told = told.iter().find(|told| told.pf == *pf);
            let addresses = told.map(|told| &told.addresses[..]).unwrap_or_default();
            let open = |told| OpenAddress { pf: pf.clone(), told, back: None };
            swap.addresses.extend(addresses.iter().map(open));
            swap.pf_mut(pf).told = told;
        }
        swap
    }

    fn pf_mut(&mut self, pf: &DeviceAddress) -> &mut OpenPf<'a> {
        self.pfs.entry(pf.clone()).or_default()
    }

    /// The PFs go whose driver that is.
    fn goes(&mut self, event: &'a JournalEvent, is_driver: impl Fn(Option<&str>) -> bool) {
        for pf in self.pfs.values_mut().filter(|pf| pf.went.is_none()) {
            if is_driver(pf.told.and_then(|told| told.driver.as_deref())) {
                pf.went = Some(event);
            }
        }
    }

    fn pfs_are_back(&mut self, event: &'a JournalEvent, pfs: &[DeviceAddress]) {
        let is_over = self.verified.is_some();
        for (address, pf) in &mut self.pfs {
            let is_told = pfs.is_empty() || pfs.contains(address);
            if is_told && !is_over && pf.netdev_back.is_none() {
                pf.netdev_back = Some(event);
            }
        }
    }

    fn restoring(&mut self, event: &'a JournalEvent, restore: &RestoreEvent) {
        if self.verified.is_some() {
            return;
        }
        let at = self.began.ms_until(event);
        match restore {
            RestoreEvent::StageEnded { pf, stage: Stage::Finish } => self.pf_mut(pf).restored = Some(event),
            RestoreEvent::VfBound { component } => self.vf(component, |vf| vf.bound_ms = Some(at)),
            RestoreEvent::VfArrived { component, .. } => self.vf(component, |vf| vf.arrived_ms = Some(at)),
            RestoreEvent::VfDone { component, failure, .. } => self.vf(component, |vf| {
                vf.done_ms = Some(at);
                vf.failure.clone_from(failure);
            }),
            RestoreEvent::StageBegan { .. }
            | RestoreEvent::StageEnded { .. }
            | RestoreEvent::PfStepBegan { .. }
            | RestoreEvent::PfStep { .. } => {}
        }
    }

    fn vf(&mut self, component: &Component, change: impl FnOnce(&mut VfTimes)) {
        let Component::Vf { pf, index, .. } = component else { return };
        let pf = pf.to_string();
        let new = || VfTimes {
            pf: pf.clone(),
            index: *index,
            bound_ms: None,
            arrived_ms: None,
            done_ms: None,
            failure: None,
        };
        change(self.vfs.entry((pf.clone(), *index)).or_insert_with(new));
    }

    fn restored(&mut self, event: &'a JournalEvent, result: &RestoreOutcome) {
        if self.verified.is_some() {
            return;
        }
        for (address, pf) in self.pfs.iter_mut().filter(|(_, pf)| pf.verified.is_none()) {
            let is_skipped = result.skipped.iter().any(|skipped| skipped.pf == *address);
            let is_wrong =
                result.differences.iter().any(|one| one.is_wrong() && one.component.pf() == address);
            if !is_skipped && !is_wrong {
                pf.verified = Some(event);
            }
        }
        self.verified = Some(event).filter(|_| result.is_verified());
    }

    fn network_restored(&mut self, event: &'a JournalEvent, result: &NetworkOutcome) {
        for address in self.addresses.iter_mut().filter(|address| address.back.is_none()) {
            let is_wrong =
                result.differences.iter().any(|one| one.is_wrong() && names(&one.what, address.told));
            if !is_wrong {
                address.back = Some(event);
            }
        }
    }

    fn end(self) -> Swap {
        let Self { began, before, after, is_rolled_back, verified, pfs, addresses, vfs } = self;
        let until = |event: Option<&JournalEvent>| event.map(|event| began.ms_until(event));
        let address = |open: OpenAddress<'_>| {
            let went =
                pfs.get(&open.pf).and_then(|pf| pf.went).filter(|_| !open.told.is_on_vf).unwrap_or(began);
            AddressAway {
                address: open.told.address.clone(),
                link: open.told.link.clone(),
                pf: open.pf.to_string(),
                from: went.at,
                away_ms: open.back.map(|back| went.ms_until(back)),
            }
        };
        let addresses = addresses.into_iter().map(address).collect();
        let pf = |(address, pf): (DeviceAddress, OpenPf<'_>)| {
            let went = pf.went.unwrap_or(began);
            PfAway {
                pf: address.to_string(),
                netdev: pf.told.and_then(|told| told.netdev.clone()),
                vfs: pf.told.map(|told| told.vfs),
                critical_from: began.at,
                critical_ms: until(pf.restored.or(pf.verified)),
                from: went.at,
                netdev_back_ms: pf.netdev_back.map(|back| went.ms_until(back)),
                away_ms: pf.verified.map(|verified| went.ms_until(verified)),
            }
        };
        Swap {
            kind: SwapKind::between(before.as_ref(), after.as_ref(), is_rolled_back),
            from: began.at,
            away_ms: until(verified),
            pfs: pfs.into_iter().map(pf).collect(),
            addresses,
            vfs: vfs.into_values().collect(),
            before,
            after,
        }
    }
}

/// Whether what differs is this address, in the words of iproute2.
fn names(what: &str, told: &AddressCheckpoint) -> bool {
    let words: Vec<&str> = what.split_whitespace().collect();
    words.contains(&told.address.as_str()) && words.contains(&told.link.as_str())
}

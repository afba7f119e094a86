//! What a restore has done so far: steps, failures, VFs, and what has begun and not ended. It decides nothing; at the
//! end the verification reads it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nic_netlink::{IfIndex, LinkName};

use super::outcome::StepFailure;
use super::step_error::StepError;
use crate::Component;
use crate::names::Contested;

#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) steps: usize,
    pub(super) failures: Vec<StepFailure>,
    pub(super) vfs: Vec<VfProgress>,
    pub(super) contested: Vec<Contested>,
    /// Netdevs that have come back from another network namespace and have no name to be given.
    pub(super) nameless: Vec<(Component, IfIndex)>,
    /// Ports that their masters' daemons have to take back.
    pub(super) ports_of_daemons: Vec<PortOfDaemon>,
}

/// A port that its master does not take from us: that of Open vSwitch has no `ndo_add_slave` (`do_set_master` in
/// net/core/rtnetlink.c: EOPNOTSUPP), and its daemon makes the netdev its port again when it sees that it has come.
#[derive(Debug)]
pub(super) struct PortOfDaemon {
    pub(super) component: Component,
    pub(super) index: IfIndex,
    pub(super) master: LinkName,
    /// What the kernel says to whoever else tries.
    pub(super) refused: StepError,
}

/// How far one VF has come.
#[derive(Debug)]
pub(super) struct VfProgress {
    pub(super) component: Component,
    pub(super) first_seen_as: Option<String>,
    pub(super) waited: Option<Duration>,
    pub(super) steps: usize,
    pub(super) retried: bool,
}

impl VfProgress {
    pub(super) fn new(component: Component) -> Self {
        Self { component, first_seen_as: None, waited: None, steps: 0, retried: false }
    }
}

/// What has begun and has not ended, to be named when the time for all of it is over.
#[derive(Debug, Default)]
pub(super) struct InProgress(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    /// In the order in which they began.
    entries: BTreeMap<u64, (Component, String)>,
    next: u64,
}

impl InProgress {
    /// Adds a step, which counts as in progress until the entry is dropped.
    pub(super) fn begin(&self, component: &Component, step: String) -> InProgressEntry<'_> {
        let mut entries = self.lock();
        let number = entries.next;
        entries.next += 1;
        entries.entries.insert(number, (component.clone(), step));
        InProgressEntry { list: self, number }
    }

    pub(super) fn entries(&self) -> Vec<(Component, String)> {
        self.lock().entries.values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A step that is in progress, until this is dropped.
#[derive(Debug)]
pub(super) struct InProgressEntry<'a> {
    list: &'a InProgress,
    number: u64,
}

impl Drop for InProgressEntry<'_> {
    fn drop(&mut self) {
        self.list.lock().entries.remove(&self.number);
    }
}

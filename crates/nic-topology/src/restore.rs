//! Carrying the plan out: look, plan, do one stage, look again, until nothing is missing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use nic_host::Host;
use nic_netlink::{
    ChangeError, ConnectError, IfIndex, LinkChange, Netlink, NetworkChange, NetworkChangeError,
    NetworkEvents, NetworkReadError,
};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::awaited::{Attempts, Awaited, Refusal, lacks_link_of_others};
use crate::names::Names;
use crate::{
    Action, Difference, LinkMapping, ManagedBy, Network, NetworkState, Progress, Step, compare, plan,
    progress,
};

/// How a restore goes about its work.
#[derive(Debug, Clone, Copy)]
pub struct RestoreOptions {
    /// How long it may take in all.
    pub deadline: Duration,
    /// How long others are waited for who have to do a part: a network manager, the daemon of a master that takes no ports otherwise, whoever
    /// makes a link that nothing here can make. Where nothing is up to others, they are not waited for.
    pub others_deadline: Duration,
    /// For how long what is refused is tried again where only the kernel has to act: an IPv6 address is no source of a route before
    /// duplicate address detection has ended.
    pub patience: Duration,
    /// How long ago the state was saved: lifetimes have run down meanwhile.
    pub age: Duration,
}

/// What came of a restore.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreOutcome {
    /// The steps that were carried out, in the words of iproute2.
    pub done: Vec<String>,
    /// The steps that failed last, and are still to be done.
    pub failures: Vec<StepFailure>,
    /// The links that were left to a network manager, and for how long it was waited for.
    pub left_to: Vec<LeftTo>,
    /// What is different now from what was saved.
    pub differences: Vec<Difference>,
}

/// A step that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepFailure {
    /// The step.
    pub step: String,
    /// The kernel's reason.
    pub cause: String,
}

/// A link of a network manager's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftTo {
    /// The link's name.
    pub link: String,
    /// The manager.
    pub manager: ManagedBy,
    /// Whether it did all that was to be done there.
    pub did_all: bool,
}

impl RestoreOutcome {
    /// Whether all that was saved is there again, but for what somebody else has made otherwise.
    #[must_use]
    pub fn is_verified(&self) -> bool {
        !self.differences.iter().any(Difference::is_wrong)
    }
}

/// The network could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    /// A list could not be read.
    #[error(transparent)]
    Read(#[from] NetworkReadError),
    /// The events could not be listened to.
    #[error(transparent)]
    Listen(#[from] ConnectError),
}

/// A slow look again, in case an event is lost, and at what tells of no event: a manager's files.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Gives back what is missing of `saved`. `devices` says which interface is now which saved one.
///
/// What a network manager has is left to it until it has done all, says that it has ended, or its time is over. How long the rest is
/// waited for goes by who has to act: the kernel, or others.
pub async fn restore(
    host: &Host,
    netlink: &Netlink,
    saved: &NetworkState,
    devices: &BTreeMap<IfIndex, IfIndex>,
    options: RestoreOptions,
) -> Result<RestoreOutcome, TopologyError> {
    let mut events = NetworkEvents::subscribe()?;
    let start = Instant::now();
    let mut work = Work {
        host,
        netlink,
        saved,
        names: Names::of(saved),
        start,
        options,
        done: Vec::new(),
        attempts: Attempts::default(),
        managed: BTreeMap::new(),
        worked_on: BTreeSet::new(),
    };
    let mut last_change = start;
    let mut last_awaited = Vec::new();
    loop {
        let now = Network::read(netlink).await?;
        let mapping = LinkMapping::new(saved, &now, devices);
        let age = options.age + start.elapsed();
        let steps = plan(saved, &mapping, age);
        let (mine, waiting) = work.split_by_manager(&steps, &mapping);
        let awaited = work.awaited(&steps, &mapping);
        if awaited != last_awaited {
            last_change = Instant::now();
            last_awaited = awaited;
        }
        let up_to_others = last_awaited.iter().any(|(_, awaited)| *awaited == Awaited::Others)
            || lacks_link_of_others(saved, &mapping);
        let is_waited_for = waiting > 0
            || (up_to_others && !work.others_time_is_over())
            || (!steps.is_empty() && last_change.elapsed() < options.patience);
        if !is_waited_for || start.elapsed() >= options.deadline {
            return Ok(work.outcome(&steps, compare(saved, &mapping, age)));
        }
        if work.do_first_stage(&mine, &mapping).await {
            continue;
        }
        if let Ok(Err(error)) = tokio::time::timeout(LOOK_AGAIN, events.changed()).await {
            tracing::warn!(%error, "the network is looked at every {} ms", LOOK_AGAIN.as_millis());
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

struct Work<'run> {
    host: &'run Host,
    netlink: &'run Netlink,
    saved: &'run NetworkState,
    names: Names<'run>,
    start: Instant,
    options: RestoreOptions,
    done: Vec<String>,
    /// What has become of each step so far.
    attempts: Attempts,
    /// Whose the links are that were waited for.
    managed: BTreeMap<IfIndex, ManagedBy>,
    /// The links of which something was done here.
    worked_on: BTreeSet<IfIndex>,
}

impl Work<'_> {
    fn others_time_is_over(&self) -> bool {
        self.start.elapsed() >= self.options.others_deadline
    }

    /// The missing steps by their text, in which no lifetimes run down, each with who has to act before it is there.
    fn awaited(&self, steps: &[Step], mapping: &LinkMapping<'_>) -> Vec<(String, Awaited)> {
        let with_text = steps.iter().map(|step| (step, step.text(&self.names)));
        with_text
            .map(|(step, text)| {
                let awaited = self.attempts.awaited(step, &text, mapping);
                (text, awaited)
            })
            .collect()
    }

    /// The steps to be done now, and how many are a manager's for the time being.
    fn split_by_manager<'step>(
        &mut self,
        steps: &'step [Step],
        mapping: &LinkMapping<'_>,
    ) -> (Vec<&'step Step>, usize) {
        let links: BTreeSet<IfIndex> = steps.iter().map(|step| step.link).collect();
        let left: BTreeSet<IfIndex> =
            links.into_iter().filter(|link| self.is_left_to_manager(*link, mapping)).collect();
        let (waiting, mine): (Vec<_>, Vec<_>) = steps.iter().partition(|step| left.contains(&step.link));
        (mine, waiting.len())
    }

    fn is_left_to_manager(&mut self, link: IfIndex, mapping: &LinkMapping<'_>) -> bool {
        let Some(before) = self.saved.link(link).and_then(|link| link.managed_by) else { return false };
        self.managed.insert(link, before);
        if self.others_time_is_over() {
            return false;
        }
        let Some(index) = mapping.index(link) else { return true };
        match progress(self.host, index) {
            // Its file for the new index may not be written yet.
            Ok(Progress::Managed(_) | Progress::NotManaged) => true,
            Ok(Progress::Done(_)) => false,
            Err(error) => {
                tracing::warn!(%error, "whether a network manager has ended cannot be read");
                true
            }
        }
    }

    /// Does the steps of the first stage in which one succeeds. Returns whether one did.
    async fn do_first_stage(&mut self, steps: &[&Step], mapping: &LinkMapping<'_>) -> bool {
        for stage in steps.chunk_by(|a, b| a.stage == b.stage) {
            let mut any = false;
            for step in stage {
                any |= self.carry_out(step, mapping).await;
            }
            if any {
                return true;
            }
        }
        false
    }

    async fn carry_out(&mut self, step: &Step, mapping: &LinkMapping<'_>) -> bool {
        let text = step.text(&self.names);
        if self.attempts.is_left_alone(&text, self.others_time_is_over()) {
            return false;
        }
        let refused = match self.try_step(step, mapping).await {
            None => return false,
            Some(Ok(())) => {
                tracing::info!(step = text, "network step done");
                self.attempts.carried_out(&text);
                self.worked_on.insert(step.link);
                self.done.push(text);
                return true;
            }
            Some(Err(error)) => error,
        };
        let refusal = refused.refusal();
        tracing::debug!(step = text, cause = refusal.cause, "network step refused");
        self.attempts.refused(&text, refusal);
        false
    }

    /// `None` when an interface that it needs is not there yet.
    async fn try_step(&self, step: &Step, mapping: &LinkMapping<'_>) -> Option<Result<(), Refused>> {
        match &step.action {
            Action::Link(change) => {
                let index = mapping.index(step.link)?;
                let change = match change {
                    LinkChange::Master(Some(master)) => LinkChange::Master(Some(mapping.index(*master)?)),
                    other => other.clone(),
                };
                Some(
                    self.netlink.change(index, &change).await.map_err(|error| Refused::Link(Box::new(error))),
                )
            }
            Action::Network(change) => {
                let change = as_present(change, mapping)?;
                Some(self.netlink.change_network(&change).await.map_err(Refused::Network))
            }
        }
    }

    fn outcome(self, missing: &[Step], differences: Vec<Difference>) -> RestoreOutcome {
        let texts: BTreeSet<String> = missing.iter().map(|step| step.text(&self.names)).collect();
        let failures = texts.into_iter().filter_map(|step| {
            let cause = self.attempts.refusal(&step)?.cause.clone();
            Some(StepFailure { step, cause })
        });
        let left_to = self.managed.into_iter().map(|(link, manager)| LeftTo {
            link: self.saved.name(link),
            manager,
            did_all: !self.worked_on.contains(&link) && missing.iter().all(|step| step.link != link),
        });
        RestoreOutcome {
            done: self.done,
            failures: failures.collect(),
            left_to: left_to.collect(),
            differences,
        }
    }
}

enum Refused {
    Link(Box<ChangeError>),
    Network(NetworkChangeError),
}

impl Refused {
    /// The kernel's part: the step itself is known.
    fn refusal(&self) -> Refusal {
        let source = match self {
            Self::Link(error) => &error.source,
            Self::Network(error) => &error.source,
        };
        Refusal { errno: source.errno(), cause: source.to_string() }
    }
}

/// The change with present indexes.
fn as_present(change: &NetworkChange, mapping: &LinkMapping<'_>) -> Option<NetworkChange> {
    let mut change = change.clone();
    match &mut change {
        NetworkChange::AddChild(child) => child.lower = mapping.index(child.lower)?,
        NetworkChange::Rebind(wanted) => {
            wanted.index = mapping.index(wanted.index)?;
            wanted.lower = mapping.index(wanted.lower)?;
        }
        NetworkChange::PortSetting { index, .. } => *index = mapping.index(*index)?,
        NetworkChange::Address(address) => address.index = mapping.index(address.index)?,
        NetworkChange::Neighbour(neighbour) => neighbour.index = mapping.index(neighbour.index)?,
        NetworkChange::Forwarding(entry) => {
            entry.index = mapping.index(entry.index)?;
            entry.through = match entry.through {
                Some(through) => Some(mapping.index(through)?),
                None => None,
            };
        }
        NetworkChange::AppendRoute(route) | NetworkChange::ReplaceRoute(route) => {
            for hop in &mut route.next_hops {
                hop.index = match hop.index {
                    Some(index) => Some(mapping.index(index)?),
                    None => None,
                };
            }
        }
        NetworkChange::Rule(_) => {}
    }
    Some(change)
}

//! Carrying out a restore: stage by stage, PFs and VFs concurrently, verified at the end.

mod work;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use nic_host::{Host, error_chain};
use nic_netlink::LinkName;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use self::work::{Record, Work};
use crate::arrivals::{ArrivalError, Arrivals};
use crate::observe::{KernelLinks, LinkSource, observe_within};
use crate::plan::{
    PfStep, RestoreObstacle, SkippedPf, VfUser, attribute_for_legacy, obstacles, plan_prepare, vfs_to_unbind,
    without_blocked_pfs,
};
use crate::{
    Attribute, DeviceAddress, DeviceSelector, Difference, Gravity, NicState, ObserveError, Part, PfState,
    compare, vfio_group_in_use,
};

/// How a restore goes about its work.
#[derive(Debug, Clone, Copy)]
pub struct RestoreOptions {
    /// How many VFs are bound at the same time.
    pub jobs: usize,
    /// What one operation may take, on a NIC with a single VF.
    pub base_deadline: Duration,
    /// What each VF of the machine adds to that.
    pub deadline_per_vf: Duration,
}

impl Default for RestoreOptions {
    fn default() -> Self {
        Self { jobs: 64, base_deadline: Duration::from_secs(60), deadline_per_vf: Duration::from_secs(2) }
    }
}

impl RestoreOptions {
    /// The deadline of one operation on a machine with `vfs` VFs.
    #[must_use]
    pub fn deadline(&self, vfs: usize) -> Duration {
        self.base_deadline + self.deadline_per_vf * u32::try_from(vfs).unwrap_or(u32::MAX)
    }

    /// What all of a restore may take on a machine with `vfs` VFs, before the verification: time for an operation that
    /// hangs, for its second try, and for the rest.
    #[must_use]
    pub fn total(&self, vfs: usize) -> Duration {
        3 * self.deadline(vfs)
    }
}

/// A restore that was not begun: nothing has been changed.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The machine could not be observed.
    #[error(transparent)]
    Observe(#[from] ObserveError),
    /// The events could not be listened to.
    #[error(transparent)]
    Listen(#[from] ArrivalError),
}

/// What happens during a restore, as it happens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum RestoreEvent {
    /// A stage of a PF begins.
    StageBegan {
        /// The PF.
        pf: DeviceAddress,
        /// The stage.
        stage: Stage,
    },
    /// A stage of a PF has ended.
    StageEnded {
        /// The PF.
        pf: DeviceAddress,
        /// The stage.
        stage: Stage,
    },
    /// A step on the PF itself is about to be tried.
    PfStepBegan {
        /// The PF.
        pf: DeviceAddress,
        /// The step.
        step: String,
    },
    /// A step on the PF itself has been tried: its netdev, autoprobe, the number of VFs, the eswitch.
    PfStep {
        /// The PF.
        pf: DeviceAddress,
        /// The step.
        step: String,
    },
    /// A VF's driver has been bound.
    VfBound {
        /// The VF.
        part: Part,
    },
    /// A VF's netdev has come and has its final name.
    VfArrived {
        /// The VF.
        part: Part,
        /// Its name.
        name: LinkName,
        /// The name it was first seen under, when that was another.
        first_seen_as: Option<String>,
    },
    /// All that could be done for a VF has been done.
    VfDone {
        /// The VF.
        part: Part,
        /// How many steps it took.
        steps: usize,
        /// What went wrong.
        failure: Option<String>,
    },
}

/// The stages of a PF's restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The PF's own properties, and its VFs created without drivers.
    Prepare,
    /// What the PF holds for its VFs.
    Admin,
    /// The eswitch's mode, and its representors.
    Eswitch,
    /// Binding, waiting for netdevs, and the netdevs' own properties.
    Vfs,
    /// Autoprobe and the PF's netdev as saved.
    Finish,
}

/// A step that failed. Whether that matters is for the verification to say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepFailure {
    /// What it was for.
    pub part: Part,
    /// The step.
    pub step: String,
    /// The attributes that it was to set.
    pub attributes: Vec<Attribute>,
    /// The error and its causes.
    pub cause: String,
    /// Whether the driver says that it has no such attribute (EOPNOTSUPP).
    pub unsupported: bool,
}

/// How one VF fared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VfOutcome {
    /// Which VF.
    pub part: Part,
    /// Its netdev's name at the end, where it has one.
    pub name: Option<LinkName>,
    /// The name its netdev was first seen under, when that was another.
    pub first_seen_as: Option<String>,
    /// How long its netdev was waited for, in milliseconds.
    pub waited_ms: Option<u64>,
    /// How many steps it took; 0 when it already was what it was.
    pub steps: usize,
    /// Whether it had to be bound a second time.
    pub retried: bool,
    /// Whether it now is what the snapshot says.
    pub verified: bool,
}

/// What came of a restore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreOutcome {
    /// The PFs that were left alone, each with what stood in the way of its restore.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<SkippedPf>,
    /// How many changes were made to the machine.
    pub steps: usize,
    /// Each VF.
    pub vfs: Vec<VfOutcome>,
    /// Steps that failed.
    pub failures: Vec<StepFailure>,
    /// What is different from the snapshot now.
    pub differences: Vec<Difference>,
}

impl RestoreOutcome {
    /// Whether the machine was read back and equals the snapshot, but for what cannot be equal.
    #[must_use]
    pub fn is_verified(&self) -> bool {
        self.skipped.is_empty() && !self.differences.iter().any(Difference::is_wrong)
    }

    /// How many VFs were first seen under another name than the one udev gave them in the end.
    #[must_use]
    pub fn renamed_after_arrival(&self) -> usize {
        self.vfs.iter().filter(|vf| vf.first_seen_as.is_some()).count()
    }
}

/// Gives the NICs back what `saved` says, as far as they differ from it, and verifies.
///
/// Returns an error only when nothing was changed. One VF's failure is one VF's failure: it is in the outcome. So is what
/// was not finished when the time for all of it was over ([`RestoreOptions::total`]).
pub async fn restore(
    host: &Host,
    kernel: &KernelLinks,
    selector: &DeviceSelector,
    saved: &NicState,
    options: RestoreOptions,
    on_event: &(dyn Fn(RestoreEvent) + Sync),
) -> Result<RestoreOutcome, RestoreError> {
    let source = LinkSource::Kernel(kernel.clone());
    let deadline = options.deadline(saved.vf_count());
    let (found, unreadable) = observe_each(host, &source, selector, saved, deadline).await;
    let known = without_blocked_pfs(saved, &unreadable).0;
    let mut in_the_way = obstacles(&known, &found);
    in_the_way.extend(vfs_in_use(host, &known, &found));
    in_the_way.extend(unreadable);
    let (restorable, skipped) = without_blocked_pfs(saved, &in_the_way);
    for pf in &skipped {
        tracing::error!(pf = %pf.pf, reasons = %pf, "a PF is left alone; the others are restored");
    }
    let differences = compare(&restorable, &found);
    if !differences.iter().any(Difference::is_wrong) {
        let differences = compare_known(saved, &found, &in_the_way);
        return Ok(outcome(saved, skipped, differences, Record::default()));
    }
    // The kernel carries out changes one after the other: the last of many waits for all before it.
    let kernel = KernelLinks { netlink: kernel.netlink.with_deadline(deadline), ..kernel.clone() };
    let work = Work {
        host,
        kernel: &kernel,
        source: &source,
        selector,
        arrivals: Arrivals::listen(host, &kernel).await?,
        deadline,
        binds: Semaphore::new(options.jobs.max(1)),
        record: Mutex::default(),
        under_way: Mutex::default(),
        on_event,
    };
    let total = options.total(saved.vf_count());
    {
        let course = std::pin::pin!(async {
            join_all(restorable.pfs.iter().map(|pf| work.restore_pf(pf))).await;
            work.give_contested_names(&restorable).await;
        });
        // The course lives until the end of this block: what it is at can still be told.
        if tokio::time::timeout(total, course).await.is_err() {
            work.fail_what_is_under_way(&restorable, total);
        }
    }
    let (found, unreadable) = observe_each(host, &source, selector, saved, deadline).await;
    let record = work.record.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut differences = compare_known(saved, &found, &unreadable);
    weigh(&mut differences, &record.failures);
    Ok(outcome(saved, skipped, differences, record))
}

/// Observes each PF by itself: what cannot be read of one is an obstacle to that one alone.
async fn observe_each(
    host: &Host,
    source: &LinkSource,
    selector: &DeviceSelector,
    saved: &NicState,
    deadline: Duration,
) -> (NicState, Vec<RestoreObstacle>) {
    let observe = |pf: &DeviceAddress| {
        let pf = pf.clone();
        async move {
            let found = observe_within(host, source, selector, std::slice::from_ref(&pf), deadline).await;
            (pf, found)
        }
    };
    let mut state = NicState::default();
    let mut unreadable = Vec::new();
    for (pf, found) in join_all(saved.pfs.iter().map(|pf| observe(&pf.address))).await {
        match found {
            Ok(found) => state.pfs.extend(found.pfs),
            Err(error) => unreadable.push(RestoreObstacle::Unreadable { pf, reason: error_chain(&error) }),
        }
    }
    (state, unreadable)
}

/// Compares what could be read; of a PF that could not, that is the difference: not knowing is not the same as equal.
fn compare_known(saved: &NicState, found: &NicState, in_the_way: &[RestoreObstacle]) -> Vec<Difference> {
    let unknown = |obstacle: &RestoreObstacle| match obstacle {
        RestoreObstacle::Unreadable { pf, reason } => Some(unreadable(pf, reason)),
        _ => None,
    };
    let unknown: Vec<Difference> = in_the_way.iter().filter_map(unknown).collect();
    let is_known = |pf: &PfState| !unknown.iter().any(|unknown| unknown.part == Part::Pf(pf.address.clone()));
    let known = NicState { pfs: saved.pfs.iter().filter(|pf| is_known(pf)).cloned().collect() };
    let mut differences = compare(&known, found);
    differences.extend(unknown);
    differences
}

/// VFs that the restore would remove, or take the driver from, although somebody uses them.
fn vfs_in_use(host: &Host, saved: &NicState, found: &NicState) -> Vec<RestoreObstacle> {
    let mut obstacles = Vec::new();
    for (saved, found) in saved.pfs.iter().filter_map(|pf| Some((pf, found.pf(&pf.address)?))) {
        let removes = plan_prepare(saved, found).contains(&PfStep::NumVfs(0));
        if !removes && vfs_to_unbind(saved, found).is_empty() {
            continue;
        }
        for (vf, state) in found.vfs.iter().filter_map(|vf| Some((vf.address?, vf))) {
            let vfio = || vfio_group_in_use(host, vf).map(VfUser::Vfio);
            let Some(user) = state.is_in_use().then_some(VfUser::Namespace).or_else(vfio) else { continue };
            let pf = found.address.clone();
            obstacles.push(if removes {
                RestoreObstacle::VfInUse { pf, wanted: saved.num_vfs, found: found.num_vfs, vf, user }
            } else {
                RestoreObstacle::ModeUnderVfInUse { pf, change: mode_change(saved, found), vf, user }
            });
        }
    }
    obstacles
}

/// Why the eswitch has to change its mode, for people.
fn mode_change(saved: &PfState, found: &PfState) -> String {
    match (attribute_for_legacy(saved, found), &saved.eswitch) {
        (Some((vf, change)), _) => format!("go through mode legacy to set {change} of VF {vf}"),
        (None, Some(eswitch)) => format!("go to mode {}", eswitch.mode),
        (None, None) => "change its mode".to_owned(),
    }
}

fn unreadable(pf: &DeviceAddress, reason: &str) -> Difference {
    Difference {
        part: Part::Pf(pf.clone()),
        attribute: Attribute::State,
        saved: "known".to_owned(),
        found: format!("unknown: {reason}"),
        gravity: Gravity::Wrong,
    }
}

/// A difference whose step the driver refused with "not supported" is what the driver lacks, not what went wrong.
fn weigh(differences: &mut [Difference], failures: &[StepFailure]) {
    for difference in differences.iter_mut().filter(|difference| difference.is_wrong()) {
        let refused = failures.iter().any(|failure| {
            failure.unsupported
                && failure.part == difference.part
                && failure.attributes.contains(&difference.attribute)
        });
        if refused {
            difference.gravity = Gravity::Unsupported;
        }
    }
}

fn outcome(
    saved: &NicState,
    skipped: Vec<SkippedPf>,
    differences: Vec<Difference>,
    record: Record,
) -> RestoreOutcome {
    let vfs = saved.pfs.iter().flat_map(|pf| pf.vfs.iter().map(move |vf| (pf, vf)));
    let vfs = vfs.map(|(pf, vf)| {
        let part = Part::of_vf(pf, vf);
        let whole_pf_wrong = |d: &Difference| {
            d.part == Part::Pf(pf.address.clone())
                && matches!(d.attribute, Attribute::Presence | Attribute::State)
        };
        let wrong = differences.iter().any(|d| d.is_wrong() && (d.part == part || whole_pf_wrong(d)));
        let note = record.vfs.iter().find(|note| note.part == part);
        VfOutcome {
            name: vf.netdev.here().map(|netdev| netdev.name.clone()),
            first_seen_as: note.and_then(|note| note.first_seen_as.clone()),
            waited_ms: note
                .and_then(|note| note.waited)
                .map(|waited| u64::try_from(waited.as_millis()).unwrap_or(u64::MAX)),
            steps: note.map_or(0, |note| note.steps),
            retried: note.is_some_and(|note| note.retried),
            verified: !wrong,
            part,
        }
    });
    RestoreOutcome {
        skipped,
        vfs: vfs.collect(),
        steps: record.steps,
        failures: record.failures,
        differences,
    }
}

#[cfg(test)]
mod model;

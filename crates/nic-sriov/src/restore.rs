//! Carrying out a restore: stage by stage, PFs and VFs concurrently, verified at the end.
//!
//! This file decides what is left alone (PFs that obstacles block, VFs in use), when nothing is due, and when the time for all
//! of it is over. `restore/stages.rs` holds the stages of one PF in their order, `restore/verify.rs` what counts as equal.

mod event;
mod outcome;

mod verify;

mod stages;

mod eswitch;
mod naming;
mod rdma;
mod steps;
mod vf;

mod in_use;

mod executor;
mod ledger;
mod step_error;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use nic_host::Host;
use nic_netlink::Unread;
use tokio::sync::Semaphore;

use self::executor::Executor;
use self::ledger::{InProgress, Ledger};
use self::verify::{excuse_unsupported, outcome};
use crate::arrivals::ArrivalError;
use crate::machine::{Machine, RunningMachine};
use crate::plan::{VfUsers, obstacles, obstacles_in_use, vfs_to_lose, without_blocked_pfs};
use crate::{
    DeviceAddress, DeviceSelector, Difference, KernelLinks, NicState, ObserveError, UnreadPf, compare,
};

pub use self::event::RestoreEvent;
pub use self::outcome::{RestoreOutcome, StepFailure, VfOutcome};

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
    let machine = RunningMachine::new(host, kernel, selector, options.deadline(saved.vf_count()));
    restore_on(&machine, saved, options, on_event).await
}

/// [`restore()`] on any machine: on the one that runs, or on the tests' model of one.
async fn restore_on<M: Machine>(
    machine: &M,
    saved: &NicState,
    options: RestoreOptions,
    on_event: &(dyn Fn(RestoreEvent) + Sync),
) -> Result<RestoreOutcome, RestoreError> {
    let found = observe_each(machine, saved).await;
    let mut in_the_way = obstacles(saved, &found);
    let mut users = VfUsers::new();
    for vf in vfs_to_lose(saved, &found) {
        users.insert(vf, machine.usage(vf).await);
    }
    in_the_way.extend(obstacles_in_use(saved, &found, &users));
    let (restorable, skipped) = without_blocked_pfs(saved, &in_the_way);
    for pf in &skipped {
        tracing::error!(pf = %pf.pf, reasons = %pf, "a PF is left alone; the others are restored");
    }
    let differences = compare(&restorable, &found);
    if !differences.iter().any(Difference::is_wrong) {
        let differences = compare(saved, &found);
        return Ok(outcome(saved, skipped, differences, Ledger::default()));
    }
    machine.listen().await?;
    let executor = Executor {
        machine,
        deadline: options.deadline(saved.vf_count()),
        binds: Semaphore::new(options.jobs.max(1)),
        ledger: Mutex::default(),
        in_progress: InProgress::default(),
        on_event,
    };
    let total = options.total(saved.vf_count());
    let mut out_of_time = std::pin::pin!(machine.after(total));
    let is_over = {
        let course = std::pin::pin!(async {
            join_all(restorable.pfs.iter().map(|pf| executor.restore_pf(pf))).await;
            executor.give_contested_names(&restorable).await;
        });
        // The course lives until the end of this block: what it is at can still be told.
        tokio::select! {
            biased;
            () = course => false,
            () = &mut out_of_time => {
                executor.fail_in_progress(&restorable, total);
                true
            }
        }
    };
    // RDMA devices need nothing of what hangs.
    let end = async { if is_over { machine.after(executor.deadline).await } else { out_of_time.await } };
    {
        let names = std::pin::pin!(executor.give_rdma_names(&restorable));
        tokio::select! {
            biased;
            () = names => {}
            () = end => executor.fail_in_progress(&restorable, total),
        }
    }
    let found = observe_each(machine, saved).await;
    let ledger = executor.ledger.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut differences = compare(saved, &found);
    excuse_unsupported(&mut differences, &ledger.failures);
    Ok(outcome(saved, skipped, differences, ledger))
}

/// Observes each PF by itself: what cannot be read of one is not known of that one alone.
async fn observe_each(machine: &impl Machine, saved: &NicState) -> NicState {
    let observe = async |pf: &DeviceAddress| (pf.clone(), machine.observe(pf).await);
    let mut state = NicState::default();
    for (pf, found) in join_all(saved.pfs.iter().map(|pf| observe(&pf.address))).await {
        match found {
            Ok(found) => state.pfs.extend(found),
            Err(error) => state.unread.push(UnreadPf { address: pf, not_known: Unread::of(&error) }),
        }
    }
    state
}

#[cfg(test)]
mod model;

//! Carrying out a restore: stage by stage, PFs and VFs concurrently, verified at the end.
//!
//! This file decides what is left alone (PFs that obstacles block, VFs in use) and when nothing is due. `restore/stages.rs` holds the stages of one PF in their order, `restore/verify.rs` what counts as equal.

mod event;
mod outcome;

mod verify;

mod stages;

mod bonds;
mod eswitch;
mod naming;
mod rdma;
mod steps;
mod vf;

mod in_use;

mod executor;
mod ledger;
mod masters;
mod step_error;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use futures_util::future::join_all;
use nic_host::Host;
use nic_netlink::Unread;
use tokio::sync::Semaphore;

use self::bonds::Bonds;
use self::executor::Executor;
use self::ledger::{InProgress, Ledger};
use self::verify::{excuse_unsupported, outcome};
use crate::arrivals::ArrivalError;
use crate::machine::{Machine, RunningMachine};
use crate::plan::{DeviceUsers, obstacles, obstacles_in_use, vfs_to_lose, without_blocked_pfs};
use crate::{
    DeviceAddress, DeviceSelector, Difference, KernelLinks, NicState, ObserveError, Patience, PfState,
    UnreadPf, compare,
};

pub use self::event::RestoreEvent;
pub use self::outcome::{RestoreOutcome, StepFailure, VfOutcome};

/// How a restore goes about its work.
#[derive(Debug, Clone, Copy)]
pub struct RestoreOptions {
    /// How many VFs are bound, and their netdevs waited for, at the same time. Each PF has its share.
    pub jobs: usize,
    /// How long each kind of operation may take.
    pub patience: Patience,
}

impl Default for RestoreOptions {
    fn default() -> Self {
        Self { jobs: 64, patience: Patience::default() }
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
/// was not finished when the time for all of a PF was over ([`Patience::of_pf`]).
pub async fn restore(
    host: &Host,
    kernel: &KernelLinks,
    selector: &DeviceSelector,
    saved: &NicState,
    options: RestoreOptions,
    on_event: &(dyn Fn(RestoreEvent) + Sync),
) -> Result<RestoreOutcome, RestoreError> {
    let machine = RunningMachine::new(host, kernel, selector, options.patience);
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
    let mut users = DeviceUsers::new();
    for vf in vfs_to_lose(saved, &found) {
        let device = DeviceAddress::from(vf);
        let usage = machine.usage(&device).await;
        users.insert(device, usage);
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
        patience: options.patience,
        binds: shares_of_jobs(&restorable, options.jobs),
        bonds: Bonds::of(&restorable),
        ledger: Mutex::default(),
        in_progress: InProgress::default(),
        on_event,
    };
    join_all(restorable.pfs.iter().map(|pf| executor.restore_pf_in_time(pf, vfs_of(pf, &found)))).await;
    // RDMA devices need nothing of what hangs over a name.
    executor.names_in_time(&restorable, executor.give_contested_names(&restorable)).await;
    executor.names_in_time(&restorable, executor.give_rdma_names(&restorable)).await;
    executor.names_in_time(&restorable, executor.await_daemons()).await;
    let found = observe_each(machine, saved).await;
    let ledger = executor.ledger.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut differences = compare(saved, &found);
    excuse_unsupported(&mut differences, &ledger.failures);
    Ok(outcome(saved, skipped, differences, ledger))
}

/// How many VFs each PF binds at one time: shares of their own, so that no PF waits for one whose binds hang.
fn shares_of_jobs(saved: &NicState, jobs: usize) -> BTreeMap<DeviceAddress, Semaphore> {
    let all = saved.vf_count().max(1);
    let share =
        |pf: &PfState| jobs.saturating_mul(pf.vfs.len()).div_ceil(all).clamp(1, Semaphore::MAX_PERMITS);
    saved.pfs.iter().map(|pf| (pf.address.clone(), Semaphore::new(share(pf)))).collect()
}

/// The VFs that a PF has, or had: each may have to be removed, or made.
fn vfs_of(saved: &PfState, found: &NicState) -> usize {
    let now = found.pf(&saved.address).here().map_or(0, |found| found.vfs.len());
    saved.vfs.len().max(now)
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

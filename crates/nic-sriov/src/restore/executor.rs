//! What every stage of a restore works with: the machine, the ledger, and how a failure is recorded.
//!
//! The files beside this one decide retries, waiting and naming rounds; what is to be set is for the plans to say.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nic_host::error_chain;
use rustix::io::Errno;
use tokio::sync::Semaphore;

use super::bonds::Bonds;
use super::event::RestoreEvent;
use super::ledger::{InProgress, InProgressEntry, Ledger};
use super::outcome::StepFailure;
use super::step_error::StepError;
use crate::machine::Machine;
use crate::step::{Activity, Step};
use crate::{Component, DeviceAddress, NicState, Operation, Patience, PfState, Stage};

/// Carries out one restore. Its methods stand in the files of this folder: single steps (`steps.rs`), who uses a VF (`in_use.rs`),
/// one VF (`vf.rs`), the eswitch (`eswitch.rs`), a PF's stages (`stages.rs`) and contested names (`naming.rs`).
pub(super) struct Executor<'a, M> {
    pub(super) machine: &'a M,
    pub(super) patience: Patience,
    /// Each PF's share of what is bound at the same time.
    pub(super) binds: BTreeMap<DeviceAddress, Semaphore>,
    pub(super) bonds: Bonds,
    pub(super) ledger: Mutex<Ledger>,
    /// What is being done now, to be named when it comes to no end.
    pub(super) in_progress: InProgress,
    pub(super) on_event: &'a (dyn Fn(RestoreEvent) + Sync),
}

impl<M: Machine> Executor<'_, M> {
    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn observe_pf(&self, saved: &PfState) -> Option<PfState> {
        let component = Component::Pf(saved.address.clone());
        let _in_progress = self.in_progress(&component, &Activity("observe"));
        match self.machine.observe(&saved.address).await {
            Ok(found) => found,
            Err(error) => {
                self.fail(&component, &Activity("observe"), &StepError::Observe(error));
                None
            }
        }
    }

    pub(super) fn in_progress(&self, component: &Component, step: &dyn Step) -> InProgressEntry<'_> {
        self.in_progress.begin(component, step.to_string())
    }

    /// The stages of a PF with so many VFs, for as long as they may take. Other PFs have time of their own.
    pub(super) async fn restore_pf_in_time(&self, saved: &PfState, vfs: usize) {
        let course = self.restore_pf(saved);
        self.in_time(std::slice::from_ref(saved), self.patience.of_pf(vfs), course).await;
        self.bonds.pass(&saved.address);
    }

    /// What gives names back that wait for all PFs, for as long as it may take.
    pub(super) async fn names_in_time(&self, saved: &NicState, course: impl Future<Output = ()>) {
        self.in_time(&saved.pfs, self.patience.of(Operation::Names), course).await;
    }

    async fn in_time(&self, pfs: &[PfState], total: Duration, course: impl Future<Output = ()>) {
        // The course lives until the end: what it is at can still be told.
        let course = std::pin::pin!(course);
        tokio::select! {
            biased;
            () = course => {}
            () = self.machine.after(total) => self.fail_in_progress(pfs, total),
        }
    }

    /// Records all of these PFs that had begun and has not ended as failed.
    fn fail_in_progress(&self, pfs: &[PfState], total: Duration) {
        // A step on a PF's netdev is one of the PF and one of the netdev.
        let mut in_progress = self.in_progress.entries();
        let mut named = HashSet::new();
        in_progress
            .retain(|entry| pfs.iter().any(|pf| pf.address == *entry.0.pf()) && named.insert(entry.clone()));
        if in_progress.is_empty() {
            let pfs = pfs.iter().map(|pf| Component::Pf(pf.address.clone()));
            in_progress.extend(pfs.map(|component| (component, "restore".to_owned())));
        }
        for (component, step) in in_progress {
            self.fail(&component, &Activity(&step), &StepError::OutOfTime(total));
        }
    }

    pub(super) fn begin(&self, pf: &PfState, stage: Stage) -> (Stage, Instant) {
        (self.on_event)(RestoreEvent::StageBegan { pf: pf.address.clone(), stage });
        (stage, Instant::now())
    }

    pub(super) fn end(&self, pf: &PfState, (stage, began): (Stage, Instant)) {
        tracing::debug!(pf = %pf.address, ?stage, took = ?began.elapsed(), "stage of a restore ended");
        (self.on_event)(RestoreEvent::StageEnded { pf: pf.address.clone(), stage });
    }

    pub(super) fn note_step(&self, component: &Component, step: &dyn Step, result: Result<(), StepError>) {
        match result {
            Ok(()) => self.ledger().steps += 1,
            Err(error) => self.fail(component, step, &error),
        }
    }

    pub(super) fn fail(&self, component: &Component, step: &dyn Step, error: &StepError) {
        self.fail_as(
            component,
            step,
            error,
            step.may_be_lacking() && error.errno() == Some(Errno::OPNOTSUPP),
        );
    }

    pub(super) fn fail_as(
        &self,
        component: &Component,
        step: &dyn Step,
        error: &StepError,
        unsupported: bool,
    ) {
        let cause = error_chain(error);
        tracing::warn!(%component, %step, cause, "step of a restore failed");
        self.ledger().failures.push(StepFailure {
            component: component.clone(),
            step: step.to_string(),
            attributes: step.attributes().to_vec(),
            cause,
            unsupported,
        });
    }
}

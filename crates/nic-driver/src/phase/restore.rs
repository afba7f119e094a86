//! `restore-sriov`: the NICs are given back what the snapshot says, and read back.
//!
//! It can be killed anywhere: the snapshot stays armed until the machine was read back and equals it, and the next run
//! goes on from what is. A first request to stop does not cut it off.

use jiff::Timestamp;
use nic_kmod::LoadedModules;
use nic_sriov::{Gravity, LinkSource, ObserveError, RestoreOutcome, restore};
use nic_topology::RestoreOutcome as NetworkOutcome;
use serde::Serialize;

use super::error::PhaseError;
use super::kernel_links::kernel_links;
use crate::Exit;
use crate::context::Context;
use crate::node::{
    give_readiness, listen_and_wait_for_pfs, network_differs, network_summary, nics_differ, pfs_on_their_way,
    restore_network, take_readiness_away,
};
use crate::state::{Entry, Phase, PhaseRecord, Snapshot, SnapshotStage, Step};
use crate::swap::{
    back_up_verified_driver, ensure_driver_loaded, load_vf_drivers, remove_leftover_blacklist,
};

const NOT_WRITTEN: &str = "what stands on disk about the node is not as it should be";

/// What came of a restore.
#[derive(Debug, Clone, Serialize)]
pub struct Restored {
    /// The NICs.
    pub outcome: RestoreOutcome,
    /// What stood on them; `None` where nothing did, and from a snapshot that was verified before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkOutcome>,
}

impl Restored {
    /// The exit code: a VF that is not what it was leaves the node degraded.
    #[must_use]
    pub fn exit(&self) -> Exit {
        if self.is_verified() { Exit::Success } else { Exit::Degraded }
    }

    /// Whether the NICs and what stood on them are what the snapshot says.
    #[must_use]
    pub fn is_verified(&self) -> bool {
        self.outcome.is_verified() && self.network.as_ref().is_none_or(NetworkOutcome::is_verified)
    }

    /// In one sentence.
    #[must_use]
    pub fn summary(&self) -> String {
        let nics = self.nics_summary();
        self.network
            .as_ref()
            .map_or_else(|| nics.clone(), |network| format!("{nics}; {}", network_summary(network)))
    }

    fn nics_summary(&self) -> String {
        let vfs = self.outcome.vfs.len();
        let verified = self.outcome.vfs.iter().filter(|vf| vf.verified).count();
        if self.outcome.steps == 0 && self.outcome.is_verified() {
            return format!("nothing to do: all {vfs} VFs are what the snapshot says");
        }
        let races = self.outcome.renamed_after_arrival();
        let lacking = self.outcome.differences.iter();
        let lacking = match lacking.filter(|difference| difference.gravity == Gravity::Unsupported).count() {
            0 => String::new(),
            count => format!("; the driver lacks {count} attributes that were set"),
        };
        format!(
            "{verified} of {vfs} VFs verified after {} steps; {races} were first seen under another name{lacking}",
            self.outcome.steps
        )
    }
}

/// Gives the NICs back what the stored snapshot says, and verifies it.
pub async fn restore_sriov(context: &Context) -> Result<Restored, PhaseError> {
    Context::ensure_root("restoring SR-IOV")?;
    context.ensure_running_machine("only the running machine can be restored")?;
    let _lock = context.begin("restore-sriov")?;
    context.check_stop()?;
    restore_phase(context, Readiness::Give).await
}

/// What becomes of readiness when all is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Readiness {
    /// The node is ready.
    Give,
    /// That is for the caller to decide.
    Leave,
}

/// Restores inside another phase; the caller has checked host and privileges; the readiness file is left alone.
pub(super) async fn restore_within_phase(context: &Context) -> Result<Restored, PhaseError> {
    restore_phase(context, Readiness::Leave).await
}

async fn restore_phase(context: &Context, readiness: Readiness) -> Result<Restored, PhaseError> {
    let _lock = context.begin("restore-sriov")?;
    let snapshot = context.store.snapshot_of(&context.boot_id, &context.family.name)?;
    let Some(snapshot) = snapshot else {
        return Err(PhaseError::NoSnapshot(context.store.folder().display().to_string()));
    };
    let phase = context.journal.phase(Phase::RestoreSriov);
    let result = run_restore(context, &phase, snapshot, readiness).await;
    match &result {
        Ok(restored) => phase.end(&restored.summary(), restored.exit()),
        Err(error) => phase.end(&crate::error_chain(error), error.exit()),
    }
    result
}

async fn run_restore(
    context: &Context,
    phase: &PhaseRecord,
    mut snapshot: Snapshot,
    readiness: Readiness,
) -> Result<Restored, PhaseError> {
    let kernel = kernel_links(context, "only the running machine can be restored").await?;
    let source = LinkSource::Kernel(kernel.clone());
    let options = context.settings.restore_options();
    let deadline = options.deadline(snapshot.nics.vf_count());
    remove_leftover_blacklist(context, phase)?;
    if context.host.exists(&context.settings.readiness_file)
        && (snapshot.is_armed()
            || nics_differ(context, &source, &snapshot.nics, deadline).await?
            || network_differs(context, &kernel, &snapshot).await?)
    {
        take_readiness_away(context, phase).map_err(PhaseError::write(NOT_WRITTEN))?;
    }
    if snapshot.is_armed() {
        ensure_driver_loaded(context, phase, &snapshot, deadline).await?;
    }
    let pfs = pfs_on_their_way(context, &snapshot).map_err(ObserveError::from)?;
    listen_and_wait_for_pfs(context, phase, &kernel, &pfs, deadline).await?;
    load_vf_drivers(context, phase, &snapshot.nics).await?;
    let step = phase.step(Step::RestoreNics);
    let on_event = |event| phase.write(Entry::Restore { restore: event });
    let restored =
        restore(&context.host, &kernel, &context.family.devices, &snapshot.nics, options, &on_event).await;
    let outcome = match restored {
        Ok(outcome) => outcome,
        Err(error) => {
            step.failed(&error);
            return Err(error.into());
        }
    };
    let mut restored = Restored { outcome, network: None };
    step.ok(Some(restored.summary()));
    phase.write(Entry::RestoreResult {
        renamed_after_arrival: restored.outcome.renamed_after_arrival(),
        result: Box::new(restored.outcome.clone()),
    });
    restored.network = restore_network(context, phase, &kernel, &snapshot).await?;
    if restored.is_verified() {
        snapshot.lost = snapshot.lost_under(&LoadedModules::read_graph(&context.host)?);
        snapshot.stage = SnapshotStage::Verified { at: Timestamp::now() };
        phase
            .step(Step::RecordVerified)
            .record(context.store.write_snapshot(&snapshot))
            .map_err(PhaseError::write(NOT_WRITTEN))?;
        back_up_verified_driver(context, phase);
        if readiness == Readiness::Give && !context.host.exists(&context.settings.readiness_file) {
            give_readiness(context, phase).map_err(PhaseError::write(NOT_WRITTEN))?;
        }
    }
    Ok(restored)
}

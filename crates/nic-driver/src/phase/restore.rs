//! `restore-sriov`: the NICs are given back what the snapshot says, and read back.
//!
//! It can be killed anywhere: the snapshot stays armed until the machine was read back and equals it, and the next run
//! goes on from what is. A first request to stop does not cut it off.

use nic_kmod::{LoadedModules, ModuleName};
use nic_settings::SettingsOutcome;
use nic_sriov::{
    DeviceAddress, Gravity, LinkSource, NicState, ObserveError, Operation, PfSeen, RestoreOutcome, observe,
    obstacles,
};
use nic_topology::RestoreOutcome as NetworkOutcome;
use serde::Serialize;

use super::error::PhaseError;
use super::nics_to_change::nics_to_change;
use super::ready_without_swap::{NotReady, ready_without_swap};
use crate::Exit;
use crate::context::Context;
use crate::node::{
    NicsLook, give_readiness, listen_and_wait_for_pfs, network_differs, network_summary, nics_differ,
    pfs_on_their_way, restore_network, restore_settings, settings_differ, settings_summary,
    take_readiness_away,
};
use crate::privileges;
use crate::state::{Entry, Phase, PhaseRecord, RestoreDuty, Snapshot, Step};
use crate::swap::{
    back_up_verified_driver, ensure_driver_loaded, list, load_vf_drivers, remove_leftover_blacklist,
};

const NOT_WRITTEN: &str = "what stands on disk about the node is not as it should be";

/// What came of a restore.
#[derive(Debug, Clone, Serialize)]
pub struct Restored {
    /// The NICs.
    pub outcome: RestoreOutcome,
    /// What was set of their netdevs; `None` where nothing was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settings: Option<SettingsOutcome>,
    /// What stood on them; `None` where nothing did, and from a snapshot that was verified before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkOutcome>,
    /// Why the node is not ready although all is what it was; `None` when it is ready, and where readiness was not to be
    /// given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_ready: Option<NotReady>,
}

impl Restored {
    /// The exit code: a VF that is not what it was leaves the node degraded, and so does a PF that is not up.
    #[must_use]
    pub fn exit(&self) -> Exit {
        let pfs_are_up = !matches!(self.not_ready, Some(NotReady::PfsNotUp { .. }));
        if self.is_verified() && pfs_are_up { Exit::Success } else { Exit::Degraded }
    }

    /// What is not as it was, in one sentence; `None` when all is.
    #[must_use]
    pub fn why_not(&self) -> Option<String> {
        (self.exit() != Exit::Success).then(|| format!("the node is degraded: {}", self.summary()))
    }

    /// Whether the NICs, what was set of them and what stood on them are what the snapshot says.
    #[must_use]
    pub fn is_verified(&self) -> bool {
        self.outcome.is_verified()
            && self.settings.as_ref().is_none_or(SettingsOutcome::is_verified)
            && self.network.as_ref().is_none_or(NetworkOutcome::is_verified)
    }

    /// In one sentence.
    #[must_use]
    pub fn summary(&self) -> String {
        let mut summary = self.nics_summary();
        for skipped in &self.outcome.skipped {
            summary.push_str(&format!("; left alone: {skipped}"));
        }
        if let Some(settings) = self.settings.as_ref().filter(|settings| !settings.is_quiet()) {
            summary.push_str(&format!("; {}", settings_summary(settings)));
        }
        if let Some(network) = &self.network {
            summary.push_str(&format!("; {}", network_summary(network)));
        }
        if let Some(reason) = &self.not_ready {
            summary.push_str(&format!("; the node is not ready: {reason}"));
        }
        summary
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

/// What came of `restore-sriov`.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum RestoreOrNothing {
    /// Nothing was owed.
    NothingOwed(NothingOwed),
    /// The NICs were restored.
    Restored(Box<Restored>),
}

/// A `restore-sriov` that had nothing to restore: it has compared nothing and changed nothing.
#[derive(Debug, Clone, Serialize)]
pub struct NothingOwed {
    /// What the stored snapshot is: `none` or `record`.
    pub nothing_owed: String,
    /// Why the node is not ready; `None` when it is.
    pub not_ready: Option<NotReady>,
}

impl RestoreOrNothing {
    /// The exit code.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Restored(restored) => restored.exit(),
            Self::NothingOwed(NothingOwed { not_ready: Some(NotReady::PfsNotUp { .. }), .. }) => {
                Exit::Degraded
            }
            Self::NothingOwed(_) => Exit::Success,
        }
    }

    /// Why the exit code is no success, in one sentence; `None` when it is one.
    #[must_use]
    pub fn why_not(&self) -> Option<String> {
        match self {
            Self::Restored(restored) => restored.why_not(),
            Self::NothingOwed(nothing) => (self.exit() != Exit::Success).then(|| nothing.summary()),
        }
    }

    /// In one sentence.
    #[must_use]
    pub fn summary(&self) -> String {
        match self {
            Self::Restored(restored) => restored.summary(),
            Self::NothingOwed(nothing) => nothing.summary(),
        }
    }
}

impl NothingOwed {
    /// In one sentence.
    #[must_use]
    pub fn summary(&self) -> String {
        let readiness = match &self.not_ready {
            None => "the node is ready".to_owned(),
            Some(reason) => format!("the node is not ready: {reason}"),
        };
        format!("nothing is owed to the NICs (snapshot: {}); {readiness}", self.nothing_owed)
    }
}

/// Gives the NICs back what is owed to them, and verifies it.
///
/// What is owed is what an armed snapshot says, or one taken by hand; of a record nothing is owed, unless
/// `from_record` asks for it. Where nothing is owed, nothing is compared and nothing changed; the node is ready when the
/// modules that run are the installed ones and the PFs are up.
///
/// The PFs of `forget` are lost, and an administrator lets them go: nothing is owed to them any more. Before anything is
/// changed, one that the snapshot does not have, or that can be given what it had, is refused.
pub async fn restore_sriov(
    context: &Context,
    from_record: bool,
    forget: &[DeviceAddress],
) -> Result<RestoreOrNothing, PhaseError> {
    context.ensure_privileges(&privileges::RESTORE)?;
    context.ensure_running_machine("only the running machine can be restored")?;
    let _lock = context.begin("restore-sriov").await?;
    context.begin_change()?;
    let state = context.snapshot_state()?;
    let stored = state.to_string();
    let record = state.clone().record();
    let duty = state.restore_duty(from_record);
    if matches!(duty, RestoreDuty::NoRecord) {
        return Err(PhaseError::NoSnapshot { folder: context.store.family_folder().to_path_buf(), stored });
    }
    ensure_lost(context, &duty, forget).await?;
    let phase = context.journal.phase(Phase::RestoreSriov);
    let result = match duty {
        RestoreDuty::Restore(snapshot) => match forget_pfs(context, &phase, *snapshot, forget) {
            Ok(snapshot) => {
                let restored = run_restore(context, &phase, snapshot, Readiness::Give).await;
                restored.map(Box::new).map(RestoreOrNothing::Restored)
            }
            Err(error) => Err(error),
        },
        RestoreDuty::NothingOwed | RestoreDuty::NoRecord => {
            nothing_owed(context, &phase, stored, record.as_ref()).await
        }
    };
    match &result {
        Ok(restored) => phase.end(&restored.summary(), restored.exit()),
        Err(error) => phase.end(&crate::error_chain(error), error.exit()),
    }
    result
}

/// Whether these PFs are owed something, and cannot be given it.
async fn ensure_lost(
    context: &Context,
    duty: &RestoreDuty,
    forget: &[DeviceAddress],
) -> Result<(), PhaseError> {
    if forget.is_empty() {
        return Ok(());
    }
    let saved = match duty {
        RestoreDuty::Restore(snapshot) => snapshot.nics.clone(),
        RestoreDuty::NothingOwed | RestoreDuty::NoRecord => NicState::default(),
    };
    for pf in forget {
        if matches!(saved.pf(pf), PfSeen::Gone) {
            let known = saved.pfs.iter().map(|saved| saved.address.clone()).collect();
            return Err(PhaseError::UnknownPf { pf: pf.clone(), known });
        }
    }
    let source = LinkSource::open(&context.host).await?;
    let found =
        observe(&context.host, &source, &context.family.devices, forget, context.settings.timeout).await?;
    let obstacles = obstacles(&saved, &found);
    for pf in forget {
        let has_no_netdev = found.pf(pf).here().is_none_or(|found| found.netdev.as_set().is_none());
        if !has_no_netdev && !obstacles.iter().any(|obstacle| obstacle.pf() == pf) {
            return Err(PhaseError::PfNotLost { pf: pf.clone() });
        }
    }
    Ok(())
}

/// Lets lost PFs go, durably.
fn forget_pfs(
    context: &Context,
    phase: &PhaseRecord,
    mut snapshot: Snapshot,
    forget: &[DeviceAddress],
) -> Result<Snapshot, PhaseError> {
    for pf in forget {
        let step = phase.step(Step::ForgetPf { pf: pf.clone() });
        snapshot = snapshot.forget(pf);
        step.record(context.store.write_snapshot(&snapshot)).map_err(PhaseError::write(NOT_WRITTEN))?;
    }
    Ok(snapshot)
}

async fn nothing_owed(
    context: &Context,
    phase: &PhaseRecord,
    stored: String,
    record: Option<&Snapshot>,
) -> Result<RestoreOrNothing, PhaseError> {
    remove_leftover_blacklist(context, phase)?;
    let not_ready = ready_without_swap(context, phase, record).await?;
    Ok(RestoreOrNothing::NothingOwed(NothingOwed { nothing_owed: stored, not_ready }))
}

/// What becomes of readiness when all is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Readiness {
    /// The node is ready, unless the driver under which it was restored after a swap is not the installed one.
    Give,
    /// That is for the caller to decide.
    Leave,
}

/// What the swap has cost, for the journal and with it the report.
fn lost_in_swap(lost: &[ModuleName]) -> Option<String> {
    if lost.is_empty() {
        return None;
    }
    let modules = list(lost);
    tracing::warn!(
        modules,
        "these modules were loaded before the swap and are not any more: what brings them has to load them again"
    );
    Some(format!("not loaded any more: {modules}"))
}

/// Restores from the armed snapshot inside another phase; the caller has checked host and privileges; the readiness
/// file is left alone.
pub(super) async fn restore_within_phase(context: &Context) -> Result<Restored, PhaseError> {
    let _lock = context.begin("restore-sriov").await?;
    let state = context.snapshot_state()?;
    let stored = state.to_string();
    let Some(snapshot) = state.armed() else {
        return Err(PhaseError::NoSnapshot { folder: context.store.family_folder().to_path_buf(), stored });
    };
    let phase = context.journal.phase(Phase::RestoreSriov);
    let result = run_restore(context, &phase, snapshot, Readiness::Leave).await;
    match &result {
        Ok(restored) => phase.end(&restored.summary(), restored.exit()),
        Err(error) => phase.end(&crate::error_chain(error), error.exit()),
    }
    result
}

async fn run_restore(
    context: &Context,
    phase: &PhaseRecord,
    snapshot: Snapshot,
    readiness: Readiness,
) -> Result<Restored, PhaseError> {
    let nics = nics_to_change(context, "only the running machine can be restored").await?;
    let source = nics.source();
    let options = context.settings.restore_options();
    let before = NicsLook::new(&source);
    remove_leftover_blacklist(context, phase)?;
    let was_armed = snapshot.is_armed();
    let changes = was_armed
        || nics_differ(context, &before, &snapshot.nics).await?
        || settings_differ(context, &*nics, &before, &snapshot).await?
        || network_differs(context, &*nics, &before, &snapshot).await?;
    if changes && context.host.exists(&context.settings.readiness_file) {
        take_readiness_away(context, phase).map_err(PhaseError::write(NOT_WRITTEN))?;
    }
    if was_armed {
        let loading = options.patience.of(Operation::Driver { vfs: snapshot.nics.vf_count() });
        ensure_driver_loaded(context, phase, &snapshot, loading).await?;
    }
    let pfs = pfs_on_their_way(context, &snapshot).map_err(ObserveError::from)?;
    let mut snapshot = snapshot;
    if changes && !was_armed {
        // From here on it is the truth: whoever comes after a kill must not take a new one of a half-restored machine.
        snapshot = snapshot.arm();
        let step = phase.step(Step::ArmSnapshot);
        step.record(context.store.arm(&snapshot)).map_err(PhaseError::write(NOT_WRITTEN))?;
    }
    // Those that do not come are named by the restore, which gives the others back what they had.
    listen_and_wait_for_pfs(phase, &*nics, &pfs, options.patience.of(Operation::PfArrival)).await?;
    load_vf_drivers(context, phase, &snapshot.nics).await;
    let pfs = snapshot.nics.pfs.iter().map(|pf| pf.address.clone()).collect();
    let step = phase.step(Step::RestoreNics { pfs });
    let on_event = |event| phase.write(Entry::Restore { restore: event });
    let restored = nics.restore(&context.family.devices, &snapshot.nics, options, &on_event).await;
    let outcome = match restored {
        Ok(outcome) => outcome,
        Err(error) => {
            step.failed(&error);
            return Err(error.into());
        }
    };
    let mut restored = Restored { outcome, settings: None, network: None, not_ready: None };
    step.ok(Some(restored.summary()));
    phase.write(Entry::RestoreResult {
        renamed_after_arrival: restored.outcome.renamed_after_arrival(),
        result: Box::new(restored.outcome.clone()),
    });
    let now = NicsLook::new(&source);
    restored.settings = restore_settings(context, phase, &*nics, &now, &mut snapshot).await?;
    restored.network = restore_network(context, phase, &*nics, &now, &snapshot).await?;
    if restored.is_verified() {
        snapshot.lost = snapshot.lost_under(&LoadedModules::read_graph(&context.host)?);
        let record = snapshot.verify();
        let step = phase.step(Step::RecordVerified);
        match context.store.write_snapshot(&record) {
            Ok(()) => step.ok(lost_in_swap(&record.lost)),
            Err(error) => {
                step.failed(&error);
                return Err(PhaseError::write(NOT_WRITTEN)(error));
            }
        }
        back_up_verified_driver(context, phase);
        match readiness {
            Readiness::Give if was_armed => {
                // Without a PF nothing was known of the devices: those that have come up with the driver count.
                let known = (!record.nics.pfs.is_empty()).then_some(&record);
                restored.not_ready = ready_without_swap(context, phase, known).await?;
            }
            // What an administrator has asked for is what is wanted, whichever driver runs.
            Readiness::Give if !context.host.exists(&context.settings.readiness_file) => {
                give_readiness(context, phase).map_err(PhaseError::write(NOT_WRITTEN))?;
            }
            Readiness::Give | Readiness::Leave => {}
        }
    }
    Ok(restored)
}

//! `status`: how the node is, and what to do next, on one screen. Nothing is changed.
//!
//! What is seen is data; `verdict.rs` says what it means, `text.rs` what people read.

mod text;
mod verdict;

use std::fmt;
use std::time::Duration;

use nic_kmod::{IdentityReport, ModuleName};
use nic_netlink::Setting;
use nic_sriov::{Difference, LinkSource, NicState, NotKnown, ObserveError, compare, find_pfs, observe};
use serde::Serialize;

pub use self::verdict::{StatusLevel, StatusVerdict};
use super::error::PhaseError;
use crate::context::Context;
use crate::node::{MachineStatus, ReportedVersion, reported_versions, still_lost_modules};
use crate::report::{self, Report};
use crate::state::{Journal, SnapshotStage};
use crate::swap::{WayBack, decide, find_way_back, read_identity};

/// How long the NICs are looked at, at most: who asks for the status wants an answer, not least when something hangs.
const PATIENCE: Duration = Duration::from_secs(10);

/// How the node is.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// What it means.
    pub verdict: StatusVerdict,
    /// What there is.
    #[serde(flatten)]
    pub seen: StatusSeen,
}

impl Status {
    /// As text; with `all`, each module and each VF, and not only what is wrong.
    #[must_use]
    pub fn text(&self, all: bool) -> String {
        text::write(self, all)
    }
}

/// What there is.
#[derive(Debug, Clone, Serialize)]
pub struct StatusSeen {
    /// The machine looked at.
    pub machine: MachineStatus,
    /// The NIC family looked at.
    pub family: String,
    /// The kernel.
    pub kernel: String,
    /// Whether the readiness file exists.
    pub ready: bool,
    /// The PFs.
    pub pfs: Vec<PfStatus>,
    /// Why nothing is known of the PFs: the kernel does not list the netdevs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pfs_not_known: Option<String>,
    /// What of them is not known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_known: Vec<NotKnown>,
    /// The modules, or why they cannot be compared.
    pub modules: ModulesStatus,
    /// What the drivers of the family's netdevs say of themselves; nothing on a tree, where none runs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reported: Vec<ReportedVersion>,
    /// The stored snapshot.
    pub snapshot: SnapshotStatus,
    /// Modules that a swap of this boot has cost, and that are not loaded since: a peer's, such as nvidia_peermem, comes with its owner.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<ModuleName>,
    /// What is gone back to when an installed driver does not come up.
    pub way_back: WayBack,
    /// Which other nic-driver is at work: its process, its command and since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_work: Option<String>,
    /// A driver that was tried in this boot, and rolled back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rolled_back: Option<RolledBackStatus>,
    /// The last night in the journal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_night: Option<LastNight>,
    /// Why the journal tells nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub journal_unread: Option<String>,
}

/// A driver that was tried, and rolled back.
#[derive(Debug, Clone, Serialize)]
pub struct RolledBackStatus {
    /// When.
    pub at: String,
    /// Why.
    pub reason: String,
}

/// The last night, in a line.
#[derive(Debug, Clone, Serialize)]
pub struct LastNight {
    /// When it began.
    pub from: String,
    /// When its last line was written.
    pub until: String,
    /// How it has ended.
    #[serde(flatten)]
    pub verdict: report::Verdict,
    /// What was in the way at the last look.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub in_the_way: Vec<String>,
}

/// A PF in a line.
#[derive(Debug, Clone, Serialize)]
pub struct PfStatus {
    /// The PF's address, such as `0000:01:00.0`.
    pub address: String,
    /// The PF's driver.
    pub driver: String,
    /// The name of the PF's netdev.
    pub netdev: Option<String>,
    /// How many VFs it has.
    pub num_vfs: u32,
    /// How many it can have.
    pub total_vfs: Option<u32>,
    /// Its eswitch mode, where it has one.
    pub eswitch_mode: Option<String>,
    /// How many of its VFs have a netdev here.
    pub vf_netdevs: usize,
}

/// How the loaded modules compare with the installed ones.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ModulesStatus {
    /// This is how.
    Compared {
        /// Whether a swap is due.
        reload_due: bool,
        /// Modules that a reload would load beside the driver that runs, without a swap.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        missing: Vec<ModuleName>,
        /// Module by module.
        identity: IdentityReport,
    },
    /// It cannot be told.
    Unknown(String),
}

/// The stored snapshot.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SnapshotStatus {
    /// No snapshot is stored.
    Absent,
    /// There is one, but it cannot be used.
    Unusable(String),
    /// There is one of another boot: history.
    OtherBoot {
        /// When it was taken.
        taken_at: String,
    },
    /// There is one.
    Present {
        /// When it was taken.
        taken_at: String,
        /// How far it has come.
        stage: SnapshotStage,
        /// How the machine differs from it; `None` where that is not known.
        differences: Option<Vec<Difference>>,
    },
}

/// What a swap has cost. A snapshot that cannot be used tells nothing of it, and is told of by itself.
fn lost_modules(context: &Context) -> Result<Vec<ModuleName>, PhaseError> {
    match context.snapshot_state() {
        Ok(state) => Ok(still_lost_modules(context, state)?),
        Err(_) => Ok(Vec::new()),
    }
}

/// Tells what there is. Only what cannot be observed at all is an error; the rest is part of the answer.
pub async fn status(context: &Context) -> Result<Status, PhaseError> {
    let host = &context.host;
    let selector = &context.family.devices;
    let source = LinkSource::open(host).await?;
    let deadline = context.settings.timeout.min(PATIENCE);
    let (found, pfs_not_known) =
        match observe(host, &source, selector, &find_pfs(host, selector)?, deadline).await {
            Ok(found) => (Some(found), None),
            // What hangs in the kernel with the lock of all netdevs keeps them from being listed.
            Err(error @ ObserveError::Netlink(_)) => (None, Some(crate::error_chain(&error))),
            Err(error) => return Err(error.into()),
        };
    let reported = match &found {
        Some(found) if host.is_running_machine() => {
            reported_versions(host, found, deadline).await.unwrap_or_else(|error| {
                tracing::warn!(
                    error = crate::error_chain(&error),
                    "the version of the driver that runs is not known"
                );
                Vec::new()
            })
        }
        _ => Vec::new(),
    };
    let pfs = found.iter().flat_map(|found| &found.pfs).map(|pf| PfStatus {
        address: pf.address.to_string(),
        driver: pf.driver.clone().unwrap_or_else(|| "none".to_owned()),
        netdev: pf.netdev.as_set().map(|netdev| netdev.name.to_string()),
        num_vfs: pf.num_vfs,
        total_vfs: pf.total_vfs,
        eswitch_mode: match &pf.eswitch {
            Setting::Set(eswitch) => Some(eswitch.mode.to_string()),
            Setting::NotKnown(_) => Some("not known".to_owned()),
            Setting::NotThere | Setting::NotSet => None,
        },
        vf_netdevs: pf.vfs.iter().filter(|vf| vf.netdev.here().is_some()).count(),
    });
    let snapshot = match context.store.snapshot() {
        Ok(None) => SnapshotStatus::Absent,
        Err(error) => SnapshotStatus::Unusable(crate::error_chain(&error)),
        Ok(Some(snapshot)) if snapshot.boot_id != context.boot_id => {
            SnapshotStatus::OtherBoot { taken_at: format!("{:.0}", snapshot.taken_at) }
        }
        Ok(Some(snapshot)) => SnapshotStatus::Present {
            taken_at: format!("{:.0}", snapshot.taken_at),
            differences: found.as_ref().map(|found| compare(&snapshot.nics, found)),
            stage: snapshot.stage().clone(),
        },
    };
    let rolled_back = match context.store.rolled_back() {
        Ok(record) => record
            .filter(|record| record.boot_id == context.boot_id)
            .map(|record| RolledBackStatus { at: format!("{:.0}", record.at), reason: record.reason }),
        Err(error) => {
            tracing::warn!(
                error = crate::error_chain(&error),
                "whether a driver was rolled back is not known"
            );
            None
        }
    };
    let (last_night, journal_unread) = match Journal::read(&context.store) {
        Ok(events) => (Report::of(&events).nights.pop().map(LastNight::of), None),
        Err(error) => (None, Some(crate::error_chain(&error))),
    };
    let seen = StatusSeen {
        machine: MachineStatus::read(host),
        family: context.family.name.clone(),
        kernel: context.kernel.to_string(),
        ready: host.exists(&context.settings.readiness_file),
        pfs: pfs.collect(),
        pfs_not_known,
        not_known: found.as_ref().map(NicState::not_known).unwrap_or_default(),
        modules: modules_status(context),
        lost: lost_modules(context)?,
        reported,
        snapshot,
        way_back: find_way_back(context)?,
        at_work: context.lock.holder(),
        rolled_back,
        last_night,
        journal_unread,
    };
    Ok(Status { verdict: verdict::of(&seen), seen })
}

impl LastNight {
    fn of(night: report::Night) -> Self {
        let in_the_way = night.blocked.iter().filter(|blocked| blocked.until.is_none());
        Self {
            from: format!("{:.0}", night.from),
            until: format!("{:.0}", night.until),
            in_the_way: in_the_way.map(|blocked| blocked.what.clone()).collect(),
            verdict: night.verdict,
        }
    }
}

fn modules_status(context: &Context) -> ModulesStatus {
    match read_identity(context) {
        Ok(identity) => {
            let decision = decide(context, &identity);
            let (reload_due, missing) = (decision.is_swap(), decision.missing());
            ModulesStatus::Compared { reload_due, missing, identity }
        }
        Err(error) => ModulesStatus::Unknown(crate::error_chain(&error)),
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text(false))
    }
}

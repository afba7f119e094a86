//! `status`: what there is, on one screen. Nothing is changed.

use std::fmt;
use std::time::Duration;

use nic_kmod::{IdentityReport, ModuleName};
use nic_netlink::Setting;
use nic_sriov::{Difference, LinkSource, NicState, NotKnown, ObserveError, compare, find_pfs, observe};
use serde::Serialize;

use super::error::PhaseError;
use crate::context::Context;
use crate::node::{MachineStatus, ReportedVersion, reported_versions, still_lost_modules};
use crate::state::SnapshotStage;
use crate::swap::{WayBack, decide, find_way_back, list, read_identity};

/// How long the NICs are looked at, at most: who asks for the status wants an answer, not least when something hangs.
const PATIENCE: Duration = Duration::from_secs(10);

/// What there is.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
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
    Ok(Status {
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
    })
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
        writeln!(f, "{}", self.machine)?;
        writeln!(
            f,
            "family {}, kernel {}, {}",
            self.family,
            self.kernel,
            if self.ready { "ready" } else { "not ready" }
        )?;
        for not_known in &self.not_known {
            writeln!(f, "not known: {not_known}")?;
        }
        match &self.pfs_not_known {
            Some(why) => writeln!(f, "PFs: {why}")?,
            None if self.pfs.is_empty() && self.not_known.is_empty() => writeln!(f, "no PF of this family")?,
            None => {}
        }
        for pf in &self.pfs {
            let netdev = pf.netdev.as_deref().unwrap_or("no netdev");
            let total =
                pf.total_vfs.map_or_else(|| "no SR-IOV".to_owned(), |total| format!("of at most {total}"));
            let mode = pf.eswitch_mode.as_ref().map(|mode| format!(", eswitch {mode}")).unwrap_or_default();
            writeln!(
                f,
                "PF {} ({netdev}, {}): {} VFs {total}, {} with a netdev here{mode}",
                pf.address, pf.driver, pf.num_vfs, pf.vf_netdevs
            )?;
        }
        match &self.modules {
            ModulesStatus::Unknown(why) => writeln!(f, "modules: cannot be compared: {why}")?,
            ModulesStatus::Compared { reload_due, missing, identity } => {
                let due = match (reload_due, missing.as_slice()) {
                    (true, _) => "a reload is due".to_owned(),
                    (false, []) => "no reload is due".to_owned(),
                    (false, missing) => {
                        format!("no swap is due; a reload would load {}, and unload nothing", list(missing))
                    }
                };
                writeln!(f, "modules: {due}")?;
                for module in &identity.modules {
                    writeln!(f, "  {}: {}", module.module, module.verdict)?;
                }
            }
        }
        for module in &self.lost {
            writeln!(
                f,
                "  {module}: not loaded any more since a swap; it comes with the next driver that has it, or with whoever brings it"
            )?;
        }
        for reported in &self.reported {
            let ReportedVersion { driver, version, netdevs } = reported;
            writeln!(f, "  {driver} reports version {version} on {} netdevs", netdevs.len())?;
        }
        writeln!(f, "way back: {}", self.way_back)?;
        match &self.snapshot {
            SnapshotStatus::Absent => writeln!(f, "snapshot: none"),
            SnapshotStatus::Unusable(why) => writeln!(f, "snapshot: cannot be used: {why}"),
            SnapshotStatus::OtherBoot { taken_at } => {
                writeln!(f, "snapshot: none of this boot; one of another boot was taken at {taken_at}")
            }
            SnapshotStatus::Present { taken_at, stage, differences } => {
                let Some(differences) = differences else {
                    return writeln!(
                        f,
                        "snapshot: taken at {taken_at}, {stage}; whether the NICs differ is not known"
                    );
                };
                writeln!(f, "snapshot: taken at {taken_at}, {stage}; {} differences", differences.len())?;
                differences.iter().try_for_each(|difference| writeln!(f, "  {difference}"))
            }
        }
    }
}

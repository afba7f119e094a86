//! Readiness of a node on which nothing is owed: after a reboot with the right driver in place, in a container that
//! starts again, with a driver that is baked into the image.

use std::fmt;
use std::time::{Duration, Instant};

use nic_kmod::ModuleName;
use nic_sriov::{DeviceAddress, find_pfs};
use serde::Serialize;

use super::error::PhaseError;
use super::nics_to_change::nics_to_change;
use crate::context::Context;
use crate::node::{driverless_devices, give_readiness};
use crate::state::{PhaseRecord, Snapshot};
use crate::swap::{ModuleTree, back_up_verified_driver, decide, list, read_identity};

/// How often a device that no driver has is looked at: the kernel tells nobody that a probe has failed.
const RE_CHECK: Duration = Duration::from_millis(250);

/// Why a node on which nothing is owed is not ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NotReady {
    /// Other modules than the installed ones run.
    ReloadDue {
        /// Those that are not the installed ones.
        modules: Vec<ModuleName>,
    },
    /// Modules without which the driver does not work are not loaded.
    ModulesMissing {
        /// They.
        modules: Vec<ModuleName>,
    },
    /// Whether the installed modules run cannot be told.
    ModulesUnknown {
        /// The error and its causes.
        reason: String,
    },
    /// PFs have not come up.
    PfsNotUp {
        /// Each with what is known of it.
        pfs: Vec<PfNotUp>,
    },
}

/// A PF that has not come up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PfNotUp {
    /// The PF.
    pub pf: DeviceAddress,
    /// What is known of it.
    pub reason: String,
}

impl fmt::Display for NotReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ReloadDue { modules } => {
                write!(
                    f,
                    "a reload is due: these modules are not loaded, or are not the installed ones: {}",
                    list(modules)
                )
            }
            Self::ModulesMissing { modules } => {
                write!(f, "a reload is due: these modules are not loaded: {}", list(modules))
            }
            Self::ModulesUnknown { reason } => {
                write!(f, "whether the installed modules run cannot be told: {reason}")
            }
            Self::PfsNotUp { pfs } => {
                let pfs: Vec<String> = pfs.iter().map(|pf| format!("PF {}: {}", pf.pf, pf.reason)).collect();
                write!(f, "not all PFs are up: {}", pfs.join("; "))
            }
        }
    }
}

/// Gives readiness when the modules that run are the installed ones and the PFs are up; says otherwise why not. A
/// node that is ready stays so. The driver's files are kept for the next swap; nothing else is
/// touched. `known` is the record of this boot, where there is one.
pub(super) async fn ready_without_swap(
    context: &Context,
    phase: &PhaseRecord,
    known: Option<&Snapshot>,
) -> Result<Option<NotReady>, PhaseError> {
    if context.host.exists(&context.settings.readiness_file) {
        return Ok(None);
    }
    if let Some(reason) = modules_not_ready(context) {
        return Ok(Some(reason));
    }
    let pfs = pfs_not_up(context, known).await?;
    if !pfs.is_empty() {
        return Ok(Some(NotReady::PfsNotUp { pfs }));
    }
    // It has proved itself, and its files may be gone when the next one comes.
    back_up_verified_driver(context, phase);
    give_readiness(context, phase)
        .map_err(PhaseError::write("nothing is owed, and the node cannot be marked as ready"))?;
    Ok(None)
}

fn modules_not_ready(context: &Context) -> Option<NotReady> {
    match read_identity(context) {
        Ok(identity) => {
            let decision = decide(context, &identity);
            let modules = decision.reasons().iter().map(|module| module.module.clone());
            if decision.is_swap() {
                return Some(NotReady::ReloadDue { modules: modules.collect() });
            }
            let required: Vec<_> =
                modules.filter(|module| context.family.modules.is_required(module)).collect();
            (!required.is_empty()).then_some(NotReady::ModulesMissing { modules: required })
        }
        Err(error) => Some(NotReady::ModulesUnknown { reason: crate::error_chain(&error) }),
    }
}

/// Waits for the netdevs of all PFs of the family; those that do not come, each with the reason. A device that has no
/// driver is waited for, too, as after a boot, but nothing is done for it: one that `known` does not know, somebody
/// has unbound.
async fn pfs_not_up(context: &Context, known: Option<&Snapshot>) -> Result<Vec<PfNotUp>, PhaseError> {
    let index = ModuleTree::Own.index(context)?;
    let is_known = |pf: &DeviceAddress| known.is_none_or(|known| known.nics.pf(pf).is_some());
    let began = Instant::now();
    let mut without = loop {
        let mut without = driverless_devices(context, &index)?;
        without.retain(is_known);
        if without.is_empty() || began.elapsed() > context.settings.timeout {
            break without;
        }
        tokio::time::sleep(RE_CHECK).await;
    };
    let pfs = find_pfs(&context.host, &context.family.devices)?;
    without.retain(|pf| !pfs.contains(pf));
    let nics = nics_to_change(context, "only the running machine can be ready").await?;
    let arrived = nics.listen().await?.wait(&pfs, context.settings.timeout).await;
    let without = without.into_iter().map(|pf| PfNotUp { pf, reason: "no driver has taken it".to_owned() });
    let not_up = arrived.into_iter().filter_map(|(pf, arrival)| {
        let reason = crate::error_chain(&arrival.err()?);
        Some(PfNotUp { pf, reason })
    });
    Ok(not_up.chain(without).collect())
}

//! What came of each restore: each VF, what was given back, each setting that is not what it was, each step that failed.

use jiff::Timestamp;
use nic_settings::{SettingDifference, SettingsOutcome};
use nic_sriov::{Component, DeviceAddress, RestoreOutcome, VfOutcome};
use nic_topology::RestoreOutcome as NetworkOutcome;
use schemars::JsonSchema;
use serde::Serialize;

use crate::state::{Entry, JournalEvent};

/// What came of a restore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Restore {
    /// When the NICs had been read back.
    #[schemars(with = "String")]
    pub at: Timestamp,
    /// Which swap of the night it belongs to, from 1; `None` where no NIC was taken away before it.
    pub swap: Option<usize>,
    /// Whether all that was owed was read back, and is what the snapshot says.
    pub verified: bool,
    /// How many changes were made to PFs and VFs.
    pub steps: usize,
    /// Each VF.
    pub vfs: Vec<VfReport>,
    /// What of that which is set of the netdevs was given back, a line each.
    pub settings_given_back: Vec<String>,
    /// What of that which stood on them was given back, a line each.
    pub network_given_back: Vec<String>,
    /// The links that were left to a network manager.
    pub left_to: Vec<LeftToManager>,
    /// What is not what the snapshot says.
    pub settings: Vec<SettingOutcome>,
    /// What could not be done.
    pub failures: Vec<FailedStep>,
}

impl Restore {
    /// Whether nothing was to be done, and all was as it is to be.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        let done = self.steps + self.settings_given_back.len() + self.network_given_back.len();
        done == 0 && self.verified && self.settings.is_empty() && self.failures.is_empty()
    }

    /// How many settings are not what they were, and that is a fault.
    #[must_use]
    pub fn wrong_settings(&self) -> usize {
        self.settings.iter().filter(|setting| setting.is_wrong()).count()
    }

    /// How many VFs are what the snapshot says.
    #[must_use]
    pub fn verified_vfs(&self) -> usize {
        self.vfs.iter().filter(|vf| vf.verified).count()
    }
}

/// A link of a network manager's, to which it was left to give back what stood there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LeftToManager {
    /// The link.
    pub link: String,
    /// The manager.
    pub manager: String,
    /// Whether it did all that was to be done there.
    pub did_all: bool,
}

/// How a VF fared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct VfReport {
    /// Its PF.
    pub pf: String,
    /// Its index on the PF, from 0.
    pub index: u32,
    /// Its own address, where it has one.
    pub address: Option<String>,
    /// Its netdev's name at the end, where it has one.
    pub name: Option<String>,
    /// The name its netdev was first seen under, when that was another.
    pub first_seen_as: Option<String>,
    /// How long its netdev was waited for, in milliseconds.
    pub waited_ms: Option<u64>,
    /// How many steps it took.
    pub steps: usize,
    /// Whether it had to be bound a second time.
    pub retried: bool,
    /// Whether it is what the snapshot says.
    pub verified: bool,
}

/// A setting that is not what the snapshot says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SettingOutcome {
    /// Whose it is.
    pub of: String,
    /// The PF that it is, or that it is of; `None` for a netdev's settings and for what stood on the NICs.
    pub pf: Option<String>,
    /// The setting.
    pub setting: String,
    /// What the snapshot says, where that can be told in a word.
    pub saved: Option<String>,
    /// What was found.
    pub found: String,
    /// Whether that is a fault: `wrong`, `unsupported` by the driver that runs, `stated`: it cannot be equal by its nature, or
    /// `not_saved`: it could not be read before, and is lost.
    pub gravity: String,
}

impl SettingOutcome {
    /// Whether it is a fault.
    #[must_use]
    pub fn is_wrong(&self) -> bool {
        self.gravity == "wrong"
    }
}

/// Something of a restore that could not be done. Whether that matters the settings tell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct FailedStep {
    /// What it was for.
    pub of: String,
    /// The step.
    pub step: String,
    /// The error and its causes.
    pub cause: String,
}

/// Those of a night, in order. `swaps` are the times at which NICs were taken away.
pub(super) fn of(events: &[JournalEvent], swaps: &[Timestamp]) -> Vec<Restore> {
    let mut restores: Vec<Restore> = Vec::new();
    // The process whose restore is the last one.
    let mut of_process = None;
    for event in events {
        let process = Some((event.pid, &event.origin.run, &event.boot_id));
        match &event.entry {
            Entry::RestoreResult { result, .. } => {
                restores.push(Restore::of(event, swap_of(event, swaps, &restores), result));
                of_process = process;
            }
            Entry::SettingsResult { result } if of_process == process => {
                restores.last_mut().into_iter().for_each(|restore| restore.note_settings(result));
            }
            Entry::NetworkResult { result } if of_process == process => {
                restores.last_mut().into_iter().for_each(|restore| restore.note_network(result));
            }
            _ => {}
        }
    }
    restores
}

/// The last swap before the event, unless all that it owed had been given back before.
fn swap_of(event: &JournalEvent, swaps: &[Timestamp], earlier: &[Restore]) -> Option<usize> {
    let number = swaps.iter().filter(|from| **from <= event.at).count();
    let is_over = earlier.iter().any(|restore| restore.swap == Some(number) && restore.verified);
    (number > 0 && !is_over).then_some(number)
}

impl Restore {
    fn of(event: &JournalEvent, swap: Option<usize>, result: &RestoreOutcome) -> Self {
        let skipped = result.skipped.iter().map(|skipped| FailedStep {
            of: format!("PF {}", skipped.pf),
            step: "restore".to_owned(),
            cause: format!("left alone: {skipped}"),
        });
        Self {
            at: event.at,
            swap,
            verified: result.is_verified(),
            steps: result.steps,
            vfs: result.vfs.iter().filter_map(vf).collect(),
            settings_given_back: Vec::new(),
            network_given_back: Vec::new(),
            left_to: Vec::new(),
            settings: result.differences.iter().map(of_nic).collect(),
            failures: skipped.chain(result.failures.iter().map(failed)).collect(),
        }
    }

    fn note_settings(&mut self, result: &SettingsOutcome) {
        self.verified &= result.is_verified();
        self.settings_given_back.clone_from(&result.changes);
        self.settings.extend(result.differences.iter().map(of_netdev));
        let failed = |cause: &String| FailedStep {
            of: "a netdev".to_owned(),
            step: "setting".to_owned(),
            cause: cause.clone(),
        };
        self.failures.extend(result.failures.iter().map(failed));
    }

    fn note_network(&mut self, result: &NetworkOutcome) {
        self.verified &= result.is_verified();
        self.network_given_back.clone_from(&result.done);
        self.settings.extend(result.differences.iter().map(of_network));
        let failed = |failure: &nic_topology::StepFailure| FailedStep {
            of: "the network".to_owned(),
            step: failure.step.clone(),
            cause: failure.cause.clone(),
        };
        self.failures.extend(result.failures.iter().map(failed));
        let left_to = result.left_to.iter().map(|left| LeftToManager {
            link: left.link.clone(),
            manager: left.manager.to_string(),
            did_all: left.did_all,
        });
        self.left_to = left_to.collect();
    }
}

fn vf(outcome: &VfOutcome) -> Option<VfReport> {
    let Component::Vf { pf, index, address } = &outcome.component else { return None };
    Some(VfReport {
        pf: pf.to_string(),
        index: *index,
        address: address.map(|address| address.to_string()),
        name: outcome.name.as_ref().map(ToString::to_string),
        first_seen_as: outcome.first_seen_as.clone(),
        waited_ms: outcome.waited_ms,
        steps: outcome.steps,
        retried: outcome.retried,
        verified: outcome.verified,
    })
}

fn of_nic(difference: &nic_sriov::Difference) -> SettingOutcome {
    SettingOutcome {
        of: difference.component.to_string(),
        pf: Some(DeviceAddress::to_string(difference.component.pf())),
        setting: difference.attribute.to_string(),
        saved: Some(difference.saved.clone()),
        found: difference.found.clone(),
        gravity: gravity(&difference.gravity),
    }
}

fn of_netdev(difference: &SettingDifference) -> SettingOutcome {
    let setting = match &difference.setting {
        Some(setting) => format!("{}: {setting}", difference.group),
        None => difference.group.to_string(),
    };
    SettingOutcome {
        of: difference.device.to_string(),
        pf: None,
        setting,
        saved: Some(difference.saved.clone()),
        found: difference.found.clone(),
        gravity: gravity(&difference.gravity),
    }
}

fn of_network(difference: &nic_topology::Difference) -> SettingOutcome {
    SettingOutcome {
        of: "the network".to_owned(),
        pf: None,
        setting: difference.what.clone(),
        saved: None,
        found: difference.found.clone(),
        gravity: gravity(&difference.gravity),
    }
}

/// The name that the journal has for it.
fn gravity(gravity: &impl Serialize) -> String {
    match serde_json::to_value(gravity) {
        Ok(serde_json::Value::String(name)) => name,
        Ok(_) | Err(_) => "wrong".to_owned(),
    }
}

fn failed(failure: &nic_sriov::StepFailure) -> FailedStep {
    FailedStep { of: failure.component.to_string(), step: failure.step.clone(), cause: failure.cause.clone() }
}

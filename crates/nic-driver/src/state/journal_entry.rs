//! What a journal line says: its kinds, with their fields.

use std::fmt;

use nic_kmod::ModuleName;
use nic_settings::SettingsOutcome;
use nic_sriov::{RestoreEvent, RestoreOutcome};
use nic_topology::RestoreOutcome as NetworkOutcome;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::journal_facts::{BlockerSeen, NodeFacts, PfCheckpoint};
use super::named::Named;
use super::step::{Phase, Step, form};

/// What a journal line says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Entry {
    /// A phase begins.
    PhaseBegan {
        /// The phase.
        phase: Named<Phase>,
        /// Where, and for what. An earlier version did not tell.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        node: Option<NodeFacts>,
    },
    /// A phase has ended.
    PhaseEnded {
        /// The phase.
        phase: Named<Phase>,
        /// In one sentence, how.
        outcome: String,
        /// The exit code that goes with it.
        exit: u8,
    },
    /// A step begins.
    StepBegan {
        /// The phase.
        phase: Named<Phase>,
        /// The step.
        #[serde(flatten, with = "form")]
        step: Named<Step>,
    },
    /// A step has ended.
    StepEnded {
        /// The phase.
        phase: Named<Phase>,
        /// The step.
        #[serde(flatten, with = "form")]
        step: Named<Step>,
        /// Whether it succeeded.
        outcome: StepOutcome,
        /// What is worth knowing of it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        detail: Option<String>,
        /// What stands in the way, of a step that looks for that.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        blockers: Vec<BlockerSeen>,
        /// How long it took, in milliseconds.
        took_ms: u64,
    },
    /// The modules' identities at one moment.
    Checkpoint {
        /// Which moment.
        label: Named<Moment>,
        /// The modules.
        modules: Vec<ModuleCheckpoint>,
        /// The PFs that are about to go, and what stands on them, when the snapshot is armed.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        nics: Vec<PfCheckpoint>,
    },
    /// Something within a restore.
    Restore {
        /// What has happened.
        restore: RestoreEvent,
    },
    /// What came of a restore.
    RestoreResult {
        /// How many VFs were first seen under another name than their final one.
        renamed_after_arrival: usize,
        /// All of it.
        result: Box<RestoreOutcome>,
    },
    /// What came of giving back what was set of the NICs.
    SettingsResult {
        /// All of it.
        result: Box<SettingsOutcome>,
    },
    /// What came of restoring what stood on the NICs.
    NetworkResult {
        /// All of it.
        result: Box<NetworkOutcome>,
    },
    /// What another version wrote, and this one cannot read. The reader of lines tells it from damage.
    #[serde(untagged, skip_deserializing)]
    Unknown(UnknownEntry),
}

impl Entry {
    /// The kinds that this version has, as lines name them.
    pub(super) const KINDS: [&str; 9] = [
        "phase_began",
        "phase_ended",
        "step_began",
        "step_ended",
        "checkpoint",
        "restore",
        "restore_result",
        "settings_result",
        "network_result",
    ];

    /// Whether it says that a step begins that is wanted.
    #[must_use]
    pub fn begins(&self, is_wanted: impl Fn(&Step) -> bool) -> bool {
        matches!(self, Self::StepBegan { step, .. } if step.known().is_some_and(is_wanted))
    }

    /// Whether it says that any step begins, of the phase or within a restore.
    #[must_use]
    pub fn begins_any_step(&self) -> bool {
        match self {
            Self::StepBegan { .. } => true,
            Self::Restore { restore } => {
                matches!(restore, RestoreEvent::StageBegan { .. } | RestoreEvent::PfStepBegan { .. })
            }
            Self::PhaseBegan { .. }
            | Self::PhaseEnded { .. }
            | Self::StepEnded { .. }
            | Self::Checkpoint { .. }
            | Self::RestoreResult { .. }
            | Self::SettingsResult { .. }
            | Self::NetworkResult { .. }
            | Self::Unknown(_) => false,
        }
    }
}

/// Whether a step succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepOutcome {
    /// It did.
    Ok,
    /// It did not.
    Failed,
}

/// A moment at which the modules are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Moment {
    /// Before the first change of a reload.
    #[serde(rename = "before the reload")]
    BeforeReload,
    /// After its last one.
    #[serde(rename = "after the reload")]
    AfterReload,
    /// When the snapshot is armed: what is about to go.
    #[serde(rename = "when the snapshot is armed")]
    Armed,
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BeforeReload => "before the reload",
            Self::AfterReload => "after the reload",
            Self::Armed => "when the snapshot is armed",
        })
    }
}

/// One module's identity at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleCheckpoint {
    /// The module.
    pub module: ModuleName,
    /// Whether it is loaded.
    pub loaded: bool,
    /// `MODULE_VERSION`, where it has one.
    pub version: Option<String>,
    /// Its srcversion, where it has one.
    pub srcversion: Option<String>,
    /// Its build-id, where the kernel shows one.
    pub build_id: Option<String>,
}

/// A line's kind and fields, as another version wrote them and this one cannot read them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnknownEntry {
    /// The kind, or that of a known one with fields that this version does not know.
    pub kind: String,
    /// All else of the line.
    #[serde(flatten)]
    pub fields: Map<String, Value>,
}

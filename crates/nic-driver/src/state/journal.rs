use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use nic_host::{BootId, ReadError};
use nic_kmod::ModuleName;
use nic_settings::SettingsOutcome;
use nic_sriov::{RestoreEvent, RestoreOutcome};
use nic_topology::RestoreOutcome as NetworkOutcome;
use serde::{Deserialize, Serialize};

use super::failpoint;
use super::named::Named;
use super::step::{Phase, Step, form};
use super::store::StateStore;

/// One line of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalEvent {
    /// Wall-clock time.
    pub at: Timestamp,
    /// Time since boot, sleep included, in milliseconds: durations are taken from this one, which no clock
    /// adjustment moves.
    pub uptime_ms: Uptime,
    /// The boot.
    pub boot_id: BootId,
    /// The process that wrote it.
    pub pid: u32,
    /// What happened.
    #[serde(flatten)]
    pub entry: Entry,
}

/// A time since some boot, in milliseconds. Two of them say nothing of one another without their boots:
/// [`JournalEvent::ms_until`] knows both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Uptime(u64);

impl Uptime {
    /// This many milliseconds.
    #[must_use]
    pub fn from_ms(milliseconds: u64) -> Self {
        Self(milliseconds)
    }
}

impl JournalEvent {
    /// The time from this event to a later one, in milliseconds; 0 where that is earlier. Over a boot of the machine it is the clock's.
    #[must_use]
    pub fn ms_until(&self, later: &Self) -> u64 {
        if self.boot_id == later.boot_id {
            return later.uptime_ms.0.saturating_sub(self.uptime_ms.0);
        }
        u64::try_from(later.at.duration_since(self.at).as_millis()).unwrap_or(0)
    }
}

/// What a journal line says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Entry {
    /// A phase begins.
    PhaseBegan {
        /// The phase.
        phase: Named<Phase>,
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
        /// How long it took, in milliseconds.
        took_ms: u64,
    },
    /// The modules' identities at one moment.
    Checkpoint {
        /// Which moment.
        label: Named<Moment>,
        /// The modules.
        modules: Vec<ModuleCheckpoint>,
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
}

impl Entry {
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
            | Self::NetworkResult { .. } => false,
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
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BeforeReload => "before the reload",
            Self::AfterReload => "after the reload",
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

/// A journal that cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// It could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A line that is not the last is damaged.
    #[error("{} line {line} is no journal event", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
}

/// Writes the journal. Clones write the same one.
///
/// A journal line that cannot be written stops nothing: the machine in its half-done state matters more. It is
/// logged, and counted.
#[derive(Debug, Clone)]
pub struct Journal {
    store: StateStore,
    boot_id: BootId,
    lost: Arc<Mutex<usize>>,
}

impl Journal {
    /// The journal of `store`.
    #[must_use]
    pub fn open(store: &StateStore, boot_id: &BootId) -> Self {
        Self { store: store.clone(), boot_id: boot_id.clone(), lost: Arc::default() }
    }

    /// Writes one line.
    pub fn write(&self, entry: Entry) {
        let event = JournalEvent {
            at: Timestamp::now(),
            uptime_ms: uptime_ms(),
            boot_id: self.boot_id.clone(),
            pid: std::process::id(),
            entry,
        };
        let written = serde_json::to_vec(&event).map_err(|error| error.to_string()).and_then(|mut line| {
            line.push(b'\n');
            self.store.append(&self.store.journal_path(), &line).map_err(|error| {
                let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                format!("{error}: {cause}")
            })
        });
        if written.is_ok() {
            failpoint::line_is_durable();
        }
        if let Err(error) = written {
            let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
            *lost += 1;
            tracing::error!(error, lost = *lost, "a journal line is lost");
        }
    }

    /// Begins a phase.
    #[must_use]
    pub fn phase(&self, phase: Phase) -> PhaseRecord {
        tracing::info!(%phase, "phase begins");
        self.write(Entry::PhaseBegan { phase: phase.into() });
        PhaseRecord { journal: self.clone(), phase }
    }
}

/// A phase under way.
#[derive(Debug)]
pub struct PhaseRecord {
    journal: Journal,
    phase: Phase,
}

impl PhaseRecord {
    /// Begins a step.
    #[must_use]
    pub fn step(&self, step: Step) -> StepRecord<'_> {
        tracing::debug!(phase = %self.phase, %step, "step begins");
        self.journal.write(Entry::StepBegan { phase: self.phase.into(), step: step.clone().into() });
        StepRecord { phase: self, step, began: Instant::now() }
    }

    /// Writes a line that is neither the beginning nor the end of a step.
    pub fn write(&self, entry: Entry) {
        self.journal.write(entry);
    }

    /// Ends the phase.
    pub fn end(self, outcome: &str, exit: crate::Exit) {
        tracing::info!(phase = %self.phase, outcome, "phase ends");
        let (phase, outcome) = (self.phase.into(), outcome.to_owned());
        self.journal.write(Entry::PhaseEnded { phase, outcome, exit: exit as u8 });
    }
}

/// A step under way.
#[derive(Debug)]
pub struct StepRecord<'phase> {
    phase: &'phase PhaseRecord,
    step: Step,
    began: Instant,
}

impl StepRecord<'_> {
    /// Ends the step well.
    pub fn ok(self, detail: impl Into<Option<String>>) {
        self.end(StepOutcome::Ok, detail.into());
    }

    /// Ends the step with its failure.
    pub fn failed(self, error: &dyn std::error::Error) {
        self.end(StepOutcome::Failed, Some(crate::error_chain(error)));
    }

    /// Ends the step as `result` says, and hands it on.
    pub fn record<T, E: std::error::Error>(self, result: Result<T, E>) -> Result<T, E> {
        match &result {
            Ok(_) => self.ok(None),
            Err(error) => self.failed(error),
        }
        result
    }

    fn end(self, outcome: StepOutcome, detail: Option<String>) {
        let took_ms = milliseconds(self.began.elapsed());
        tracing::info!(phase = %self.phase.phase, step = %self.step, ?outcome, took_ms, detail, "step ended");
        let (phase, step) = (self.phase.phase.into(), self.step.into());
        self.phase.journal.write(Entry::StepEnded { phase, step, outcome, detail, took_ms });
    }
}

fn uptime_ms() -> Uptime {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let milliseconds = time.tv_sec.saturating_mul(1000).saturating_add(time.tv_nsec / 1_000_000);
    Uptime(u64::try_from(milliseconds).unwrap_or(0))
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;

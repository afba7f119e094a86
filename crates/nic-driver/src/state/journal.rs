use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use nic_host::{BootId, ReadError};

use super::failpoint;
use super::journal_entry::{Entry, StepOutcome};
use super::journal_facts::{BlockerSeen, NodeFacts};
use super::journal_line::{JournalEvent, LineNumbers, Uptime};
use super::step::{Phase, Step};
use super::store::StateStore;

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
    node: Option<NodeFacts>,
    lines: LineNumbers,
    lost: Arc<Mutex<usize>>,
}

impl Journal {
    /// The journal of `store`.
    #[must_use]
    pub fn open(store: &StateStore, boot_id: &BootId) -> Self {
        Self {
            store: store.clone(),
            boot_id: boot_id.clone(),
            node: None,
            lines: LineNumbers::begin(),
            lost: Arc::default(),
        }
    }

    /// The same journal, whose phases tell where they are.
    #[must_use]
    pub fn of_node(self, node: NodeFacts) -> Self {
        Self { node: Some(node), ..self }
    }

    /// Writes one line.
    pub fn write(&self, entry: Entry) {
        let event = JournalEvent {
            at: Timestamp::now(),
            uptime_ms: Uptime::now(),
            boot_id: self.boot_id.clone(),
            pid: std::process::id(),
            origin: self.lines.next(),
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
        self.write(Entry::PhaseBegan { phase: phase.into(), node: self.node.clone() });
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
        self.end(StepOutcome::Ok, detail.into(), Vec::new());
    }

    /// Ends the step with its failure.
    pub fn failed(self, error: &dyn std::error::Error) {
        self.blocked(error, Vec::new());
    }

    /// Ends the step with its failure, and with all that was found in the way.
    pub fn blocked(self, error: &dyn std::error::Error, blockers: Vec<BlockerSeen>) {
        self.end(StepOutcome::Failed, Some(crate::error_chain(error)), blockers);
    }

    /// Ends the step as `result` says, and hands it on.
    pub fn record<T, E: std::error::Error>(self, result: Result<T, E>) -> Result<T, E> {
        match &result {
            Ok(_) => self.ok(None),
            Err(error) => self.failed(error),
        }
        result
    }

    fn end(self, outcome: StepOutcome, detail: Option<String>, blockers: Vec<BlockerSeen>) {
        let took_ms = milliseconds(self.began.elapsed());
        tracing::info!(phase = %self.phase.phase, step = %self.step, ?outcome, took_ms, detail, "step ended");
        let (phase, step) = (self.phase.phase.into(), self.step.into());
        self.phase.journal.write(Entry::StepEnded { phase, step, outcome, detail, blockers, took_ms });
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;

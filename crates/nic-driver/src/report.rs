//! What the journal tells of a boot's nights: what was swapped, how long what was away, what was in the way, what came back and what did
//! not. Pure: events in, a model out, and what people and programs read is made of the model alone ([`render`]).
//!
//! Start reading at [`Report::of`]; each part of a night has a file of its own.

mod blocked;
mod checkpoints;
mod compare;
mod handover;
mod identity;
mod night;
pub mod render;
mod restores;
mod swaps;
mod swaps_open;
mod timeline;
mod times;
mod verdict;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

pub use blocked::Blocked;
pub use checkpoints::Checkpoint;
pub use compare::{Comparison, ComparisonRow};
pub use handover::Handover;
pub use identity::ModuleIdentity;
pub use night::{Night, NodeOfNight, UnknownLine};
pub use restores::{FailedStep, LeftToManager, Restore, SettingOutcome, VfReport};
pub use swaps::{AddressAway, PfAway, Swap, SwapKind, VfTimes};
pub use timeline::{Ended, PfStage, TimelineRow};
pub use verdict::{Level, Verdict};

use crate::state::JournalEvent;

/// The version of the form that programs read.
const SCHEMA: u32 = 1;

/// All that an operator wants to know of what happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Report {
    /// The version of this form.
    pub schema: u32,
    /// How the last night has ended; `None` where there is none.
    pub verdict: Option<Verdict>,
    /// The nights, in order.
    pub nights: Vec<Night>,
}

impl Report {
    /// Reads the journal's events.
    #[must_use]
    pub fn of(events: &[JournalEvent]) -> Self {
        Self::with(night::nights(events))
    }

    fn with(nights: Vec<Night>) -> Self {
        Self { schema: SCHEMA, verdict: nights.last().map(|night| night.verdict.clone()), nights }
    }

    /// The nights that were not over at this time.
    #[must_use]
    pub fn since(self, time: Timestamp) -> Self {
        Self::with(self.nights.into_iter().filter(|night| night.until >= time).collect())
    }

    /// The last nights, so many.
    #[must_use]
    pub fn last(mut self, count: usize) -> Self {
        let first = self.nights.len().saturating_sub(count);
        Self::with(self.nights.split_off(first))
    }

    /// The last two nights, side by side; `None` where there are no two.
    #[must_use]
    pub fn compare_last(&self) -> Option<Comparison> {
        let [.., one, other] = &self.nights[..] else { return None };
        Some(Comparison::of(one, other))
    }

    /// Two nights, by their numbers, side by side; `None` where one of them is not there.
    #[must_use]
    pub fn compare(&self, one: usize, other: usize) -> Option<Comparison> {
        let night = |number| self.nights.iter().find(|night| night.number == number);
        Some(Comparison::of(night(one)?, night(other)?))
    }

    /// All handovers, in order.
    pub fn handovers(&self) -> impl Iterator<Item = &Handover> {
        self.nights.iter().flat_map(|night| &night.handovers)
    }

    /// The JSON schema of a report, as published in `docs/report.schema.json`.
    #[must_use]
    pub fn json_schema() -> schemars::Schema {
        schemars::schema_for!(Self)
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&render::text(self, render::Detail::Wrong))
    }
}

#[cfg(test)]
mod tests;

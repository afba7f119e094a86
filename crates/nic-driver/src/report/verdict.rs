//! How a night has ended: the one line that is read first.

use schemars::JsonSchema;
use serde::Serialize;

use super::blocked::Blocked;
use super::restores::Restore;
use super::swaps::Swap;
use super::timeline::{Ended, TimelineRow};
use super::times::duration;
use crate::state::{Entry, JournalEvent, Named, Phase, Step, StepOutcome};

/// How a night has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Verdict {
    /// In a word.
    pub level: Level,
    /// In a sentence.
    pub text: String,
    /// What to do next, where something is to be done.
    pub next: Option<String>,
}

/// How a night has ended, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// The node was made ready.
    Ready,
    /// What was begun was finished, and the node is not ready by it.
    Done,
    /// Something stood in the way, and nothing was changed.
    Blocked,
    /// The driver was rolled back.
    RolledBack,
    /// A command failed before anything was changed.
    Failed,
    /// The node lacks something that it had.
    Degraded,
    /// Something is under way, or was cut off.
    NotOver,
}

impl Level {
    /// The word, as it stands before the sentence.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Ready => "READY",
            Self::Done => "DONE",
            Self::Blocked => "BLOCKED",
            Self::RolledBack => "ROLLED BACK",
            Self::Failed => "FAILED",
            Self::Degraded => "DEGRADED",
            Self::NotOver => "NOT OVER",
        }
    }
}

/// A night's verdict.
pub(super) fn of(
    events: &[JournalEvent],
    rows: &[TimelineRow],
    swaps: &[Swap],
    blocked: &[Blocked],
    restores: &[Restore],
) -> Verdict {
    // The driver container around the others ends when it is told to, which says nothing of the NICs.
    let is_around = |row: &&TimelineRow| row.phase == Phase::Run.as_str();
    let phases = || rows.iter().filter(|row| row.step.is_none());
    let last = phases().rfind(|row| !is_around(row)).or_else(|| phases().next_back());
    let is_away = swaps.last().is_some_and(|swap| swap.away_ms.is_none());
    let Some(last) = last else {
        let text = "nothing but single lines is in the journal".to_owned();
        return Verdict { level: Level::Done, text, next: None };
    };
    let level = level(last, is_away, last_readiness(events));
    let how = match level {
        Level::NotOver => format!("{} has no end in the journal", last.phase),
        Level::Ready | Level::Done => settled(swaps, restores.last()),
        Level::Blocked | Level::RolledBack | Level::Failed | Level::Degraded => {
            format!("{}: {}", last.phase, last.outcome)
        }
    };
    let text = match (is_away, level) {
        (true, _) => format!("{how}; the NICs are not back"),
        (false, Level::Blocked) => match blocked.iter().map(|one| one.took_ms).max() {
            None | Some(0) => how,
            Some(since) => format!("{how} (in the way for {} so far)", duration(since)),
        },
        _ => how,
    };
    Verdict { level, text, next: next(level, is_away) }
}

fn level(last: &TimelineRow, is_away: bool, readiness: Option<bool>) -> Level {
    match (last.ended, last.exit) {
        (Ended::NotOver | Ended::CutOff, _) => Level::NotOver,
        (Ended::Blocked, _) | (_, Some(3)) => Level::Blocked,
        (_, Some(4)) => Level::RolledBack,
        (_, Some(5)) => Level::Degraded,
        (Ended::Ok, _) if is_away => Level::Degraded,
        (Ended::Ok, _) if readiness == Some(true) => Level::Ready,
        (Ended::Ok, _) => Level::Done,
        (Ended::Failed, _) => Level::Failed,
    }
}

/// Whether the readiness file was created last, and not removed.
fn last_readiness(events: &[JournalEvent]) -> Option<bool> {
    events.iter().rev().find_map(|event| match &event.entry {
        Entry::StepEnded { step: Named::Known(step), outcome: StepOutcome::Ok, .. } => match step {
            Step::GiveReadiness => Some(true),
            Step::TakeReadinessAway => Some(false),
            _ => None,
        },
        _ => None,
    })
}

fn settled(swaps: &[Swap], restore: Option<&Restore>) -> String {
    let Some(swap) = swaps.last() else { return "no NIC was taken away".to_owned() };
    let driver = match &swap.after {
        Some(after) => format!("{} {} runs", after.module, after.version_text()),
        None => "the driver runs".to_owned(),
    };
    let back = match restore.map_or(0, Restore::wrong_settings) {
        0 => "and all that was owed is back".to_owned(),
        1 => "and 1 setting is not what it was".to_owned(),
        count => format!("and {count} settings are not what they were"),
    };
    format!("{driver}, {back}{}", away(swaps, swap))
}

/// How long the NICs were away; with what stood on them, where that took longer.
fn away(swaps: &[Swap], last: &Swap) -> String {
    let Some(nics) = last.away_ms else { return String::new() };
    let longest = last.addresses.iter().filter_map(|one| one.away_ms).max().filter(|longest| *longest > nics);
    let addresses = longest.map(|longest| format!(", an address for {}", duration(longest)));
    let away = format!("the NICs were away for {}{}", duration(nics), addresses.unwrap_or_default());
    match swaps.len() {
        1 => format!("; {away}"),
        count => {
            let all = swaps.iter().filter_map(|swap| swap.away_ms).sum();
            format!("; in the last of {count} swaps {away} (the NICs in all of them for {})", duration(all))
        }
    }
}

fn next(level: Level, is_away: bool) -> Option<String> {
    let next = match level {
        Level::Ready | Level::Done if !is_away => return None,
        Level::NotOver => {
            "nic-driver status tells whether it is at work; if not, the next reload or restore-sriov goes on from there"
        }
        Level::Blocked => "nic-driver preflight tells each thing in the way and what to do about it",
        Level::RolledBack => {
            "the driver before runs; nic-driver status tells what runs, and reload --retry-rolled-back tries again"
        }
        Level::Failed => "nothing that runs was changed: see to the cause and run it again",
        Level::Ready | Level::Done | Level::Degraded => {
            "nic-driver status tells what is owed, and nic-driver restore-sriov gives it back"
        }
    };
    Some(next.to_owned())
}

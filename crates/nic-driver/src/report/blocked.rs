//! What stood in the way of a reload, and for how long.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use crate::state::{BlockerSeen, Entry, JournalEvent, Step, StepOutcome};

/// One thing that stood in the way of a reload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Blocked {
    /// Of which kind it is, as `preflight` names it; `None` where an earlier version told a sentence alone.
    pub kind: Option<String>,
    /// What it is.
    pub what: String,
    /// When it was first found there.
    #[schemars(with = "String")]
    pub from: Timestamp,
    /// When it was first found to be gone; `None` where nobody has looked since, or it was still there.
    #[schemars(with = "Option<String>")]
    pub until: Option<Timestamp>,
    /// How long that is, in milliseconds; up to the last look where it was still there.
    pub took_ms: u64,
    /// How many times it was found there.
    pub times: usize,
}

/// What is in the way at the moment.
struct Open<'a> {
    first: &'a JournalEvent,
    blocked: Blocked,
}

/// All of it, in the order in which it was found.
pub(super) fn of(events: &[JournalEvent]) -> Vec<Blocked> {
    let mut over = Vec::new();
    let mut open: Vec<Open<'_>> = Vec::new();
    for event in events {
        let Entry::StepEnded { step, outcome, detail, blockers, .. } = &event.entry else { continue };
        if !step.is(&Step::FindBlockers) {
            continue;
        }
        let found: Vec<BlockerSeen> = match (outcome, detail) {
            (StepOutcome::Failed, Some(detail)) if blockers.is_empty() => {
                vec![BlockerSeen { kind: None, what: detail.clone() }]
            }
            _ => blockers.clone(),
        };
        let is_found = |blocked: &Blocked| {
            found.iter().any(|seen| seen.kind == blocked.kind && seen.what == blocked.what)
        };
        let (there, gone): (Vec<_>, Vec<_>) = open.into_iter().partition(|open| is_found(&open.blocked));
        open = there;
        for Open { first, blocked } in gone {
            over.push(Blocked { until: Some(event.at), took_ms: first.ms_until(event), ..blocked });
        }
        for BlockerSeen { kind, what } in found {
            let known = open.iter_mut().find(|open| open.blocked.kind == kind && open.blocked.what == what);
            match known {
                Some(Open { first, blocked }) => {
                    blocked.times += 1;
                    blocked.took_ms = first.ms_until(event);
                }
                None => {
                    let blocked = Blocked { kind, what, from: event.at, until: None, took_ms: 0, times: 1 };
                    open.push(Open { first: event, blocked });
                }
            }
        }
    }
    over.extend(open.into_iter().map(|open| open.blocked));
    over.sort_by_key(|blocked| blocked.from);
    over
}

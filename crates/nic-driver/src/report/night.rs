//! A night: what lies in the journal without a long pause, of one boot.

use std::collections::BTreeMap;
use std::ops::Range;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::blocked::{self, Blocked};
use super::checkpoints::{self, Checkpoint};
use super::handover::{self, Handover};
use super::restores::{self, Restore};
use super::swaps::Swap;
use super::swaps_open;
use super::timeline::{self, TimelineRow};
use super::verdict::{self, Verdict};
use crate::state::{Effect, Entry, JournalEvent, Step};

/// A pause that ends a night, in milliseconds: four hours. A night whose NICs are away is not ended by one.
const PAUSE_MS: u64 = 4 * 3600 * 1000;

/// What lies in the journal without a pause of four hours, of one boot. As long as the NICs are away, no pause ends it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Night {
    /// Which night of the journal it is, from 1.
    pub number: usize,
    /// How it has ended.
    pub verdict: Verdict,
    /// Where it was, and which versions of this program were at work.
    pub node: NodeOfNight,
    /// When it began.
    #[schemars(with = "String")]
    pub from: Timestamp,
    /// When its last line was written.
    #[schemars(with = "String")]
    pub until: Timestamp,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// Each time that the NICs were taken away, and what for.
    pub swaps: Vec<Swap>,
    /// What stood in the way of a reload, and for how long.
    pub blocked: Vec<Blocked>,
    /// The modules' identities, moment by moment.
    pub checkpoints: Vec<Checkpoint>,
    /// What came of each restore.
    pub restores: Vec<Restore>,
    /// Each time that one driver container handed the node over to another.
    pub handovers: Vec<Handover>,
    /// What happened, in order.
    pub timeline: Vec<TimelineRow>,
    /// Lines that another version of this program wrote, and this one cannot read.
    pub unknown: Vec<UnknownLine>,
    /// How many lines could not be written, as their numbers tell.
    pub lost_lines: u64,
}

/// Where a night was.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct NodeOfNight {
    /// The host's name, where it was told.
    pub host: Option<String>,
    /// The kernel's release, where it was told.
    pub kernel: Option<String>,
    /// The NIC families.
    pub families: Vec<String>,
    /// The boot.
    pub boot_id: String,
    /// The versions of this program, in the order in which they came.
    pub versions: Vec<String>,
}

/// A line of the journal that another version wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct UnknownLine {
    /// When it was written.
    #[schemars(with = "String")]
    pub at: Timestamp,
    /// Its kind.
    pub kind: String,
    /// The version that wrote it, where it says so.
    pub writer: Option<String>,
}

/// The nights of a journal.
pub(super) fn nights(events: &[JournalEvent]) -> Vec<Night> {
    let mut rows = timeline::rows(events).into_iter().peekable();
    let mut handovers = handover::of(events).into_iter().peekable();
    let mut nights = Vec::new();
    for range in split(events) {
        let (Some(of_night), end) = (events.get(range.clone()), range.end) else { continue };
        let mut night_rows = Vec::new();
        while let Some((_, row)) = rows.next_if(|(position, _)| *position < end) {
            night_rows.push(row);
        }
        let mut night_handovers = Vec::new();
        let until = of_night.last().map(|event| event.at);
        while let Some(handover) = handovers.next_if(|handover| Some(handover.from) <= until) {
            night_handovers.push(handover);
        }
        nights.extend(night(nights.len() + 1, of_night, night_rows, night_handovers));
    }
    nights
}

fn night(
    number: usize,
    events: &[JournalEvent],
    timeline: Vec<TimelineRow>,
    handovers: Vec<Handover>,
) -> Option<Night> {
    let (first, last) = (events.first()?, events.last()?);
    let swaps = swaps_open::of(events);
    let checkpoints = checkpoints::of(events, &swaps);
    let blocked = blocked::of(events);
    let began: Vec<Timestamp> = swaps.iter().map(|swap| swap.from).collect();
    let restores = restores::of(events, &began);
    let verdict = verdict::of(events, &timeline, &swaps, &blocked, &restores);
    Some(Night {
        number,
        verdict,
        node: node(events),
        from: first.at,
        until: last.at,
        took_ms: first.ms_until(last),
        swaps,
        blocked,
        checkpoints,
        restores,
        handovers,
        timeline,
        unknown: unknown(events),
        lost_lines: lost_lines(events),
    })
}

fn split(events: &[JournalEvent]) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let mut from = 0;
    let mut away = false;
    let mut before: Option<&JournalEvent> = None;
    for (position, event) in events.iter().enumerate() {
        if let Some(before) = before {
            let is_another_boot = before.boot_id != event.boot_id;
            if is_another_boot || (!away && before.ms_until(event) >= PAUSE_MS) {
                ranges.push(from..position);
                from = position;
                away = false;
            }
        }
        match &event.entry {
            Entry::StepBegan { step, .. } => {
                away |= step.known().map(Step::effect) == Some(Effect::TakesNicsAway);
            }
            Entry::RestoreResult { result, .. } => away &= !result.is_verified(),
            _ => {}
        }
        before = Some(event);
    }
    ranges.push(from..events.len());
    ranges.retain(|range| !range.is_empty());
    ranges
}

fn node(events: &[JournalEvent]) -> NodeOfNight {
    let mut node = NodeOfNight::default();
    let note = |known: &mut Vec<String>, text: &str| {
        if !known.iter().any(|other| other == text) {
            known.push(text.to_owned());
        }
    };
    for event in events {
        node.boot_id = event.boot_id.to_string();
        if let Some(writer) = &event.origin.writer {
            note(&mut node.versions, writer);
        }
        if let Entry::PhaseBegan { node: Some(told), .. } = &event.entry {
            node.host = told.host.clone().or(node.host);
            node.kernel = Some(told.kernel.to_string());
            note(&mut node.families, &told.family);
        }
    }
    node
}

fn unknown(events: &[JournalEvent]) -> Vec<UnknownLine> {
    let of_event = |event: &JournalEvent| match &event.entry {
        Entry::Unknown(unknown) => Some(UnknownLine {
            at: event.at,
            kind: unknown.kind.clone(),
            writer: event.origin.writer.clone(),
        }),
        _ => None,
    };
    events.iter().filter_map(of_event).collect()
}

/// What is missing between two lines of one run. What is missing before its first one may have gone with an older journal.
fn lost_lines(events: &[JournalEvent]) -> u64 {
    let mut last = BTreeMap::new();
    let mut lost = 0_u64;
    for event in events {
        if let (Some(run), Some(number)) = (&event.origin.run, event.origin.seq)
            && let Some(before) = last.insert(run, number)
        {
            lost += number.saturating_sub(before).saturating_sub(1);
        }
    }
    lost
}

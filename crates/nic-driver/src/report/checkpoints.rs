//! The modules' identities, moment by moment.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::identity::ModuleIdentity;
use super::swaps::Swap;
use crate::state::{Entry, JournalEvent, Moment};

/// The modules' identities at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Checkpoint {
    /// The time of the moment.
    #[schemars(with = "String")]
    pub at: Timestamp,
    /// Which moment, as the journal names it.
    pub label: String,
    /// Which moment, by what the swap was: `before install`, `after upgrade`.
    pub moment: String,
    /// The modules.
    pub modules: Vec<ModuleIdentity>,
}

/// Those of a night, in order.
pub(super) fn of(events: &[JournalEvent], swaps: &[Swap]) -> Vec<Checkpoint> {
    let mut checkpoints = Vec::new();
    for event in events {
        let Entry::Checkpoint { label, modules, nics: _ } = &event.entry else { continue };
        if modules.is_empty() {
            continue;
        }
        // A swap begins between the two checkpoints of its reload.
        let noun = match label.known() {
            Some(Moment::BeforeReload) => {
                let next = swaps.iter().find(|swap| swap.from >= event.at);
                let until = next_checkpoint_after(events, event.at);
                next.filter(|swap| until.is_none_or(|until| swap.from <= until))
            }
            Some(Moment::AfterReload) => {
                let last = swaps.iter().rev().find(|swap| swap.from <= event.at);
                let since = checkpoints.last().map(|before: &Checkpoint| before.at);
                last.filter(|swap| since.is_none_or(|since| swap.from >= since))
            }
            Some(Moment::Armed) | None => None,
        };
        let moment = match (label.known(), noun) {
            (Some(Moment::BeforeReload), Some(swap)) => format!("before {}", swap.kind.noun()),
            (Some(Moment::AfterReload), Some(swap)) => format!("after {}", swap.kind.noun()),
            _ => label.to_string(),
        };
        checkpoints.push(Checkpoint {
            at: event.at,
            label: label.to_string(),
            moment,
            modules: modules.iter().map(ModuleIdentity::of).collect(),
        });
    }
    checkpoints
}

fn next_checkpoint_after(events: &[JournalEvent], at: Timestamp) -> Option<Timestamp> {
    let is_checkpoint = |event: &&JournalEvent| {
        event.at > at && matches!(&event.entry, Entry::Checkpoint { modules, .. } if !modules.is_empty())
    };
    events.iter().find(is_checkpoint).map(|event| event.at)
}

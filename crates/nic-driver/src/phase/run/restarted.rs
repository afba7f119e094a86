//! Whether this is a container that was started again in its pod. Such a one runs without the pod's init container: nobody has cordoned or
//! drained the node before it.

use nic_host::BootId;

use crate::context::Context;
use crate::state::{Entry, Journal, JournalEvent, Phase};
use crate::swap::{decide, read_identity};

/// Whether the container before this one was cut off, or has failed. One that ended well was told to, and this is another pod's.
pub(super) fn is_restarted(context: &Context) -> bool {
    // A journal that cannot be read is set aside, and said so, when the lock is taken.
    Journal::read(&context.store).is_ok_and(|events| was_cut_off(&events, &context.boot_id))
}

fn was_cut_off(events: &[JournalEvent], boot_id: &BootId) -> bool {
    let of_this_boot = events.iter().filter(|event| event.boot_id == *boot_id);
    let last = of_this_boot.rev().find_map(|event| match &event.entry {
        Entry::PhaseBegan { phase, .. } if phase.is(&Phase::Run) => Some(true),
        Entry::PhaseEnded { phase, exit, .. } if phase.is(&Phase::Run) => Some(*exit != 0),
        _ => None,
    });
    last.unwrap_or(false)
}

/// Says so where a new reload is about to begin, and not one that was cut off is gone on with.
pub(super) fn tell_of_new_reload(context: &Context) {
    let is_due = || {
        context.settings.force || read_identity(context).is_ok_and(|found| decide(context, &found).is_swap())
    };
    if !context.is_armed() && is_due() {
        tracing::warn!(
            "a new reload begins in a container that was started again: no drain of the node came before it"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{LineOrigin, Uptime};

    #[test]
    fn only_a_good_end_is_followed_by_another_pod() {
        let boot = |text: &str| -> BootId { serde_json::from_value(text.into()).unwrap() };
        let (this, other) =
            (boot("0c2f7a1e-6b5d-4f3a-9e8c-d1b2a3948576"), boot("11111111-6b5d-4f3a-9e8c-d1b2a3948576"));
        let event = |boot_id: &BootId, entry| JournalEvent {
            at: jiff::Timestamp::UNIX_EPOCH,
            uptime_ms: Uptime::from_ms(0),
            boot_id: boot_id.clone(),
            pid: 1,
            origin: LineOrigin::default(),
            entry,
        };
        let began = |boot, phase: Phase| event(boot, Entry::PhaseBegan { phase: phase.into(), node: None });
        let ended =
            |exit| event(&this, Entry::PhaseEnded { phase: Phase::Run.into(), outcome: String::new(), exit });
        let run = || began(&this, Phase::Run);
        for (events, expected) in [
            (vec![], false),
            (vec![began(&this, Phase::Reload)], false),
            (vec![began(&other, Phase::Run)], false),
            (vec![run(), began(&this, Phase::Reload)], true),
            (vec![run(), ended(0)], false),
            (vec![run(), ended(5)], true),
            (vec![run(), ended(5), run(), ended(0)], false),
        ] {
            assert_eq!(was_cut_off(&events, &this), expected, "{events:?}");
        }
    }
}

//! What fits into the time that is left before the process is killed.

use std::time::Duration;

use crate::context::Context;
use crate::state::{Effect, Entry, Journal, JournalEvent, Named, Phase, Step};

/// A section that was not begun, because it would have been cut off. What runs was not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a reload and its restore took {took:.1?} the last time, and only {left:.1?} are left before the process is killed: not begun"
)]
pub struct NoTimeLeft {
    /// What it took the last time.
    pub took: Duration,
    /// What is left.
    pub left: Duration,
}

/// An error when a reload with its restore cannot end within `left`, as far as the journal tells.
pub(crate) fn reload_fits(context: &Context, left: Option<Duration>) -> Result<(), NoTimeLeft> {
    let Some(left) = left else { return Ok(()) };
    let events = Journal::read(&context.store).unwrap_or_else(|error| {
        tracing::warn!(error = crate::error_chain(&error), "how long a reload takes is not known");
        Vec::new()
    });
    match last_reload_and_restore(&events) {
        Some(took) if took > left => Err(NoTimeLeft { took, left }),
        // Never measured: there is nothing to say that it does not fit.
        Some(_) | None => Ok(()),
    }
}

/// How long the last whole reload that swapped modules and the last whole restore that changed something took
/// together; `None` when there was no such reload.
fn last_reload_and_restore(events: &[JournalEvent]) -> Option<Duration> {
    let (mut reload, mut restore) = (None, None);
    let mut began: Option<&JournalEvent> = None;
    let mut worked = false;
    for event in events {
        match &event.entry {
            Entry::PhaseBegan { phase: Named::Known(Phase::Reload | Phase::RestoreSriov), .. } => {
                (began, worked) = (Some(event), false);
            }
            Entry::StepBegan { step, .. } => {
                worked |= step.known().map(Step::effect) == Some(Effect::TakesNicsAway);
            }
            Entry::RestoreResult { result, .. } => worked |= result.steps > 0,
            Entry::PhaseEnded { phase, exit: 0, .. } if worked => {
                let Some(began) =
                    began.filter(|began| began.pid == event.pid && began.boot_id == event.boot_id)
                else {
                    continue;
                };
                let took = Duration::from_millis(began.ms_until(event));
                match phase.known() {
                    Some(Phase::Reload) => reload = Some(took),
                    Some(Phase::RestoreSriov) => restore = Some(took),
                    Some(Phase::Install | Phase::Build | Phase::Terminate | Phase::Run) | None => {}
                }
            }
            _ => {}
        }
    }
    Some(reload? + restore.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use nic_host::BootId;
    use nic_sriov::RestoreOutcome;

    use super::*;
    use crate::state::{LineOrigin, Uptime};

    fn event(pid: u32, uptime_ms: u64, entry: Entry) -> JournalEvent {
        let at = "2026-01-02T03:04:05Z".parse().unwrap();
        JournalEvent {
            at,
            uptime_ms: Uptime::from_ms(uptime_ms),
            boot_id: BootId("boot".into()),
            pid,
            origin: LineOrigin::default(),
            entry,
        }
    }

    fn phase(pid: u32, from: u64, to: u64, phase: Phase, work: Option<Entry>) -> Vec<JournalEvent> {
        let mut events = vec![event(pid, from, Entry::PhaseBegan { phase: phase.into(), node: None })];
        events.extend(work.map(|entry| event(pid, from, entry)));
        events.push(event(
            pid,
            to,
            Entry::PhaseEnded { phase: phase.into(), outcome: String::new(), exit: 0 },
        ));
        events
    }

    #[test]
    fn the_last_that_did_something_counts() {
        let swap = || {
            let step = Step::RemoveVfs { pfs: Vec::new() }.into();
            Some(Entry::StepBegan { phase: Phase::Reload.into(), step })
        };
        let result = |steps| {
            let result = RestoreOutcome {
                skipped: Vec::new(),
                steps,
                vfs: Vec::new(),
                failures: Vec::new(),
                differences: Vec::new(),
            };
            Some(Entry::RestoreResult { renamed_after_arrival: 0, result: Box::new(result) })
        };
        assert_eq!(last_reload_and_restore(&[]), None);
        let mut events = phase(1, 0, 9_000, Phase::Reload, swap());
        assert_eq!(last_reload_and_restore(&events), Some(Duration::from_secs(9)));
        events.extend(phase(2, 10_000, 14_000, Phase::RestoreSriov, result(50)));
        // Neither of these had anything to do.
        events.extend(phase(3, 20_000, 20_100, Phase::Reload, None));
        events.extend(phase(4, 21_000, 21_100, Phase::RestoreSriov, result(0)));
        assert_eq!(last_reload_and_restore(&events), Some(Duration::from_secs(13)));
        // Cut off: what it would have taken is not known.
        events.push(event(5, 30_000, Entry::PhaseBegan { phase: Phase::Reload.into(), node: None }));
        assert_eq!(last_reload_and_restore(&events), Some(Duration::from_secs(13)));
    }

    #[test]
    fn what_an_earlier_version_wrote_is_measured() {
        let took = last_reload_and_restore(&crate::fixture::earlier_journal());
        assert_eq!(took, Some(Duration::from_millis(3_684)));
    }
}

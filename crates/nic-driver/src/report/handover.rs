//! From one driver container to the next: how long the node had no verified driver of a container's, and what took how long.

use jiff::Timestamp;
use serde::Serialize;

use crate::state::{Entry, JournalEvent, Phase, Step, StepOutcome};

/// The time from a driver container's request to stop until the node was ready under the next one, which has swapped the driver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Handover {
    /// When the first one was told to stop.
    pub from: Timestamp,
    /// Until readiness was given under the second, in milliseconds.
    pub took_ms: u64,
    /// What of it packages were built, here or in the sidecar.
    pub build_ms: u64,
    /// What of it was the rest of `install`.
    pub install_ms: u64,
    /// What of it was `reload`: modules out and in.
    pub swap_ms: u64,
    /// What of it was `restore-sriov`.
    pub restore_ms: u64,
}

impl Handover {
    /// What is left: containers that end and start, and the steps around the phases.
    #[must_use]
    pub fn rest_ms(&self) -> u64 {
        let phases = self.build_ms + self.install_ms + self.swap_ms + self.restore_ms;
        self.took_ms.saturating_sub(phases)
    }
}

/// What is known of one that is not over.
#[derive(Debug)]
struct Begun<'a> {
    from: &'a JournalEvent,
    build_ms: u64,
    install_ms: u64,
    swap_ms: u64,
    restore_ms: u64,
    /// Whether VFs were removed, or a module unloaded: without that, the next container found its driver running.
    has_swapped: bool,
}

/// Those of a journal, in order.
pub(super) fn of(events: &[JournalEvent]) -> Vec<Handover> {
    let mut all = Vec::new();
    let mut begun: Option<Begun<'_>> = None;
    // What a container does first when it is told to stop.
    let mut readiness_away = None;
    let mut phase_since: Option<(&str, &JournalEvent)> = None;
    for event in events {
        match &event.entry {
            Entry::PhaseBegan { phase } => {
                if Phase::Terminate.is(phase) {
                    begun = Some(Begun::at(readiness_away.unwrap_or(event)));
                } else if !Phase::Run.is(phase) {
                    phase_since = Some((phase, event));
                }
            }
            Entry::PhaseEnded { phase, .. } => {
                let of_phase = phase_since.take_if(|(known, _)| known == phase);
                if let (Some((_, since)), Some(begun)) = (of_phase, &mut begun) {
                    begun.add(phase, since.ms_until(event));
                }
            }
            Entry::StepBegan { phase, step } if Phase::Run.is(phase) && Step::TakeReadinessAway.is(step) => {
                readiness_away = Some(event);
            }
            Entry::StepEnded { step, outcome: StepOutcome::Ok, took_ms, .. } => {
                if Step::GiveReadiness.is(step) {
                    all.extend(
                        begun.take().filter(|begun| begun.has_swapped).map(|begun| begun.until(event)),
                    );
                } else if let Some(begun) = &mut begun {
                    if Step::is_build(step) {
                        begun.build_ms += took_ms;
                    }
                    begun.has_swapped |= Step::is_unload(step);
                }
            }
            _ => {}
        }
    }
    all
}

impl<'a> Begun<'a> {
    fn at(from: &'a JournalEvent) -> Self {
        Self { from, build_ms: 0, install_ms: 0, swap_ms: 0, restore_ms: 0, has_swapped: false }
    }

    fn add(&mut self, phase: &str, took_ms: u64) {
        if Phase::Install.is(phase) {
            self.install_ms += took_ms;
        } else if Phase::Reload.is(phase) {
            self.swap_ms += took_ms;
        } else if Phase::RestoreSriov.is(phase) {
            self.restore_ms += took_ms;
        }
    }

    fn until(self, ready: &JournalEvent) -> Handover {
        Handover {
            from: self.from.at,
            took_ms: self.from.ms_until(ready),
            build_ms: self.build_ms,
            install_ms: self.install_ms.saturating_sub(self.build_ms),
            swap_ms: self.swap_ms,
            restore_ms: self.restore_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{began, ended, event};
    use super::*;

    fn phase_ended(milliseconds: u64, phase: &str) -> JournalEvent {
        event(milliseconds, Entry::PhaseEnded { phase: phase.into(), outcome: "done".into(), exit: 0 })
    }

    fn step(milliseconds: u64, phase: &str, step: &str, took_ms: u64) -> JournalEvent {
        let mut ended = ended(milliseconds, phase, step, StepOutcome::Ok, None);
        if let Entry::StepEnded { took_ms: took, .. } = &mut ended.entry {
            *took = took_ms;
        }
        ended
    }

    /// One container's end and the next one's way to readiness; with or without a swap.
    fn two_containers(with_swap: bool) -> Vec<JournalEvent> {
        let mut events = vec![
            began(1_000, "run", Some("take readiness away")),
            began(1_200, "terminate", None),
            phase_ended(1_300, "terminate"),
            phase_ended(1_400, "run"),
            began(3_000, "run", None),
            began(3_100, "install", None),
            step(63_000, "install", "have packages built by the sidecar in /shared", 59_000),
            phase_ended(64_100, "install"),
            began(64_200, "reload", None),
        ];
        if with_swap {
            events.push(step(65_000, "reload", "unload igb", 100));
        }
        events.extend([
            phase_ended(70_200, "reload"),
            began(70_300, "restore-sriov", None),
            phase_ended(90_300, "restore-sriov"),
            step(91_000, "run", "give readiness", 5),
        ]);
        events
    }

    #[test]
    fn what_took_how_long_is_told() {
        let events = two_containers(true);
        let handover = Handover {
            from: events[0].at,
            took_ms: 90_000,
            build_ms: 59_000,
            install_ms: 2_000,
            swap_ms: 6_000,
            restore_ms: 20_000,
        };
        assert_eq!(of(&events), [handover]);
        assert_eq!(of(&events)[0].rest_ms(), 3_000);
    }

    #[test]
    fn without_a_swap_nothing_was_handed_over() {
        assert_eq!(of(&two_containers(false)), []);
    }

    #[test]
    fn a_container_that_never_was_ready_hands_nothing_over() {
        let mut events = two_containers(true);
        events.pop();
        assert_eq!(of(&events), []);
    }
}

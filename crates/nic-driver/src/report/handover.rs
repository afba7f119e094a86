//! From one driver container to the next: how long the node had no verified driver of a container's, and what took how long.

use jiff::Timestamp;
use serde::Serialize;

use crate::state::{Effect, Entry, JournalEvent, Named, Phase, Step, StepOutcome};

/// The time from a driver container's request to stop until the node was ready under the next one, which has swapped the driver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Handover {
    /// When the first one was told to stop.
    #[schemars(with = "String")]
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
    let mut phase_since: Option<(&Named<Phase>, &JournalEvent)> = None;
    for event in events {
        match &event.entry {
            Entry::PhaseBegan { phase, .. } => match phase.known() {
                Some(Phase::Terminate) => begun = Some(Begun::at(readiness_away.unwrap_or(event))),
                Some(Phase::Run) => {}
                Some(Phase::Install | Phase::Build | Phase::Reload | Phase::RestoreSriov) | None => {
                    phase_since = Some((phase, event));
                }
            },
            Entry::PhaseEnded { phase, .. } => {
                let of_phase = phase_since.take_if(|(known, _)| *known == phase);
                if let (Some((_, since)), Some(begun)) = (of_phase, &mut begun) {
                    begun.add(phase, since.ms_until(event));
                }
            }
            Entry::StepBegan { phase, step }
                if phase.is(&Phase::Run) && step.is(&Step::TakeReadinessAway) =>
            {
                readiness_away = Some(event);
            }
            Entry::StepEnded {
                phase, step: Named::Known(step), outcome: StepOutcome::Ok, took_ms, ..
            } => {
                if *step == Step::GiveReadiness {
                    // Within the restore, which has not ended then.
                    let of_phase = phase_since.filter(|(known, _)| *known == phase);
                    if let (Some((_, since)), Some(begun)) = (of_phase, &mut begun) {
                        begun.add(phase, since.ms_until(event));
                    }
                    all.extend(
                        begun.take().filter(|begun| begun.has_swapped).map(|begun| begun.until(event)),
                    );
                } else if let Some(begun) = &mut begun {
                    match step.effect() {
                        Effect::Builds => begun.build_ms += took_ms,
                        Effect::TakesNicsAway | Effect::UnloadsDriver => begun.has_swapped = true,
                        Effect::BringsBack | Effect::None => {}
                    }
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

    fn add(&mut self, phase: &Named<Phase>, took_ms: u64) {
        match phase.known() {
            Some(Phase::Install) => self.install_ms += took_ms,
            Some(Phase::Reload) => self.swap_ms += took_ms,
            Some(Phase::RestoreSriov) => self.restore_ms += took_ms,
            Some(Phase::Build | Phase::Terminate | Phase::Run) | None => {}
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
    use crate::state::Purpose;

    fn phase_ended(milliseconds: u64, phase: Phase) -> JournalEvent {
        event(milliseconds, Entry::PhaseEnded { phase: phase.into(), outcome: "done".into(), exit: 0 })
    }

    fn step(milliseconds: u64, phase: Phase, step: Step, took_ms: u64) -> JournalEvent {
        let mut ended = ended(milliseconds, phase, step, StepOutcome::Ok, None);
        if let Entry::StepEnded { took_ms: took, .. } = &mut ended.entry {
            *took = took_ms;
        }
        ended
    }

    /// One container's end and the next one's way to readiness; with or without a swap.
    fn two_containers(swap: Option<Step>) -> Vec<JournalEvent> {
        let mut events = vec![
            began(1_000, Phase::Run, Some(Step::TakeReadinessAway)),
            began(1_200, Phase::Terminate, None),
            phase_ended(1_300, Phase::Terminate),
            phase_ended(1_400, Phase::Run),
            began(3_000, Phase::Run, None),
            began(3_100, Phase::Install, None),
            step(63_000, Phase::Install, Step::BuildInSidecar { folder: "/shared".into() }, 59_000),
            phase_ended(64_100, Phase::Install),
            began(64_200, Phase::Reload, None),
        ];
        events.extend(swap.map(|swap| step(65_000, Phase::Reload, swap, 100)));
        events.extend([
            phase_ended(70_200, Phase::Reload),
            began(70_300, Phase::RestoreSriov, None),
            phase_ended(90_300, Phase::RestoreSriov),
            step(91_000, Phase::Run, Step::GiveReadiness, 5),
        ]);
        events
    }

    fn unload() -> Step {
        Step::Unload { module: "igb".parse().unwrap() }
    }

    #[test]
    fn what_took_how_long_is_told() {
        let events = two_containers(Some(unload()));
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

    /// That is where `restore-sriov` gives it.
    #[test]
    fn a_restore_that_gives_readiness_counts_until_then() {
        let mut events = two_containers(Some(unload()));
        events.truncate(events.len() - 2);
        events.push(step(88_000, Phase::RestoreSriov, Step::GiveReadiness, 5));
        let [handover] = &of(&events)[..] else { panic!() };
        assert_eq!((handover.took_ms, handover.restore_ms, handover.rest_ms()), (87_000, 17_700, 2_300));
    }

    #[test]
    fn without_a_swap_nothing_was_handed_over() {
        assert_eq!(of(&two_containers(None)), []);
        let hook = Step::Run { command: "pre-stop-hook.sh".into(), purpose: Purpose::Hook };
        assert_eq!(of(&two_containers(Some(hook))), []);
    }

    #[test]
    fn the_init_script_swaps_as_well() {
        let restart = Step::Run { command: "openibd restart".into(), purpose: Purpose::InitScript };
        assert_eq!(of(&two_containers(Some(restart))).len(), 1);
    }

    #[test]
    fn a_container_that_never_was_ready_hands_nothing_over() {
        let mut events = two_containers(Some(unload()));
        events.pop();
        assert_eq!(of(&events), []);
    }
}

//! When a probe runs, and what its results amount to.
//!
//! The rules are those of a kubelet's prober (`pkg/kubelet/prober/worker.go`): a worker of each probe ticks with the probe's
//! period from the pod's start on, through all instances of the container, and decides at each tick. Times are durations
//! since some moment, so that the rules need no clock.

use std::time::Duration;

use lab_guest::pod::{Probe, ProbeKind};

/// Ticks with a period. Of the ticks that pass while a probe runs, one is made up for.
#[derive(Debug)]
pub(super) struct Ticker {
    period: Duration,
    /// The last tick that was taken.
    last: Duration,
}

impl Ticker {
    pub(super) fn new(period: u32, now: Duration) -> Self {
        Self { period: Duration::from_secs(period.max(1).into()), last: now }
    }

    /// How long until the next tick.
    pub(super) fn wait(&self, now: Duration) -> Duration {
        (self.last + self.period).saturating_sub(now)
    }

    /// Takes the tick that has come, and forgets those after it that have passed too.
    pub(super) fn take(&mut self, now: Duration) {
        while self.last + self.period <= now {
            self.last += self.period;
        }
    }
}

/// What a worker sees of its container.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    /// Which instance of the container runs.
    pub(super) instance: u32,
    /// For how long it has run.
    pub(super) age: Duration,
    /// Whether its startup probe has passed, or it has none.
    pub(super) is_started: bool,
    /// Whether the pod is being deleted.
    pub(super) is_deleted: bool,
}

/// A probe's results so far.
#[derive(Debug)]
pub(super) struct Worker {
    kind: ProbeKind,
    probe: Probe,
    instance: Option<u32>,
    /// Nothing more is asked of an instance that is to be killed.
    is_on_hold: bool,
    last: Option<bool>,
    run: u32,
}

impl Worker {
    pub(super) fn new(kind: ProbeKind, probe: Probe) -> Self {
        Self { kind, probe, instance: None, is_on_hold: false, last: None, run: 0 }
    }

    /// Whether the probe is to run now.
    pub(super) fn is_due(&mut self, seen: &Seen) -> bool {
        if self.instance.replace(seen.instance) != Some(seen.instance) {
            self.is_on_hold = false;
        }
        let of_start = self.kind == ProbeKind::Startup;
        let is_stopped = seen.is_deleted && self.kind != ProbeKind::Readiness;
        // Seconds, as the kubelet counts them.
        let is_early = seen.age.as_secs() < self.probe.delay.into();
        !self.is_on_hold && !is_stopped && !is_early && seen.is_started != of_start
    }

    /// Counts a result. Returns it when it has come as often in a row as it takes to count.
    pub(super) fn count(&mut self, passed: bool) -> Option<bool> {
        self.run = if self.last == Some(passed) { self.run + 1 } else { 1 };
        self.last = Some(passed);
        let threshold = if passed { self.probe.successes } else { self.probe.failures };
        if self.run < threshold {
            return None;
        }
        if !passed && self.kind != ProbeKind::Readiness {
            self.is_on_hold = true;
            self.run = 0;
        }
        Some(passed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn worker(kind: ProbeKind, delay: u32, failures: u32, successes: u32) -> Worker {
        let command = vec!["true".to_owned()];
        Worker::new(kind, Probe { command, delay, period: 10, timeout: 1, failures, successes })
    }

    fn seen(instance: u32, age: u64, is_started: bool) -> Seen {
        Seen { instance, age: seconds(age), is_started, is_deleted: false }
    }

    #[test]
    fn a_late_tick_is_made_up_for_once() {
        let mut ticker = Ticker::new(10, seconds(100));
        assert_eq!(ticker.wait(seconds(103)), seconds(7));
        ticker.take(seconds(103));
        assert_eq!(ticker.wait(seconds(103)), seconds(7), "nothing is taken early");
        // The probe ran from 110 to 135: the tick at 120 is due at once, that at 130 is lost.
        ticker.take(seconds(110));
        assert_eq!(ticker.wait(seconds(135)), seconds(0));
        ticker.take(seconds(135));
        assert_eq!(ticker.wait(seconds(135)), seconds(5));
    }

    #[test]
    fn the_startup_probe_goes_before_the_others() {
        for (kind, before, after) in [
            (ProbeKind::Startup, true, false),
            (ProbeKind::Liveness, false, true),
            (ProbeKind::Readiness, false, true),
        ] {
            let mut worker = worker(kind, 0, 1, 1);
            assert_eq!(worker.is_due(&seen(0, 5, false)), before, "{kind:?} before the start");
            assert_eq!(worker.is_due(&seen(0, 5, true)), after, "{kind:?} after the start");
        }
    }

    #[test]
    fn the_delay_counts_from_the_instance_s_start() {
        let mut worker = worker(ProbeKind::Startup, 10, 1, 1);
        assert!(!worker.is_due(&seen(0, 9, false)));
        assert!(worker.is_due(&seen(0, 10, false)));
        assert!(!worker.is_due(&seen(1, 0, false)));
    }

    #[test]
    fn results_count_at_their_thresholds() {
        let mut worker = worker(ProbeKind::Readiness, 0, 3, 2);
        let results = [true, true, true, false, false, true, false, false, false, false];
        let verdicts = results.map(|passed| worker.count(passed));
        let expected = [None, Some(true), Some(true), None, None, None, None, None, Some(false), Some(false)];
        assert_eq!(verdicts, expected);
        assert!(worker.is_due(&seen(0, 0, true)), "a container that is not ready may become so");
    }

    #[test]
    fn an_instance_that_has_failed_is_not_asked_again_and_the_next_is_asked_anew() {
        for kind in [ProbeKind::Startup, ProbeKind::Liveness] {
            let mut worker = worker(kind, 0, 2, 1);
            let is_started = kind == ProbeKind::Liveness;
            assert!(worker.is_due(&seen(0, 1, is_started)));
            assert_eq!((worker.count(false), worker.count(false)), (None, Some(false)));
            assert!(!worker.is_due(&seen(0, 1, is_started)), "{kind:?}");
            assert!(worker.is_due(&seen(1, 1, is_started)), "{kind:?}");
            assert_eq!((worker.count(false), worker.count(false)), (None, Some(false)));
        }
    }

    #[test]
    fn only_readiness_is_asked_for_during_deletion() {
        for kind in [ProbeKind::Startup, ProbeKind::Liveness, ProbeKind::Readiness] {
            let seen = Seen { is_deleted: true, ..seen(0, 1, kind != ProbeKind::Startup) };
            assert_eq!(worker(kind, 0, 1, 1).is_due(&seen), kind == ProbeKind::Readiness, "{kind:?}");
        }
    }
}

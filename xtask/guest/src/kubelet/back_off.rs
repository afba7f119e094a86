//! When a container that ended is started again.
//!
//! The rule is that of a kubelet (client-go, `util/flowcontrol/backoff.go`, with kubelet's 10 s and 300 s): the first restart
//! is at once, each further one later after the end, and after a long life the delays begin anew. Times are durations since
//! some moment, so that the rule needs no clock.

use std::time::Duration;

/// The first delay.
const FIRST: Duration = Duration::from_secs(10);
/// The longest delay.
const LAST: Duration = Duration::from_secs(300);
/// A container that ran longer than this has earned that the delays begin anew.
const STABLE: Duration = Duration::from_secs(2 * LAST.as_secs());

/// The delays of one container.
#[derive(Debug, Default)]
pub(super) struct BackOff {
    entry: Option<Entry>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    delay: Duration,
    /// When the container was last allowed to start.
    updated: Duration,
}

impl BackOff {
    /// How long a container has to wait before it is started again; `ended` is the end that it is judged by. Without a wait
    /// it is taken as started now, and the next delay is longer.
    pub(super) fn wait(&mut self, ended: Duration, now: Duration) -> Option<Duration> {
        let entry = self.entry.filter(|entry| ended.saturating_sub(entry.updated) <= STABLE);
        let wait =
            entry.map(|entry| (ended + entry.delay).saturating_sub(now)).filter(|wait| !wait.is_zero());
        if wait.is_none() {
            let delay = entry.map_or(FIRST, |entry| LAST.min(entry.delay * 2));
            self.entry = Some(Entry { delay, updated: now });
        }
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// The waits of a container that always ends `life` seconds after its start.
    fn waits(life: u64, restarts: usize) -> Vec<u64> {
        let (mut back_off, mut now) = (BackOff::default(), seconds(0));
        let mut waits = Vec::new();
        for _ in 0..restarts {
            now += seconds(life);
            let wait = back_off.wait(now, now).unwrap_or_default();
            waits.push(wait.as_secs());
            if !wait.is_zero() {
                let ended = now;
                now += wait;
                assert_eq!(back_off.wait(ended, now), None, "the wait is over");
            }
        }
        waits
    }

    #[test]
    fn the_first_restart_is_at_once_and_the_others_wait_longer_each_time() {
        assert_eq!(waits(1, 9), [0, 10, 20, 40, 80, 160, 300, 300, 300]);
    }

    #[test]
    fn a_long_life_lets_the_delays_begin_anew() {
        assert_eq!(waits(600, 3), [0, 10, 20]);
        assert_eq!(waits(601, 3), [0, 0, 0]);
    }

    #[test]
    fn the_wait_counts_from_the_end() {
        let mut back_off = BackOff::default();
        assert_eq!(back_off.wait(seconds(5), seconds(5)), None);
        assert_eq!(back_off.wait(seconds(6), seconds(9)), Some(seconds(7)));
        assert_eq!(back_off.wait(seconds(6), seconds(15)), Some(seconds(1)));
        assert_eq!(back_off.wait(seconds(6), seconds(16)), None);
        assert_eq!(back_off.wait(seconds(17), seconds(17)), Some(seconds(20)));
    }
}

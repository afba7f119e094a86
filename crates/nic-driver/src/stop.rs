//! Being asked to stop: noted at once, obeyed where nothing is left half done.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;

/// Whether, and since when, this process has been asked to stop. Clones are the same request.
///
/// A phase looks at it before it begins what must not be left half done; from there on it goes on to its end.
#[derive(Debug, Clone)]
pub struct StopRequest {
    at: watch::Sender<Option<Instant>>,
    /// Whether the first change was begun.
    change_begun: Arc<AtomicBool>,
}

/// A phase that was asked to stop before it had changed anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("stopped as asked; what runs was not changed")]
pub struct Interrupted;

impl Default for StopRequest {
    fn default() -> Self {
        Self { at: watch::Sender::new(None), change_begun: Arc::default() }
    }
}

impl StopRequest {
    /// Asks to stop. Returns whether this was the first time.
    #[must_use]
    pub fn request(&self) -> bool {
        self.at.send_if_modified(|at| {
            let first = at.is_none();
            at.get_or_insert_with(Instant::now);
            first
        })
    }

    /// Asks to stop because the terminal or the session that the command was started from is gone (SIGHUP). Before the first
    /// change that is a request like any other. After it nobody has decided anything: the session may have gone with
    /// the very NIC that is being swapped. Returns whether it counts.
    #[must_use]
    pub fn hang_up(&self) -> bool {
        if self.change_begun.load(Ordering::SeqCst) {
            return false;
        }
        // One more request is no second one: only a person's or a supervisor's ends the process at once.
        let _ = self.request();
        true
    }

    /// An error when it has been asked for; otherwise the first change is begun.
    pub fn begin_change(&self) -> Result<(), Interrupted> {
        self.check()?;
        self.change_begun.store(true, Ordering::SeqCst);
        Ok(())
    }

    /// Since when it has been asked for.
    #[must_use]
    pub fn since(&self) -> Option<Instant> {
        *self.at.borrow()
    }

    /// An error when it has been asked for: to be called where a phase can still stop cleanly.
    pub fn check(&self) -> Result<(), Interrupted> {
        if self.since().is_some() { Err(Interrupted) } else { Ok(()) }
    }

    /// Ends when it is asked to stop: for what is told so by a future.
    pub async fn requested(&self) {
        let mut at = self.at.subscribe();
        // The sender lives as long as `self`, so that an error cannot come.
        let _asked = at.wait_for(Option::is_some).await;
    }

    /// Waits for `work`, or ends when it is asked to stop: for waits that change nothing.
    pub async fn or_stop_request<T>(&self, work: impl Future<Output = T>) -> Result<T, Interrupted> {
        tokio::select! {
            biased;
            () = self.requested() => Err(Interrupted),
            done = work => Ok(done),
        }
    }
}

/// What is left of a grace period after `elapsed`; `None` where there is no period.
#[must_use]
pub(crate) fn time_left(grace: Option<Duration>, elapsed: Duration) -> Option<Duration> {
    grace.map(|grace| grace.saturating_sub(elapsed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_is_seen_by_all_clones_and_ends_waits() {
        let stop = StopRequest::default();
        assert_eq!(stop.check(), Ok(()));
        assert_eq!(stop.or_stop_request(async { 7 }).await, Ok(7));
        let asked = stop.clone();
        let (waited, ()) = tokio::join!(stop.or_stop_request(std::future::pending::<()>()), async {
            assert!(asked.request());
        });
        assert_eq!(waited, Err(Interrupted));
        assert!(!asked.request(), "only the first is the first");
        assert_eq!(stop.check(), Err(Interrupted));
        assert_eq!(stop.or_stop_request(async { 7 }).await, Err(Interrupted));
    }

    #[test]
    fn a_hang_up_counts_until_the_first_change() {
        let stop = StopRequest::default();
        assert!(stop.hang_up());
        assert!(stop.hang_up(), "it is no second request");
        assert_eq!(stop.begin_change(), Err(Interrupted));

        let stop = StopRequest::default();
        assert_eq!(stop.begin_change(), Ok(()));
        assert!(!stop.clone().hang_up());
        assert_eq!(stop.since(), None);
        assert!(stop.request(), "a request is still heard");
    }

    #[test]
    fn a_grace_period_runs_out() {
        let second = Duration::from_secs(1);
        assert_eq!(time_left(None, second), None);
        assert_eq!(time_left(Some(second * 90), second * 10), Some(second * 80));
        assert_eq!(time_left(Some(second * 90), second * 100), Some(Duration::ZERO));
    }
}

//! Work on files that takes long, beside the runtime, and that ends soon when nobody waits for it any more.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Mutex;

/// Whether the work is still wanted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Abort(Arc<AtomicBool>);

impl Abort {
    /// An error when nobody waits for the work any more. Nobody sees it either.
    pub(crate) fn check(&self) -> io::Result<()> {
        match self.0.load(Ordering::Relaxed) {
            false => Ok(()),
            true => Err(io::Error::other("nobody waits for this any more")),
        }
    }
}

/// Ends the work when the future that waits for it is dropped.
struct AbortOnDrop(Abort);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

/// Does such work, one after the other: what was dropped may still be at its last piece.
#[derive(Debug, Clone, Default)]
pub(crate) struct Blocking(Arc<Mutex<()>>);

impl Blocking {
    /// Does `work` in the runtime's pool of threads for what blocks. Dropping the future ends it at its next look at
    /// `Abort`.
    pub(crate) async fn run<T: Send + 'static>(&self, work: impl FnOnce(&Abort) -> T + Send + 'static) -> T {
        let turn = self.0.clone().lock_owned().await;
        let guard = AbortOnDrop(Abort::default());
        let abort = guard.0.clone();
        let work = move || {
            let _turn = turn;
            work(&abort)
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(done) => done,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // Only a runtime that ends cancels it, and then this future is not asked again.
                Err(_) => std::future::pending().await,
            },
        }
    }

    /// Waits until nothing is done any more.
    pub(crate) async fn ended(&self) {
        drop(self.0.lock().await);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn what_nobody_waits_for_ends_before_the_next_begins() {
        let (blocking, log) = (Blocking::default(), Arc::new(std::sync::Mutex::new(Vec::new())));
        let first = {
            let log = log.clone();
            blocking.run(move |abort| {
                while abort.check().is_ok() {
                    std::thread::sleep(Duration::from_millis(1));
                }
                std::thread::sleep(Duration::from_millis(30));
                log.lock().unwrap().push("first");
            })
        };
        assert!(tokio::time::timeout(Duration::from_millis(20), first).await.is_err());
        let second = log.clone();
        blocking.run(move |_| second.lock().unwrap().push("second")).await;
        blocking.ended().await;
        assert_eq!(*log.lock().unwrap(), ["first", "second"]);
    }
}

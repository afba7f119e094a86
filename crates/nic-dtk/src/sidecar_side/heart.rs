//! The sign of life, beside whatever else the sidecar does.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use nic_host::{Host, error_chain};
use tokio::time::{Instant, sleep_until};

use crate::DtkEnv;
use crate::beneath::FolderError;
use crate::request::AttemptId;
use crate::sidecar_side::Reporter;
use crate::sidecar_side::order::{Folders, OrderKey};
use crate::status::{BuildProgress, SidecarState, StatusWriter};
use crate::wait::Watch;

pub(super) struct Heart<'a> {
    pub(super) host: &'a Host,
    pub(super) env: &'a DtkEnv,
    beat: Duration,
    status: StatusWriter,
    next: Instant,
}

impl<'a> Heart<'a> {
    pub(super) fn new(host: &'a Host, env: &'a DtkEnv, beat: Duration, status: StatusWriter) -> Self {
        Self { host, env, beat, status, next: Instant::now() + beat }
    }

    pub(super) fn folders(&self) -> Result<Folders, FolderError> {
        Folders::open(self.host, self.env)
    }

    /// When the next sign of life is due.
    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// Says that something else is done from now on, and why where there is a reason.
    pub(super) fn enter(&mut self, state: SidecarState, attempt: Option<&AttemptId>, reason: &str) {
        let progress = BuildProgress { last_line: reason.to_owned(), ..BuildProgress::default() };
        let told =
            self.folders().and_then(|folders| self.status.enter(&folders.own, state, attempt, &progress));
        self.told(told);
    }

    pub(super) fn beat_when_due(&mut self, progress: Option<&BuildProgress>) {
        if Instant::now() >= self.next {
            let told = self.folders().and_then(|folders| self.status.beat(&folders.own, progress));
            self.told(told);
        }
    }

    /// A build is not ended for the sake of telling how far it is.
    fn told(&mut self, told: Result<(), FolderError>) {
        if let Err(error) = told {
            tracing::warn!(error = %error_chain(&error), "a sign of life for the driver container is missed");
        }
        self.next = Instant::now() + self.beat;
    }

    /// Does `work`, as long as the order with this key stands. `None` when it does not any more.
    pub(super) async fn beside<T>(
        &mut self,
        watch: &Watch,
        key: &OrderKey,
        reporter: &Reporter,
        work: impl Future<Output = T>,
    ) -> Result<Option<T>, FolderError> {
        let mut work = pin!(work);
        loop {
            let folders = self.folders()?;
            watch.arm(&folders.kernels);
            if folders.key(self.env)?.as_ref() != Some(key) {
                return Ok(None);
            }
            tokio::select! {
                biased;
                done = &mut work => return Ok(Some(done)),
                () = watch.changed() => {}
                () = sleep_until(self.next) => {}
            }
            self.beat_when_due(Some(&reporter.progress()));
        }
    }
}

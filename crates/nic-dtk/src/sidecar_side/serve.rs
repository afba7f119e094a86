use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use nic_host::{Host, error_chain};
use tokio::time::{Instant, sleep_until};

use crate::DtkEnv;
use crate::beneath::FolderError;
use crate::blocking::Blocking;
use crate::request::{AttemptId, SCHEMA};
use crate::result::{BuildFailed, BuildResult, Outcome};
use crate::shared_folder::RESULT_FILE;
use crate::sidecar_side::attempt::{collect, prepare, release_reserve};
use crate::sidecar_side::heart::Heart;
use crate::sidecar_side::order::{Folders, Order, OrderKey, flag_name};
use crate::sidecar_side::{BuildFailure, BuildPlan, Reporter, SidecarOptions};
use crate::status::{SidecarState, StatusWriter};
use crate::wait::Watch;

/// The longest pause before a build is tried again, as a multiple of the first.
const LONGEST_RETRY: u32 = 16;

/// The sidecar cannot go on. A build that fails is no reason: that is written down for the driver container.
#[derive(Debug, thiserror::Error)]
pub enum SidecarError {
    /// The shared folder cannot be used.
    #[error("cannot use the folder that is shared with the driver container")]
    Folder(#[from] FolderError),
    /// The kernel gives no random numbers for this process's name.
    #[error("cannot name this sidecar")]
    Random(#[source] std::io::Error),
}

/// Waits for orders and has them built, until `stop` is ready. That is the good end.
///
/// An order is the start flag, with what lies beside it. When it is built, the result is written, the done flag put, and
/// then the start flag taken off. When it fails, that is written down, and another order is waited for; for the
/// incumbent's driver container, which reads none of it and asks once, the same one is tried again after a while.
///
/// `build` runs what the plan says. It must not block between its awaits for long: the sign of life is given by the same
/// task. Signals are the caller's, also as PID 1.
pub async fn serve<B>(
    host: &Host,
    env: &DtkEnv,
    options: &SidecarOptions,
    build: B,
    stop: impl Future<Output = ()>,
) -> Result<(), SidecarError>
where
    B: AsyncFn(BuildPlan, Reporter) -> Result<(), BuildFailure>,
{
    let folders = Folders::open(host, env)?;
    let instance = AttemptId::new().map_err(SidecarError::Random)?;
    let status = StatusWriter::open(&folders.own, instance)?;
    let heart = Heart::new(host, env, options.beat, status);
    let watch = Watch::new(options.recheck);
    let blocking = Blocking::default();
    let mut sidecar = Sidecar { options, build, heart, watch, blocking, failed: None };
    let ended = tokio::select! {
        biased;
        () = stop => Ok(()),
        failed = sidecar.serve() => failed.map(|never| match never {}),
    };
    sidecar.blocking.ended().await;
    // The driver container need not find out by itself.
    sidecar.heart.enter(SidecarState::Stopped, None, "");
    ended
}

struct Sidecar<'a, B> {
    options: &'a SidecarOptions,
    build: B,
    heart: Heart<'a>,
    watch: Watch,
    blocking: Blocking,
    failed: Option<FailedOrder>,
}

/// An order that is left alone.
struct FailedOrder {
    key: OrderKey,
    reason: String,
    pause: Duration,
    /// Until when; `None` where the driver container asks anew when it wants it again.
    until: Option<Instant>,
}

impl FailedOrder {
    fn is_left_alone(&self, key: &OrderKey) -> bool {
        self.key == *key && self.until.is_none_or(|until| Instant::now() < until)
    }
}

/// How a build ended.
enum Ended {
    Built(Outcome),
    Failed(String),
    /// Something else is asked for, or nothing any more.
    Superseded,
}

impl<B> Sidecar<'_, B>
where
    B: AsyncFn(BuildPlan, Reporter) -> Result<(), BuildFailure>,
{
    async fn serve(&mut self) -> Result<Infallible, SidecarError> {
        loop {
            let order = self.next_order().await?;
            let reporter = Reporter::default();
            let ended = match self.built_before(&order).await? {
                Some(outcome) => Ended::Built(outcome),
                None => self.attempt(&order, &reporter).await?,
            };
            match ended {
                Ended::Built(outcome) => self.record_built(&order, outcome)?,
                Ended::Failed(reason) => self.record_failed(&order, reason, &reporter)?,
                Ended::Superseded => {
                    tracing::info!("what was being built is not asked for any more");
                }
            }
        }
    }

    /// Waits until the start flag is there, and something is to be done about it.
    async fn next_order(&mut self) -> Result<Order, SidecarError> {
        let mut told = None;
        loop {
            let folders = self.heart.folders()?;
            self.watch.arm(&folders.kernels);
            let key = folders.key(self.heart.env)?;
            let left_alone = key.as_ref().and_then(|key| {
                let failed = self.failed.as_ref().filter(|failed| failed.is_left_alone(key));
                failed.map(|failed| (SidecarState::Failed, key.attempt.clone(), failed.reason.clone()))
            });
            let now = match (left_alone, key) {
                (Some(failed), _) => failed,
                (None, None) => (SidecarState::Waiting, None, String::new()),
                (None, Some(key)) => {
                    let order = folders.order(self.heart.env, key)?;
                    match order.earlier_failure() {
                        None => return Ok(order),
                        Some(reason) => (SidecarState::Failed, order.key.attempt.clone(), reason),
                    }
                }
            };
            if told.as_ref() != Some(&now) {
                self.heart.enter(now.0, now.1.as_ref(), &now.2);
                told = Some(now);
            }
            let again = self.failed.as_ref().and_then(|failed| failed.until);
            let wake =
                self.heart.next().min(again.filter(|at| *at > Instant::now()).unwrap_or(self.heart.next()));
            tokio::select! {
                () = self.watch.changed() => {}
                () = sleep_until(wake) => {}
            }
            self.heart.beat_when_due(None);
        }
    }

    /// What an earlier sidecar has built of this very order, when it was killed before it had said so to the end.
    async fn built_before(&mut self, order: &Order) -> Result<Option<Outcome>, SidecarError> {
        let Some(request) = &order.request else {
            // The incumbent's driver container asks for nothing when the done flag is there.
            return Ok(order.done_flag.then(|| Outcome::Built { packages: Vec::new() }));
        };
        let ours = order.result.as_ref().filter(|result| result.digest == Some(request.digest));
        if let Some(BuildResult { outcome: recorded @ Outcome::Built { .. }, .. }) = ours
            && let Ok(found) = collect(self.heart.host, order, self.options, &self.blocking).await
            && found == *recorded
        {
            tracing::info!("an earlier sidecar has built what is asked for");
            return Ok(Some(found));
        }
        if order.done_flag {
            self.heart.folders()?.kernels.remove(&flag_name(&order.env.done_flag))?;
        }
        Ok(None)
    }

    /// Checks and builds, with a sign of life now and then, and an eye on what is asked for.
    async fn attempt(&mut self, order: &Order, reporter: &Reporter) -> Result<Ended, SidecarError> {
        let Self { options, build, heart, watch, blocking, .. } = self;
        let (key, host) = (&order.key, heart.host);
        heart.enter(SidecarState::Checking, key.attempt.as_ref(), "");
        let plan = match heart.beside(watch, key, reporter, prepare(host, order, options, blocking)).await? {
            Some(Ok(plan)) => plan,
            Some(Err(error)) => return Ok(Ended::Failed(error_chain(&error))),
            None => return Ok(Ended::Superseded),
        };
        tracing::info!(folder = %plan.folder.display(), "building the packages");
        heart.enter(SidecarState::Building, key.attempt.as_ref(), "");
        let work = async {
            build(plan, reporter.clone()).await.map_err(|failure| failure.reason)?;
            collect(host, order, options, blocking).await.map_err(|error| error_chain(&error))
        };
        Ok(match heart.beside(watch, key, reporter, work).await? {
            Some(Ok(outcome)) => Ended::Built(outcome),
            Some(Err(reason)) => Ended::Failed(reason),
            None => Ended::Superseded,
        })
    }

    fn record_built(&mut self, order: &Order, outcome: Outcome) -> Result<(), SidecarError> {
        let folders = self.heart.folders()?;
        release_reserve(&folders.own)?;
        if folders.key(self.heart.env)?.as_ref() != Some(&order.key) {
            return Ok(());
        }
        self.failed = None;
        if order.request.is_some() {
            folders.own.write_json(RESULT_FILE, &result(order, outcome))?;
        } else {
            // A driver container of ours that finds the flag later must not take another build's result for its own.
            folders.own.remove(RESULT_FILE)?;
        }
        // On, and only then the other one off: a driver container that starts in between finds one of them at least.
        folders.kernels.put_flag(&flag_name(&order.env.done_flag))?;
        self.heart.enter(SidecarState::Built, order.key.attempt.as_ref(), "");
        if let Err(error) = folders.kernels.remove(&flag_name(&order.env.start_flag)) {
            // By the contract no failure: the done flag is what counts.
            let error = error_chain(&error);
            tracing::warn!(%error, "the start flag cannot be taken off");
            self.leave_alone(order, error);
        }
        Ok(())
    }

    fn record_failed(
        &mut self,
        order: &Order,
        reason: String,
        reporter: &Reporter,
    ) -> Result<(), SidecarError> {
        tracing::error!(reason, "the build failed");
        let folders = self.heart.folders()?;
        self.leave_alone(order, reason.clone());
        let failed = BuildFailed { reason, log_tail: reporter.tail() }.printable();
        let released = release_reserve(&folders.own);
        if folders.key(self.heart.env)?.as_ref() != Some(&order.key) {
            return Ok(());
        }
        let written = released
            .and_then(|()| folders.own.write_json(RESULT_FILE, &result(order, Outcome::Failed(failed))));
        match written {
            // The reason is in the status, too, which needs no space.
            Err(error) if error.is_full_disk() => {
                let error = error_chain(&error);
                tracing::warn!(%error, "the end of the build's log cannot be kept for the driver container");
                Ok(())
            }
            written => Ok(written?),
        }
    }

    /// Leaves the order alone: until another one is asked for, or, where the driver container never asks again, for a
    /// while, longer each time.
    fn leave_alone(&mut self, order: &Order, reason: String) {
        let retry = self.options.retry;
        let pause = match &self.failed {
            Some(failed) if failed.key == order.key => (failed.pause * 2).min(retry * LONGEST_RETRY),
            _ => retry,
        };
        let until = order.key.attempt.is_none().then(|| Instant::now() + pause);
        if until.is_some() {
            tracing::info!(?pause, "the same will be tried again, unless something else is asked for");
        }
        self.failed = Some(FailedOrder { key: order.key.clone(), reason, pause, until });
    }
}

fn result(order: &Order, outcome: Outcome) -> BuildResult {
    BuildResult {
        schema: SCHEMA,
        attempt: order.key.attempt.clone(),
        digest: order.request.as_ref().map(|request| request.digest),
        outcome,
    }
}

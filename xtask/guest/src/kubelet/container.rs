//! The life of a container of a pod: instance after instance, until the pod is deleted.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use lab_guest::pod::{Container, ProbeKind};
use rustix::process::Signal;

use super::back_off::BackOff;
use super::events::{End, Events, What};
use super::instance::{Instance, Place};
use super::schedule::{Seen, Ticker};

/// How long the kernel may take to end what was killed.
const PATIENCE: Duration = Duration::from_secs(120);
/// A kubelet leaves each container as much, however short its pod's grace period is (`minimumGracePeriodInSeconds`).
const LEAST_GRACE: Duration = Duration::from_secs(2);

/// A container, as its threads share it.
#[derive(Debug)]
pub(super) struct Life {
    pub(super) container: Container,
    pub(super) place: Place,
    grace: Duration,
    events: Arc<Events>,
    /// When the pod was started; times are counted from here.
    begin: Instant,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    running: Option<Running>,
    /// Which instance was last started, or tried to.
    number: u32,
    /// How often an instance has passed its start.
    starts: u64,
    last: Option<Last>,
    is_deleted: bool,
    /// Nothing runs any more, and nothing will.
    is_gone: bool,
    /// What the kubelet itself could not do.
    troubles: Vec<String>,
}

#[derive(Debug)]
struct Running {
    instance: Arc<Instance>,
    since: Duration,
    is_started: bool,
    /// What its readiness probe says.
    is_found_ready: bool,
    stop: Option<Stop>,
}

/// An instance was told to stop.
#[derive(Debug, Clone, Copy)]
struct Stop {
    at: Duration,
    was_killed: bool,
}

/// How the last instance ended.
#[derive(Debug, Clone)]
pub(super) struct Last {
    pub(super) end: End,
    pub(super) message: String,
    /// How long it took from SIGTERM on, if the kubelet stopped it.
    pub(super) stopped_in: Option<Duration>,
    /// Whether it had to be killed.
    pub(super) was_killed: bool,
}

impl Life {
    pub(super) fn new(container: Container, place: Place, grace: u32, events: Arc<Events>) -> Self {
        let grace = LEAST_GRACE.max(Duration::from_secs(grace.into()));
        let (state, changed) = Default::default();
        Self { container, place, grace, events, begin: Instant::now(), state, changed }
    }

    /// Starts instance after instance, and returns when the pod is deleted and nothing runs any more.
    pub(super) fn live(&self) {
        let mut back_off = BackOff::default();
        let mut before = None;
        for number in 0.. {
            if self.lock().is_deleted {
                break;
            }
            let was_stopped = self.live_once(number);
            let ended = self.now();
            // A kubelet that stops a container starts it again in one go, and judges it by what it knew when it began to.
            let judged_by = if was_stopped { before } else { Some(ended) };
            before = Some(ended);
            if judged_by.is_some_and(|end| back_off.wait(end, self.now()).is_some()) {
                while let Some(wait) = back_off.wait(ended, self.now()) {
                    self.note(number, What::BackOff(wait));
                    self.wait_for(wait, |state| state.is_deleted);
                    if self.lock().is_deleted {
                        break;
                    }
                }
            }
        }
        self.change(|state| state.is_gone = true);
    }

    /// One instance, from its start to its end. Returns whether the kubelet has stopped it.
    fn live_once(&self, number: u32) -> bool {
        self.change(|state| state.number = number);
        let instance = match Instance::start(&self.place, &self.container, number) {
            Ok(instance) => Arc::new(instance),
            Err(error) => {
                let end = End::NotStarted(format!("{error:#}"));
                self.note(number, What::Ended(end.clone()));
                let last = Last { message: end.to_string(), end, stopped_in: None, was_killed: false };
                self.change(|state| state.last = Some(last));
                return false;
            }
        };
        self.note(number, What::Started);
        self.change(|state| {
            let is_started = !self.has_probe(ProbeKind::Startup);
            state.starts += u64::from(is_started);
            state.running = Some(Running {
                instance: Arc::clone(&instance),
                since: self.now(),
                is_started,
                is_found_ready: false,
                stop: None,
            });
        });
        let end = instance.wait();
        let at = self.now();
        let ended = end.and_then(|end| {
            instance.close()?;
            let message = instance.termination_message()?;
            instance.remove()?;
            Ok((end, message))
        });
        match ended {
            Ok((end, message)) => {
                self.note(number, What::Ended(end.clone()));
                self.change(|state| {
                    let stop = state.running.take().and_then(|running| running.stop);
                    let stopped_in = stop.map(|stop| at.saturating_sub(stop.at));
                    let was_killed = stop.is_some_and(|stop| stop.was_killed);
                    state.last = Some(Last { end, message, stopped_in, was_killed });
                    stop.is_some()
                })
            }
            Err(error) => {
                self.trouble(&error);
                self.change(|state| {
                    state.running = None;
                    // Whatever is left of it would be in the way of the next one.
                    state.is_deleted = true;
                });
                false
            }
        }
    }

    /// Stops an instance, unless it has been told to already, and waits for its end: SIGTERM to PID 1, and SIGKILL to all
    /// after the grace period.
    pub(super) fn stop(&self, number: u32, why: &str) -> anyhow::Result<()> {
        let at = self.now();
        let instance = self.change(|state| {
            let running = state.running.as_mut().filter(|running| running.instance.number == number)?;
            if running.stop.is_some() {
                return None;
            }
            running.stop = Some(Stop { at, was_killed: false });
            Some(Arc::clone(&running.instance))
        });
        if let Some(instance) = instance {
            self.note(number, What::ToldToStop(why.to_owned()));
            instance.tell_to_stop()?;
            if self.wait_for(self.grace, |state| !state.runs(number)) {
                return Ok(());
            }
            self.note(number, What::Killed);
            self.change(|state| {
                if let Some(stop) = state.running.as_mut().and_then(|running| running.stop.as_mut()) {
                    stop.was_killed = true;
                }
            });
            instance.kill_all()?;
        }
        if !self.wait_for(self.grace + PATIENCE, |state| !state.runs(number)) {
            bail!("container {} does not end", self.container.name);
        }
        Ok(())
    }

    /// From now on no instance is started.
    pub(super) fn end_restarts(&self) {
        self.change(|state| state.is_deleted = true);
    }

    /// Stops what runs, for the pod is deleted ([`Life::end_restarts`]), and tells how the container ended last.
    pub(super) fn delete(&self) -> anyhow::Result<Last> {
        // An instance that is being started is stopped when it has been.
        let limit = self.grace + PATIENCE;
        self.wait_for(limit, |state| state.is_gone || state.running.is_some());
        let number = self.lock().running.as_ref().map(|running| running.instance.number);
        if let Some(number) = number {
            self.stop(number, "the pod is deleted")?;
        }
        if !self.wait_for(PATIENCE, |state| state.is_gone) {
            bail!("container {} does not end", self.container.name);
        }
        let state = self.lock();
        if !state.troubles.is_empty() {
            bail!("container {}: {}", self.container.name, state.troubles.join("; "));
        }
        state.last.clone().with_context(|| format!("container {} was never started", self.container.name))
    }

    /// Ends it at once, because nobody wants to know how it ends.
    pub(super) fn abandon(&self) {
        self.end_restarts();
        while !self.wait_for(Duration::from_millis(100), |state| state.is_gone) {
            if let Some(Err(error)) = self.instance().map(|instance| instance.signal(Signal::KILL)) {
                self.trouble(&error);
                return;
            }
        }
    }

    /// A probe has counted.
    pub(super) fn take_verdict(&self, number: u32, kind: ProbeKind, passed: bool) -> anyhow::Result<()> {
        self.change(|state| {
            let State { running: Some(running), starts, .. } = state else { return };
            if running.instance.number != number {
                return;
            }
            match kind {
                ProbeKind::Startup => {
                    *starts += u64::from(passed && !running.is_started);
                    running.is_started |= passed;
                }
                ProbeKind::Readiness => running.is_found_ready = passed,
                ProbeKind::Liveness => {}
            }
        });
        if passed || kind == ProbeKind::Readiness {
            return Ok(());
        }
        self.stop(number, &format!("its {} probe failed too often", super::events::name_of(kind)))
    }

    /// Waits for a probe's next tick, or, unless `starts` is what it was, for a start that a readiness probe follows at once.
    /// Returns whether the container lives on.
    pub(super) fn wait_for_tick(&self, ticker: &mut Ticker, starts: Option<&mut u64>) -> bool {
        let known = starts.as_deref().copied();
        self.wait_for(ticker.wait(self.now()), |state| {
            state.is_gone || known.is_some_and(|known| known != state.starts)
        });
        ticker.take(self.now());
        let state = self.lock();
        if let Some(starts) = starts {
            *starts = state.starts;
        }
        !state.is_gone
    }

    /// What its probes see of it, while it runs.
    pub(super) fn seen(&self) -> Option<(Seen, Arc<Instance>)> {
        let state = self.lock();
        let running = state.running.as_ref()?;
        let seen = Seen {
            instance: running.instance.number,
            age: self.now().saturating_sub(running.since),
            is_started: running.is_started,
            is_deleted: state.is_deleted,
        };
        Some((seen, Arc::clone(&running.instance)))
    }

    /// The instance that runs.
    pub(super) fn instance(&self) -> Option<Arc<Instance>> {
        self.lock().running.as_ref().map(|running| Arc::clone(&running.instance))
    }

    pub(super) fn is_ready(&self) -> bool {
        self.is_ready_in(&self.lock())
    }

    /// How often it was started again, or tried to.
    pub(super) fn restarts(&self) -> u32 {
        self.lock().number
    }

    /// How it ended last.
    pub(super) fn last(&self) -> Option<Last> {
        self.lock().last.clone()
    }

    pub(super) fn note(&self, number: u32, what: What) {
        self.events.note(&self.container.name, number, what);
    }

    /// Keeps an error of the kubelet's own, until the pod is deleted.
    pub(super) fn trouble(&self, error: &anyhow::Error) {
        crate::say(&format!("  kubelet: {}: {error:#}", self.container.name));
        self.change(|state| state.troubles.push(format!("{error:#}")));
    }

    pub(super) fn now(&self) -> Duration {
        self.begin.elapsed()
    }

    fn has_probe(&self, kind: ProbeKind) -> bool {
        self.container.probes.contains_key(&kind)
    }

    fn is_ready_in(&self, state: &State) -> bool {
        let Some(running) = &state.running else { return false };
        running.is_started && (running.is_found_ready || !self.has_probe(ProbeKind::Readiness))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, tells if it is ready since or no more, and wakes whoever waits for something.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let was_ready = self.is_ready_in(&state);
        let result = change(&mut state);
        let is_ready = self.is_ready_in(&state);
        if was_ready != is_ready {
            self.note(state.number, if is_ready { What::Ready } else { What::NotReady });
        }
        drop(state);
        self.changed.notify_all();
        result
    }

    /// Waits until something holds, at most so long. Returns whether it holds.
    fn wait_for(&self, limit: Duration, holds: impl Fn(&State) -> bool) -> bool {
        let waited = self.changed.wait_timeout_while(self.lock(), limit, |state| !holds(state));
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

impl State {
    fn runs(&self, number: u32) -> bool {
        self.running.as_ref().is_some_and(|running| running.instance.number == number)
    }
}

//! The life of a container of a pod: instance after instance, until the pod is deleted.

use std::sync::Arc;
use std::time::Duration;

use lab_guest::pod::{Container, ProbeKind};

use super::back_off::BackOff;
use super::events::{End, Events, What};
use super::instance::{Instance, Place};
use super::schedule::{Seen, Ticker};
use super::state::{Last, Running, Shared, State};

/// A kubelet leaves each container as much, however short its pod's grace period is (`minimumGracePeriodInSeconds`).
const LEAST_GRACE: Duration = Duration::from_secs(2);

/// A container of a pod that runs.
#[derive(Debug)]
pub(super) struct Life {
    pub(super) container: Container,
    pub(super) place: Place,
    pub(super) grace: Duration,
    pub(super) shared: Shared,
}

impl Life {
    pub(super) fn new(container: Container, place: Place, grace: u32, events: Arc<Events>) -> Self {
        let grace = LEAST_GRACE.max(Duration::from_secs(grace.into()));
        let shared = Shared::new(&container, events);
        Self { container, place, grace, shared }
    }

    /// Starts instance after instance, and returns when the pod is deleted and nothing runs any more.
    pub(super) fn live(&self) {
        let mut back_off = BackOff::default();
        let mut before = None;
        for number in 0.. {
            if self.shared.lock().is_deleted {
                break;
            }
            let was_stopped = self.live_once(number);
            let ended = self.shared.now();
            // A kubelet that stops a container starts it again in one go, and judges it by what it knew when it began to.
            let judged_by = if was_stopped { before } else { Some(ended) };
            before = Some(ended);
            if judged_by.is_some_and(|end| back_off.wait(end, self.shared.now()).is_some()) {
                while let Some(wait) = back_off.wait(ended, self.shared.now()) {
                    self.shared.note(number, What::BackOff(wait));
                    self.shared.wait_for(wait, |state| state.is_deleted);
                    if self.shared.lock().is_deleted {
                        break;
                    }
                }
            }
        }
        self.shared.change(|state| state.is_gone = true);
    }

    /// One instance, from its start to its end. Returns whether the kubelet has stopped it.
    fn live_once(&self, number: u32) -> bool {
        self.shared.change(|state| state.number = number);
        let instance = match Instance::start(&self.place, &self.container, number) {
            Ok(instance) => Arc::new(instance),
            Err(error) => {
                let end = End::NotStarted(format!("{error:#}"));
                let last =
                    Last { message: end.to_string(), end: end.clone(), stopped_in: None, was_killed: false };
                self.shared.change(|state| {
                    self.shared.note(number, What::Ended(end));
                    state.last = Some(last);
                });
                return false;
            }
        };
        self.shared.change(|state| {
            self.shared.note(number, What::Started);
            let is_started = !self.has_probe(ProbeKind::Startup);
            state.starts += u64::from(is_started);
            state.running = Some(Running {
                instance: Arc::clone(&instance),
                since: self.shared.now(),
                is_started,
                is_found_ready: false,
                stop: None,
            });
        });
        let end = instance.wait();
        let at = self.shared.now();
        let ended = end.and_then(|end| {
            instance.close()?;
            let message = instance.termination_message()?;
            instance.remove()?;
            Ok((end, message))
        });
        match ended {
            Ok((end, message)) => self.shared.change(|state| {
                self.shared.note(number, What::Ended(end.clone()));
                let stop = state.running.take().and_then(|running| running.stop);
                let stopped_in = stop.map(|stop| at.saturating_sub(stop.at));
                let was_killed = stop.is_some_and(|stop| stop.was_killed);
                state.last = Some(Last { end, message, stopped_in, was_killed });
                stop.is_some()
            }),
            Err(error) => {
                self.shared.trouble(&error);
                self.shared.change(|state| {
                    state.running = None;
                    // Whatever is left of it would be in the way of the next one.
                    state.is_deleted = true;
                });
                false
            }
        }
    }

    /// A probe has counted. What has failed it is stopped by who has asked.
    pub(super) fn take_verdict(&self, number: u32, kind: ProbeKind, passed: bool) {
        self.shared.change(|state| {
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
    }

    /// Waits for a probe's next tick, or, unless `starts` is what it was, for a start that a readiness probe follows at once.
    /// Returns whether the container lives on.
    pub(super) fn wait_for_tick(&self, ticker: &mut Ticker, starts: Option<&mut u64>) -> bool {
        let known = starts.as_deref().copied();
        self.shared.wait_for(ticker.wait(self.shared.now()), |state| {
            state.is_gone || known.is_some_and(|known| known != state.starts)
        });
        ticker.take(self.shared.now());
        let state = self.shared.lock();
        if let Some(starts) = starts {
            *starts = state.starts;
        }
        !state.is_gone
    }

    /// What its probes see of it, while it runs.
    pub(super) fn seen(&self) -> Option<(Seen, Arc<Instance>)> {
        let state = self.shared.lock();
        let running = state.running.as_ref()?;
        let seen = Seen {
            instance: running.instance.number,
            age: self.shared.now().saturating_sub(running.since),
            is_started: running.is_started,
            is_deleted: state.is_deleted,
        };
        Some((seen, Arc::clone(&running.instance)))
    }

    /// The instance that runs.
    pub(super) fn instance(&self) -> Option<Arc<Instance>> {
        self.shared.lock().running.as_ref().map(|running| Arc::clone(&running.instance))
    }

    /// How often it was started again, or tried to.
    pub(super) fn restarts(&self) -> u32 {
        self.shared.lock().number
    }

    /// How it ended last.
    pub(super) fn last(&self) -> Option<Last> {
        self.shared.lock().last.clone()
    }

    fn has_probe(&self, kind: ProbeKind) -> bool {
        self.container.probes.contains_key(&kind)
    }
}

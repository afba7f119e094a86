//! What is known of a container, as its threads share it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lab_guest::pod::{Container, ProbeKind};

use super::events::{End, Events, What};
use super::instance::Instance;
use crate::say;

/// The state of a container, for which threads can wait.
#[derive(Debug)]
pub(super) struct Shared {
    name: String,
    has_readiness_probe: bool,
    events: Arc<Events>,
    /// When the pod was started; times are counted from here.
    begin: Instant,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) running: Option<Running>,
    /// Which instance was last started, or tried to.
    pub(super) number: u32,
    /// How often an instance has passed its start.
    pub(super) starts: u64,
    pub(super) last: Option<Last>,
    pub(super) is_deleted: bool,
    /// Nothing runs any more, and nothing will.
    pub(super) is_gone: bool,
    /// What the kubelet itself could not do.
    pub(super) troubles: Vec<String>,
}

/// The instance that runs.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) instance: Arc<Instance>,
    pub(super) since: Duration,
    pub(super) is_started: bool,
    /// What its readiness probe says.
    pub(super) is_found_ready: bool,
    pub(super) stop: Option<Stop>,
}

/// An instance was told to stop.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stop {
    pub(super) at: Duration,
    pub(super) was_killed: bool,
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

impl Shared {
    pub(super) fn new(container: &Container, events: Arc<Events>) -> Self {
        let (state, changed) = Default::default();
        Self {
            name: container.name.clone(),
            has_readiness_probe: container.probes.contains_key(&ProbeKind::Readiness),
            events,
            begin: Instant::now(),
            state,
            changed,
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, tells if the container is ready since or no more, and wakes whoever waits for something.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
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
    pub(super) fn wait_for(&self, limit: Duration, holds: impl Fn(&State) -> bool) -> bool {
        let waited = self.changed.wait_timeout_while(self.lock(), limit, |state| !holds(state));
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    pub(super) fn is_ready(&self) -> bool {
        self.is_ready_in(&self.lock())
    }

    /// Tells an event. What comes with a change of the state is told in it: who has seen the event finds the state so.
    pub(super) fn note(&self, number: u32, what: What) {
        self.events.note(&self.name, number, what);
    }

    /// Keeps an error of the kubelet's own, until the pod is deleted.
    pub(super) fn trouble(&self, error: &anyhow::Error) {
        say(&format!("  kubelet: {}: {error:#}", self.name));
        self.change(|state| state.troubles.push(format!("{error:#}")));
    }

    /// How long ago the pod was started.
    pub(super) fn now(&self) -> Duration {
        self.begin.elapsed()
    }

    fn is_ready_in(&self, state: &State) -> bool {
        let Some(running) = &state.running else { return false };
        running.is_started && (running.is_found_ready || !self.has_readiness_probe)
    }
}

impl State {
    /// Whether this instance runs.
    pub(super) fn runs(&self, number: u32) -> bool {
        self.running.as_ref().is_some_and(|running| running.instance.number == number)
    }
}

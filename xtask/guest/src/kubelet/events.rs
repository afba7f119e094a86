//! What happened to a pod, and when.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use lab_guest::pod::ProbeKind;

use crate::{pinger, say};

/// How an instance of a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// Its PID 1 exited with this code.
    Exited(i32),
    /// A signal of this number ended its PID 1.
    Signalled(i32),
    /// The runtime could not start it, and said so.
    NotStarted(String),
}

impl End {
    /// The exit code that Kubernetes shows for it: a shell's for signals, and containerd's for what did not start.
    pub(crate) fn code(&self) -> i32 {
        match self {
            Self::Exited(code) => *code,
            Self::Signalled(signal) => 128 + signal,
            Self::NotStarted(_) => 128,
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(formatter, "exit code {code}"),
            Self::Signalled(signal) => write!(formatter, "signal {signal}"),
            Self::NotStarted(words) => write!(formatter, "no start: {words}"),
        }
    }
}

/// What happened to a container.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum What {
    /// Its PID 1 runs.
    Started,
    /// A probe passed, after it had not, or as the first of this instance.
    ProbePassed(ProbeKind),
    /// A probe failed, after it had not, or as the first of this instance; with what it said.
    ProbeFailed(ProbeKind, String),
    /// A probe could not be executed; with the runtime's words. It counts neither as passed nor as failed.
    ProbeNotRun(ProbeKind, String),
    /// It became ready.
    Ready,
    /// It was ready, and is no more.
    NotReady,
    /// A probe failed too often, or the pod is deleted: SIGTERM.
    ToldToStop(String),
    /// The grace period was over: SIGKILL.
    Killed,
    /// It ended.
    Ended(End),
    /// It is started again after this time.
    BackOff(Duration),
}

impl fmt::Display for What {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started => formatter.write_str("started"),
            Self::ProbePassed(kind) => write!(formatter, "{} probe passed", name_of(*kind)),
            Self::ProbeFailed(kind, said) => write!(formatter, "{} probe failed: {said}", name_of(*kind)),
            Self::ProbeNotRun(kind, said) => {
                write!(formatter, "{} probe did not run: {said}", name_of(*kind))
            }
            Self::Ready => formatter.write_str("became ready"),
            Self::NotReady => formatter.write_str("is no longer ready"),
            Self::ToldToStop(why) => write!(formatter, "told to stop (SIGTERM): {why}"),
            Self::Killed => formatter.write_str("killed (SIGKILL): the grace period is over"),
            Self::Ended(end) => write!(formatter, "ended: {end}"),
            Self::BackOff(wait) => write!(formatter, "back-off of {:.0} s", wait.as_secs_f64()),
        }
    }
}

/// A probe's name in messages.
pub(super) fn name_of(kind: ProbeKind) -> &'static str {
    match kind {
        ProbeKind::Startup => "startup",
        ProbeKind::Liveness => "liveness",
        ProbeKind::Readiness => "readiness",
    }
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Event {
    /// Seconds since the epoch, the clock of [`pinger::now`].
    pub(crate) at: f64,
    /// The container's name.
    pub(crate) container: String,
    /// Which instance of the container; the first is 0.
    pub(crate) instance: u32,
    /// What.
    pub(crate) what: What,
}

/// A pod's events, in their order.
#[derive(Debug, Default)]
pub(super) struct Events(Mutex<Vec<Event>>);

impl Events {
    /// Keeps an event, and says it.
    pub(super) fn note(&self, container: &str, instance: u32, what: What) {
        let mut events = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        say(&format!("  kubelet: {container}[{instance}] {what}"));
        // A clock before 1970 makes the time useless, and not the event.
        let at = pinger::now().unwrap_or_default();
        events.push(Event { at, container: container.to_owned(), instance, what });
    }

    /// All so far.
    pub(super) fn all(&self) -> Vec<Event> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

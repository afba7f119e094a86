//! The end of a container: told to stop, killed when the grace period is over, or dropped.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::process::Signal;

use super::container::Life;
use super::events::What;
use super::state::{Last, Stop};

/// How long the kernel may take to end what was killed.
const PATIENCE: Duration = Duration::from_secs(120);

impl Life {
    /// Stops an instance, unless it has been told to already, and waits for its end: SIGTERM to PID 1, and SIGKILL to all
    /// after the grace period.
    pub(super) fn stop(&self, number: u32, why: &str) -> anyhow::Result<()> {
        let at = self.shared.now();
        let instance = self.shared.change(|state| {
            let running = state.running.as_mut().filter(|running| running.instance.number == number)?;
            if running.stop.is_some() {
                return None;
            }
            running.stop = Some(Stop { at, was_killed: false });
            Some(Arc::clone(&running.instance))
        });
        if let Some(instance) = instance {
            self.shared.note(number, What::ToldToStop(why.to_owned()));
            instance.tell_to_stop()?;
            if !instance.ended_within(self.grace)? {
                self.shared.note(number, What::Killed);
                self.shared.change(|state| {
                    if let Some(stop) = state.running.as_mut().and_then(|running| running.stop.as_mut()) {
                        stop.was_killed = true;
                    }
                });
                instance.kill_all()?;
            }
        }
        if !self.shared.wait_for(self.grace + PATIENCE, |state| !state.runs(number)) {
            bail!("container {} does not end", self.container.name);
        }
        Ok(())
    }

    /// From now on no instance is started.
    pub(super) fn end_restarts(&self) {
        self.shared.change(|state| state.is_deleted = true);
    }

    /// Stops what runs, for the pod is deleted ([`Life::end_restarts`]), and tells how the container ended last.
    pub(super) fn delete(&self) -> anyhow::Result<Last> {
        // An instance that is being started is stopped when it has been.
        let limit = self.grace + PATIENCE;
        self.shared.wait_for(limit, |state| state.is_gone || state.running.is_some());
        let number = self.shared.lock().running.as_ref().map(|running| running.instance.number);
        if let Some(number) = number {
            self.stop(number, "the pod is deleted")?;
        }
        if !self.shared.wait_for(PATIENCE, |state| state.is_gone) {
            bail!("container {} does not end", self.container.name);
        }
        let state = self.shared.lock();
        if !state.troubles.is_empty() {
            bail!("container {}: {}", self.container.name, state.troubles.join("; "));
        }
        state.last.clone().with_context(|| format!("container {} was never started", self.container.name))
    }

    /// Ends it at once, because nobody wants to know how it ends.
    pub(super) fn abandon(&self) {
        self.end_restarts();
        while !self.shared.wait_for(Duration::from_millis(100), |state| state.is_gone) {
            if let Some(Err(error)) = self.instance().map(|instance| instance.signal(Signal::KILL)) {
                self.shared.trouble(&error);
                return;
            }
        }
    }
}

//! A pod that runs, as a scenario holds it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use rustix::process::Signal;

use super::container::Life;
use super::events::{End, Event, Events};
use super::instance::Instance;
use super::runtime::{Executed, Output};
use super::{probing, volumes};
use crate::{say, wait};

/// How long a program may take that a scenario executes in a container.
const PATIENCE: Duration = Duration::from_secs(60);

/// A pod that runs. Dropping it kills all of it.
#[derive(Debug)]
pub(crate) struct RunningPod {
    name: String,
    lives: Vec<Arc<Life>>,
    threads: Vec<JoinHandle<()>>,
    events: Arc<Events>,
    /// Its bundles and volumes.
    folder: PathBuf,
    logs: PathBuf,
    calls: AtomicU32,
}

/// How a container of a deleted pod ended.
#[derive(Debug, Clone)]
pub(crate) struct Deleted {
    /// Its name.
    pub(crate) container: String,
    /// How its last instance ended.
    pub(crate) end: End,
    /// How long that took from SIGTERM on. `None` when it was not running.
    pub(crate) time: Option<Duration>,
    /// Whether SIGKILL was needed.
    pub(crate) was_killed: bool,
    /// What it left as its termination message.
    pub(crate) message: String,
    /// How often it had been started again.
    pub(crate) restarts: u32,
}

impl RunningPod {
    /// Starts the threads of a pod whose folders are there.
    pub(super) fn begin(
        name: String,
        lives: Vec<Life>,
        events: Arc<Events>,
        folder: PathBuf,
        logs: PathBuf,
    ) -> anyhow::Result<Self> {
        let lives: Vec<_> = lives.into_iter().map(Arc::new).collect();
        let mut pod =
            Self { name, lives, threads: Vec::new(), events, folder, logs, calls: AtomicU32::new(0) };
        for life in pod.lives.clone() {
            for (kind, probe) in life.container.probes.clone() {
                let life = Arc::clone(&life);
                pod.spawn("probe", move || probing::run(&life, kind, &probe))?;
            }
            pod.spawn("container", move || life.live())?;
        }
        Ok(pod)
    }

    /// Whether a container is ready, as the pod's status says.
    pub(crate) fn is_ready(&self, container: &str) -> anyhow::Result<bool> {
        Ok(self.life(container)?.shared.is_ready())
    }

    /// Waits until all containers are ready at once.
    pub(crate) fn wait_until_ready(&self, patience: Duration) -> anyhow::Result<()> {
        let ready = || Ok(self.lives.iter().all(|life| life.shared.is_ready()).then_some(()));
        wait::until(&format!("pod {} is ready", self.name), patience, ready)
            .with_context(|| format!("last: {:?}", self.events.all().pop()))
    }

    /// Waits for an event that has not necessarily happened yet. `what` is named in the error.
    pub(crate) fn wait_for_event(
        &self,
        what: &str,
        patience: Duration,
        is_it: impl Fn(&Event) -> bool,
    ) -> anyhow::Result<Event> {
        wait::until(what, patience, || Ok(self.events.all().into_iter().find(&is_it)))
    }

    /// Waits until a container's log, all instances together, has these words.
    pub(crate) fn wait_until_it_says(
        &self,
        container: &str,
        words: &str,
        patience: Duration,
    ) -> anyhow::Result<()> {
        self.wait_until_instance_says(container, 0, words, patience)
    }

    /// The same of what instances from `first` on have written.
    pub(crate) fn wait_until_instance_says(
        &self,
        container: &str,
        first: u32,
        words: &str,
        patience: Duration,
    ) -> anyhow::Result<()> {
        let life = self.life(container)?;
        let mut known = 0;
        wait::until(&format!("{container} says {words:?}"), patience, || {
            let files: Vec<_> = (first..=life.restarts()).map(|number| life.place.log(number)).collect();
            // A build writes a lot: it is looked through only when there is more of it.
            let size = files.iter().filter_map(|file| fs::metadata(file).ok()).map(|file| file.len()).sum();
            if size == known {
                return Ok(None);
            }
            known = size;
            let logs = (first..=life.restarts()).map(|number| self.log_of_instance(container, number));
            Ok(logs.collect::<anyhow::Result<String>>()?.contains(words).then_some(()))
        })
    }

    /// How often a container was started again.
    pub(crate) fn restarts(&self, container: &str) -> anyhow::Result<u32> {
        Ok(self.life(container)?.restarts())
    }

    /// All that a container has written, through all its instances.
    pub(crate) fn log(&self, container: &str) -> anyhow::Result<String> {
        let numbers = 0..=self.life(container)?.restarts();
        // The last one may not have begun.
        numbers.map(|number| self.log_of_instance(container, number)).collect()
    }

    /// What one instance of a container has written; nothing before it is started.
    pub(crate) fn log_of_instance(&self, container: &str, number: u32) -> anyhow::Result<String> {
        let file = self.life(container)?.place.log(number);
        if !file.exists() {
            return Ok(String::new());
        }
        let text = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// Where the logs are: a folder of each container, with a file of each instance. They stay when the pod is deleted.
    pub(crate) fn logs(&self) -> &Path {
        &self.logs
    }

    /// All that has happened so far.
    pub(crate) fn events(&self) -> Vec<Event> {
        self.events.all()
    }

    /// A container's PID 1, as this machine numbers it.
    pub(crate) fn pid_1(&self, container: &str) -> anyhow::Result<u32> {
        let pid = self.instance(container)?.pid.as_raw_nonzero().get();
        u32::try_from(pid).with_context(|| format!("process {pid}"))
    }

    /// Sends a container's PID 1 a signal, past the runtime, as the kernel's OOM killer does.
    pub(crate) fn kill(&self, container: &str, signal: Signal) -> anyhow::Result<()> {
        say(&format!("  signal {} to {container}'s PID 1", signal.as_raw()));
        self.instance(container)?.signal(signal).with_context(|| format!("container {container}"))
    }

    /// Executes a program in a container, as `kubectl exec` does.
    pub(crate) fn exec(&self, container: &str, words: &[&str]) -> anyhow::Result<Output> {
        let (life, instance) = (self.life(container)?, self.instance(container)?);
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        let files = life.place.folder.join(format!("exec-{call}"));
        let words: Vec<_> = words.iter().map(|&word| word.to_owned()).collect();
        let line = || format!("{words:?} in container {container}");
        match instance.execute(&words, &files, PATIENCE).with_context(line)? {
            Executed::Ended(output) => Ok(output),
            Executed::TimedOut => bail!("{} did not end within {} s", line(), PATIENCE.as_secs()),
            Executed::Failed(said) => bail!("{} cannot be executed: {said}", line()),
        }
    }

    /// The termination message of the last instance of a container that ended; `None` as long as none has.
    pub(crate) fn termination_message(&self, container: &str) -> anyhow::Result<Option<String>> {
        Ok(self.life(container)?.last().map(|last| last.message))
    }

    /// How the last instance of a container that ended did so; `None` as long as none has.
    pub(crate) fn last_end(&self, container: &str) -> anyhow::Result<Option<End>> {
        Ok(self.life(container)?.last().map(|last| last.end))
    }

    /// Deletes the pod: SIGTERM to all containers at once, and SIGKILL after the grace period. Then nothing is left of it but
    /// its logs. Returns how each container ended, in the order of the manifest.
    pub(crate) fn delete(mut self) -> anyhow::Result<Vec<Deleted>> {
        self.lives.iter().for_each(|life| life.end_restarts());
        let ends: Vec<_> = thread::scope(|scope| {
            let all: Vec<_> = self.lives.iter().map(|life| scope.spawn(|| life.delete())).collect();
            let join = |one: thread::ScopedJoinHandle<'_, _>| {
                one.join().unwrap_or_else(|_| bail!("the deletion of a container panicked"))
            };
            all.into_iter().map(join).collect()
        });
        let ends = ends.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
        self.join()?;
        volumes::remove(&self.folder)?;
        let deleted = self.lives.iter().zip(ends).map(|(life, last)| Deleted {
            container: life.container.name.clone(),
            end: last.end,
            time: last.stopped_in,
            was_killed: last.was_killed,
            message: last.message,
            restarts: life.restarts(),
        });
        Ok(deleted.collect())
    }

    fn spawn(&mut self, name: &str, work: impl FnOnce() + Send + 'static) -> anyhow::Result<()> {
        let thread = thread::Builder::new().name(name.to_owned()).spawn(work);
        self.threads.push(thread.context("cannot start a thread")?);
        Ok(())
    }

    fn join(&mut self) -> anyhow::Result<()> {
        for thread in self.threads.drain(..) {
            ensure!(thread.join().is_ok(), "a thread of the kubelet panicked");
        }
        Ok(())
    }

    fn life(&self, container: &str) -> anyhow::Result<&Life> {
        let life = self.lives.iter().find(|life| life.container.name == container);
        Ok(life.with_context(|| format!("pod {} has no container {container}", self.name))?)
    }

    fn instance(&self, container: &str) -> anyhow::Result<Arc<Instance>> {
        let instance = self.life(container)?.instance();
        instance.with_context(|| format!("container {container} does not run"))
    }
}

impl Drop for RunningPod {
    fn drop(&mut self) {
        if self.threads.is_empty() {
            return;
        }
        self.lives.iter().for_each(|life| life.abandon());
        if let Err(error) = self.join().and_then(|()| volumes::remove(&self.folder)) {
            say(&format!("  kubelet: pod {}: {error:#}", self.name));
        }
    }
}

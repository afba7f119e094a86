//! One instance of a container: from its bundle to its end.

use std::fs;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, bail};
use lab_guest::pod::Container;
use rustix::fd::OwnedFd;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};

use super::bundle::{self, Bundle};
use super::events::End;
use super::runtime::{self, Executed, Runtime};
use crate::say;

/// How often orphans of the runtime are looked for.
const ORPHANS: Duration = Duration::from_millis(500);

/// Where the instances of one container live.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) runtime: Runtime,
    /// With what their names in the runtime begin.
    pub(super) id: String,
    /// The layers of images.
    pub(super) layers: PathBuf,
    /// The pod's `emptyDir`s.
    pub(super) volumes: PathBuf,
    /// Their bundles, and the files of what is executed in them.
    pub(super) folder: PathBuf,
    /// Their logs.
    pub(super) logs: PathBuf,
}

impl Place {
    /// The log of an instance.
    pub(super) fn log(&self, number: u32) -> PathBuf {
        self.logs.join(format!("{number}.log"))
    }

    fn id(&self, number: u32) -> String {
        format!("{}-{number}", self.id)
    }

    fn bundle(&self, number: u32) -> PathBuf {
        self.folder.join(number.to_string())
    }
}

/// An instance whose PID 1 was started.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) number: u32,
    /// Its PID 1, as this machine numbers it.
    pub(super) pid: Pid,
    id: String,
    runtime: Runtime,
    bundle: Bundle,
    process: OwnedFd,
    relays: Mutex<Vec<JoinHandle<anyhow::Result<()>>>>,
}

impl Instance {
    /// Starts an instance. On an error nothing is left of it but its log.
    pub(super) fn start(place: &Place, container: &Container, number: u32) -> anyhow::Result<Self> {
        let folder = place.bundle(number);
        Self::created(place, container, number).inspect_err(|_| {
            if let Err(error) = bundle::remove(&folder) {
                say(&format!("  kubelet: {}: {error:#}", folder.display()));
            }
        })
    }

    fn created(place: &Place, container: &Container, number: u32) -> anyhow::Result<Self> {
        let (id, runtime) = (place.id(number), place.runtime.clone());
        let log = place.log(number);
        fs::write(&log, "").with_context(|| format!("cannot create {}", log.display()))?;
        let more: &[String] = if number == 0 { &container.first_env } else { &[] };
        let bundle = Bundle::make(container, more, place.bundle(number), &place.layers, &place.volumes)?;
        let (pid, streams) = runtime.create(&id, &bundle.folder)?;
        let process = runtime::handle(pid)?;
        let relays = vec![
            relay(streams.stdout, &container.name, &log)?,
            relay(streams.stderr, &container.name, &log)?,
        ];
        let started = runtime.start(&id, &bundle.folder);
        let relays = Mutex::new(relays);
        let instance = Self { number, pid, id, runtime, bundle, process, relays };
        if let Err(error) = started {
            instance.signal(Signal::KILL)?;
            instance.wait()?;
            return Err(error);
        }
        Ok(instance)
    }

    /// Waits for the end of PID 1. With it all others of the container end.
    pub(super) fn wait(&self) -> anyhow::Result<End> {
        // Its end is waited for with what may hold it up.
        while !self.ended_within(ORPHANS)? {
            runtime::reap_orphans()?;
        }
        let status = loop {
            match waitid(WaitId::PidFd(self.process.as_fd()), WaitIdOptions::EXITED) {
                Ok(Some(status)) => break status,
                Ok(None) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => bail!("cannot wait for process {}: {errno}", self.pid),
            }
        };
        match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Ok(End::Exited(code)),
            (None, Some(signal)) => Ok(End::Signalled(signal)),
            (None, None) => bail!("process {} ended neither by itself nor by a signal", self.pid),
        }
    }

    /// Takes it out of the runtime, once it has ended, and waits until its log is complete.
    pub(super) fn close(&self) -> anyhow::Result<()> {
        // Whatever lives on, in a container without a PID namespace of its own, holds the log open.
        self.runtime.delete(&self.id, &self.bundle.folder)?;
        let mut relays = self.relays.lock().unwrap_or_else(PoisonError::into_inner);
        for relay in relays.drain(..) {
            relay.join().unwrap_or_else(|_| bail!("the reader of the log panicked"))?;
        }
        Ok(())
    }

    /// What it has left as its termination message.
    pub(super) fn termination_message(&self) -> anyhow::Result<String> {
        self.bundle.termination_message()
    }

    /// Removes its bundle.
    pub(super) fn remove(&self) -> anyhow::Result<()> {
        self.bundle.remove()
    }

    /// Tells PID 1 to stop, through the runtime.
    pub(super) fn tell_to_stop(&self) -> anyhow::Result<()> {
        self.unless_ended(self.runtime.kill(&self.id, &self.bundle.folder, "TERM"))
    }

    /// Kills all of it, through the runtime.
    pub(super) fn kill_all(&self) -> anyhow::Result<()> {
        self.unless_ended(self.runtime.kill_all(&self.id, &self.bundle.folder))
    }

    /// Sends PID 1 a signal, past the runtime.
    pub(super) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        match pidfd_send_signal(&self.process, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(errno) => bail!("cannot send process {} a signal: {errno}", self.pid),
        }
    }

    /// Whether PID 1 has ended before a time is over.
    pub(super) fn ended_within(&self, limit: Duration) -> anyhow::Result<bool> {
        runtime::ended_within(self.process.as_fd(), limit)
    }

    /// Executes a process in it. The files of the call begin with `files`.
    pub(super) fn execute(
        &self,
        words: &[String],
        files: &Path,
        timeout: Duration,
    ) -> anyhow::Result<Executed> {
        self.runtime.execute(&self.id, &self.bundle.process(words), files, timeout)
    }

    /// The runtime cannot reach what has just ended.
    fn unless_ended(&self, result: anyhow::Result<()>) -> anyhow::Result<()> {
        if result.is_err() && self.ended_within(Duration::ZERO)? { Ok(()) } else { result }
    }
}

/// Shows what a container writes, and keeps it in its log.
fn relay(
    stream: impl Read + Send + 'static,
    container: &str,
    log: &Path,
) -> anyhow::Result<JoinHandle<anyhow::Result<()>>> {
    let container = container.to_owned();
    let mut log = fs::File::options().append(true).open(log).context("cannot open the log")?;
    let relay = move || {
        let mut stream = BufReader::new(stream);
        let mut line = Vec::new();
        while stream.read_until(b'\n', &mut line).context("cannot read what the container writes")? > 0 {
            log.write_all(&line).context("cannot write the log")?;
            say(&format!("  {container} | {}", String::from_utf8_lossy(&line).trim_end()));
            line.clear();
        }
        Ok(())
    };
    thread::Builder::new().name("log".to_owned()).spawn(relay).context("cannot start the reader of the log")
}

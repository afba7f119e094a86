//! Watches, throughout, that the readiness file exists only while the machine is what it was.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};

use crate::observe::Nics;

/// The readiness file.
pub(crate) const READY: &str = nic_driver::default_paths::READINESS_FILE;
const INTERVAL: Duration = Duration::from_millis(50);

/// A watch that goes on until it is ended.
#[derive(Debug)]
pub(crate) struct Watch {
    end: Arc<AtomicBool>,
    thread: JoinHandle<Seen>,
}

/// What the watch has seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// How often it looked.
    looks: usize,
    /// How often the node was ready all the while that the machine was looked at.
    ready: usize,
    /// What was different while the node was ready.
    violations: Vec<String>,
}

impl Seen {
    /// An error when the node was ever ready while the machine was another, or never ready at all.
    pub(crate) fn ensure_right(&self) -> anyhow::Result<()> {
        ensure!(self.ready > 0, "the node was never seen to be ready");
        if let Some(violation) = self.violations.first() {
            bail!("the node was ready while the machine was another: {violation}");
        }
        Ok(())
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { looks, ready, violations } = self;
        let wrong = violations.len();
        write!(
            f,
            "readiness was looked at {looks} times, {ready} times while it was given, {wrong} times wrong"
        )
    }
}

/// Begins to watch; the machine should be what it was `before`.
pub(crate) fn watch(before: &Nics) -> anyhow::Result<Watch> {
    let end = Arc::new(AtomicBool::new(false));
    let (ended, before) = (Arc::clone(&end), before.clone());
    let thread = thread::Builder::new().name("readiness".to_owned()).spawn(move || {
        let mut seen = Seen::default();
        while !ended.load(Ordering::Relaxed) {
            look(&before, &mut seen);
            thread::sleep(INTERVAL);
        }
        seen
    });
    Ok(Watch { end, thread: thread.context("cannot start the watch of the readiness file")? })
}

impl Watch {
    /// Ends it and tells what it has seen.
    pub(crate) fn end(self) -> anyhow::Result<Seen> {
        self.end.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the watch of the readiness file panicked"))
    }
}

/// The same file before and after the machine was looked at was there all the while.
fn look(before: &Nics, seen: &mut Seen) {
    seen.looks += 1;
    let Some(file) = file() else { return };
    let now = Nics::observe();
    if self::file() != Some(file) {
        return;
    }
    seen.ready += 1;
    match now {
        Ok(now) => {
            let differences = before.differences(&now);
            if !differences.is_empty() {
                seen.violations.push(differences.to_string());
            }
        }
        Err(error) => seen.violations.push(format!("{error:#}")),
    }
}

/// What tells one readiness file from another.
fn file() -> Option<(u64, i64, i64)> {
    let metadata = fs::metadata(READY).ok()?;
    Some((metadata.ino(), metadata.mtime(), metadata.mtime_nsec()))
}

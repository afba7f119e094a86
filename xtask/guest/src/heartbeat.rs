//! Signs of life, one processor each: without them nobody could tell a scenario that hangs from a machine that stands still.

use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use lab_guest::lines::ALIVE;
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::console;

const INTERVAL: Duration = Duration::from_secs(5);

/// Starts a thread on each processor that says every few seconds that it is there.
pub(crate) fn start() -> anyhow::Result<()> {
    let processors = thread::available_parallelism().context("cannot count the processors")?.get();
    for processor in 0..processors {
        let beat = move || {
            let mut set = CpuSet::new();
            set.set(processor);
            // Without it the sign is that of some processor, which is still one.
            let _ = sched_setaffinity(None, &set);
            loop {
                console(&format!("{ALIVE}{processor}\n"));
                thread::sleep(INTERVAL);
            }
        };
        thread::Builder::new()
            .name("heartbeat".to_owned())
            .spawn(beat)
            .context("cannot start the heartbeat")?;
    }
    Ok(())
}

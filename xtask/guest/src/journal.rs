//! The journal of the program under test.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::bail;
use nic_driver::state::{Journal, JournalEvent, Step};

use crate::program::{FAMILY, Running, store};
use crate::wait;

/// A signal is to fall into a step that may be over within milliseconds.
const INTERVAL: Duration = Duration::from_millis(1);
const PATIENCE: Duration = Duration::from_secs(300);

/// Its file.
pub(crate) fn path() -> PathBuf {
    store(FAMILY).journal_path()
}

/// Its lines. The last one may be one that is being written; then it is left out.
pub(crate) fn lines() -> anyhow::Result<Vec<JournalEvent>> {
    Ok(Journal::read(&store(FAMILY))?)
}

/// Those that one process wrote.
pub(crate) fn lines_of(process: u32) -> anyhow::Result<Vec<JournalEvent>> {
    Ok(lines()?.into_iter().filter(|line| line.pid == process).collect())
}

/// Whether the process has begun a step.
pub(crate) fn has_begun(process: u32, step: &Step) -> anyhow::Result<bool> {
    Ok(lines_of(process)?.iter().any(|line| line.entry.begins(step)))
}

/// Waits until the process has begun a step.
pub(crate) fn wait_for_step(process: &Running, step: &Step) -> anyhow::Result<()> {
    let start = Instant::now();
    while !has_begun(process.id(), step)? {
        if start.elapsed() > PATIENCE {
            bail!("waited {} s in vain for the step {:?}", PATIENCE.as_secs(), step.to_string());
        }
        std::thread::sleep(INTERVAL);
    }
    Ok(())
}

/// Waits until some process begins a step, behind the first `from` lines of the journal.
pub(crate) fn wait_for_step_behind(from: usize, step: &Step) -> anyhow::Result<()> {
    wait::until(&format!("the step {:?} begins", step.to_string()), PATIENCE, || {
        Ok(lines()?.iter().skip(from).any(|line| line.entry.begins(step)).then_some(()))
    })
}

/// The step that unloads a module of the driver.
pub(crate) fn unload(module: &str) -> anyhow::Result<Step> {
    Ok(Step::Unload { module: module.parse()? })
}

/// The step that loads a module of the driver.
pub(crate) fn load(module: &str) -> anyhow::Result<Step> {
    Ok(Step::Load { module: module.parse()? })
}

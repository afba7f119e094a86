//! The journal of the program under test, read as anybody would read it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::nic_driver::{Running, STATE};
use crate::read;

/// A signal is to fall into a step that may be over within milliseconds.
const INTERVAL: Duration = Duration::from_millis(1);
const PATIENCE: Duration = Duration::from_secs(60);

/// Its file.
pub(crate) fn path() -> PathBuf {
    Path::new(STATE).join("journal.jsonl")
}

/// Its lines. The last one may be one that is being written; then it is left out.
pub(crate) fn lines() -> anyhow::Result<Vec<Value>> {
    if !path().exists() {
        return Ok(Vec::new());
    }
    let text = read(path())?;
    let lines: Vec<_> = text.lines().collect();
    let parse = |(number, line): (usize, &&str)| match serde_json::from_str(line) {
        Ok(value) => Some(Ok(value)),
        Err(_) if number + 1 == lines.len() => None,
        Err(error) => Some(Err(error).with_context(|| format!("journal line {} does not parse", number + 1))),
    };
    lines.iter().enumerate().filter_map(parse).collect()
}

/// Those that one process wrote.
pub(crate) fn lines_of(process: u32) -> anyhow::Result<Vec<Value>> {
    let is_its_own = |line: &Value| line.get("pid").and_then(Value::as_u64) == Some(u64::from(process));
    Ok(lines()?.into_iter().filter(is_its_own).collect())
}

/// Whether a line says that a step began whose name begins so.
pub(crate) fn begins(line: &Value, step: &str) -> bool {
    let text = |key| line.get(key).and_then(Value::as_str);
    text("kind") == Some("step_began") && text("step").is_some_and(|found| found.starts_with(step))
}

/// Waits until the process has begun a step whose name begins so.
pub(crate) fn wait_for_step(process: &Running, step: &str) -> anyhow::Result<()> {
    let start = Instant::now();
    while !lines_of(process.id())?.iter().any(|line| begins(line, step)) {
        if start.elapsed() > PATIENCE {
            bail!("waited {} s in vain for the step {step:?}", PATIENCE.as_secs());
        }
        std::thread::sleep(INTERVAL);
    }
    Ok(())
}

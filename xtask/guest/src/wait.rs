//! Waiting for a state of the machine, with a deadline.

use std::time::{Duration, Instant};

use anyhow::bail;

/// The scenarios look from outside, by polling, so that they share no mechanism with what they judge.
const INTERVAL: Duration = Duration::from_millis(20);

/// Calls `probe` until it yields a value, at most for `limit`. `what` is named in the error.
pub(crate) fn until<T>(
    what: &str,
    limit: Duration,
    mut probe: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let start = Instant::now();
    loop {
        if let Some(value) = probe()? {
            return Ok(value);
        }
        if start.elapsed() > limit {
            bail!("waited {} s in vain: {what}", limit.as_secs());
        }
        std::thread::sleep(INTERVAL);
    }
}

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

/// Waits until the process has begun a step that is wanted.
pub(crate) fn wait_for_step(process: &Running, is_wanted: impl Fn(&Step) -> bool) -> anyhow::Result<()> {
    wait_for_step_of(process.id(), is_wanted)
}

/// The same of a process that somebody else holds. Each line of the journal is understood once: to do so with all of them at each look
/// takes longer than a short step does.
pub(crate) fn wait_for_step_of(process: u32, is_wanted: impl Fn(&Step) -> bool) -> anyhow::Result<()> {
    let start = Instant::now();
    let (mut seen, mut known) = (0, 0);
    loop {
        let size = path().metadata().map_or(0, |file| file.len());
        if size != seen {
            seen = size;
            let journal = std::fs::read(path()).unwrap_or_default();
            // One that is shorter was moved aside.
            let from = if known <= journal.len() { known } else { 0 };
            let new = journal.get(from..).unwrap_or_default();
            let whole = new.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
            known = from + whole;
            for line in new.get(..whole).unwrap_or_default().split_inclusive(|&byte| byte == b'\n') {
                let line: JournalEvent = serde_json::from_slice(line)?;
                if line.pid == process && line.entry.begins(&is_wanted) {
                    return Ok(());
                }
            }
        }
        if start.elapsed() > PATIENCE {
            let lines = lines_of(process)?;
            bail!("waited {} s in vain for a step; the journal has {lines:#?}", PATIENCE.as_secs());
        }
        std::thread::sleep(INTERVAL);
    }
}

/// Waits until some process begins to unload a module of the driver, behind the first `from` lines of the journal.
pub(crate) fn wait_for_unload_behind(from: usize, module: &str) -> anyhow::Result<()> {
    wait::until(&format!("{module} is unloaded"), PATIENCE, || {
        Ok(lines()?.iter().skip(from).any(|line| line.entry.begins(unloads(module))).then_some(()))
    })
}

/// Whether a step unloads this module of the driver.
pub(crate) fn unloads(module: &str) -> impl Fn(&Step) -> bool {
    move |step| matches!(step, Step::Unload { module: gone } if gone.as_str() == module)
}

/// Whether a step loads this module of the driver.
pub(crate) fn loads(module: &str) -> impl Fn(&Step) -> bool {
    move |step| matches!(step, Step::Load { module: come } if come.as_str() == module)
}

#[cfg(test)]
mod tests {
    use lab_guest::journal_names::{
        EVENT, INDEX, KIND, PF, PHASE, PHASE_BEGAN, PHASE_ENDED, RESTORE, RESTORE_SRIOV, STAGE, STAGE_BEGAN,
        STAGE_ENDED, STAGES, UPTIME, VF, VF_ARRIVED, VF_BOUND, VF_DONE,
    };
    use nic_driver::state::Phase;
    use serde_json::{Value, json};

    use super::*;

    /// What the host side looks for is what the program reads and writes.
    #[test]
    fn the_host_sides_names_are_the_programs() {
        let pf = "0000:01:00.0";
        let vf = json!({"vf": {PF: pf, INDEX: 0, "address": "0000:01:10.0"}});
        let restore = |event: Value| json!({KIND: RESTORE, RESTORE: event});
        let stages =
            [STAGES.prepare, STAGES.admin, STAGES.vfs, STAGES.finish].into_iter().flat_map(|stage| {
                [STAGE_BEGAN, STAGE_ENDED].map(|event| restore(json!({EVENT: event, PF: pf, STAGE: stage})))
            });
        let phases = [
            json!({KIND: PHASE_BEGAN, PHASE: RESTORE_SRIOV}),
            json!({KIND: PHASE_ENDED, PHASE: RESTORE_SRIOV, "outcome": "done", "exit": 0}),
            restore(json!({EVENT: VF_BOUND, "part": vf})),
            restore(json!({EVENT: VF_ARRIVED, "part": vf, "name": "eth0", "first_seen_as": null})),
            restore(json!({EVENT: VF_DONE, "part": vf, "steps": 3, "failure": null})),
        ];
        assert_eq!(json!({"part": vf}).pointer(VF).and_then(|vf| vf.get(INDEX)), Some(&json!(0)));
        for mut line in stages.chain(phases) {
            let common =
                json!({"schema": 1, "at": "2026-01-02T03:04:05Z", UPTIME: 7, "boot_id": "boot", "pid": 1});
            line.as_object_mut().unwrap().extend(common.as_object().unwrap().clone());
            let event: JournalEvent = serde_json::from_value(line.clone()).unwrap();
            assert_eq!(serde_json::to_value(event).unwrap(), line);
        }
        assert_eq!(Phase::RestoreSriov.as_str(), RESTORE_SRIOV);
    }
}

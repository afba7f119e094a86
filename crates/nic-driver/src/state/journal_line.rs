//! One line of the journal: what is common to all, whichever version wrote it, and what is read of one that a later version wrote.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use nic_host::BootId;
use serde::{Deserialize, Serialize};

use super::journal_entry::{Entry, UnknownEntry};
use super::schema_error::VERSION;

/// The version of a line's form. Lines of the first form do not tell it, nor who wrote them.
const LINE_SCHEMA: u32 = 2;

/// One line of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalEvent {
    /// Wall-clock time.
    pub at: Timestamp,
    /// Time since boot, sleep included, in milliseconds: durations are taken from this one, which no clock
    /// adjustment moves.
    pub uptime_ms: Uptime,
    /// The boot.
    pub boot_id: BootId,
    /// The process that wrote it.
    pub pid: u32,
    /// Which version wrote it, and as which line of which run.
    #[serde(flatten)]
    pub origin: LineOrigin,
    /// What happened.
    #[serde(flatten)]
    pub entry: Entry,
}

/// Who wrote a line. A line of the first form does not tell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineOrigin {
    /// The version of the line's form.
    #[serde(default = "first_form")]
    pub schema: u32,
    /// The version of this program that wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writer: Option<String>,
    /// The run that wrote it: a process from its start to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    /// Which line of the run it is, from 1. One that could not be written is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
}

fn first_form() -> u32 {
    1
}

impl Default for LineOrigin {
    /// What a line of the first form tells.
    fn default() -> Self {
        Self { schema: first_form(), writer: None, run: None, seq: None }
    }
}

/// A run: a process from its start to its end. Process numbers come again, in each container and over time; this does not.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(String);

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for RunId {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// Numbers the lines of this run. Clones go on with the same numbers.
#[derive(Debug, Clone)]
pub(super) struct LineNumbers {
    run: RunId,
    last: Arc<AtomicU64>,
}

impl LineNumbers {
    /// Those of a run that begins now. Within a boot no two begin in the same nanosecond of a process of the same number.
    pub(super) fn begin() -> Self {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let run = RunId(format!("{:x}.{:09}-{}", now.tv_sec, now.tv_nsec, std::process::id()));
        Self { run, last: Arc::default() }
    }

    /// The next line's.
    pub(super) fn next(&self) -> LineOrigin {
        LineOrigin {
            schema: LINE_SCHEMA,
            writer: Some(VERSION.to_owned()),
            run: Some(self.run.clone()),
            seq: Some(self.last.fetch_add(1, Ordering::Relaxed) + 1),
        }
    }
}

/// A time since some boot, in milliseconds. Two of them say nothing of one another without their boots:
/// [`JournalEvent::ms_until`] knows both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Uptime(u64);

impl Uptime {
    /// This many milliseconds.
    #[must_use]
    pub fn from_ms(milliseconds: u64) -> Self {
        Self(milliseconds)
    }

    /// What it is now.
    pub(super) fn now() -> Self {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let milliseconds = time.tv_sec.saturating_mul(1000).saturating_add(time.tv_nsec / 1_000_000);
        Self(u64::try_from(milliseconds).unwrap_or(0))
    }
}

impl JournalEvent {
    /// The time from this event to a later one, in milliseconds; 0 where that is earlier. Over a boot of the machine it is the clock's.
    #[must_use]
    pub fn ms_until(&self, later: &Self) -> u64 {
        if self.boot_id == later.boot_id {
            return later.uptime_ms.0.saturating_sub(self.uptime_ms.0);
        }
        u64::try_from(later.at.duration_since(self.at).as_millis()).unwrap_or(0)
    }
}

/// What every line of every version has.
#[derive(Deserialize)]
struct AnyLine {
    at: Timestamp,
    uptime_ms: Uptime,
    boot_id: BootId,
    pid: u32,
    #[serde(flatten)]
    origin: LineOrigin,
    #[serde(flatten)]
    entry: UnknownEntry,
}

/// Reads a line. One that this version cannot read is no damage where another version wrote it, or where it is of a kind that this version
/// does not have: it is kept as it is.
pub(super) fn parse(line: &[u8]) -> Result<JournalEvent, serde_json::Error> {
    serde_json::from_slice(line).or_else(|error| {
        let Ok(AnyLine { at, uptime_ms, boot_id, pid, origin, entry }) = serde_json::from_slice(line) else {
            return Err(error);
        };
        let is_of_another = origin.writer.as_deref().is_some_and(|writer| writer != VERSION);
        if !is_of_another && origin.schema <= LINE_SCHEMA && Entry::KINDS.contains(&entry.kind.as_str()) {
            return Err(error);
        }
        Ok(JournalEvent { at, uptime_ms, boot_id, pid, origin, entry: Entry::Unknown(entry) })
    })
}

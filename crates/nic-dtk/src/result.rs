//! How a build ended, as the sidecar writes it down.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::request::{AttemptId, Schema};
use crate::text::printable;

/// The most bytes of a result: ten thousand packages, or a log's end.
pub(crate) const LARGEST_RESULT: u64 = 4 << 20;

/// `result.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BuildResult {
    pub(crate) schema: Schema,
    /// The request's, where there was one.
    pub(crate) attempt: Option<AttemptId>,
    /// The request's, where there was one: the proof of what was built.
    pub(crate) digest: Option<Digest>,
    pub(crate) outcome: Outcome,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub(crate) enum Outcome {
    Built { packages: Vec<PackageRecord> },
    Failed(BuildFailed),
}

/// A package as the sidecar built it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct PackageRecord {
    pub(crate) name: String,
    pub(crate) size: u64,
    pub(crate) sha256: Digest,
}

/// A build that failed, with the sidecar's own words. They come from the shared folder: they are shown, and decide
/// nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("the build sidecar says that the build failed: {reason}")]
pub struct BuildFailed {
    /// Why.
    pub reason: String,
    /// The last lines of the build's log.
    pub log_tail: Vec<String>,
}

impl BuildFailed {
    /// The same without anything that a terminal would obey, and bounded.
    pub(crate) fn printable(&self) -> Self {
        let log_tail = self.log_tail.iter().rev().take(MOST_LINES).rev();
        Self {
            reason: printable(&self.reason, LONGEST_REASON),
            log_tail: log_tail.map(|line| printable(line, LONGEST_LINE)).collect(),
        }
    }
}

/// The most lines of a log's end, and the most characters of each.
pub(crate) const MOST_LINES: usize = 200;
pub(crate) const LONGEST_LINE: usize = 500;
const LONGEST_REASON: usize = 4000;

//! What came of a restore: plain data.

use nic_netlink::LinkName;
use serde::{Deserialize, Serialize};

use crate::attribute::Attribute;
use crate::plan::SkippedPf;
use crate::{Component, Difference};

/// A step that failed. Whether that matters is for the verification to say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepFailure {
    /// What it was for.
    #[serde(rename = "part")]
    pub component: Component,
    /// The step.
    pub step: String,
    /// The attributes that it was to set.
    pub attributes: Vec<Attribute>,
    /// The error and its causes.
    pub cause: String,
    /// Whether the driver says that it has no such attribute (EOPNOTSUPP).
    pub unsupported: bool,
}

/// How one VF fared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VfOutcome {
    /// Which VF.
    #[serde(rename = "part")]
    pub component: Component,
    /// Its netdev's name at the end, where it has one.
    pub name: Option<LinkName>,
    /// The name its netdev was first seen under, when that was another.
    pub first_seen_as: Option<String>,
    /// How long its netdev was waited for, in milliseconds.
    pub waited_ms: Option<u64>,
    /// How many steps it took; 0 when it already was what it was.
    pub steps: usize,
    /// Whether it had to be bound a second time.
    pub retried: bool,
    /// Whether it now is what the snapshot says.
    pub verified: bool,
}

/// What came of a restore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreOutcome {
    /// The PFs that were left alone, each with what stood in the way of its restore.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<SkippedPf>,
    /// How many changes were made to the machine.
    pub steps: usize,
    /// Each VF.
    pub vfs: Vec<VfOutcome>,
    /// Steps that failed.
    pub failures: Vec<StepFailure>,
    /// What is different from the snapshot now.
    pub differences: Vec<Difference>,
}

impl RestoreOutcome {
    /// Whether the machine was read back and equals the snapshot, but for what cannot be equal.
    #[must_use]
    pub fn is_verified(&self) -> bool {
        self.skipped.is_empty() && !self.differences.iter().any(Difference::is_wrong)
    }

    /// How many VFs were first seen under another name than the one udev gave them in the end.
    #[must_use]
    pub fn renamed_after_arrival(&self) -> usize {
        self.vfs.iter().filter(|vf| vf.first_seen_as.is_some()).count()
    }
}

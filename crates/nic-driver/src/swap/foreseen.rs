//! What a look tells beside what stands in the way.

use std::fmt;

use serde::{Serialize, Serializer};

use super::blocker::Blocker;

/// Something that a reload does not do, with its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// A module, or a hook.
    pub what: String,
    /// Why it is left out.
    pub reason: String,
}

impl LeftOut {
    pub(crate) fn new(what: impl fmt::Display, reason: impl Into<String>) -> Self {
        Self { what: what.to_string(), reason: reason.into() }
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.reason)
    }
}

/// In JSON it is its text.
impl Serialize for LeftOut {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What a reload passes over, leaves out, takes away for its time, or does not give back.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Foreseen {
    /// What stands in the way, and is passed over since somebody knows better ([`crate::Settings::assume_ok`]).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub assumed: Vec<Blocker>,
    /// Modules that are loaded now or listed, will not be loaded, and do not keep the driver from coming up, and hooks that will not be
    /// run: each with its reason.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<LeftOut>,
    /// What hangs on the NICs, goes with the driver and is not given back: each with its reason.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<String>,
    /// What the node does without for the time of a swap, and has again afterwards.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub meanwhile: Vec<String>,
}

impl Foreseen {
    /// What is passed over, a line each.
    pub(crate) fn assumptions(&self) -> impl Iterator<Item = String> {
        self.assumed.iter().map(|blocker| format!("assumed to be in order: {}", blocker.what))
    }

    /// What will come of a swap, a line each.
    pub(crate) fn outcome(&self) -> impl Iterator<Item = String> {
        let left_out = self.left_out.iter().map(|left_out| format!("left out: {left_out}"));
        let lost = self.lost.iter().map(|lost| format!("lost: {lost}"));
        let away = self.meanwhile.iter().map(|away| format!("meanwhile away: {away}"));
        left_out.chain(lost).chain(away)
    }

    /// All of it in one line; `None` where there is nothing.
    pub(crate) fn told(&self) -> Option<String> {
        let all: Vec<String> = self.assumptions().chain(self.outcome()).collect();
        (!all.is_empty()).then(|| all.join("; "))
    }
}

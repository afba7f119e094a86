//! What a look tells beside what stands in the way.

use serde::Serialize;

use super::blocker::Blocker;

/// What a reload passes over, leaves out, takes away for its time, or does not give back.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Foreseen {
    /// What stands in the way, and is passed over since somebody knows better ([`crate::Settings::assume_ok`]).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub assumed: Vec<Blocker>,
    /// Modules that are loaded now or listed, will not be loaded, and do not keep the driver from coming up: each with its reason.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
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
        let left_out = self.left_out.iter().map(|module| format!("not loaded: {module}"));
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

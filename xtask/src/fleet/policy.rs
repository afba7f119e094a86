//! What the operator is told of an upgrade, as `upgradePolicy` of a `NicClusterPolicy` has it.

use std::str::FromStr;

use anyhow::{Context as _, ensure};
use clap::ValueEnum;

use super::SECOND_MS;

/// What an upgrade is played by.
#[derive(Debug, Clone)]
pub(super) struct Policy {
    /// 0 for as many as there are.
    pub(super) max_parallel: u32,
    pub(super) max_unavailable: Limit,
    pub(super) drain: Option<Drain>,
    /// `None` for never.
    pub(super) drain_timeout_ms: Option<u64>,
    pub(super) safe_load: bool,
    /// How long one step of the operator takes.
    pub(super) step_ms: u64,
    pub(super) build: Build,
    pub(super) kernels: u32,
    pub(super) attention: Attention,
}

/// What people do about nodes that are stuck.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attention {
    /// After how long a node has been dealt with.
    pub(super) after_ms: u64,
    /// How many must be stuck for the upgrade to be stopped then.
    pub(super) stop_at: u32,
}

/// Where packages come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Build {
    /// Each node builds its own
    Node,
    /// The first node of each kernel builds, and the others wait for it: an inventory that they share
    Kernel,
    /// Images have the modules
    No,
}

/// A number of nodes, or a share of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limit {
    Nodes(u32),
    Percent(u32),
}

impl Limit {
    /// Of so many nodes; a share is rounded up, as the operator does it (k8s-operator-libs `pkg/upgrade/upgrade_inplace.go`,
    /// `ProcessUpgradeRequiredNodes`).
    fn of(self, nodes: u32) -> u32 {
        match self {
            Self::Nodes(limit) => limit.min(nodes),
            Self::Percent(percent) => {
                let limit = (u64::from(nodes) * u64::from(percent)).div_ceil(100);
                u32::try_from(limit).unwrap_or(nodes).min(nodes)
            }
        }
    }
}

impl FromStr for Limit {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let limit = match text.strip_suffix('%') {
            Some(percent) => Self::Percent(percent.parse().context("no number before the %")?),
            None => Self::Nodes(text.parse().context("neither a number nor a share in %")?),
        };
        ensure!(!matches!(limit, Self::Nodes(0) | Self::Percent(0)), "with 0, no node is ever upgraded");
        Ok(limit)
    }
}

/// How long a drain takes, at least and at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Drain {
    pub(super) from_ms: u64,
    pub(super) to_ms: u64,
}

impl FromStr for Drain {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (from, to) = text.split_once('-').unwrap_or((text, text));
        let seconds = |text: &str| -> anyhow::Result<u64> {
            Ok(u64::from(text.parse::<u32>().context("no number of seconds")?) * SECOND_MS)
        };
        let drain = Self { from_ms: seconds(from)?, to_ms: seconds(to)? };
        ensure!(drain.from_ms <= drain.to_ms, "it ends before it begins");
        Ok(drain)
    }
}

impl Policy {
    /// How many nodes are under way at a time. One that has failed, or waits for a person, is one of them, and it stays cordoned: so
    /// many hold up the rest (k8s-operator-libs `pkg/upgrade/common_manager.go`, `GetUpgradesInProgress` and
    /// `GetUpgradesAvailable`).
    pub(super) fn places(&self, nodes: u32) -> u32 {
        let unavailable = self.max_unavailable.of(nodes);
        if self.max_parallel == 0 { unavailable } else { self.max_parallel.min(unavailable) }
    }

    /// The operator's steps before the container is exchanged: cordon, wait for jobs, drain, exchange.
    pub(super) fn before_ms(&self) -> u64 {
        4 * self.step_ms
    }

    /// The operator's steps behind it: unblock the load, with `safeLoad`; uncordon; done.
    pub(super) fn behind_ms(&self) -> u64 {
        (if self.safe_load { 3 } else { 2 }) * self.step_ms
    }

    pub(super) fn describe(&self, nodes: u32) -> String {
        let drain = match self.drain {
            None => "cordoned, not drained".to_owned(),
            Some(drain) => {
                let timeout = match self.drain_timeout_ms {
                    None => "never given up".to_owned(),
                    Some(ms) => format!("given up after {} s", ms / SECOND_MS),
                };
                format!(
                    "drained in {} to {} s, {timeout}",
                    drain.from_ms / SECOND_MS,
                    drain.to_ms / SECOND_MS
                )
            }
        };
        let build = match self.build {
            Build::Node => "each node builds".to_owned(),
            Build::Kernel => format!("built once for each of {} kernels", self.kernels),
            Build::No => "images have the modules".to_owned(),
        };
        format!(
            "{nodes} nodes, {} at a time; {drain}; {build}; {} s for a step of the operator{}; a stuck node is looked at after \
             {} min, and {} of them end the upgrade\n",
            self.places(nodes),
            self.step_ms / SECOND_MS,
            if self.safe_load { ", with safeLoad" } else { "" },
            self.attention.after_ms / super::MINUTE_MS,
            self.attention.stop_at,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_numbers_or_shares_that_are_rounded_up() {
        for (text, nodes, expected) in
            [("5", 10, 5), ("50", 10, 10), ("25%", 10, 3), ("100%", 7, 7), ("1%", 1, 1)]
        {
            assert_eq!(text.parse::<Limit>().ok().map(|limit| limit.of(nodes)), Some(expected), "{text}");
        }
        for text in ["0", "0%", "%", "-1", "x", ""] {
            assert!(text.parse::<Limit>().is_err(), "{text}");
        }
    }

    #[test]
    fn drains_are_one_time_or_two() {
        let drain = |from_ms, to_ms| Some(Drain { from_ms, to_ms });
        for (text, expected) in
            [("60", drain(60_000, 60_000)), ("10-90", drain(10_000, 90_000)), ("9-1", None), ("-", None)]
        {
            assert_eq!(text.parse::<Drain>().ok(), expected, "{text}");
        }
    }
}

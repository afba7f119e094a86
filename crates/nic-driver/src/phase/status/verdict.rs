//! What is seen of a node, in one sentence, and what to do next. Pure.

use serde::Serialize;

use super::{ModulesStatus, SnapshotStatus, StatusSeen};
use crate::state::SnapshotStage;
use crate::swap::list;

/// How the node is: the line that is read first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StatusVerdict {
    /// In a word.
    pub level: StatusLevel,
    /// In a sentence.
    pub text: String,
    /// What to do next, where something is to be done.
    pub next: Option<String>,
}

/// How a node is, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StatusLevel {
    /// It may be used, and nothing is to be done.
    Ready,
    /// Another nic-driver is at work.
    AtWork,
    /// The installed driver is not the one that runs, or part of it is missing.
    ReloadDue,
    /// The installed driver was tried, and rolled back.
    RolledBack,
    /// Nothing is owed, and it may not be used yet.
    NotReady,
    /// The NICs are owed what a snapshot says.
    Owed,
    /// Something cannot be read, so that nobody can tell.
    NotKnown,
}

impl StatusLevel {
    /// The word, as it stands before the sentence.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Ready => "READY",
            Self::AtWork => "AT WORK",
            Self::ReloadDue => "RELOAD DUE",
            Self::RolledBack => "ROLLED BACK",
            Self::NotReady => "NOT READY",
            Self::Owed => "OWED",
            Self::NotKnown => "NOT KNOWN",
        }
    }
}

fn verdict(level: StatusLevel, text: impl Into<String>, next: Option<&str>) -> StatusVerdict {
    StatusVerdict { level, text: text.into(), next: next.map(str::to_owned) }
}

/// The first that holds: what somebody does already, what cannot be read, what is owed, what was tried, what is due.
pub(super) fn of(seen: &StatusSeen) -> StatusVerdict {
    if let Some(holder) = &seen.at_work {
        let text = format!("another nic-driver is at work ({holder})");
        return verdict(StatusLevel::AtWork, text, Some("nic-driver status --watch, until it has ended"));
    }
    not_readable(seen).or_else(|| owed(seen)).or_else(|| due(seen)).unwrap_or_else(|| settled(seen))
}

fn not_readable(seen: &StatusSeen) -> Option<StatusVerdict> {
    if let SnapshotStatus::Unusable(_) = &seen.snapshot {
        let text = "the stored snapshot cannot be used, and with it what the NICs are owed is not known";
        let next = "look at it; nic-driver snapshot sets it aside, and takes a new one of what is there now";
        return Some(verdict(StatusLevel::NotKnown, text, Some(next)));
    }
    if seen.pfs_not_known.is_some() {
        let text = "the kernel does not list the netdevs: something hangs in it";
        return Some(verdict(StatusLevel::NotKnown, text, Some("dmesg tells of tasks that hang")));
    }
    let ModulesStatus::Unknown(why) = &seen.modules else { return None };
    let text = format!("the modules that run cannot be compared with the installed ones: {why}");
    let next = "nic-driver install the packages for this kernel; depmod where only its index is missing";
    Some(verdict(StatusLevel::NotKnown, text, Some(next)))
}

fn owed(seen: &StatusSeen) -> Option<StatusVerdict> {
    let SnapshotStatus::Present { taken_at, stage: SnapshotStage::Armed { .. }, differences } =
        &seen.snapshot
    else {
        return None;
    };
    let how_many =
        match differences.as_ref().map(|differences| differences.iter().filter(|one| one.is_wrong()).count())
        {
            None => "what differs is not known".to_owned(),
            Some(0) => "none of its settings differs, which nobody has verified".to_owned(),
            Some(1) => "1 setting differs".to_owned(),
            Some(count) => format!("{count} settings differ"),
        };
    let text = format!(
        "a swap has not been finished: the NICs are owed what the snapshot of {taken_at} says; {how_many}"
    );
    let next = if is_driver_to_come(seen) {
        "nic-driver reload, which goes on from there, then nic-driver restore-sriov"
    } else {
        "nic-driver restore-sriov"
    };
    Some(verdict(StatusLevel::Owed, text, Some(next)))
}

/// Whether a reload has something to load.
fn is_driver_to_come(seen: &StatusSeen) -> bool {
    match &seen.modules {
        ModulesStatus::Compared { reload_due, missing, .. } => *reload_due || !missing.is_empty(),
        ModulesStatus::Unknown(_) => false,
    }
}

fn due(seen: &StatusSeen) -> Option<StatusVerdict> {
    let ModulesStatus::Compared { reload_due, missing, .. } = &seen.modules else { return None };
    let ready = if seen.ready { "the node is ready" } else { "the node is not ready" };
    if *reload_due && let Some(record) = &seen.rolled_back {
        let text = format!(
            "the installed driver was tried and rolled back at {}: {}; {ready}",
            record.at, record.reason
        );
        let next = "nic-driver reload --retry-rolled-back tries it again; nic-driver restore-sriov --from-record makes the node ready as it is";
        return Some(verdict(StatusLevel::RolledBack, text, Some(next)));
    }
    if *reload_due {
        let text = format!("the installed driver is not the one that runs; {ready}");
        let next = "nic-driver preflight tells what stands in the way, nic-driver reload swaps";
        return Some(verdict(StatusLevel::ReloadDue, text, Some(next)));
    }
    if missing.is_empty() {
        return None;
    }
    let text = format!("the installed driver runs without {}; {ready}", list(missing));
    Some(verdict(
        StatusLevel::ReloadDue,
        text,
        Some("nic-driver reload loads what is missing, and unloads nothing"),
    ))
}

fn settled(seen: &StatusSeen) -> StatusVerdict {
    let vfs: u32 = seen.pfs.iter().map(|pf| pf.num_vfs).sum();
    let nics = format!("{} PFs with {vfs} VFs", seen.pfs.len());
    if seen.ready {
        let text = format!("the installed driver runs, nothing is owed to {nics}");
        return verdict(StatusLevel::Ready, text, None);
    }
    if seen.pfs.is_empty() && seen.not_known.is_empty() {
        let next = "--family names the kind of NIC; lspci -k tells which driver is bound";
        return verdict(StatusLevel::NotReady, "there is no PF of this family", Some(next));
    }
    if let SnapshotStatus::Present { stage: SnapshotStage::ByHand, differences: Some(differences), .. } =
        &seen.snapshot
        && differences.iter().any(nic_sriov::Difference::is_wrong)
    {
        let text = "the NICs are not what the snapshot says that was taken by hand";
        let next = "nic-driver plan restore-sriov tells what would be done, nic-driver restore-sriov does it";
        return verdict(StatusLevel::NotReady, text, Some(next));
    }
    let text =
        format!("the installed driver runs, nothing is owed to {nics}, and nobody has made the node ready");
    verdict(StatusLevel::NotReady, text, Some("nic-driver restore-sriov, when the PFs are up"))
}

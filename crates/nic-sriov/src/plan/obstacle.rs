//! What makes a snapshot impossible to restore on the machine as it is.

use std::fmt;

use nic_host::ForeignWord;
use serde::{Deserialize, Serialize};

use crate::{DeviceAddress, NicState, PciAddress, PciId, PfSeen, PfState, Usage};

/// Why a snapshot cannot be restored on this machine, known before anything is changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestoreObstacle {
    /// The PF is gone, or another driver has it.
    #[error(
        "PF {pf} had the driver {} when the snapshot was taken; now {}",
        ForeignWord(driver),
        ForeignWord(found)
    )]
    PfUnavailable {
        /// The PF.
        pf: DeviceAddress,
        /// The driver it had.
        driver: String,
        /// What was found.
        found: String,
    },
    /// The PF cannot be observed.
    #[error("PF {pf} cannot be observed: {reason}")]
    Unreadable {
        /// The PF.
        pf: DeviceAddress,
        /// The error and its causes.
        reason: String,
    },
    /// Another card sits in the slot.
    #[error("PF {pf} was a {wanted} when the snapshot was taken; now a {found} is there: another card")]
    OtherCard {
        /// The PF's address.
        pf: DeviceAddress,
        /// What card it was.
        wanted: PciId,
        /// What card is there.
        found: PciId,
    },
    /// The PF has no SR-IOV now.
    #[error("PF {pf} had {wanted} VFs when the snapshot was taken; now it has no SR-IOV (no sriov_totalvfs)")]
    NoSriov {
        /// The PF.
        pf: DeviceAddress,
        /// How many VFs it had.
        wanted: u32,
    },
    /// VFs would have to be removed, and one is in use.
    #[error(
        "PF {pf} had {wanted} VFs when the snapshot was taken and has {found} now; they cannot be removed, because {vf} {usage}"
    )]
    VfInUse {
        /// The PF.
        pf: DeviceAddress,
        /// How many VFs it had.
        wanted: u32,
        /// How many it has.
        found: u32,
        /// The VF.
        vf: PciAddress,
        /// By whom, or why that cannot be told.
        usage: Box<Usage>,
    },
    /// The eswitch would have to change its mode under a VF that is in use.
    #[error(
        "the eswitch of PF {pf} has to {change}, which takes the drivers from its VFs; that cannot be, because {vf} {usage}"
    )]
    ModeUnderVfInUse {
        /// The PF.
        pf: DeviceAddress,
        /// What the eswitch has to do.
        change: String,
        /// The VF.
        vf: PciAddress,
        /// By whom, or why that cannot be told.
        usage: Box<Usage>,
    },
    /// The PF can have fewer VFs now.
    #[error("PF {pf} had {wanted} VFs when the snapshot was taken; now it can have {total} (sriov_totalvfs)")]
    TooFewVfs {
        /// The PF.
        pf: DeviceAddress,
        /// How many VFs it had.
        wanted: u32,
        /// `sriov_totalvfs`.
        total: u32,
    },
}

impl RestoreObstacle {
    /// What kind of obstacle it is, for programs.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::PfUnavailable { .. } => "pf_unavailable",
            Self::Unreadable { .. } => "pf_not_known",
            Self::OtherCard { .. } => "other_card",
            Self::NoSriov { .. } => "no_sriov",
            Self::VfInUse { .. } => "vf_in_use",
            Self::ModeUnderVfInUse { .. } => "mode_under_vf_in_use",
            Self::TooFewVfs { .. } => "too_few_vfs",
        }
    }

    /// The PF that it stands in the way of. The others can be restored.
    #[must_use]
    pub fn pf(&self) -> &DeviceAddress {
        match self {
            Self::PfUnavailable { pf, .. }
            | Self::Unreadable { pf, .. }
            | Self::OtherCard { pf, .. }
            | Self::NoSriov { pf, .. }
            | Self::VfInUse { pf, .. }
            | Self::ModeUnderVfInUse { pf, .. }
            | Self::TooFewVfs { pf, .. } => pf,
        }
    }
}

/// A PF that a restore has left alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkippedPf {
    /// The PF.
    pub pf: DeviceAddress,
    /// Everything that stood in the way of its restore.
    pub reasons: Vec<String>,
}

impl fmt::Display for SkippedPf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reasons.join("; "))
    }
}

/// The saved PFs that can be restored, and those that are left alone: one PF's obstacle is no other PF's.
#[must_use]
pub(crate) fn without_blocked_pfs(
    saved: &NicState,
    obstacles: &[RestoreObstacle],
) -> (NicState, Vec<SkippedPf>) {
    let reasons = |pf: &DeviceAddress| -> Vec<String> {
        obstacles.iter().filter(|obstacle| obstacle.pf() == pf).map(ToString::to_string).collect()
    };
    let skipped: Vec<SkippedPf> = saved
        .pfs
        .iter()
        .map(|pf| SkippedPf { pf: pf.address.clone(), reasons: reasons(&pf.address) })
        .filter(|pf| !pf.reasons.is_empty())
        .collect();
    let mut restorable = saved.clone();
    restorable.pfs.retain(|pf| !skipped.iter().any(|skipped| skipped.pf == pf.address));
    (restorable, skipped)
}

/// What makes the snapshot impossible to restore on the machine as it is.
#[must_use]
pub fn obstacles(saved: &NicState, found: &NicState) -> Vec<RestoreObstacle> {
    let mut obstacles = Vec::new();
    for pf in &saved.pfs {
        obstacles.extend(match found.pf(&pf.address) {
            PfSeen::Here(now) => obstacles_of(pf, now),
            PfSeen::Unread(unread) => {
                vec![RestoreObstacle::Unreadable { pf: pf.address.clone(), reason: unread.to_string() }]
            }
            PfSeen::Gone => vec![unavailable(pf, "the device is gone".to_owned())],
        });
    }
    obstacles
}

fn unavailable(pf: &PfState, found: String) -> RestoreObstacle {
    let driver = pf.driver.clone().unwrap_or_else(|| "none".to_owned());
    RestoreObstacle::PfUnavailable { pf: pf.address.clone(), driver, found }
}

fn obstacles_of(pf: &PfState, now: &PfState) -> Vec<RestoreObstacle> {
    let mut obstacles = Vec::new();
    if let (Some(wanted), Some(found)) = (&pf.pci_id, &now.pci_id)
        && wanted != found
    {
        let (wanted, found) = (wanted.clone(), found.clone());
        obstacles.push(RestoreObstacle::OtherCard { pf: pf.address.clone(), wanted, found });
    }
    if now.driver != pf.driver {
        let found = now.driver.as_ref();
        let found = found.map_or("it has no driver".to_owned(), |driver| format!("it has {driver}"));
        obstacles.push(unavailable(pf, found));
    }
    match now.total_vfs {
        None if pf.num_vfs > 0 => {
            obstacles.push(RestoreObstacle::NoSriov { pf: pf.address.clone(), wanted: pf.num_vfs });
        }
        Some(total) if total < pf.num_vfs => {
            let pf_address = pf.address.clone();
            obstacles.push(RestoreObstacle::TooFewVfs { pf: pf_address, wanted: pf.num_vfs, total });
        }
        None | Some(_) => {}
    }
    obstacles
}

//! Why one step of a restore failed.

use std::time::Duration;

use nic_netlink::LinkName;
use rustix::io::Errno;

use crate::arrivals::ArrivalError;
use crate::machine::MachineError;
use crate::sysfs::VfWriteError;
use crate::{NameTaken, ObserveError};

/// A step that failed, on the machine or before it was tried.
#[derive(Debug, thiserror::Error)]
pub(super) enum StepError {
    #[error(transparent)]
    Machine(#[from] MachineError),
    #[error(transparent)]
    Vf(#[from] VfWriteError),
    #[error(transparent)]
    Arrival(#[from] ArrivalError),
    #[error(transparent)]
    Observe(#[from] ObserveError),
    #[error("there is no interface {0} to join")]
    NoMaster(LinkName),
    #[error("the PF has no netdev")]
    NoUplink,
    #[error(transparent)]
    Taken(NameTaken),
    #[error("another interface has the name")]
    StillTaken,
    #[error("the restore had not finished when the {} s for all of it were over", .0.as_secs())]
    OutOfTime(Duration),
    #[error("the VF is gone")]
    Gone,
    #[error("the VF has no PCI address")]
    NoAddress,
}

impl StepError {
    pub(super) fn errno(&self) -> Option<Errno> {
        match self {
            Self::Machine(error) => error.errno(),
            _ => None,
        }
    }

    /// Whether the VF is to be left alone, so that no second try is made.
    pub(super) fn leaves_alone(&self) -> bool {
        matches!(
            self,
            Self::Vf(VfWriteError::InUse { .. }) | Self::Machine(MachineError::Vf(VfWriteError::NotVf(_)))
        )
    }
}

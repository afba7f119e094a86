//! Why one step of a restore failed.

use std::time::Duration;

use nic_host::DeadlineWriteError;
use nic_netlink::{ChangeError, EswitchError, LinkName, VfChangeError};
use rustix::io::Errno;

use crate::arrivals::ArrivalError;
use crate::sysfs::VfWriteError;
use crate::{NameTaken, ObserveError};

/// A step on sysfs or netlink that failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum StepError {
    #[error(transparent)]
    Vf(#[from] VfWriteError),
    #[error(transparent)]
    Write(#[from] DeadlineWriteError),
    #[error(transparent)]
    VfAttribute(#[from] VfChangeError),
    #[error(transparent)]
    Netlink(#[from] ChangeError),
    #[error(transparent)]
    Eswitch(#[from] EswitchError),
    #[error(transparent)]
    Arrival(#[from] ArrivalError),
    #[error(transparent)]
    Observe(#[from] ObserveError),
    #[error("this kernel has no devlink")]
    NoDevlink,
    #[error("there is no interface {0} to join")]
    NoMaster(LinkName),
    #[error("the PF has no netdev")]
    NoUplink,
    #[error(transparent)]
    Taken(NameTaken),
    #[error("another interface has the name")]
    StillTaken,
    #[error("the restore had not finished when the {} s for the whole restore were over", .0.as_secs())]
    OutOfTime(Duration),
    #[error("the VF is gone")]
    Gone,
    #[error("the VF has no PCI address")]
    NoAddress,
}

impl StepError {
    pub(super) fn errno(&self) -> Option<Errno> {
        match self {
            Self::Vf(VfWriteError::Write(error)) | Self::Write(error) => error.errno(),
            Self::Netlink(error) => error.errno(),
            Self::VfAttribute(error) => error.errno(),
            Self::Eswitch(error) => error.errno(),
            _ => None,
        }
    }
}

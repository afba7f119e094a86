use nic_host::DeadlineWriteError;
use nic_netlink::{ChangeError, EswitchError, RdmaError, VfChangeError};
use rustix::io::Errno;

use crate::sysfs::VfWriteError;

/// A change that the machine did not make.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MachineError {
    /// A write to sysfs about a VF.
    #[error(transparent)]
    Vf(#[from] VfWriteError),
    /// A write to sysfs.
    #[error(transparent)]
    Write(#[from] DeadlineWriteError),
    /// What a PF holds for a VF.
    #[error(transparent)]
    Admin(#[from] VfChangeError),
    /// A netdev.
    #[error(transparent)]
    Link(#[from] ChangeError),
    /// An eswitch.
    #[error(transparent)]
    Eswitch(#[from] EswitchError),
    /// An RDMA device.
    #[error(transparent)]
    Rdma(#[from] RdmaError),
    /// Eswitches are set over devlink alone.
    #[error("this kernel has no devlink")]
    NoDevlink,
}

impl MachineError {
    /// The kernel's errno, where it refused.
    pub(crate) fn errno(&self) -> Option<Errno> {
        match self {
            Self::Vf(VfWriteError::Write(error)) | Self::Write(error) => error.errno(),
            Self::Link(error) => error.errno(),
            Self::Admin(error) => error.errno(),
            Self::Eswitch(error) => error.errno(),
            Self::Rdma(error) => error.errno(),
            Self::Vf(_) | Self::NoDevlink => None,
        }
    }
}

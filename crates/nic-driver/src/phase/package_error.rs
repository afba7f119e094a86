use nic_host::{ReadError, WriteError};
use nic_packages::{
    CheckError, HostTreeError, InstallError, InstalledError as QueryError, ObserveError, ReadSetError,
    RemovalError, UnknownDistributionError,
};

use crate::Exit;
use crate::state::RecordError;

/// Packages could not be installed or removed. What runs is untouched.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// `/etc/os-release` could not be read.
    #[error(transparent)]
    OsRelease(#[from] ReadError),
    /// The distribution is not known.
    #[error(transparent)]
    Distribution(#[from] UnknownDistributionError),
    /// The packages could not be read.
    #[error(transparent)]
    Set(#[from] ReadSetError),
    /// The packages are not for this machine.
    #[error(transparent)]
    Check(#[from] CheckError),
    /// What is installed could not be seen before an installation.
    #[error(transparent)]
    Observe(#[from] ObserveError),
    /// The record of an earlier installation cannot be read.
    #[error("what was installed before cannot be told")]
    Installed(#[from] RecordError),
    /// A step of the installation failed.
    #[error(transparent)]
    Install(#[from] InstallError),
    /// The host's tree could not be given the modules, or the links to it not be taken away before.
    #[error("the modules in the host's tree could not be replaced")]
    HostTree(#[from] HostTreeError),
    /// What was installed could not be recorded.
    #[error("the packages are installed, and that could not be recorded")]
    Record(#[from] WriteError),
    /// What is installed could not be seen before a removal.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The packages could not be removed.
    #[error(transparent)]
    Remove(#[from] RemovalError),
    /// The host's module tree could not be given back what it was.
    #[error("what was put into the host's modules could not be taken out")]
    TakeOut(#[source] HostTreeError),
}

impl PackageError {
    /// Whether it is about the packages themselves: others would be taken.
    pub(super) fn is_of_packages(&self) -> bool {
        matches!(self, Self::Set(_) | Self::Check(_))
    }

    /// The exit code.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Distribution(_) | Self::Set(_) | Self::Check(_) => Exit::BadPackage,
            Self::OsRelease(_)
            | Self::Observe(_)
            | Self::Installed(_)
            | Self::Install(_)
            | Self::HostTree(_)
            | Self::Record(_)
            | Self::Query(_)
            | Self::Remove(_)
            | Self::TakeOut(_) => Exit::Failed,
        }
    }
}

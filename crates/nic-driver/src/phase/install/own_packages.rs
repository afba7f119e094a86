//! Packages that are nobody else's: what is installed or laid out is what was built or verified, whatever becomes of the place that
//! they came from.

use std::path::{Path, PathBuf};

use nic_build::{StoredPackage, TakeError, TemporaryPackages};
use nic_host::KernelRelease;
use nic_packages::PackageSet;

use super::own_folder::OwnFolder;
use super::put::read_set;
use crate::context::Context;
use crate::default_paths;
use crate::phase::error::PhaseError;
use crate::phase::obtain_error::ObtainError;
use crate::phase::package_error::PackageError;
use crate::state::{PhaseRecord, Step};

/// Packages in a folder of this container's own, which goes with the value.
#[derive(Debug)]
pub(in crate::phase) struct OwnPackages {
    /// They are for this machine and for the kernel that is built for.
    pub(in crate::phase) set: PackageSet,
    _folder: Folder,
}

#[derive(Debug)]
#[expect(dead_code, reason = "they are there to be dropped with the packages")]
enum Folder {
    Copied(TemporaryPackages),
    Fetched(OwnFolder),
}

/// Stored packages that are not to be installed: others are built.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unusable {
    /// Another process has changed them.
    #[error(transparent)]
    Changed(TakeError),
    /// A checksum says that they are what was stored, and not that this was right.
    #[error(transparent)]
    Packages(PackageError),
}

impl OwnPackages {
    /// Copies of packages that were built here.
    pub(super) fn copy(
        context: &Context,
        phase: &PhaseRecord,
        packages: &[PathBuf],
        kernel: &KernelRelease,
    ) -> Result<Self, PhaseError> {
        let folder = Path::new(default_paths::TEMPORARY_PACKAGES);
        let step = phase.step(Step::CopyPackages { folder: folder.to_path_buf() });
        let copied = step.record(TemporaryPackages::copy(&context.host, folder, packages));
        let copied = copied.map_err(ObtainError::from)?;
        let set = read_set(context, copied.folder(), kernel)?;
        Ok(Self { set, _folder: Folder::Copied(copied) })
    }

    /// Copies of packages of the inventory, each of which is what was verified there.
    pub(super) fn take(
        context: &Context,
        packages: &[StoredPackage],
        kernel: &KernelRelease,
    ) -> Result<Result<Self, Unusable>, PhaseError> {
        let folder = Path::new(default_paths::TEMPORARY_PACKAGES);
        let taken = match TemporaryPackages::take(&context.host, folder, packages) {
            Ok(taken) => taken,
            Err(changed @ TakeError::Changed { .. }) => return Ok(Err(Unusable::Changed(changed))),
            Err(TakeError::Store(error)) => return Err(ObtainError::from(error).into()),
        };
        match read_set(context, taken.folder(), kernel) {
            Ok(set) => Ok(Ok(Self { set, _folder: Folder::Copied(taken) })),
            Err(error) if error.is_of_packages() => Ok(Err(Unusable::Packages(error))),
            Err(error) => Err(error.into()),
        }
    }

    /// Packages that were copied out of the folder that is shared with the sidecar.
    pub(super) fn fetched(
        context: &Context,
        folder: OwnFolder,
        kernel: &KernelRelease,
    ) -> Result<Self, PhaseError> {
        let set = read_set(context, folder.path(), kernel)?;
        Ok(Self { set, _folder: Folder::Fetched(folder) })
    }

    /// Where the packages are.
    pub(super) fn paths(&self) -> Vec<PathBuf> {
        self.set.packages.iter().map(|package| package.path.clone()).collect()
    }
}

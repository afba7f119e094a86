use std::path::Path;

use nic_host::{Host, ReadError, WriteError};
use nic_packages::{
    Architecture, CheckError, DistributionFamily, HostTree, HostTreeError, InstallPlan, InstallRecord,
    InstallState, PackageSet, ReadSetError, UnknownDistributionError,
};
use serde::Serialize;

use super::Context;
use super::keep::{KeepError, keep_previous};
use crate::state::{InstalledError, PhaseRecord};
use crate::{Exit, Interrupted, LockError};

/// An installation that failed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The process is not root.
    #[error("installing packages needs root")]
    NotRoot,
    /// Another instance is at work.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// It was asked to stop.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
    /// The files of the running driver could not be kept.
    #[error(transparent)]
    Keep(#[from] KeepError),
    /// `/etc/os-release` could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The distribution is not known.
    #[error(transparent)]
    Distribution(#[from] UnknownDistributionError),
    /// The packages could not be read.
    #[error(transparent)]
    Set(#[from] ReadSetError),
    /// The packages are not for this machine.
    #[error(transparent)]
    Check(#[from] CheckError),
    /// What is installed could not be seen.
    #[error(transparent)]
    Observe(#[from] nic_packages::ObserveError),
    /// The record of an earlier installation is damaged.
    #[error(transparent)]
    Record(#[from] InstalledError),
    /// A step failed.
    #[error(transparent)]
    Install(#[from] nic_packages::InstallError),
    /// The host's tree could not be given the modules, or the links to it not be taken away before.
    #[error("the modules in the host's tree could not be exchanged")]
    HostTree(#[from] HostTreeError),
    /// What was installed could not be recorded.
    #[error("the packages are installed, and that could not be recorded")]
    Write(#[from] WriteError),
}

impl InstallError {
    /// The exit code.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::NotRoot => Exit::NotRoot,
            Self::Lock(error) => error.exit(),
            Self::Interrupted(_) => Exit::Interrupted,
            Self::Distribution(_) | Self::Set(_) | Self::Check(_) => Exit::BadPackage,
            Self::Read(_) | Self::Observe(_) | Self::Record(_) | Self::Keep(_) => Exit::Failed,
            // The package manager changed what is on the disk; what runs is untouched.
            Self::Install(_) | Self::HostTree(_) | Self::Write(_) => Exit::Failed,
        }
    }
}

/// What was installed.
#[derive(Debug, Clone, Serialize)]
pub struct Installed {
    /// The packages, or those that already were.
    pub record: InstallRecord,
    /// Whether anything had to be installed.
    pub changed: bool,
}

/// Installs the driver packages in `folder` and makes the kernel's module index anew.
///
/// What is on the disk changes, what runs does not: that is for [`super::reload`].
pub async fn install(context: &Context, folder: &Path) -> Result<Installed, InstallError> {
    if !Host::is_privileged() {
        return Err(InstallError::NotRoot);
    }
    let _lock = context.begin("install")?;
    let host = &context.host;
    let format = DistributionFamily::of(&host.os_release()?)?.package_format();
    let set = PackageSet::read(host, folder, format)?;
    set.check(&context.kernel, &Architecture::of_this_program())?;
    let earlier = context.store.installed()?;

    context.stop.check()?;
    let phase = context.journal.phase("install");
    let result = carry_out(context, &phase, &set, earlier).await;
    match &result {
        Ok(installed) if installed.changed => {
            phase.end(&format!("{} packages installed", installed.record.packages.len()), Exit::Success);
        }
        Ok(_) => phase.end("the packages were installed already", Exit::Success),
        Err(error) => phase.end(&crate::error_chain(error), error.exit()),
    }
    result
}

async fn carry_out(
    context: &Context,
    phase: &PhaseRecord,
    set: &PackageSet,
    earlier: Option<InstallRecord>,
) -> Result<Installed, InstallError> {
    let host = &context.host;
    let state = InstallState::observe(host, set, &context.kernel).await?;
    let plan = InstallPlan::new(set, &context.kernel, &state);
    let changed = plan.installs_packages();
    if changed && host.is_running_machine() {
        // The packages may replace the files of what runs, and those are the way back.
        keep_previous(context, phase)?;
        // A package manager is not interrupted.
        context.stop.check()?;
    }
    let host_tree = HostTree::find(host, &context.kernel);
    if changed && let Some(tree) = &host_tree {
        tree.unlink(host)?;
    }
    let step = phase.step(format!("install packages from {}", set.folder.display()));
    let mut record = step.record(plan.apply(host).await)?;
    // What an earlier version brought under another name is still ours to remove.
    let (packages, dkms_sources) =
        earlier.map(|earlier| (earlier.packages, earlier.dkms_sources)).unwrap_or_default();
    for package in packages {
        if !record.packages.iter().any(|installed| installed.name == package.name) {
            record.packages.push(package);
        }
    }
    for sources in dkms_sources {
        if !record.dkms_sources.contains(&sources) {
            record.dkms_sources.push(sources);
        }
    }
    context.store.put_installed(&record)?;
    if let Some(tree) = host_tree
        && tree.wants_modules(host)?
    {
        put_into_host_tree(context, phase, &tree, &record).await?;
    }
    Ok(Installed { record, changed })
}

/// Puts the modules into the host's tree, from which alone SELinux lets them be loaded.
async fn put_into_host_tree(
    context: &Context,
    phase: &PhaseRecord,
    tree: &HostTree,
    record: &InstallRecord,
) -> Result<(), InstallError> {
    let step = phase.step("put the modules into the host's tree");
    match tree.put(&context.host, &record.files).await {
        Ok(folders) => {
            let folders: Vec<_> = folders.iter().map(|folder| folder.display().to_string()).collect();
            step.ok(Some(folders.join(", ")).filter(|folders| !folders.is_empty()));
            Ok(())
        }
        Err(error @ HostTreeError::Foreign { .. }) => {
            step.failed(&error);
            tracing::warn!(error = crate::error_chain(&error), "the container's own modules are used");
            Ok(())
        }
        Err(error) => {
            step.failed(&error);
            Err(error.into())
        }
    }
}

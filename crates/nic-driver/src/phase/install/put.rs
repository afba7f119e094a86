//! Packages of a folder onto the disk, and into the host's tree.

use std::path::Path;

use nic_host::KernelRelease;
use nic_packages::{
    Architecture, DistributionFamily, HostTree, HostTreeError, InstallPlan, InstallRecord, InstallState,
    ModuleOrigin, PackageSet,
};

use crate::context::Context;
use crate::phase::error::PhaseError;
use crate::phase::package_error::PackageError;
use crate::state::{PhaseRecord, Step};
use crate::swap::back_up_running_modules;

/// Packages that are on the disk.
#[derive(Debug)]
pub(super) struct Put {
    /// What must be known to take them off again.
    pub(super) record: InstallRecord,
    /// Whether anything had to be installed.
    pub(super) changed: bool,
}

/// Reads the packages in `folder`, and makes sure that they are for this machine and `kernel`.
pub(in crate::phase) fn read_set(
    context: &Context,
    folder: &Path,
    kernel: &KernelRelease,
) -> Result<PackageSet, PackageError> {
    let host = &context.host;
    let format = DistributionFamily::of(&host.os_release()?)?.package_format();
    let set = PackageSet::read(host, folder, format)?;
    if let ModuleOrigin::Dkms { sources } = set.check(host, kernel, &Architecture::of_this_program())? {
        tracing::warn!(
            ?sources,
            "the packages hold no modules: they must be built by DKMS before a reload finds them"
        );
    }
    Ok(set)
}

/// Installs what of the packages is not installed yet, and makes the kernel's module index anew.
pub(super) async fn put(
    context: &Context,
    phase: &PhaseRecord,
    set: &PackageSet,
    earlier: Option<InstallRecord>,
) -> Result<Put, PhaseError> {
    let host = &context.host;
    let state = InstallState::observe(host, set, &context.kernel).await.map_err(PackageError::from)?;
    let plan = InstallPlan::new(set, &context.kernel, &state);
    let changed = plan.installs_packages();
    if changed {
        // The packages may replace the files of what runs, and those are the way back.
        back_up_running_modules(context, phase)?;
        // A package manager is not interrupted.
        context.begin_change()?;
    }
    let host_tree = HostTree::find(host, &context.kernel);
    if changed && let Some(tree) = &host_tree {
        tree.unlink(host).map_err(PackageError::from)?;
    }
    let step = phase.step(Step::InstallPackages { folder: set.folder.clone() });
    let mut record = step.record(plan.apply(host).await).map_err(PackageError::from)?;
    add_earlier(&mut record, earlier);
    context.store.write_installed(&record).map_err(PackageError::from)?;
    if let Some(tree) = host_tree
        && tree.wants_modules(host).map_err(PackageError::from)?
    {
        put_into_host_tree(context, phase, &tree, &record).await?;
    }
    Ok(Put { record, changed })
}

/// What an earlier version brought under another name is still ours to remove.
fn add_earlier(record: &mut InstallRecord, earlier: Option<InstallRecord>) {
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
}

/// Puts the modules into the host's tree, from which alone SELinux lets them be loaded.
async fn put_into_host_tree(
    context: &Context,
    phase: &PhaseRecord,
    tree: &HostTree,
    record: &InstallRecord,
) -> Result<(), PackageError> {
    let step = phase.step(Step::PutIntoHostTree);
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

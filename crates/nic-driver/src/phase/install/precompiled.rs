//! An image that has the modules: they are there for the running kernel, and indexed, or nothing goes on.

use nic_kmod::{ModuleIndex, ModuleIndexError};
use nic_packages::{DistributionFamily, InstallRecord, InstallStep, UnknownDistributionError};

use crate::context::Context;
use crate::phase::error::PhaseError;
use crate::phase::obtain_error::ObtainError;
use crate::phase::package_error::PackageError;
use crate::state::{PhaseRecord, Step};
use crate::swap::ModuleTree;

/// Looks for the modules without which the driver does not work, and indexes them where the image has not. Returns whether that had
/// to be done.
pub(super) async fn check_modules(context: &Context, phase: &PhaseRecord) -> Result<bool, PhaseError> {
    let (index, indexed) = match ModuleTree::Own.index(context) {
        Err(ModuleIndexError::NotIndexed { .. }) => {
            context.check_stop()?;
            let step = phase.step(Step::IndexModules);
            let depmod = InstallStep::Depmod { kernel: context.kernel.clone() }.invocation();
            let run = match &depmod {
                Some(depmod) => context.host.run(depmod).await.map(drop),
                None => Ok(()),
            };
            step.record(run).map_err(ObtainError::Depmod)?;
            (ModuleTree::Own.index(context)?, true)
        }
        index => (index?, false),
    };
    let step = phase.step(Step::CheckModules);
    match missing(context, &index) {
        None => {
            step.ok(None);
            Ok(indexed)
        }
        Some(error) => {
            step.failed(&error);
            Err(error)
        }
    }
}

/// In this container's own tree: what only the host's has is the driver that this one is to replace.
fn missing(context: &Context, index: &ModuleIndex) -> Option<PhaseError> {
    let modules = &context.family.modules;
    let needed = modules.identity.iter().take(1).chain(&modules.required);
    needed.into_iter().find(|module| index.lacks(module)).map(|module| PhaseError::NoModule {
        module: module.clone(),
        kernel: context.kernel.to_string(),
        folder: index.folder().to_path_buf(),
    })
}

/// The record of an installation of no packages, to which DKMS's sources can be added.
pub(super) fn empty_record(context: &Context) -> Result<InstallRecord, PackageError> {
    let family = match context.distribution {
        Some(family) => family,
        None => DistributionFamily::of(&context.host.os_release()?)
            .map_err(|error: UnknownDistributionError| PackageError::from(error))?,
    };
    Ok(InstallRecord {
        format: family.package_format(),
        packages: Vec::new(),
        kernel: context.kernel.clone(),
        files: Vec::new(),
        dkms_sources: Vec::new(),
    })
}

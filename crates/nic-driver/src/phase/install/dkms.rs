//! What packages have brought for DKMS, registered with it.

use nic_host::ReadError;
use nic_packages::{DkmsError, DkmsExtent, DkmsFacts, DkmsPlan, HostTree, InstallRecord, SystemctlStub};

use crate::context::Context;
use crate::phase::error::PhaseError;
use crate::phase::obtain_error::ObtainError;
use crate::phase::package_error::PackageError;
use crate::state::{PhaseRecord, Step};

/// What is to be known of DKMS on a host whose own tree modules are loaded from.
pub(super) const NOT_IN_HOST_TREE: &str = "what DKMS builds stays in this container's tree, from which a host that enforces SELinux lets \
    no module be loaded: there USE_DKMS=false is needed, with which the modules come into the host's tree";

/// Puts a `systemctl` without effect in place, which DKMS and packages' scriptlets call. An installation does not fail for it.
pub(super) fn install_stub(context: &Context) {
    match SystemctlStub::install(&context.host) {
        Ok(Some(stub)) => {
            tracing::info!(stub = %stub.display(), "there is no systemd: systemctl has no effect");
        }
        Ok(None) => {}
        Err(error) => tracing::warn!(
            error = crate::error_chain(&error),
            "there is no systemctl for those that call it; the installation goes on without"
        ),
    }
}

/// Registers the sources of the record's packages with DKMS; `extent` says whether modules are built from them, too. Returns whether
/// anything had to be done.
///
/// The sources are recorded before DKMS knows them, so that whoever undoes an installation that was cut off finds them.
pub(super) async fn register(
    context: &Context,
    phase: &PhaseRecord,
    extent: DkmsExtent,
    record: &mut InstallRecord,
) -> Result<bool, PhaseError> {
    context.check_stop()?;
    if misses_host_tree(context, extent).map_err(PackageError::from)? {
        tracing::warn!("{NOT_IN_HOST_TREE}");
    }
    let step = phase.step(Step::RegisterWithDkms);
    match plan_and_apply(context, extent, record).await {
        Ok(0) => {
            step.ok(Some("all of it is registered already".to_owned()));
            Ok(false)
        }
        Ok(steps) => {
            step.ok(Some(format!("{steps} steps")));
            Ok(true)
        }
        Err(error) => {
            step.failed(&error);
            Err(error.into())
        }
    }
}

/// Whether modules are built that the host wants in its own tree. DKMS puts them right into a folder of the container's that is none of
/// one package, so they are not copied there.
pub(super) fn misses_host_tree(context: &Context, extent: DkmsExtent) -> Result<bool, ReadError> {
    match HostTree::find(&context.host, &context.kernel) {
        Some(tree) if extent == DkmsExtent::Install => tree.wants_modules(&context.host),
        _ => Ok(false),
    }
}

async fn plan_and_apply(
    context: &Context,
    extent: DkmsExtent,
    record: &mut InstallRecord,
) -> Result<usize, ObtainError> {
    let plan = plan(context, extent, record).await?;
    for sources in &plan.sources {
        if !record.dkms_sources.contains(sources) {
            record.dkms_sources.push(sources.clone());
        }
    }
    context.store.write_installed(record)?;
    plan.apply(&context.host).await?;
    Ok(plan.steps.len())
}

async fn plan(context: &Context, extent: DkmsExtent, record: &InstallRecord) -> Result<DkmsPlan, DkmsError> {
    let facts = DkmsFacts::observe(&context.host, &context.kernel, &record.dkms_sources).await?;
    DkmsPlan::new(&context.kernel, extent, &facts)
}

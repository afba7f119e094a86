//! `install`: the driver's packages onto the disk, from wherever they come. What runs stays as it is.
//!
//! The course, in which each step is a line of the journal:
//! 1. What must be right is read, before anything is changed: [`job`].
//! 2. At every start, but for a folder of packages: the cluster's certificates, and the user space for FIPS.
//! 3. Packages are had: those of the inventory, else newly built ones ([`obtain`]), here or by the sidecar ([`make`], [`sidecar`]). From
//!    here on they are in a folder of this container's own ([`own_packages`]).
//! 4. They are installed, if they are not: [`put`].
//! 5. Their sources are registered with DKMS, where that is asked for: [`dkms`].
//!
//! Last, the links to the driver's headers are made so that others can follow them, who see them at another path.
//!
//! Where the image has the modules, 3 and 4 are a look at them: [`precompiled`].
//!
//! It can be killed anywhere, and run again: an entry of the inventory is whole or not there, packages that are installed are not
//! installed again, and what DKMS has done it is not asked for again.

mod clean_up;
mod dkms;
mod forecast;
mod job;
mod make;
mod obtain;
mod own_folder;
mod own_packages;
mod precompiled;
mod put;
mod request;
mod sidecar;

use std::sync::Arc;

use nic_build::{certificates, fips};
use nic_packages::{Architecture, DkmsExtent, InstallRecord, PackageSet, make_source_links_relative};
use serde::Serialize;

pub use clean_up::clean_up_inventory;
pub use forecast::{ForecastPart, InstallForecast, plan_install};
pub use obtain::OTHERS_BUILD_DEADLINE;
pub use request::{DriverSources, InstallRequest, PackageOrigin, PackagesFrom};

pub(super) use job::Job;
pub(super) use obtain::obtain;
pub(super) use own_folder::OwnFolder;

use job::ObservedNode;
use make::carry_out;
use put::{Put, put, read_set};

use super::error::PhaseError;
use super::obtain_error::ObtainError;
use super::package_error::PackageError;
use crate::Exit;
use crate::context::Context;
use crate::lock::LockHeld;
use crate::privileges;
use crate::state::{Phase, PhaseRecord, Step};

/// What was installed.
#[derive(Debug, Clone, Serialize)]
pub struct Installed {
    /// The packages, or those that already were.
    pub record: InstallRecord,
    /// Whether anything had to be installed, indexed or registered.
    pub changed: bool,
    /// Where the packages came from.
    pub from: PackagesFrom,
}

/// What was read before anything is changed.
enum Ready {
    Folder(PackageSet),
    Build(Box<Job>),
    Image(Box<ObservedNode>),
}

/// Installs the driver's packages and makes the kernel's module index anew.
///
/// What is on the disk changes, what runs does not: that is for [`super::reload`].
pub async fn install(context: &Context, request: &InstallRequest) -> Result<Installed, PhaseError> {
    let privileges =
        if request.has_packages() { &privileges::INSTALL } else { &privileges::INSTALL_PRECOMPILED };
    context.ensure_privileges(privileges)?;
    let _lock = begin(context, "install").await?;
    let ready = get_ready(context, request)?;
    let earlier = context.store.installed().map_err(PackageError::from)?;
    context.check_stop()?;
    let phase = context.journal.phase(Phase::Install);
    let result = run_install(context, &phase, request, ready, earlier).await;
    match &result {
        Ok(Installed { from: PackagesFrom::Image, .. }) => {
            phase.end("the modules of the image are there", Exit::Success);
        }
        Ok(installed) if installed.changed => {
            phase.end(&format!("{} packages installed", installed.record.packages.len()), Exit::Success);
        }
        Ok(_) => phase.end("the packages were installed already", Exit::Success),
        Err(error) => phase.end(&crate::error_chain(error), error.exit()),
    }
    result
}

/// Begins a command that has packages: what a process that was killed has left of some goes first, however this one ends.
pub(super) async fn begin(context: &Context, command: &str) -> Result<Arc<LockHeld>, PhaseError> {
    let held = context.begin(command).await?;
    own_folder::remove_leftovers(&context.host)?;
    Ok(held)
}

fn get_ready(context: &Context, request: &InstallRequest) -> Result<Ready, PhaseError> {
    if let PackageOrigin::Folder(folder) = &request.origin {
        return Ok(Ready::Folder(read_set(context, folder, &context.kernel)?));
    }
    Ok(match Job::open(&context.host, request, None)? {
        Some(job) => Ready::Build(Box::new(job)),
        None => Ready::Image(Box::new(ObservedNode::read(&context.host, None)?)),
    })
}

async fn run_install(
    context: &Context,
    phase: &PhaseRecord,
    request: &InstallRequest,
    ready: Ready,
    earlier: Option<InstallRecord>,
) -> Result<Installed, PhaseError> {
    if request.use_dkms {
        dkms::install_stub(context);
    }
    let mut installed = match ready {
        Ready::Folder(set) => with_origin(put(context, phase, &set, earlier).await?, PackagesFrom::Folder),
        Ready::Build(job) => {
            start(context, phase, &job.observed, request).await?;
            let (packages, from) = obtain(context, phase, &job).await?;
            with_origin(put(context, phase, &packages.set, earlier).await?, from)
        }
        Ready::Image(observed) => {
            start(context, phase, &observed, request).await?;
            let record = match earlier {
                Some(earlier) => earlier,
                None => precompiled::empty_record(context)?,
            };
            Installed { record, changed: false, from: PackagesFrom::Image }
        }
    };
    if request.use_dkms {
        let extent = match request.origin {
            PackageOrigin::Sidecar { .. } => DkmsExtent::AddOnly,
            PackageOrigin::Folder(_) | PackageOrigin::Sources(_) | PackageOrigin::Precompiled => {
                DkmsExtent::Install
            }
        };
        installed.changed |= dkms::register(context, phase, extent, &mut installed.record).await?;
    }
    if installed.from == PackagesFrom::Image {
        // DKMS may have built what the image has not.
        installed.changed |= precompiled::check_modules(context, phase).await?;
    }
    mend_source_links(context);
    Ok(installed)
}

/// The driver serves without them: an installation does not fail for it.
fn mend_source_links(context: &Context) {
    let architecture = Architecture::of_this_program();
    match make_source_links_relative(&context.host, &context.kernel, &architecture) {
        Ok(replaced) => replaced.iter().for_each(|(link, target)| {
            tracing::info!(link = %link.display(), target = %target.display(), "a link to the driver's headers is relative now");
        }),
        Err(error) => tracing::warn!(
            error = crate::error_chain(&error),
            "who builds with this driver's headers may not find them"
        ),
    }
}

fn with_origin(put: Put, from: PackagesFrom) -> Installed {
    Installed { record: put.record, changed: put.changed, from }
}

/// What is done at every start, whether or not something is built.
pub(super) async fn start(
    context: &Context,
    phase: &PhaseRecord,
    observed: &ObservedNode,
    request: &InstallRequest,
) -> Result<(), PhaseError> {
    let environment = request.proxies.environment();
    let (node, facts) = (&observed.node, &observed.start);
    let plan = certificates(node, facts).with_environment(environment);
    carry_out(context, phase, Step::TakeOverCertificates, &plan).await?;
    let plan = fips(node, facts, request.token.as_ref()).with_environment(environment);
    carry_out(context, phase, Step::InstallFips, &plan).await
}

impl From<ObtainError> for PhaseError {
    fn from(error: ObtainError) -> Self {
        Self::Obtain(Box::new(error))
    }
}

//! One build: checked before, recorded after.

use nic_host::{ForeignWord, Host};

use crate::beneath::{Folder, FolderError, absent_is_none};
use crate::blocking::{Abort, Blocking};
use crate::flags::{AppendedFlagsError, install_arguments, prerequisites};
use crate::packages::{FindPackagesError, PackageLimits, find, record};
use crate::request::Inputs;
use crate::result::{Outcome, PackageRecord};
use crate::shared_folder::sources_name;
use crate::sidecar_side::order::{Folders, Order};
use crate::sidecar_side::{BuildPlan, SidecarOptions};
use crate::sources::first_difference;

/// Nothing that is built is near it; but what the other side refuses is better not offered.
const LIMITS: PackageLimits = PackageLimits { count: 200, size: 1 << 30, total: 4 << 30 };

/// A file that holds space for the report of a failure: a full disk is one.
const RESERVE_FILE: &str = "reserve";
const RESERVE: usize = 256 << 10;

/// Why an order is not built, or why what was built does not count.
#[derive(Debug, thiserror::Error)]
pub(super) enum AttemptError {
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    Flags(#[from] AppendedFlagsError),
    #[error(transparent)]
    Packages(#[from] FindPackagesError),
    #[error(
        "the driver container asks for kernel {}, this node runs {}",
        ForeignWord(asked),
        ForeignWord(running)
    )]
    Kernel { asked: String, running: String },
    #[error("the driver container's request is not of its own digest")]
    Digest,
    #[error("what dtk.env says is not what the driver container's request says")]
    Env,
    #[error(
        "{} is not as the driver container's request says; it was not copied whole, or was changed since",
        ForeignWord(.0)
    )]
    Sources(String),
}

/// Makes ready for a build: what is asked for is what is there, and nothing of a build before is.
pub(super) async fn prepare(
    host: &Host,
    order: &Order,
    options: &SidecarOptions,
    blocking: &Blocking,
) -> Result<BuildPlan, AttemptError> {
    let (host, order, options) = (host.clone(), order.clone(), options.clone());
    let work = move |abort: &Abort| {
        let arguments = install_arguments(&order.env)?;
        let folders = Folders::open(&host, &order.env)?;
        let sources = folders.kernels.folder(sources_name(&order.env.compiled_driver_version))?;
        reserve(&folders.own)?;
        if let Some(request) = &order.request {
            let inputs = &request.inputs;
            if inputs.digest().ok() != Some(request.digest) {
                return Err(AttemptError::Digest);
            }
            if inputs.kernel != options.kernel {
                let (asked, running) = (inputs.kernel.to_string(), options.kernel.to_string());
                return Err(AttemptError::Kernel { asked, running });
            }
            let same_env = Inputs {
                version: order.env.compiled_driver_version.clone(),
                architecture: options.architecture.clone(),
                arguments: arguments.clone(),
                ..inputs.clone()
            };
            if same_env != *inputs {
                return Err(AttemptError::Env);
            }
            if let Some(path) = first_difference(&sources, &inputs.sources, abort)? {
                return Err(AttemptError::Sources(path.display().to_string()));
            }
        }
        remove_packages(&sources)?;
        let folder = order.env.shared_dir.join(sources_name(&order.env.compiled_driver_version));
        let program = folder.join("install.pl");
        Ok(BuildPlan { prerequisites: prerequisites(), folder, program, arguments })
    };
    blocking.run(work).await
}

/// What was built, on the disk.
pub(super) async fn collect(
    host: &Host,
    order: &Order,
    options: &SidecarOptions,
    blocking: &Blocking,
) -> Result<Outcome, AttemptError> {
    let (host, order, options) = (host.clone(), order.clone(), options.clone());
    let work = move |abort: &Abort| {
        let kernels = Folder::open(&host, &order.env.shared_dir)?;
        let version = &order.env.compiled_driver_version;
        let (folder, names) = find(&kernels, version, &options.architecture, &LIMITS)?;
        let packages: Vec<PackageRecord> = record(&folder, &names, &LIMITS, abort)?;
        Ok(Outcome::Built { packages })
    };
    blocking.run(work).await
}

/// Packages of a build that was cut off: `install.pl` passes over what it finds built, also when it is half written.
fn remove_packages(sources: &Folder) -> Result<(), FolderError> {
    let Some(rpms) = absent_is_none(sources.folder("RPMS"))? else { return Ok(()) };
    for release in rpms.names()?.iter().filter(|name| name.starts_with("redhat-release-")) {
        rpms.remove(release)?;
    }
    Ok(())
}

fn reserve(own: &Folder) -> Result<(), FolderError> {
    own.write_durably(RESERVE_FILE, &vec![0; RESERVE], 0o600)
}

/// Gives the space back, so that there is room for the report.
pub(super) fn release_reserve(own: &Folder) -> Result<(), FolderError> {
    own.remove_soon(RESERVE_FILE).map(|_| ())
}

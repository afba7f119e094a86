//! The driver container's side: sets the shared folder up, waits, and takes the packages.
//!
//! Observe, plan, apply: [`Prepared::observe`] reads what is to be built, [`observe_folder`] how the shared folder is,
//! [`plan`] decides between taking what is there, waiting, and setting up, and [`build_in_sidecar`] carries it out.
//!
//! Two driver containers at once are kept apart by the caller's lock: this crate has none.

mod apply;
mod event;
mod fetch;
mod judge;
mod observe;
mod plan;
mod wait;

use std::future::Future;
use std::path::{Path, PathBuf};

use nic_host::{DriverVersion, Host, KernelRelease};

use crate::beneath::FolderError;
use crate::blocking::Blocking;
use crate::packages::PackageLimits;
use crate::{DtkEnv, SharedFolder};

pub use apply::SetUpError;
pub use event::DriverEvent;
pub use fetch::{FetchError, FetchedPackage, FetchedPackages, Proof};
pub use observe::{FolderState, PrepareError, Prepared, observe_folder};
pub use plan::{DriverPlan, Place, SetUpStep, plan};
pub use wait::{WaitError, WaitOptions};

/// What is to be built, and from what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildRequest {
    /// Where both sides meet.
    pub folder: SharedFolder,
    /// The kernel that is built for.
    pub kernel: KernelRelease,
    /// The driver's version.
    pub version: DriverVersion,
    /// What `uname -m` prints.
    pub architecture: String,
    /// The unpacked sources in this container, with `install.pl`.
    pub sources: PathBuf,
    /// The binary that the sidecar is to execute as `entrypoint dtk-build`. It must run in the toolkit's image.
    pub entrypoint: PathBuf,
    /// More arguments for `install.pl`: see [`crate::appended_flags`].
    pub appended_flags: Vec<String>,
    /// Whether sources for DKMS are built, too.
    pub use_dkms: bool,
}

impl BuildRequest {
    /// What `dtk.env` is to say.
    #[must_use]
    pub fn env(&self) -> DtkEnv {
        DtkEnv {
            append_build_flags: shell_words::join(&self.appended_flags),
            use_dkms: self.use_dkms,
            ..DtkEnv::new(&self.folder, &self.version)
        }
    }
}

/// No packages came out of the handshake.
#[derive(Debug, thiserror::Error)]
pub enum DriverSideError {
    /// What is to be built cannot be read.
    #[error("cannot prepare the build in the sidecar")]
    Prepare(#[from] PrepareError),
    /// The shared folder cannot be looked at.
    #[error("cannot look at the folder that is shared with the build sidecar")]
    Observe(#[source] FolderError),
    /// The shared folder cannot be set up. The start flag is not there.
    #[error("cannot set up the folder that is shared with the build sidecar")]
    SetUp(#[from] SetUpError),
    /// The packages were not built.
    #[error("the build sidecar has not built the packages")]
    Wait(#[from] WaitError),
    /// The packages were built, and cannot be taken.
    #[error("cannot take the packages that the build sidecar has built")]
    Fetch(#[from] FetchError),
    /// It was told to stop. The sidecar goes on by itself, and what it builds is found by the next start.
    #[error("stopped as asked while the build sidecar had not built the packages yet")]
    Stopped,
}

/// Has the packages built in the sidecar, unless they are there already, and copies them into the folder `into`, which
/// must be empty or not there.
///
/// Going on where an earlier process was cut off costs nothing: a build of the same sources, flags and kernel that is
/// under way is waited for, and one that is done is taken. `events` is told what happens, for the log. `stop` ends it at
/// once, or with the piece of a file that is being copied. (When the future is dropped in its stead, that piece is copied
/// beside whatever follows.)
pub async fn build_in_sidecar(
    host: &Host,
    request: &BuildRequest,
    options: &WaitOptions,
    limits: &PackageLimits,
    into: &Path,
    mut events: impl FnMut(DriverEvent),
    stop: impl Future<Output = ()>,
) -> Result<FetchedPackages, DriverSideError> {
    let blocking = Blocking::default();
    let work = async {
        let prepared = Prepared::observe(host, request).await?;
        let state = observe_folder(host, &request.folder, &request.version).await;
        let plan = plan(&prepared, &state.map_err(DriverSideError::Observe)?);
        let attempt = match plan {
            DriverPlan::Fetch => None,
            DriverPlan::Wait(attempt) => {
                events(DriverEvent::Resumed);
                Some(attempt)
            }
            DriverPlan::SetUp { attempt, steps } => {
                apply::apply(host, &prepared, steps, &blocking, &mut events).await?;
                Some(attempt)
            }
        };
        if let Some(attempt) = attempt {
            wait::wait(host, &prepared, &attempt, options, &mut events).await?;
        }
        let (host, limits, into) = (host.clone(), *limits, into.to_path_buf());
        let fetch = move |abort: &_| fetch::fetch_or_refuse(&host, &prepared, &limits, &into, abort);
        Ok(blocking.run(fetch).await?)
    };
    tokio::select! {
        biased;
        () = stop => {}
        done = work => return done,
    }
    blocking.ended().await;
    Err(DriverSideError::Stopped)
}

use std::io;
use std::path::PathBuf;

use nic_host::{DriverVersion, Host, error_chain};
use serde::de::DeserializeOwned;

use crate::SharedFolder;
use crate::beneath::{Folder, FolderError, absent_is_none};
use crate::blocking::{Abort, Blocking};
use crate::digest::Digest;
use crate::driver_side::BuildRequest;
use crate::flags::{AppendedFlagsError, install_arguments};
use crate::request::{AttemptId, Inputs, LARGEST_REQUEST, Request};
use crate::result::{BuildResult, LARGEST_RESULT, Outcome};
use crate::shared_folder::{OWN_FOLDER, REQUEST_FILE, RESULT_FILE, START_FLAG, done_flag_name};
use crate::sources::{self, SourcesError};
use crate::status::{self, SidecarState};

/// What is to be built, with its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    pub(super) request: BuildRequest,
    pub(super) inputs: Inputs,
    pub(super) digest: Digest,
    /// The name of this attempt, if the folder is to be set up.
    pub(super) attempt: AttemptId,
}

/// What is to be built cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The sources cannot be used.
    #[error(transparent)]
    Sources(#[from] SourcesError),
    /// The flags cannot be told apart.
    #[error(transparent)]
    Flags(#[from] AppendedFlagsError),
    /// The entrypoint is no file.
    #[error("the program for the build sidecar, {}, cannot be used", path.display())]
    Entrypoint {
        /// Its path.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The digest of it all cannot be made.
    #[error("cannot make the digest of what is to be built")]
    Digest(#[source] serde_json::Error),
    /// The kernel gives no random numbers for the attempt's name.
    #[error("cannot name the attempt")]
    Random(#[source] io::Error),
}

impl Prepared {
    /// Reads the sources as a whole: their digest is part of the proof of what was built.
    pub async fn observe(host: &Host, request: &BuildRequest) -> Result<Self, PrepareError> {
        let (host, request) = (host.clone(), request.clone());
        let observe = move |abort: &Abort| {
            let path = &request.entrypoint;
            let failed = |source| PrepareError::Entrypoint { path: path.clone(), source };
            let entrypoint = host.path(path).metadata().map_err(failed)?;
            if !entrypoint.is_file() {
                return Err(failed(io::Error::other("it is no file")));
            }
            let inputs = Inputs {
                version: request.version.clone(),
                kernel: request.kernel.clone(),
                architecture: request.architecture.clone(),
                arguments: install_arguments(&request.env())?,
                sources: sources::observe(&host, &request.sources, abort)?,
            };
            let digest = inputs.digest().map_err(PrepareError::Digest)?;
            let attempt = AttemptId::new().map_err(PrepareError::Random)?;
            Ok(Self { request, inputs, digest, attempt })
        };
        Blocking::default().run(observe).await
    }

    /// The digest of the sources, the flags, the kernel, the architecture and the version.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

/// How the shared folder was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FolderState {
    /// The start flag is there.
    pub start_flag: bool,
    /// The done flag of this version is there.
    pub done_flag: bool,
    pub(super) request: Option<(AttemptId, Digest)>,
    pub(super) result: Option<ResultState>,
    /// The attempt that the sidecar's status says has failed: with a full disk, all that it can say.
    pub(super) failed: Option<AttemptId>,
}

/// What the sidecar says about a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ResultState {
    pub(super) attempt: Option<AttemptId>,
    pub(super) digest: Option<Digest>,
    pub(super) is_built: bool,
}

/// Looks at the shared folder. What cannot be understood in it proves nothing, and counts as not there, with a line in
/// the log.
pub async fn observe_folder(
    host: &Host,
    folder: &SharedFolder,
    version: &DriverVersion,
) -> Result<FolderState, FolderError> {
    let (host, folder, version) = (host.clone(), folder.clone(), version.clone());
    let observe = move |_: &Abort| {
        let base = Folder::open(&host, folder.base())?;
        let Some(kernels) = absent_is_none(base.folder(folder.name()))? else {
            return Ok(FolderState::default());
        };
        let own = sound(absent_is_none(kernels.folder(OWN_FOLDER)))?.flatten();
        let request: Option<Request> = json(own.as_ref(), REQUEST_FILE, LARGEST_REQUEST)?;
        let result: Option<BuildResult> = json(own.as_ref(), RESULT_FILE, LARGEST_RESULT)?;
        let status = own.as_ref().map(|own| sound(status::read(own))).transpose()?.flatten().flatten();
        let failed = status.filter(|status| status.state == SidecarState::Failed);
        Ok(FolderState {
            failed: failed.and_then(|status| status.attempt),
            start_flag: sound(kernels.has_flag(START_FLAG))?.unwrap_or_default(),
            done_flag: sound(kernels.has_flag(&done_flag_name(&version)))?.unwrap_or_default(),
            request: request.map(|request| (request.attempt, request.digest)),
            result: result.map(|result| ResultState {
                attempt: result.attempt,
                digest: result.digest,
                is_built: matches!(result.outcome, Outcome::Built { .. }),
            }),
        })
    };
    Blocking::default().run(observe).await
}

fn json<T: DeserializeOwned>(own: Option<&Folder>, name: &str, limit: u64) -> Result<Option<T>, FolderError> {
    Ok(own.map(|own| sound(own.json(name, limit))).transpose()?.flatten().flatten())
}

/// `None` for what is there and is not what it should be: setting up removes it. Only the kernel's errors are errors.
fn sound<T>(found: Result<T, FolderError>) -> Result<Option<T>, FolderError> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error @ FolderError::Io { .. }) => Err(error),
        Err(error) => {
            tracing::warn!(error = %error_chain(&error), "something in the folder shared with the build sidecar proves nothing");
            Ok(None)
        }
    }
}

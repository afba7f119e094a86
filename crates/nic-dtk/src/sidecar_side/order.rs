//! What the driver container asks for, as the sidecar finds it.

use nic_host::{Host, error_chain};

use crate::DtkEnv;
use crate::beneath::{FlagStamp, Folder, FolderError, Inode, absent_is_none};
use crate::request::{AttemptId, LARGEST_REQUEST, Request};
use crate::result::{BuildResult, LARGEST_RESULT, Outcome};
use crate::shared_folder::{ENV_FILE, OWN_FOLDER, REQUEST_FILE, RESULT_FILE, sources_name};

/// The most bytes of a `dtk.env`.
const LARGEST_ENV: u64 = 1 << 20;

/// The folders that are worked in.
#[derive(Debug)]
pub(super) struct Folders {
    pub(super) kernels: Folder,
    pub(super) own: Folder,
}

/// What makes one order another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OrderKey {
    /// Of our driver container's request.
    pub(super) attempt: Option<AttemptId>,
    /// The incumbent's has no request, but makes the sources anew each time,
    sources: Option<Inode>,
    /// and touches the flag when they are whole.
    flag: FlagStamp,
}

/// An order: the start flag is there.
#[derive(Debug, Clone)]
pub(super) struct Order {
    pub(super) key: OrderKey,
    /// What our driver container has written; `None` where it is the incumbent's.
    pub(super) request: Option<Request>,
    /// The variables of the order.
    pub(super) env: DtkEnv,
    /// The done flag is there already.
    pub(super) done_flag: bool,
    pub(super) result: Option<BuildResult>,
}

impl Folders {
    pub(super) fn open(host: &Host, env: &DtkEnv) -> Result<Self, FolderError> {
        let kernels = Folder::open(host, &env.shared_dir)?;
        let own = kernels.make_folder(OWN_FOLDER)?;
        Ok(Self { kernels, own })
    }

    /// The key of the order, or `None` without a start flag.
    pub(super) fn key(&self, env: &DtkEnv) -> Result<Option<OrderKey>, FolderError> {
        let Some(flag) = self.kernels.flag_stamp(&flag_name(&env.start_flag))? else { return Ok(None) };
        // What is in the request besides its name is looked at when the build begins.
        let request: Option<NamedAttempt> = self.own.json(REQUEST_FILE, LARGEST_REQUEST)?;
        let sources = absent_is_none(self.kernels.folder(sources_name(&env.compiled_driver_version)))?;
        let sources = sources.map(|folder| folder.inode()).transpose()?;
        Ok(Some(OrderKey { attempt: request.map(|request| request.attempt), sources, flag }))
    }

    /// The whole order behind the start flag.
    pub(super) fn order(&self, env: &DtkEnv, key: OrderKey) -> Result<Order, FolderError> {
        let request: Option<Request> = self.own.json(REQUEST_FILE, LARGEST_REQUEST)?;
        let env = self.current_env(env, request.is_some())?;
        let done_flag = self.kernels.has_flag(&flag_name(&env.done_flag))?;
        let result = self.own.json(RESULT_FILE, LARGEST_RESULT)?;
        Ok(Order { key, request, env, done_flag, result })
    }

    /// This process was started with the variables of the order then. Ours may have written others since, and what it
    /// writes means the same without a shell. What the incumbent writes may not, and it never writes others in one pod.
    fn current_env(&self, env: &DtkEnv, is_ours: bool) -> Result<DtkEnv, FolderError> {
        if !is_ours {
            return Ok(env.clone());
        }
        let text = absent_is_none(self.kernels.read(ENV_FILE, LARGEST_ENV))?.unwrap_or_default();
        match DtkEnv::parse(&String::from_utf8_lossy(&text)) {
            Ok(current) if current.shared_dir == env.shared_dir => Ok(current),
            Ok(current) => {
                let named = current.shared_dir.display();
                tracing::warn!(%named, "dtk.env is of another folder; going on with the variables of this process");
                Ok(env.clone())
            }
            Err(error) => {
                tracing::warn!(error = %error_chain(&error), "dtk.env is not read anew; going on with the variables of this process");
                Ok(env.clone())
            }
        }
    }
}

impl Order {
    /// Why its build has failed, where another one has not been asked for since. Kept over a restart of the sidecar.
    pub(super) fn earlier_failure(&self) -> Option<String> {
        let attempt = self.key.attempt.as_ref()?;
        let result = self.result.as_ref().filter(|result| result.attempt.as_ref() == Some(attempt))?;
        match &result.outcome {
            Outcome::Failed(failed) => Some(failed.reason.clone()),
            Outcome::Built { .. } => None,
        }
    }
}

/// The part of a request that names it.
#[derive(Debug, serde::Deserialize)]
struct NamedAttempt {
    attempt: AttemptId,
}

/// The name of a flag that lies in the kernel's folder, as [`DtkEnv`] has made sure.
pub(super) fn flag_name(path: &std::path::Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

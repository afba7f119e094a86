use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nic_host::{CommandError, Host, Invocation, ReadError};
use serde::{Deserialize, Serialize};

use crate::ModuleName;
use crate::loaded::folder;

/// How often a module that somebody else is loading is looked at.
const RE_CHECK: Duration = Duration::from_millis(50);

/// A module to load, with its dependencies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadRequest {
    /// The module.
    pub module: ModuleName,
    /// Parameters for it, e.g. `async_probe` → `1`. Without effect when it is loaded already. Those of modprobe's
    /// configuration come in addition.
    pub parameters: BTreeMap<String, String>,
    /// The root whose `lib/modules` is used instead of this process's own (`modprobe -d`), e.g. `/host`.
    pub root: Option<PathBuf>,
    /// Whether SUSE's modprobe may load modules its vendor does not support. No other modprobe knows this option.
    pub allow_unsupported: bool,
}

impl LoadRequest {
    /// The module without parameters, from this process's own `/lib/modules`.
    #[must_use]
    pub fn new(module: ModuleName) -> Self {
        Self { module, parameters: BTreeMap::new(), root: None, allow_unsupported: false }
    }

    /// With a parameter.
    #[must_use]
    pub fn parameter(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.parameters.insert(name.into(), value.into());
        self
    }

    /// From `root`'s `lib/modules`.
    #[must_use]
    pub fn root(mut self, root: impl Into<PathBuf>) -> Self {
        self.root = Some(root.into());
        self
    }

    /// The command that loads it.
    #[must_use]
    pub fn invocation(&self) -> Invocation {
        let mut command = Invocation::new("modprobe");
        if self.allow_unsupported {
            command = command.arg("--allow-unsupported");
        }
        if let Some(root) = &self.root {
            command = command.arg("-d").arg(root);
        }
        let parameters = self.parameters.iter().map(|(name, value)| format!("{name}={value}"));
        // After `--` nothing is an option, whatever a parameter's name begins with.
        command.arg("--").arg(self.module.as_str()).args(parameters)
    }
}

/// A module that could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The host is a tree: only the running machine's kernel can be told to load.
    #[error("cannot load {module}: {} is not the running machine", root.display())]
    NotRunningMachine {
        /// The module.
        module: ModuleName,
        /// The host's root.
        root: PathBuf,
    },
    /// modprobe failed or did not end in time.
    #[error("cannot load {module}")]
    Modprobe {
        /// The module.
        module: ModuleName,
        /// What modprobe said.
        #[source]
        source: CommandError,
    },
    /// modprobe succeeded, and yet the module is not in the kernel: it is built in, or modprobe's configuration has
    /// an `install` rule for it that does something else.
    #[error("modprobe says that it has loaded {module}, and the kernel has no such module")]
    NotThere {
        /// The module.
        module: ModuleName,
    },
    /// Somebody else's loading of it has not ended.
    #[error("{module} is in state {state:?} after {after:?}")]
    NotLive {
        /// The module.
        module: ModuleName,
        /// Its state.
        state: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// What the kernel has of the module could not be read.
    #[error("cannot see what became of {module}")]
    Observe {
        /// The module.
        module: ModuleName,
        /// The reason.
        #[source]
        source: ReadError,
    },
}

/// Loads a module and what it depends on, and returns when it is live.
///
/// A module that is loaded already is left as it is. That a driver's module is live does not mean that its devices
/// are: with `async_probe` they are probed after this has returned.
pub async fn load(host: &Host, request: &LoadRequest, deadline: Duration) -> Result<(), LoadError> {
    let module = &request.module;
    if !host.is_running_machine() {
        return Err(LoadError::NotRunningMachine { module: module.clone(), root: host.root().to_path_buf() });
    }
    let started = Instant::now();
    host.run(&request.invocation().deadline(deadline))
        .await
        .map_err(|source| LoadError::Modprobe { module: module.clone(), source })?;
    // modprobe also succeeds when the kernel answers that the module exists, which it does while another process's
    // loading of it has not ended.
    loop {
        let state = host
            .attribute(folder(module).join("initstate"))
            .map_err(|source| LoadError::Observe { module: module.clone(), source })?;
        match state {
            None => return Err(LoadError::NotThere { module: module.clone() }),
            Some(state) if state == "live" => break,
            Some(state) if started.elapsed() >= deadline => {
                return Err(LoadError::NotLive { module: module.clone(), state, after: deadline });
            }
            Some(_) => tokio::time::sleep(RE_CHECK).await,
        }
    }
    tracing::info!(%module, took = ?started.elapsed(), "loaded");
    Ok(())
}

/// Reads a file once, so that the kernel has it in memory when it is needed in haste. Returns its size in bytes.
pub fn page_in(host: &Host, path: impl AsRef<Path>) -> Result<u64, ReadError> {
    let path = host.path(path);
    std::fs::File::open(&path)
        .and_then(|mut file| io::copy(&mut file, &mut io::sink()))
        .map_err(|source| ReadError { path, source })
}

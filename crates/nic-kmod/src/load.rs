use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nic_host::{CommandError, Foreign, Host, Invocation, ReadError};
use serde::{Deserialize, Serialize};

use crate::ModuleName;
use crate::loaded::folder;
use crate::parameter::{UnsayableParameter, arguments};

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
    ///
    /// # Errors
    /// When a parameter cannot be said to the kernel.
    pub fn invocation(&self) -> Result<Invocation, UnsayableParameter> {
        let mut command = Invocation::new("modprobe");
        if self.allow_unsupported {
            command = command.arg("--allow-unsupported");
        }
        if let Some(root) = &self.root {
            command = command.arg("-d").arg(root);
        }
        let parameters = self.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        // After `--` nothing is an option, whatever a parameter's name begins with.
        Ok(command.arg("--").arg(self.module.as_str()).args(arguments(parameters)?))
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
    /// A parameter cannot be said to the kernel: nothing was loaded.
    #[error("cannot load {module}")]
    Parameter {
        /// The module.
        module: ModuleName,
        /// The parameter.
        #[source]
        source: UnsayableParameter,
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
    /// insmod failed or did not end in time.
    #[error("cannot load {module} from its file")]
    Insmod {
        /// The module.
        module: ModuleName,
        /// What insmod said.
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
    #[error("{module} is in state {} after {after:?}", Foreign(state))]
    NotLive {
        /// The module.
        module: ModuleName,
        /// The module's state, such as `coming`.
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
    load_and_watch(host, request, deadline).await
}

/// What [`load`] does once the machine is known to be the running one.
async fn load_and_watch(host: &Host, request: &LoadRequest, deadline: Duration) -> Result<(), LoadError> {
    let module = &request.module;
    let started = Instant::now();
    let invocation =
        request.invocation().map_err(|source| LoadError::Parameter { module: module.clone(), source })?;
    host.run(&invocation.deadline(deadline))
        .await
        .map_err(|source| LoadError::Modprobe { module: module.clone(), source })?;
    wait_until_live(host, module, deadline.saturating_sub(started.elapsed())).await?;
    tracing::info!(%module, took = ?started.elapsed(), "module loaded");
    Ok(())
}

/// Waits for a module that modprobe has taken for loaded.
///
/// modprobe also succeeds when the kernel answers that the module exists, which it does while another process's
/// loading of it has not ended.
pub(crate) async fn wait_until_live(
    host: &Host,
    module: &ModuleName,
    deadline: Duration,
) -> Result<(), LoadError> {
    let started = Instant::now();
    loop {
        let state = host
            .attribute(folder(module).join("initstate"))
            .map_err(|source| LoadError::Observe { module: module.clone(), source })?;
        match state {
            None => return Err(LoadError::NotThere { module: module.clone() }),
            Some(state) if state == "live" => return Ok(()),
            Some(state) if started.elapsed() >= deadline => {
                return Err(LoadError::NotLive { module: module.clone(), state, after: deadline });
            }
            Some(_) => tokio::time::sleep(RE_CHECK).await,
        }
    }
}

/// Reads a file once, so that the kernel has it in memory when it is needed in haste. Returns its size in bytes.
pub fn page_in(host: &Host, path: impl AsRef<Path>) -> Result<u64, ReadError> {
    let (mut file, path) = (host.open(&path)?, host.path(path));
    io::copy(&mut file, &mut io::sink()).map_err(|source| ReadError { path, source })
}

#[cfg(test)]
mod tests {
    use nic_host::{Captured, Replay};

    use super::*;
    use crate::fixture::{file, name};

    const SHORT: Duration = Duration::from_millis(300);

    #[test]
    fn the_command_line() {
        let request = LoadRequest::new(name("mlx5-core"));
        assert_eq!(request.invocation().unwrap().to_string(), "modprobe -- mlx5_core");
        let mut request = request.root("/host").parameter("async_probe", "1").parameter("-r", "a b");
        request.allow_unsupported = true;
        assert_eq!(
            request.invocation().unwrap().to_string(),
            "modprobe --allow-unsupported -d /host -- mlx5_core '-r=\"a b\"' 'async_probe=1'"
        );
    }

    #[tokio::test]
    async fn a_tree_cannot_load() {
        let dir = tempfile::tempdir().unwrap();
        let replay = Replay::default().answer("modprobe -- igb", Captured::success(""));
        // A replay stands for no machine either, wherever its root is.
        for root in [dir.path(), Path::new("/")] {
            let host = Host::at(root).with_replay(replay.clone());
            let error = load(&host, &LoadRequest::new(name("igb")), SHORT).await.unwrap_err();
            assert!(matches!(error, LoadError::NotRunningMachine { .. }), "{error}");
        }
        assert_eq!(replay.asked(), Vec::<String>::new());
    }

    #[tokio::test]
    async fn modprobe_is_not_believed() {
        let failed = Captured {
            code: Some(1),
            stderr: "modprobe: ERROR: could not insert 'nic_kmod_no_such': Exec format error\n".to_owned(),
            ..Captured::default()
        };
        let request = LoadRequest::new(name("nic_kmod_no_such"));
        for (answer, expected) in [
            (failed, "cannot load nic_kmod_no_such"),
            (
                Captured::success(""),
                "modprobe says that it has loaded nic_kmod_no_such, and the kernel has no such module",
            ),
        ] {
            let replay = Replay::default().answer("modprobe -- nic_kmod_no_such", answer);
            let host = Host::running().with_replay(replay.clone());
            let error = load_and_watch(&host, &request, SHORT).await.unwrap_err();
            assert_eq!(error.to_string(), expected);
            assert_eq!(replay.asked(), ["modprobe -- nic_kmod_no_such"]);
        }
    }

    #[tokio::test]
    async fn another_process_loading_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::at(dir.path());
        file(dir.path(), "sys/module/igb/initstate", "coming\n");
        let error = wait_until_live(&host, &name("igb"), SHORT).await.unwrap_err();
        assert_eq!(error.to_string(), "igb is in state \"coming\" after 300ms");

        let module = name("igb");
        let becomes_live = async {
            tokio::time::sleep(SHORT / 4).await;
            file(dir.path(), "sys/module/igb/initstate", "live\n");
        };
        let (waited, ()) = tokio::join!(wait_until_live(&host, &module, SHORT * 10), becomes_live);
        waited.unwrap();
    }

    #[test]
    fn a_file_is_paged_in_whole() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::at(dir.path());
        file(dir.path(), "lib/x.ko", vec![1; 300_000]);
        assert_eq!(page_in(&host, "/lib/x.ko").unwrap(), 300_000);
        assert!(page_in(&host, "/lib/y.ko").unwrap_err().to_string().contains("/lib/y.ko"));
    }
}

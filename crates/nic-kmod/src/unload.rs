use std::ffi::CString;
use std::io;
use std::time::{Duration, Instant};

use nic_host::{ForeignWord, ForeignWords, Host, ListError, ReadError};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::ModuleName;
use crate::loaded::folder;

/// The first pause before a module in use is tried again; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(5);

/// The longest pause before a module in use is tried again.
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// How a module came to be gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unloaded {
    /// It was unloaded.
    Removed,
    /// It was not there, or somebody else was unloading it.
    AlreadyGone,
}

/// A module that could not be unloaded.
#[derive(Debug, thiserror::Error)]
pub enum UnloadError {
    /// The host is a tree: only the running machine's kernel can be told to unload.
    #[error("cannot unload {module}: {} is not the running machine", root.display())]
    NotRunningMachine {
        /// The module.
        module: ModuleName,
        /// The host's root.
        root: std::path::PathBuf,
    },
    /// Other modules use it. That does not end by waiting.
    #[error("cannot unload {module}: it is used by {}", ForeignWords(holders))]
    Held {
        /// The module.
        module: ModuleName,
        /// The modules on top of it.
        holders: Vec<String>,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// It was in use until the deadline, by users that are no modules.
    #[error(
        "cannot unload {module}: after {after:?} it is still in use ({} references)",
        ForeignWord(references)
    )]
    InUse {
        /// The module.
        module: ModuleName,
        /// The module's refcount.
        references: String,
        /// How long it was waited for.
        after: Duration,
        /// What the kernel said last.
        #[source]
        source: io::Error,
    },
    /// The kernel refused for a reason that does not pass: no permission, a module without exit function.
    #[error("the kernel refuses to unload {module}")]
    Refused {
        /// The module.
        module: ModuleName,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// The module's exit function has not returned. The kernel may still complete it: the thread that waits for it
    /// is left behind.
    #[error("unloading {module} has not returned after {after:?}")]
    Hangs {
        /// The module.
        module: ModuleName,
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
        source: ObserveError,
    },
    /// No thread could be started.
    #[error("cannot start the thread that unloads {module}")]
    Thread {
        /// The module.
        module: ModuleName,
        /// The reason.
        #[source]
        source: io::Error,
    },
}

/// Part of a module's folder in sysfs could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// A file of it.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A folder of it.
    #[error(transparent)]
    List(#[from] ListError),
}

impl UnloadError {
    /// The kernel's errno, where the failure came from it.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Held { source, .. } | Self::InUse { source, .. } | Self::Refused { source, .. } => {
                Errno::from_io_error(source)
            }
            Self::NotRunningMachine { .. }
            | Self::Hangs { .. }
            | Self::Observe { .. }
            | Self::Thread { .. } => None,
        }
    }
}

/// Unloads one module, which no other may use, and returns when it has gone from the kernel.
///
/// While users that are no modules hold it, it is tried again until `deadline`. There is no event to wait for: the
/// kernel tells nobody when a refcount drops. While another module holds it, it fails at once, unless that one is
/// itself being unloaded.
///
/// `delete_module(2)` runs the module's exit function, which may take long or hang. The call is made in a thread of
/// its own, which is left behind when the deadline passes and does not keep the process from ending.
pub async fn unload(host: &Host, module: &ModuleName, deadline: Duration) -> Result<Unloaded, UnloadError> {
    if !host.is_running_machine() {
        return Err(UnloadError::NotRunningMachine {
            module: module.clone(),
            root: host.root().to_path_buf(),
        });
    }
    unload_with(host, module, deadline, delete_module).await
}

fn delete_module(module: &ModuleName) -> rustix::io::Result<()> {
    // Kernels since 3.13 never wait for a module in use; older ones do without O_NONBLOCK.
    #[expect(clippy::cast_possible_wrap, reason = "the flag is a small number")]
    let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let name = CString::new(module.as_str()).map_err(|_| Errno::INVAL)?;
    rustix::system::delete_module(&name, flags)
}

/// What the kernel shows of a module that it would not unload.
#[derive(Debug)]
struct Observation {
    /// `initstate`; `None` when the module has gone.
    state: Option<String>,
    refcount: Option<String>,
    /// Its holders that are not on their way out.
    holders: Vec<String>,
}

fn observe(host: &Host, module: &ModuleName) -> Result<Observation, ObserveError> {
    let folder = folder(module);
    let mut staying = Vec::new();
    for holder in host.list_if_exists(folder.join("holders"))? {
        let state = host.attribute(folder.join("holders").join(&holder).join("initstate"))?;
        // Without a state it has just gone.
        if state.is_some_and(|state| state != "going") {
            staying.push(holder);
        }
    }
    Ok(Observation {
        state: host.attribute(folder.join("initstate"))?,
        refcount: host.attribute(folder.join("refcnt"))?,
        holders: staying,
    })
}

/// Unloads with `delete`, which stands for the system call.
async fn unload_with(
    host: &Host,
    module: &ModuleName,
    deadline: Duration,
    delete: impl Fn(&ModuleName) -> rustix::io::Result<()> + Clone + Send + 'static,
) -> Result<Unloaded, UnloadError> {
    let started = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        let remaining = deadline.saturating_sub(started.elapsed());
        let Some(returned) = call(module, remaining, delete.clone()).await? else {
            return Err(UnloadError::Hangs { module: module.clone(), after: deadline });
        };
        let error = match returned {
            // The call returns after the module's folder in sysfs has gone (`free_module`). One that is there now
            // has been loaded anew.
            Ok(()) => {
                tracing::info!(%module, took = ?started.elapsed(), "module unloaded");
                return Ok(Unloaded::Removed);
            }
            Err(Errno::NOENT) => return Ok(Unloaded::AlreadyGone),
            Err(error) => error,
        };
        let seen = observe(host, module)
            .map_err(|source| UnloadError::Observe { module: module.clone(), source })?;
        let source = io::Error::from(error);
        match error {
            // A signal interrupted the wait for the lock on the kernel's list of modules.
            Errno::INTR => {}
            // Modules on top, or references (`delete_module` in kernel/module/main.c).
            Errno::AGAIN if seen.holders.is_empty() => {}
            Errno::AGAIN => {
                return Err(UnloadError::Held { module: module.clone(), holders: seen.holders, source });
            }
            // Somebody else is loading or unloading it. A live module answers so when it has no exit function.
            Errno::BUSY if seen.state.as_deref() != Some("live") => {}
            _ => return Err(UnloadError::Refused { module: module.clone(), source }),
        }
        if started.elapsed() + pause >= deadline {
            let references = seen.refcount.unwrap_or_else(|| "unknown".to_owned());
            return Err(UnloadError::InUse { module: module.clone(), references, after: deadline, source });
        }
        tracing::debug!(
            %module,
            refcount = seen.refcount,
            state = seen.state,
            %error,
            "the module is not unloaded yet"
        );
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Calls `delete` in a thread of its own. `None` when it has not returned within `deadline`.
async fn call(
    module: &ModuleName,
    deadline: Duration,
    delete: impl Fn(&ModuleName) -> rustix::io::Result<()> + Send + 'static,
) -> Result<Option<rustix::io::Result<()>>, UnloadError> {
    let thread_error = |source| UnloadError::Thread { module: module.clone(), source };
    let (done, returned) = tokio::sync::oneshot::channel();
    let name = module.clone();
    // Not the runtime's blocking pool: the runtime waits for its pool when it is dropped.
    std::thread::Builder::new()
        .name("module-unload".into())
        .spawn(move || {
            // The receiver is gone when the deadline has passed: nobody is left to be told.
            let _ = done.send(delete(&name));
        })
        .map_err(thread_error)?;
    match tokio::time::timeout(deadline, returned).await {
        Ok(Ok(result)) => Ok(Some(result)),
        Ok(Err(_)) => Err(thread_error(io::Error::other("the thread ended without an answer"))),
        Err(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Barrier};

    use super::*;
    use crate::fixture::{file, name};

    const SHORT: Duration = Duration::from_secs(1);

    /// A kernel with a live igb, which answers each `delete_module` with the next of `answers`, and the last one for
    /// ever. Before it answers it calls `event` with the number of calls so far.
    async fn try_with(
        answers: &[Result<(), Errno>],
        setup: impl Fn(&Path),
        event: impl Fn(&Path, usize) + Send + Sync + 'static,
    ) -> (Result<Unloaded, UnloadError>, usize) {
        let dir = tempfile::tempdir().unwrap();
        file(dir.path(), "sys/module/igb/initstate", "live\n");
        file(dir.path(), "sys/module/igb/refcnt", "2\n");
        setup(dir.path());
        let calls = Arc::new(AtomicUsize::new(0));
        let root = dir.path().to_path_buf();
        let delete = {
            let (calls, event, answers) = (calls.clone(), Arc::new(event), answers.to_vec());
            move |module: &ModuleName| {
                assert_eq!(module.as_str(), "igb");
                let call = calls.fetch_add(1, Ordering::SeqCst);
                event(&root, call);
                *answers.get(call).or(answers.last()).unwrap()
            }
        };
        let result = unload_with(&Host::at(dir.path()), &name("igb"), SHORT, delete).await;
        (result, calls.load(Ordering::SeqCst))
    }

    async fn answers(answers: &[Result<(), Errno>]) -> (Result<Unloaded, UnloadError>, usize) {
        try_with(answers, |_| {}, |_, _| {}).await
    }

    #[tokio::test]
    async fn a_tree_cannot_unload() {
        let dir = tempfile::tempdir().unwrap();
        let error = unload(&Host::at(dir.path()), &name("igb"), SHORT).await.unwrap_err();
        assert!(matches!(error, UnloadError::NotRunningMachine { .. }), "{error}");
    }

    #[tokio::test]
    async fn what_ends_at_once() {
        assert!(matches!(answers(&[Ok(())]).await, (Ok(Unloaded::Removed), 1)));
        assert!(matches!(answers(&[Err(Errno::NOENT)]).await, (Ok(Unloaded::AlreadyGone), 1)));
        for errno in [Errno::PERM, Errno::NOSYS, Errno::BUSY] {
            let (result, calls) = answers(&[Err(errno)]).await;
            let error = result.unwrap_err();
            assert!(matches!(error, UnloadError::Refused { .. }), "{error}");
            assert_eq!((error.errno(), calls), (Some(errno), 1));
        }
    }

    #[tokio::test]
    async fn references_are_waited_for_until_they_are_gone() {
        let (result, calls) =
            answers(&[Err(Errno::AGAIN), Err(Errno::INTR), Err(Errno::AGAIN), Ok(())]).await;
        assert_eq!((result.unwrap(), calls), (Unloaded::Removed, 4));
    }

    #[tokio::test]
    async fn references_that_stay_are_counted() {
        // How often it is asked within a second depends on the machine; that it is asked again, the test above shows.
        let (result, _) = answers(&[Err(Errno::AGAIN)]).await;
        let error = result.unwrap_err();
        assert_eq!(error.to_string(), "cannot unload igb: after 1s it is still in use (2 references)");
        assert_eq!(error.errno(), Some(Errno::AGAIN));
    }

    #[tokio::test]
    async fn a_module_on_top_is_named_at_once() {
        let holder = |root: &Path| file(root, "sys/module/igb/holders/vendor_mod/initstate", "live\n");
        let (result, calls) = try_with(&[Err(Errno::AGAIN)], holder, |_, _| {}).await;
        assert_eq!(result.unwrap_err().to_string(), "cannot unload igb: it is used by vendor_mod");
        assert_eq!(calls, 1);
    }

    #[tokio::test]
    async fn a_module_on_top_that_is_going_is_waited_for() {
        let holder = |root: &Path| file(root, "sys/module/igb/holders/vendor_mod/initstate", "going\n");
        let goes = |root: &Path, call| {
            if call == 2 {
                std::fs::remove_dir_all(root.join("sys/module/igb/holders/vendor_mod")).unwrap();
            }
        };
        let answers = [Err(Errno::AGAIN), Err(Errno::AGAIN), Err(Errno::AGAIN), Ok(())];
        let (result, calls) = try_with(&answers, holder, goes).await;
        assert_eq!((result.unwrap(), calls), (Unloaded::Removed, 4));
    }

    #[tokio::test]
    async fn another_process_unloading_is_waited_for() {
        let going = |root: &Path| file(root, "sys/module/igb/initstate", "going\n");
        let gone = |root: &Path, call| {
            if call == 1 {
                std::fs::remove_dir_all(root.join("sys/module/igb")).unwrap();
            }
        };
        let answers = [Err(Errno::BUSY), Err(Errno::BUSY), Err(Errno::NOENT)];
        let (result, calls) = try_with(&answers, going, gone).await;
        assert_eq!((result.unwrap(), calls), (Unloaded::AlreadyGone, 3));
    }

    #[tokio::test]
    async fn an_exit_function_that_hangs_is_noticed_and_left_behind() {
        let end = Arc::new(Barrier::new(2));
        let hangs = {
            let end = end.clone();
            move |_: &Path, _| {
                end.wait();
            }
        };
        let (result, calls) = try_with(&[Ok(())], |_| {}, hangs).await;
        assert_eq!(result.unwrap_err().to_string(), "unloading igb has not returned after 1s");
        assert_eq!(calls, 1);
        end.wait();
    }
}

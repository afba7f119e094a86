use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::reading::Reading;
use crate::{ProgramEnvironment, Replay};

/// Where a container finds the files of the machine it runs on.
pub const HOST_MOUNT: &str = "/host";

/// A machine, or a tree that looks like one.
///
/// Cloning is cheap (one reference count). Paths given to its methods are absolute paths *of that machine*; the
/// root is put in front of them.
#[derive(Clone, Debug)]
pub struct Host {
    inner: Arc<Inner>,
    /// Where somebody waits for what is read: see [`Host::look_within`].
    reading: Option<Reading>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    commands: Commands,
    programs: ProgramEnvironment,
}

#[derive(Debug, Clone)]
pub(crate) enum Commands {
    Execute,
    Replay(Replay),
}

impl Host {
    /// The machine this process is running on: root `/`, commands executed for real.
    #[must_use]
    pub fn running() -> Self {
        Self::new(PathBuf::from("/"), Commands::Execute)
    }

    /// A tree at `root`, which may be a fixture or the mounted file system of another machine.
    ///
    /// Commands are not executed: each fails with [`crate::CommandError::NotRecorded`], unless a replay is given
    /// with [`Host::with_replay`]. `Host::at("/")` is the same as [`Host::running`].
    #[must_use]
    pub fn at(root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        if root == Path::new("/") {
            return Self::running();
        }
        Self::new(root, Commands::Replay(Replay::default()))
    }

    /// The same tree, with commands answered from `replay`. It is no running machine, also when its root is `/`.
    #[must_use]
    pub fn with_replay(&self, replay: Replay) -> Self {
        Self::with(self.inner.root.clone(), Commands::Replay(replay), self.inner.programs.clone())
    }

    /// The same machine, where every program that is run gets this environment, in place of one given before.
    #[must_use]
    pub fn with_programs(&self, programs: ProgramEnvironment) -> Self {
        Self::with(self.inner.root.clone(), self.inner.commands.clone(), programs)
    }

    fn new(root: PathBuf, commands: Commands) -> Self {
        Self::with(root, commands, ProgramEnvironment::default())
    }

    fn with(root: PathBuf, commands: Commands, programs: ProgramEnvironment) -> Self {
        Self { inner: Arc::new(Inner { root, commands, programs }), reading: None }
    }

    /// The same machine, for a look that somebody waits for.
    pub(crate) fn with_reading(&self, reading: Reading) -> Self {
        Self { inner: self.inner.clone(), reading: Some(reading) }
    }

    pub(crate) fn awaited(&self) -> Option<&Reading> {
        self.reading.as_ref()
    }

    /// Comes to no end where the replay has it so.
    pub(crate) fn hang_if_recorded(&self, path: &Path) -> std::io::Result<()> {
        match &self.inner.commands {
            Commands::Replay(replay) if replay.hangs_at(path.strip_prefix(self.root()).unwrap_or(path)) => {
                loop {
                    std::thread::park();
                }
            }
            Commands::Replay(_) | Commands::Execute => Ok(()),
        }
    }

    /// Whether a read may come to no end: of the running kernel, or where a recording says so. A tree's files are read in the time that the
    /// machine takes.
    pub(crate) fn may_hang(&self) -> bool {
        match &self.inner.commands {
            Commands::Replay(replay) => replay.hangs(),
            Commands::Execute => self.has_own_root(),
        }
    }

    /// Whether this is the machine the process runs on, and so the one netlink and the kernel's module loader
    /// speak of. It is not where commands are answered from a replay: half a machine must not be changed.
    #[must_use]
    pub fn is_running_machine(&self) -> bool {
        self.has_own_root() && matches!(self.inner.commands, Commands::Execute)
    }

    /// Whether paths of the machine are those of this process.
    fn has_own_root(&self) -> bool {
        self.inner.root == Path::new("/")
    }

    /// The folder that stands for `/`.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// Where the machine's absolute path `path` is found from this process.
    #[must_use]
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        if self.has_own_root() {
            return path.to_path_buf();
        }
        self.inner.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    pub(crate) fn commands(&self) -> &Commands {
        &self.inner.commands
    }

    pub(crate) fn programs(&self) -> &ProgramEnvironment {
        &self.inner.programs
    }

    /// Whether the process may change the machine: its effective user is root.
    #[must_use]
    pub fn is_privileged() -> bool {
        rustix::process::geteuid().is_root()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_root_with_real_commands_is_the_running_machine() {
        for (host, running) in [
            (Host::running(), true),
            (Host::at("/"), true),
            (Host::at("/").with_replay(Replay::default()), false),
            (Host::at("/tree"), false),
            (Host::at("/tree").with_replay(Replay::default()), false),
        ] {
            assert_eq!(host.is_running_machine(), running, "{host:?}");
        }
    }

    #[test]
    fn the_root_is_put_in_front_of_paths() {
        let replayed = Host::running().with_replay(Replay::default());
        for (host, path, expected) in [
            (Host::running(), "/etc/os-release", "/etc/os-release"),
            (replayed, "/etc/os-release", "/etc/os-release"),
            (Host::at("/tree"), "/etc/os-release", "/tree/etc/os-release"),
            (Host::at("/tree"), "etc/os-release", "/tree/etc/os-release"),
        ] {
            assert_eq!(host.path(path), Path::new(expected));
        }
    }
}

//! How far a build of packages is, for whoever is shown it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Where packages are built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuildPlace {
    /// In this container.
    Here,
    /// In the build sidecar.
    Sidecar,
}

impl fmt::Display for BuildPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Here => "build",
            Self::Sidecar => "build sidecar",
        })
    }
}

/// How far a build is, as it is told with each line that it prints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildProgress {
    /// Where it is.
    pub place: BuildPlace,
    /// How many packages are done.
    pub done: usize,
    /// Of how many, where the build has listed them.
    pub known: Option<usize>,
    /// The package that is being built, where it is named.
    pub package: Option<String>,
    /// How long the build has been running.
    pub elapsed: Duration,
    /// The line.
    pub line: String,
}

/// Shows builds.
pub trait ShowsBuilds: Send + Sync {
    /// A build has come so far.
    fn show(&self, progress: &BuildProgress);
    /// The build that was shown is over, however it ended.
    fn clear(&self);
}

/// Who is shown how far builds are. Clones are the same. By default that is the log, line by line.
#[derive(Clone)]
pub struct BuildObserver(Arc<dyn ShowsBuilds>);

impl BuildObserver {
    /// One who shows them otherwise.
    pub fn new(shows: impl ShowsBuilds + 'static) -> Self {
        Self(Arc::new(shows))
    }

    /// A build that is shown until the value is dropped.
    pub(crate) fn begin(&self) -> ShownBuild<'_> {
        ShownBuild(self)
    }
}

impl Default for BuildObserver {
    fn default() -> Self {
        Self::new(Log)
    }
}

impl fmt::Debug for BuildObserver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BuildObserver")
    }
}

/// A build that is shown.
#[derive(Debug)]
pub(crate) struct ShownBuild<'a>(&'a BuildObserver);

impl ShownBuild<'_> {
    pub(crate) fn show(&self, progress: &BuildProgress) {
        self.0.0.show(progress);
    }
}

impl Drop for ShownBuild<'_> {
    fn drop(&mut self) {
        self.0.0.clear();
    }
}

struct Log;

impl ShowsBuilds for Log {
    fn show(&self, progress: &BuildProgress) {
        let elapsed_s = progress.elapsed.as_secs();
        let (package, done, known) = (progress.package.as_deref(), progress.done, progress.known);
        tracing::info!(elapsed_s, package, done, known, "{}: {}", progress.place, progress.line);
    }

    fn clear(&self) {}
}

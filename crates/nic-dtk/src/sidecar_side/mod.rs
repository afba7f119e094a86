//! The sidecar's side, `dtk-build`: waits for the start flag, has the packages built, and says how it ended.
//!
//! What is built, and how, is the caller's: [`serve`] is given the build as a closure, and hands it a [`BuildPlan`].
//! The future of the build is dropped when it is told to stop, or when something else is asked for meanwhile; what the
//! build has started must end with it.

mod attempt;
mod heart;
mod order;
mod reporter;
mod serve;

use std::path::PathBuf;
use std::time::Duration;

use nic_host::KernelRelease;

pub use reporter::Reporter;
pub use serve::{SidecarError, serve};

/// What the sidecar knows of its node, and how patient it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SidecarOptions {
    /// The running kernel. A request for another one is refused.
    pub kernel: KernelRelease,
    /// What `uname -m` prints.
    pub architecture: String,
    /// How often it gives a sign of life.
    pub beat: Duration,
    /// How often the folder is looked at where the kernel tells nothing.
    pub recheck: Duration,
    /// How long it waits before it tries a failed build again, where the driver container is the incumbent's and asks for
    /// none; twice as long each time, 16 times as long at most.
    pub retry: Duration,
}

impl SidecarOptions {
    /// A sign of life and a look each second, 30 s before a build is tried again.
    #[must_use]
    pub fn new(kernel: KernelRelease, architecture: impl Into<String>) -> Self {
        let second = Duration::from_secs(1);
        let architecture = architecture.into();
        Self { kernel, architecture, beat: second, recheck: second, retry: 30 * second }
    }
}

/// What is to be run for a build, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildPlan {
    /// Commands that install what the build needs. Each must succeed before the next.
    pub prerequisites: Vec<Vec<String>>,
    /// The folder of the sources, in which `install.pl` is run.
    pub folder: PathBuf,
    /// `install.pl`.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
}

/// A build that failed, in the words of who ran it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct BuildFailure {
    /// Why, in one line: what was run, and how it ended. It is written into the shared folder.
    pub reason: String,
}

impl BuildFailure {
    /// A failure with its reason.
    #[must_use]
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into() }
    }
}

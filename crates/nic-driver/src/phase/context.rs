use std::path::PathBuf;
use std::time::Duration;

use nic_host::{BootId, Host, KernelRelease, ReadError};

use crate::family::NicFamily;
use crate::state::{Journal, StateStore};

/// What every phase is given.
#[derive(Debug, Clone)]
pub struct Context {
    /// The machine.
    pub host: Host,
    /// The kind of NIC.
    pub family: NicFamily,
    /// The state directory.
    pub store: StateStore,
    /// The journal in it.
    pub journal: Journal,
    /// The running boot.
    pub boot_id: BootId,
    /// The running kernel.
    pub kernel: KernelRelease,
    /// What can be set.
    pub settings: Settings,
}

/// What can be set from outside.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What one operation may take on a NIC with a single VF; grows with the number of VFs.
    pub timeout: Duration,
    /// How many VFs are bound at the same time.
    pub jobs: usize,
    /// The file whose existence says that the node is ready.
    pub readiness_file: PathBuf,
    /// The blacklist that exists while the modules are swapped.
    pub blacklist_file: PathBuf,
}

/// A machine that does not even say what it is.
#[derive(Debug, thiserror::Error)]
#[error("cannot tell what is running on this machine")]
pub struct ContextError(#[from] ReadError);

impl Context {
    /// Reads boot and kernel, and puts all together.
    pub fn new(
        host: Host,
        family: NicFamily,
        store: StateStore,
        settings: Settings,
    ) -> Result<Self, ContextError> {
        let boot_id = host.boot_id()?;
        let kernel = host.kernel_release()?;
        let journal = Journal::open(&store, &boot_id);
        Ok(Self { host, family, store, journal, boot_id, kernel, settings })
    }
}

impl Settings {
    pub(crate) fn restore_options(&self) -> nic_sriov::RestoreOptions {
        nic_sriov::RestoreOptions {
            jobs: self.jobs,
            base_deadline: self.timeout,
            ..nic_sriov::RestoreOptions::default()
        }
    }
}

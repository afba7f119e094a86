//! What every command is given: the machine, the NIC family, the state directory, the settings.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use nic_host::{BootId, Host, KernelRelease, ReadError, TrustError};
use nic_packages::DistributionFamily;

use crate::Exit;
use crate::build_progress::BuildObserver;
use crate::family::NicFamily;
use crate::lock::{InstanceLock, LockError, LockHeld};
use crate::machine::{Machine, RunningMachine};
use crate::privileges::{PrivilegeError, Privileged};
use crate::state::{Journal, NodeFacts, SnapshotError, SnapshotState, StateStore};
use crate::stop::{Interrupted, StopRequest};

/// What every phase is given.
#[derive(Debug, Clone)]
pub struct Context {
    /// The machine.
    pub host: Host,
    /// What acts on it.
    pub(crate) machine: Arc<dyn Machine>,
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
    /// The distribution that modprobe is of, where it is known.
    pub distribution: Option<DistributionFamily>,
    /// What can be set.
    pub settings: Settings,
    /// The lock of all that change the machine.
    pub lock: InstanceLock,
    /// Whether this process has been asked to stop.
    pub stop: StopRequest,
    /// Who is shown how far builds are.
    pub builds: BuildObserver,
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
    /// The lock file.
    pub lock_file: PathBuf,
    /// How long another instance that is at work is waited for.
    pub lock_patience: Duration,
    /// How long after being asked to stop the process will be killed; `None` when it will not be.
    pub grace: Option<Duration>,
    /// What to do when the node itself is reached through the NICs.
    pub management_nic: ManagementNic,
    /// The Kubernetes API's address, where there is one.
    pub kubernetes_api: Option<IpAddr>,
    /// Whether a driver that was rolled back is tried again although nothing has changed.
    pub retry_rolled_back: bool,
    /// Whether a reload is begun although there is no way back to the driver that runs.
    pub without_way_back: bool,
    /// How a reload unloads and loads.
    pub reload_with: ReloadWith,
    /// Whether a reload unloads and loads although the loaded modules are the installed ones.
    pub force: bool,
    /// What may be unloaded beside the family's own modules.
    pub may_unload: MayUnload,
    /// What to do about what a swap takes away and nothing gives back.
    pub lossy: Lossy,
    /// What stands in the way of a reload and is passed over.
    pub assume_ok: Vec<Assumption>,
}

/// How a reload unloads and loads the modules.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ReloadWith {
    /// This program does it, in the order that the loaded modules and their files ask for.
    #[default]
    Native,
    /// The vendor's init script does it (`/etc/init.d/openibd restart`).
    #[value(name = "openibd")]
    InitScript,
}

/// What to do when the machine's own ways out go through the NICs that are about to go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ManagementNic {
    /// Do not reload.
    Refuse,
    /// Say so, and that they will be restored.
    #[default]
    Warn,
    /// Reload without a word.
    Allow,
}

/// What to do about what hangs on the NICs, goes with their driver, and is not given back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Lossy {
    /// Do not reload.
    Refuse,
    /// Say what will be lost.
    #[default]
    Warn,
    /// Reload without a word.
    Allow,
}

/// A kind of what stands in the way of a reload that somebody may know better about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Assumption {
    /// The kernel takes the modules' signatures.
    Signature,
    /// The kernel takes modules that were built for another one.
    Vermagic,
    /// The kernel has the symbols that the modules need.
    Symbols,
    /// What cannot be made again is made again by somebody else.
    CannotMakeAgain,
    /// Storage behind the NICs does without them for the time of a swap.
    RemoteStorage,
    /// The state directory outlives the container.
    StateDirectory,
    /// What is not known of the NICs may be lost.
    NotKnown,
}

/// What may be unloaded beside the family's own modules.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MayUnload {
    /// Storage over RDMA.
    pub storage: bool,
    /// Other vendors' RDMA drivers.
    pub third_party: bool,
}

/// A command that was not begun. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum BeginError {
    /// The process may not do it.
    #[error(transparent)]
    Privileges(#[from] PrivilegeError),
    /// The host is a tree.
    #[error("{what}; {root} is a tree")]
    NotRunningMachine {
        /// What can only be done on the running machine.
        what: &'static str,
        /// The root of the tree.
        root: String,
    },
    /// Another instance is at work.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// It was asked to stop.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

impl BeginError {
    /// The exit code.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Privileges(_) => Exit::NotRoot,
            Self::NotRunningMachine { .. } => Exit::Failed,
            Self::Lock(error) => error.exit(),
            Self::Interrupted(_) => Exit::Interrupted,
        }
    }
}

/// A machine that does not even say what it is, or a state directory that cannot be gone by.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// The machine does not say what runs.
    #[error("cannot tell what is running on this machine")]
    Machine(#[from] ReadError),
    /// Somebody else may change the state directory: what is in it would be obeyed, and its modules loaded.
    #[error("the state directory is not used")]
    State(#[from] TrustError),
}

impl Context {
    /// Reads boot and kernel, and puts all together.
    pub fn new(
        host: Host,
        family: NicFamily,
        store: StateStore,
        settings: Settings,
    ) -> Result<Self, ContextError> {
        let store = store.of_family(&family.name);
        store.ensure_trusted()?;
        let boot_id = host.boot_id()?;
        let kernel = host.kernel_release()?;
        // `(none)` is what the kernel is called before anybody has named it (include/linux/uts.h).
        let host_name = host.attribute("/proc/sys/kernel/hostname").ok().flatten();
        let host_name = host_name.filter(|name| !name.is_empty() && name != "(none)");
        let node = NodeFacts { host: host_name, kernel: kernel.clone(), family: family.name.clone() };
        let journal = Journal::open(&store, &boot_id).of_node(node);
        let lock = InstanceLock::new(host.path(&settings.lock_file));
        let stop = StopRequest::default();
        let distribution = distribution(&host);
        let builds = BuildObserver::default();
        let machine = Arc::new(RunningMachine::new(&host));
        Ok(Self {
            host,
            machine,
            family,
            store,
            journal,
            boot_id,
            kernel,
            distribution,
            settings,
            lock,
            stop,
            builds,
        })
    }

    /// An error when the process has been asked to stop; otherwise the first change is begun.
    pub(crate) fn begin_change(&self) -> Result<(), BeginError> {
        Ok(self.stop.begin_change()?)
    }

    /// Makes sure that this process may carry out a command.
    pub(crate) fn ensure_privileges(&self, command: &Privileged) -> Result<(), BeginError> {
        Ok(self.machine.ensure_allowed(command)?)
    }

    /// Makes sure that the host is the running machine, and no tree; `what` says what only that can do.
    pub(crate) fn ensure_running_machine(&self, what: &'static str) -> Result<(), BeginError> {
        if self.machine.acts() {
            return Ok(());
        }
        Err(self.not_running_machine(what))
    }

    pub(crate) fn not_running_machine(&self, what: &'static str) -> BeginError {
        BeginError::NotRunningMachine { what, root: self.host.root().display().to_string() }
    }

    /// An error when the process has been asked to stop.
    pub(crate) fn check_stop(&self) -> Result<(), BeginError> {
        Ok(self.stop.check()?)
    }

    /// What the stored snapshot of this family means in this boot.
    pub(crate) fn snapshot_state(&self) -> Result<SnapshotState, SnapshotError> {
        self.store.snapshot_state(&self.boot_id, &self.family.name)
    }

    /// Whether a swap is under way: its snapshot is armed. One that cannot be read is not, and the commands that go by it say so.
    pub(crate) fn is_armed(&self) -> bool {
        self.snapshot_state().is_ok_and(|state| state.armed().is_some())
    }

    /// What every command that changes something does first: it makes sure that it is the only one, for which it waits,
    /// and that the journal can be appended to. The lock is held as long as what is returned lives.
    ///
    /// # Errors
    /// Also when the host is a tree: nothing is changed on one.
    pub(crate) async fn begin(&self, command: &str) -> Result<Arc<LockHeld>, BeginError> {
        self.ensure_running_machine("only the running machine can be changed")?;
        let held = match self.lock.acquire(command) {
            Err(LockError::Held { .. }) => {
                let waiting = self.lock.acquire_within(command, self.settings.lock_patience);
                self.stop.or_stop_request(waiting).await??
            }
            held => held?,
        };
        if Arc::strong_count(&held) > 1 {
            // A part of a command that has begun. Reading the journal takes the longer the more is in it.
            return Ok(held);
        }
        let under_way = || self.store.under_way_since(&self.boot_id);
        match Journal::repair(&self.store, under_way, Timestamp::now()) {
            Ok(None) => {}
            Ok(Some(aside)) => {
                tracing::warn!(
                    aside = %aside.display(),
                    "the journal is damaged: the old one is set aside, and a new one begun"
                );
            }
            // It is not needed for the work itself.
            Err(error) => {
                tracing::warn!(error = crate::error_chain(&error), "the journal cannot be repaired");
            }
        }
        Ok(held)
    }

    /// The same for a command that changes nothing but the state directory, which may look at a tree. That is not locked.
    pub(crate) async fn begin_reading(&self, command: &str) -> Result<Option<Arc<LockHeld>>, BeginError> {
        if self.machine.acts() { self.begin(command).await.map(Some) } else { Ok(None) }
    }
}

/// Only little depends on it: what cannot do without says so itself.
fn distribution(host: &Host) -> Option<DistributionFamily> {
    let os = host.os_release().map_err(|error| crate::error_chain(&error));
    let family = os.and_then(|os| DistributionFamily::of(&os).map_err(|error| crate::error_chain(&error)));
    family.inspect_err(|error| tracing::debug!(error, "the distribution is not known")).ok()
}

impl Settings {
    pub(crate) fn restore_options(&self) -> nic_sriov::RestoreOptions {
        nic_sriov::RestoreOptions { jobs: self.jobs, patience: self.patience() }
    }

    /// How long each kind of operation on NICs may take.
    pub(crate) fn patience(&self) -> nic_sriov::Patience {
        nic_sriov::Patience { base: self.timeout, ..nic_sriov::Patience::default() }
    }
}

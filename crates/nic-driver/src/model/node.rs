//! A node, and what may happen to it.

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nic_host::{BootId, Host};
use nic_sriov::DeviceAddress;

use super::build::{Build, DRIVER, RELEASE, write_tree};
use super::kernel::{Act, Kernel, Killed, kill};
use super::machine::ModelMachine;
use super::planned::Planned;
use crate::context::Context;
use crate::phase::{DriverAfterwards, PhaseError, reload, restore_sriov, snapshot, terminate};
use crate::state::{Snapshot, SnapshotState, kill_after_lines};
use crate::swap::ModuleTree;
use crate::{Exit, fixture};

/// What an administrator, a supervisor, a process or fate does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// A container whose image has this build comes in place of the one before, with whose files it goes.
    Container(Build),
    Run(Command, Disturbed),
    /// Everything but what is on disk is gone, and the host boots with the inbox driver. The containers' state is in memory.
    Reboot,
    /// Somebody gives all PFs another MTU.
    Configure(u32),
    /// Somebody else unloads the driver and loads the installed one.
    SwapByHand,
    /// Somebody opens a device of the stack, or closes it.
    Opens(bool),
    /// Storage over the driver comes up, or is given up.
    Storage(bool),
    /// The first PF falls off the bus, or is back.
    Pf(bool),
}

/// A command of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    Reload,
    Restore { from_record: bool },
    Snapshot,
    Terminate(DriverAfterwards),
}

/// What happens while a command is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Disturbed {
    Not,
    /// It is killed before the n-th time that it changes modules or NICs.
    KilledBeforeAct(usize),
    /// It is killed when its n-th line in the journal is durable.
    KilledAfterLine(usize),
    /// Storage comes up before the n-th time that it changes modules or NICs.
    StorageBeforeAct(usize),
}

impl Disturbed {
    pub(super) fn is_kill(self) -> bool {
        matches!(self, Self::KilledBeforeAct(_) | Self::KilledAfterLine(_))
    }
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    With(Exit),
    Killed,
}

/// The MTU of each PF.
pub(super) type Configuration = BTreeMap<DeviceAddress, u32>;

/// A node with a container on it.
pub(super) struct Node {
    folder: tempfile::TempDir,
    boot: u32,
    pub(super) kernel: Arc<Kernel>,
    pub(super) installed: Build,
    /// What the NICs had when the program took it away, by the model's own account.
    pub(super) owed: Option<Configuration>,
    /// The driver that has made the node ready in this boot: its files are kept, wherever its container is.
    pub(super) verified: Option<Build>,
}

impl Node {
    /// A node that has booted with the inbox driver, and a container of this build on it.
    pub(super) fn new(installed: Build) -> Self {
        let folder = tempfile::tempdir_in(in_memory()).unwrap();
        let root = folder.path();
        for (file, text) in [
            ("proc/sys/kernel/osrelease", format!("{RELEASE}\n")),
            ("etc/os-release", "ID=ubuntu\nVERSION_ID=\"24.04\"\n".to_owned()),
        ] {
            fs::create_dir_all(root.join(file).parent().unwrap()).unwrap();
            fs::write(root.join(file), text).unwrap();
        }
        write_tree(&root.join("host"), None, true);
        let kernel = Arc::new(Kernel::boot(root, 2));
        let mut node = Self { folder, boot: 0, kernel, installed, owed: None, verified: None };
        node.reboot();
        node
    }

    fn root(&self) -> &Path {
        self.folder.path()
    }

    fn state(&self) -> PathBuf {
        self.root().join("run/state")
    }

    fn reboot(&mut self) {
        self.boot += 1;
        let boot_id = self.root().join("proc/sys/kernel/random/boot_id");
        fs::create_dir_all(boot_id.parent().unwrap()).unwrap();
        fs::write(boot_id, format!("boot-{}\n", self.boot)).unwrap();
        for gone in ["ready", "blacklist", "lock"] {
            let _ = fs::remove_file(self.root().join(gone));
        }
        self.kernel = Arc::new(Kernel::boot(self.root(), 2));
        self.kernel.load_all(&self.root().join("host"));
        self.container(self.installed);
        (self.owed, self.verified) = (None, None);
    }

    fn container(&mut self, build: Build) {
        self.installed = build;
        write_tree(self.root(), Some(build), false);
    }

    /// A process of the program.
    pub(super) fn context(&self) -> Context {
        let mut context = fixture::context(Host::at(self.root()), &self.state());
        context.machine = Arc::new(ModelMachine(Arc::clone(&self.kernel)));
        context
    }

    pub(super) fn boot_id(&self) -> BootId {
        BootId(format!("boot-{}", self.boot))
    }

    pub(super) fn is_ready(&self) -> bool {
        self.root().join("ready").exists()
    }

    pub(super) fn has_blacklist(&self) -> bool {
        self.root().join("blacklist").symlink_metadata().is_ok()
    }

    pub(super) fn snapshot_state(&self) -> SnapshotState {
        self.context().snapshot_state().unwrap()
    }

    pub(super) fn configuration(&self) -> Configuration {
        self.kernel.configuration()
    }

    /// The builds of the driver's modules that are loaded.
    pub(super) fn running(&self) -> Vec<Build> {
        let is_drivers = |name: &str| DRIVER.iter().any(|kind| kind.name == name);
        let loaded = self.kernel.loaded().into_iter();
        loaded.filter(|module| is_drivers(module.name.as_str())).map(|module| module.build).collect()
    }

    /// The one build that runs; `None` with half of it, or with two halves.
    pub(super) fn driver(&self) -> Option<Build> {
        let running = self.running();
        let first = *running.first()?;
        (running.len() == DRIVER.len() && running.iter().all(|build| *build == first)).then_some(first)
    }

    /// Lets something happen. Returns how it ended, where it was a command.
    pub(super) fn happens(&mut self, event: Event) -> Option<Ended> {
        match event {
            Event::Run(command, disturbed) => return Some(self.run(command, disturbed)),
            Event::Container(build) => self.container(build),
            Event::Reboot => self.reboot(),
            // While something is owed the NICs are the program's.
            Event::Configure(mtu) if self.owed.is_none() => self.kernel.configure(mtu),
            Event::SwapByHand
                if self.owed.is_none() && self.kernel.loaded().iter().all(|one| one.users == 0) =>
            {
                self.kernel.unload_all();
                self.kernel.load_all(self.root());
            }
            Event::Configure(_) | Event::SwapByHand => {}
            Event::Opens(opens) => self.kernel.set_users("ib_uverbs", usize::from(opens)),
            Event::Storage(true) => self.kernel.storage_comes_up(),
            Event::Storage(false) => self.kernel.storage_goes(),
            Event::Pf(is_there) => self.kernel.set_there(0, is_there),
        }
        None
    }

    /// A command in a process of its own.
    fn run(&mut self, command: Command, disturbed: Disturbed) -> Ended {
        let (kill_at_act, storage_at_act, kill_at_line) = match disturbed {
            Disturbed::Not => (None, None, None),
            Disturbed::KilledBeforeAct(act) => (Some(act), None, None),
            Disturbed::StorageBeforeAct(act) => (None, Some(act), None),
            Disturbed::KilledAfterLine(line) => (None, None, Some(line)),
        };
        let before = match (command, self.snapshot_state()) {
            (Command::Restore { .. }, SnapshotState::ByHand(saved) | SnapshotState::Record(saved)) => {
                Self::configuration_of(&saved)
            }
            _ => self.configuration(),
        };
        let context = self.context();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let planned = (command == Command::Reload).then(|| runtime.block_on(Planned::of_reload(&context)));
        self.kernel.begin(kill_at_act, storage_at_act);
        kill_after_lines(kill_at_line, kill);
        let ended = catch_unwind(AssertUnwindSafe(|| runtime.block_on(carry_out(&context, command))));
        kill_after_lines(None, kill);
        // From the moment of arming on the NICs are the program's, and what they had is owed to them: until they have it again.
        let is_armed = self.snapshot_state().armed().is_some();
        if self.owed.is_none() && (is_armed || self.kernel.acts().iter().any(takes_away)) {
            self.owed = Some(before);
        }
        let now = self.configuration();
        let is_back = |owed: &Configuration| owed.iter().all(|(pf, mtu)| now.get(pf) == Some(mtu));
        self.owed.take_if(|owed| !is_armed && is_back(owed));
        if self.is_ready() && self.driver() == Some(self.installed) {
            self.verified = self.driver();
        }
        let ended = match ended {
            Ok(exit) => Ended::With(exit),
            Err(unwound) if unwound.is::<Killed>() => Ended::Killed,
            Err(failed) => resume_unwind(failed),
        };
        if let (Some(planned), Disturbed::Not, Ended::With(exit)) = (planned, disturbed, ended) {
            planned.compare(&context, exit);
        }
        ended
    }

    /// What `snapshot` says of the PFs.
    pub(super) fn configuration_of(snapshot: &Snapshot) -> Configuration {
        let pfs = snapshot.nics.pfs.iter();
        pfs.filter_map(|pf| Some((pf.address.clone(), pf.netdev.as_set()?.mtu))).collect()
    }
}

/// Whether what NICs had goes with it.
pub(super) fn takes_away(act: &Act) -> bool {
    matches!(act, Act::RemoveVfs | Act::Unload(_))
}

async fn carry_out(context: &Context, command: Command) -> Exit {
    let exit = |ended: Result<Exit, PhaseError>| ended.unwrap_or_else(|error| error.exit());
    match command {
        Command::Reload => exit(reload(context, &ModuleTree::Own).await.map(|reloaded| reloaded.exit())),
        Command::Restore { from_record } => {
            exit(restore_sriov(context, from_record, &[]).await.map(|restored| restored.exit()))
        }
        Command::Snapshot => exit(snapshot(context).await.map(|_| Exit::Success)),
        Command::Terminate(afterwards) => {
            exit(terminate(context, afterwards).await.map(|terminated| terminated.exit()))
        }
    }
}

/// A folder in memory, where this machine has one: what is made durable there costs nothing.
fn in_memory() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    if memory.is_dir() { memory } else { std::env::temp_dir() }
}

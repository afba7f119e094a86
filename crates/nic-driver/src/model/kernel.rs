//! What the model's kernel does when it is told to.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nic_host::{CommandError, Host};
use nic_kmod::{LoadError, ModuleName, UnloadError, Unloaded};
use nic_sriov::{DeviceAddress, NicState};

use super::build::{DRIVER, Flaw, STORAGE, find_file, read_file};
use super::kernel_tree::{Loaded, Pf, show};

/// The MTU that a driver gives its netdevs.
pub(super) const DEFAULT: u32 = 1500;

/// Something that the kernel was told to do. What it refused is in the list, too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Act {
    Load(ModuleName),
    LoadFile(ModuleName),
    Unload(ModuleName),
    RemoveVfs,
    Restore,
}

/// What a killed process unwinds with.
pub(super) struct Killed;

/// Ends the command at once, as SIGKILL does: nothing of the program runs any more but what frees its memory.
pub(super) fn kill() {
    std::panic::resume_unwind(Box::new(Killed))
}

/// The kernel of a node.
#[derive(Debug)]
pub(super) struct Kernel {
    pub(super) host: Host,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    loaded: Vec<Loaded>,
    pfs: Vec<Pf>,
    acts: Vec<Act>,
    /// How often an unload was refused.
    refused: usize,
    kill_before_act: Option<usize>,
    /// Before which act storage comes up on top of the driver.
    storage_before_act: Option<usize>,
}

impl Kernel {
    /// A kernel that has just booted: the distribution's modules are found, and none is loaded yet.
    pub(super) fn boot(root: &Path, pfs: usize) -> Self {
        let pf = |number: usize| Pf {
            address: format!("pci/0000:{number:02x}:00.0").parse().unwrap(),
            is_there: true,
            is_bound: false,
            has_netdev: false,
            mtu: DEFAULT,
        };
        let state = State {
            loaded: Vec::new(),
            pfs: (1..=pfs).map(pf).collect(),
            acts: Vec::new(),
            refused: 0,
            kill_before_act: None,
            storage_before_act: None,
        };
        let kernel = Self { host: Host::at(root), state: Mutex::new(state) };
        kernel.state().show(kernel.host.root());
        kernel
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What somebody else does: no act, and nobody is killed before it.
    fn meanwhile<T>(&self, does: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state();
        let done = does(&mut state);
        state.show(self.host.root());
        done
    }

    /// What a command does.
    fn act<T>(&self, act: Act, does: impl FnOnce(&mut State) -> T) -> T {
        let (is_last, storage) = {
            let mut state = self.state();
            let number = state.acts.len();
            (state.kill_before_act == Some(number), state.storage_before_act.take_if(|at| *at == number))
        };
        if is_last {
            kill();
        }
        if storage.is_some() {
            self.storage_comes_up();
        }
        self.state().acts.push(act);
        self.meanwhile(does)
    }

    /// A new process: nothing was done yet, and it is killed before this act, if it comes so far.
    pub(super) fn begin(&self, kill_before_act: Option<usize>, storage_before_act: Option<usize>) {
        let mut state = self.state();
        state.acts.clear();
        state.refused = 0;
        (state.kill_before_act, state.storage_before_act) = (kill_before_act, storage_before_act);
    }

    /// What was done since then.
    pub(super) fn acts(&self) -> Vec<Act> {
        self.state().acts.clone()
    }

    /// How often since then an unload was refused.
    pub(super) fn refused(&self) -> usize {
        self.state().refused
    }

    pub(super) fn loaded(&self) -> Vec<Loaded> {
        self.state().loaded.clone()
    }

    pub(super) fn pfs(&self) -> Vec<Pf> {
        self.state().pfs.clone()
    }

    /// The MTU of each PF that is up.
    pub(super) fn configuration(&self) -> BTreeMap<DeviceAddress, u32> {
        let pfs = self.pfs().into_iter().filter(|pf| pf.has_netdev);
        pfs.map(|pf| (pf.address, pf.mtu)).collect()
    }

    /// Somebody sets the MTU of all PFs.
    pub(super) fn configure(&self, mtu: u32) {
        self.meanwhile(|state| state.pfs.iter_mut().for_each(|pf| pf.mtu = mtu));
    }

    /// A PF falls off the bus, or is there again.
    pub(super) fn set_there(&self, pf: usize, is_there: bool) {
        self.meanwhile(|state| {
            let pf = &mut state.pfs[pf];
            if !is_there {
                (pf.is_bound, pf.has_netdev, pf.mtu) = (false, false, DEFAULT);
            }
            pf.is_there = is_there;
            state.probe();
        });
    }

    /// Somebody opens a device of the stack, or closes all.
    pub(super) fn set_users(&self, module: &str, users: usize) {
        self.meanwhile(|state| {
            let opened = state.loaded.iter_mut().filter(|loaded| loaded.name.as_str() == module);
            opened.for_each(|loaded| loaded.users = users);
        });
    }

    /// Storage over the driver, which nobody may take away.
    pub(super) fn storage_comes_up(&self) {
        self.meanwhile(State::insert_storage);
    }

    /// The storage is given up.
    pub(super) fn storage_goes(&self) {
        self.meanwhile(|state| state.loaded.retain(|loaded| loaded.name.as_str() != STORAGE.name));
    }

    /// Loads the whole driver from a tree, as the boot does.
    pub(super) fn load_all(&self, tree: &Path) {
        self.meanwhile(|state| {
            for kind in DRIVER {
                let _ = state.modprobe(tree, &kind.name.parse().unwrap());
            }
        });
    }

    /// Takes the whole driver out, and its settings with it.
    pub(super) fn unload_all(&self) {
        self.meanwhile(|state| {
            state.loaded.clear();
            state.unbind();
        });
    }

    pub(super) fn load(&self, module: &ModuleName, root: Option<&Path>) -> Result<(), LoadError> {
        let tree = root.map_or_else(|| self.host.root().to_path_buf(), |root| self.host.path(root));
        self.act(Act::Load(module.clone()), |state| {
            state.modprobe(&tree, module).map_err(|why| LoadError::Modprobe {
                module: module.clone(),
                source: refused(&format!("modprobe -- {module}"), why),
            })
        })
    }

    pub(super) fn load_file(&self, module: &ModuleName, file: &Path) -> Result<(), LoadError> {
        self.act(Act::LoadFile(module.clone()), |state| {
            state.insert(file).map_err(|why| LoadError::Insmod {
                module: module.clone(),
                source: refused(&format!("insmod {}", file.display()), why),
            })
        })
    }

    pub(super) fn unload(&self, module: &ModuleName) -> Result<Unloaded, UnloadError> {
        self.act(Act::Unload(module.clone()), |state| {
            let Some(at) = state.loaded.iter().position(|loaded| loaded.name == *module) else {
                return Ok(Unloaded::AlreadyGone);
            };
            let source = || io::Error::from(rustix::io::Errno::AGAIN);
            let holders: Vec<String> = state.holders(module).map(|holder| holder.name.to_string()).collect();
            if !holders.is_empty() {
                state.refused += 1;
                return Err(UnloadError::Held { module: module.clone(), holders, source: source() });
            }
            if state.loaded[at].users > 0 {
                state.refused += 1;
                let references = state.loaded[at].users.to_string();
                let after = std::time::Duration::ZERO;
                return Err(UnloadError::InUse {
                    module: module.clone(),
                    references,
                    after,
                    source: source(),
                });
            }
            state.loaded.remove(at);
            if module.as_str() == DRIVER[0].name {
                state.unbind();
            }
            Ok(Unloaded::Removed)
        })
    }

    pub(super) fn remove_vfs(&self) {
        self.act(Act::RemoveVfs, |_| ());
    }

    /// Gives PFs back the MTU that they had, as far as they are up.
    pub(super) fn restore(&self, saved: &NicState) {
        self.act(Act::Restore, |state| {
            for saved in &saved.pfs {
                let mtu = saved.netdev.as_ref().map(|netdev| netdev.mtu);
                let pfs = state.pfs.iter_mut().filter(|pf| pf.address == saved.address && pf.has_netdev);
                pfs.for_each(|pf| pf.mtu = mtu.unwrap_or(pf.mtu));
            }
        });
    }
}

fn refused(command: &str, why: &str) -> CommandError {
    CommandError::Failed { command: command.to_owned(), code: Some(1), last_words: why.to_owned() }
}

impl State {
    fn show(&self, root: &Path) {
        show(root, &self.loaded, &self.pfs);
    }

    fn is_loaded(&self, module: &ModuleName) -> bool {
        self.loaded.iter().any(|loaded| loaded.name == *module)
    }

    fn holders<'a>(&'a self, module: &'a ModuleName) -> impl Iterator<Item = &'a Loaded> {
        self.loaded.iter().filter(|loaded| loaded.needs.contains(module))
    }

    fn modprobe(&mut self, tree: &Path, module: &ModuleName) -> Result<(), &'static str> {
        if self.is_loaded(module) {
            return Ok(());
        }
        let file = find_file(tree, module).ok_or("module not found")?;
        let (_, _, needs) = read_file(&Host::running(), &file);
        for needed in needs {
            self.modprobe(tree, &needed)?;
        }
        self.insert(&file)
    }

    /// `init_module(2)` of a file.
    fn insert(&mut self, file: &Path) -> Result<(), &'static str> {
        let (name, build, needs) = read_file(&Host::running(), file);
        if self.is_loaded(&name) {
            return Err("File exists");
        }
        for needed in &needs {
            let Some(below) = self.loaded.iter().find(|loaded| loaded.name == *needed) else {
                return Err("Unknown symbol in module");
            };
            // Of the storage's symbols every driver has the same.
            if below.build != build && name.as_str() != STORAGE.name {
                return Err("disagrees about version of symbol");
            }
        }
        let fails = match build.flaw {
            Flaw::Refused => DRIVER.first().is_some_and(|first| name.as_str() == first.name),
            Flaw::LastRefused => DRIVER.last().is_some_and(|last| name.as_str() == last.name),
            Flaw::None | Flaw::WithoutNetdevs => false,
        };
        if fails {
            return Err("Invalid argument");
        }
        self.loaded.push(Loaded { name, build, needs, users: 0 });
        self.probe();
        Ok(())
    }

    fn insert_storage(&mut self) {
        let below: ModuleName = STORAGE.needs[0].parse().unwrap();
        let name: ModuleName = STORAGE.name.parse().unwrap();
        if self.is_loaded(&below) && !self.is_loaded(&name) {
            let build = super::build::INBOX;
            self.loaded.push(Loaded { name, build, needs: vec![below], users: 1 });
        }
    }

    /// The driver takes the PFs that are there, and gives them what it gives by default.
    fn probe(&mut self) {
        let driver = self.loaded.iter().find(|loaded| loaded.name.as_str() == DRIVER[0].name);
        let Some(build) = driver.map(|driver| driver.build) else { return };
        for pf in self.pfs.iter_mut().filter(|pf| pf.is_there && !pf.is_bound) {
            pf.is_bound = true;
            pf.has_netdev = build.flaw != Flaw::WithoutNetdevs;
            pf.mtu = DEFAULT;
        }
    }

    fn unbind(&mut self) {
        for pf in &mut self.pfs {
            (pf.is_bound, pf.has_netdev, pf.mtu) = (false, false, DEFAULT);
        }
    }
}

//! What acts: the kernel that loads and unloads modules, and takes and gives what NICs have.
//!
//! What a machine *is*, every command reads through [`Context::host`](crate::Context). What it is *told to do* goes through here, so that
//! the commands run unchanged on the running machine ([`RunningMachine`]) and on the tests' model of one, which keeps a tree up to date
//! with what is done.

mod running;

use std::fmt;
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use nic_kmod::{LoadError, LoadRequest, ModuleName, UnloadError, Unloaded};
use nic_sriov::{
    ArrivalError, DeviceAddress, DeviceSelector, KernelLinks, LinkSource, NicState, ObserveError, Patience,
    RemoveVfsError, RestoreError, RestoreEvent, RestoreOptions, RestoreOutcome,
};

pub(crate) use self::running::RunningMachine;
use crate::privileges::{PrivilegeError, Privileged};

/// What an act comes to.
pub(crate) type Acting<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A machine that does as it is told. Methods carry out one thing and decide nothing.
pub(crate) trait Machine: fmt::Debug + Send + Sync {
    /// Whether it does anything: a tree only looks like a machine.
    fn acts(&self) -> bool;

    /// Makes sure that this process may carry out a command on it.
    fn ensure_allowed(&self, command: &Privileged) -> Result<(), PrivilegeError>;

    /// Loads a module with what it needs.
    fn load<'a>(&'a self, request: &'a LoadRequest, deadline: Duration) -> Acting<'a, Result<(), LoadError>>;

    /// Loads a module from this file, with these parameters.
    fn load_file<'a>(
        &'a self,
        module: &'a ModuleName,
        file: &'a Path,
        parameters: &'a [(&'a str, &'a str)],
        deadline: Duration,
    ) -> Acting<'a, Result<(), LoadError>>;

    /// Unloads a module.
    fn unload<'a>(
        &'a self,
        module: &'a ModuleName,
        deadline: Duration,
    ) -> Acting<'a, Result<Unloaded, UnloadError>>;

    /// Takes the VFs of these PFs away, which are of a family with such devices. Returns what kept it from doing so.
    fn remove_vfs<'a>(
        &'a self,
        devices: &'a DeviceSelector,
        pfs: &'a [DeviceAddress],
        jobs: usize,
        patience: Patience,
    ) -> Acting<'a, Vec<RemoveVfsError>>;

    /// The NICs, to be changed; each question to them may take so long. `None` where nothing acts.
    fn nics(&self, deadline: Duration) -> Acting<'_, Result<Option<Box<dyn Nics>>, ObserveError>>;
}

/// The NICs of a machine that acts.
pub(crate) trait Nics: fmt::Debug + Send + Sync {
    /// Where their links are read.
    fn source(&self) -> LinkSource;

    /// The kernel's netlink, over which what stands on them is read and given back. A model has none, and nothing stands on its NICs.
    fn kernel(&self) -> Option<&KernelLinks>;

    /// Notices from now on which netdevs come. To be called before the step that makes them come.
    fn listen(&self) -> Acting<'_, Result<Box<dyn PfsToCome>, ArrivalError>>;

    /// Gives them back what `saved` says.
    fn restore<'a>(
        &'a self,
        selector: &'a DeviceSelector,
        saved: &'a NicState,
        options: RestoreOptions,
        on_event: &'a (dyn Fn(RestoreEvent) + Sync),
    ) -> Acting<'a, Result<RestoreOutcome, RestoreError>>;
}

/// PFs whose netdevs are on their way.
pub(crate) trait PfsToCome: fmt::Debug + Send + Sync {
    /// Waits until each of these has its netdev, and names those that do not come.
    fn wait<'a>(
        &'a self,
        pfs: &'a [DeviceAddress],
        deadline: Duration,
    ) -> Acting<'a, Vec<(DeviceAddress, Result<(), ArrivalError>)>>;
}

//! The life of a NIC's kernel driver on a node, in phases.
//!
//! This crate composes: it holds no mechanism of its own. [`phase`] has one function for each command of the
//! `nic-driver` program; each takes a [`Context`] (the machine, the NIC [`family`], the [`state`] directory) and
//! returns plain data or a [`phase::PhaseError`], which knows its exit code ([`Exit`]). [`report`] renders what the
//! journal holds.
//!
//! Imports run downwards: [`cli`], [`phase`], then [`swap`] (the driver in the kernel) beside [`node`] (what a swap finds
//! and leaves on the node), then `context`, then [`state`], [`family`] and the rest.
//!
//! Embed it to drive the phases from another program; embed the crates below it (`nic-sriov`, `nic-kmod`,
//! `nic-packages`, `nic-netlink`) for their mechanisms alone.
//!
//! Start reading at [`phase::reload`] and [`phase::restore_sriov`].

pub mod cli;
pub mod phase;

pub mod node;
pub mod swap;

mod context;

pub mod default_paths;
pub mod family;
pub mod report;
pub mod state;

mod build_progress;
mod exit;
mod lock;
mod machine;
mod memory;
mod privileges;
mod stop;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod model;

pub use build_progress::{BuildObserver, BuildPlace, BuildProgress, ShowsBuilds};
pub use context::{BeginError, Context, ContextError, ManagementNic, MayUnload, ReloadWith, Settings};
pub use exit::Exit;
pub use lock::{InstanceLock, LockError, LockHeld};
pub use nic_host::error_chain;
pub use privileges::{Lack, PrivilegeError};
pub use stop::{Interrupted, StopRequest};

//! The life of a NIC's kernel driver on a node, in phases.
//!
//! This crate composes: it holds no mechanism of its own. [`phase`] has one function for each command of the
//! `nic-driver` program; each takes a [`phase::Context`] (the machine, the NIC [`family`], the [`state`] directory) and
//! returns plain data or an error that knows its exit code ([`Exit`]). [`report`] renders what the journal holds.
//!
//! Embed it to drive the phases from another program; embed the crates below it (`nic-sriov`, `nic-kmod`,
//! `nic-packages`, `nic-netlink`) for their mechanisms alone.
//!
//! Start reading at [`phase`], with `phase/reload.rs` and `phase/restore.rs`.

pub mod cli;
pub mod family;
pub mod phase;
pub mod report;
pub mod state;

mod exit;
mod lock;
mod stop;

pub use exit::Exit;
pub use lock::{InstanceLock, LockError, LockHeld};
pub use nic_host::error_chain;
pub use stop::{Interrupted, StopRequest};

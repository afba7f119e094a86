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
pub use stop::{Interrupted, StopRequest};

/// An error with all its causes, in one line.
#[must_use]
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        // A transparent error repeats its cause's text.
        if !text.ends_with(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        cause = error.source();
    }
    text
}

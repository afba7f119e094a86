//! What stands on network interfaces that go away and come back under other indexes: IP addresses, routes, rules,
//! permanent neighbours, links on links, and membership in bonds, bridges, VRFs and teams.
//!
//! observe → plan → apply, and observe again:
//! - [`NetworkState::observe`] reads the kernel's lists and takes from them what stands on some interfaces;
//! - [`plan`] says what is missing, in an order that works: children, masters, up, addresses, neighbours, routes, rules;
//! - [`restore`] carries that out, leaves to a network manager what is the manager's, and compares;
//! - [`Uplinks::of`] tells which ways out of the machine go through those interfaces.
//!
//! What it is not: it knows no driver, no PCI and no VF. Which old interface is which new one is for the caller to say.
//! It takes nothing away: what somebody else has put there meanwhile stays.
//!
//! Start reading at [`NetworkState`] and [`plan`].

mod check;
mod going;
mod names;
mod network;
mod not_known;
mod place;
mod routes;
mod routing_daemon;
mod state;
mod uppers;

mod plan;

mod awaited;
mod compare;
mod manager;
mod restore;

mod uplinks;
mod ways;

pub use check::Contradiction;
pub use compare::{Difference, Gravity, compare};
pub use manager::{ManagedBy, Progress, progress};
pub use network::Network;
pub use not_known::UnknownEntry;
pub use plan::{Action, LinkMapping, Stage, Step, plan};
pub use restore::{RestoreOptions, RestoreOutcome, StepFailure, TopologyError, restore};
pub use state::{LinkState, NetworkState, ObserveError, Place};
pub use uplinks::{ApiRoute, Uplinks};
pub use ways::{Carried, Ways};

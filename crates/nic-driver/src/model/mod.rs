//! A node to try the commands' laws on: a tree that a model of the kernel keeps up to date.
//!
//! Everything that the commands *read* is read from that tree by the program itself: modules, their users and files, NICs, links,
//! snapshot, journal, kept files, blacklist, readiness. What they *do* to modules and NICs goes through
//! [`Machine`](crate::machine::Machine), and [`kernel`] does it in the tree. NICs have one setting, the MTU of each PF: what of a VF is
//! given back how is for the laws of `nic-sriov`.
//!
//! [`planned`] holds that a reload does what `plan reload` has said right before it. [`node`] has what may happen to a node, kills and reboots among it; [`laws`] what must hold whatever happens; [`nights`] a few that are
//! killed at every point.

mod build;
mod kernel;
mod kernel_tree;
mod laws;
mod machine;
mod nights;
mod node;
mod planned;

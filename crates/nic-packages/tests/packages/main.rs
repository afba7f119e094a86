//! The crate on small real packages and recorded package databases.
//!
//! Only what stands below `cfg(test)` counts as test code for clippy, in this folder too.

#[cfg(test)]
mod contents;
#[cfg(test)]
mod damaged;
#[cfg(test)]
mod dkms;
#[cfg(test)]
mod host_tree;
#[cfg(test)]
mod node;
#[cfg(test)]
mod plans;
#[cfg(test)]
mod reading;
#[cfg(test)]
mod sample;
#[cfg(test)]
mod weak_links;

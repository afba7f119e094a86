//! The inventory of built packages.
//!
//! Only what stands below `cfg(test)` counts as test code for clippy.

#[cfg(test)]
mod clean_up;
#[cfg(test)]
mod disks;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod kills;
#[cfg(test)]
mod locks;
#[cfg(test)]
mod lookups;

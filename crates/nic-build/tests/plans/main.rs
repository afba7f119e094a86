//! What each distribution needs for a build, from trees like theirs, and how builds run.
//!
//! Only what stands below `cfg(test)` counts as test code for clippy, in this folder too.

#[cfg(test)]
mod builds;
#[cfg(test)]
mod end_to_end;
#[cfg(test)]
mod failures;
#[cfg(test)]
mod flags;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod machine;
#[cfg(test)]
mod secrets;

//! A behavioural model of PFs and VFs, and the laws that a restore keeps on it.
//!
//! [`machine`] is the machine: states changed by the same steps that the plans are made of, by the kernel's rules.
//! [`course`] is the restore's course over its stages, as `stages.rs` takes it, with the model in the kernel's place.
//! [`states`] makes machines of any kind, and [`laws`] says what must hold on all of them.
//!
//! What the model cannot show: that the kernel follows these rules. That is for the lab.

mod course;
mod laws;
mod machine;
mod states;

//! A behavioural model of PFs and VFs, and the laws that a restore keeps on it.
//!
//! [`kernel`] is the model: states changed by the same steps that the plans are made of, by the kernel's rules.
//! [`world`] puts it in the running machine's place, for the executor that also runs on nodes, with a clock of its own.
//! [`scheduler`] runs a restore there: who goes on next, and when the process is killed; [`told`] is what is known of it afterwards.
//! [`states`] makes machines of any kind, and the laws say what must hold on all of them.
//!
//! What the model cannot show: that the kernel follows these rules. That is for the lab.

mod kernel;
mod laws;
mod scheduler;
mod states;
mod told;
mod world;

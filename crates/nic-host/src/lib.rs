//! The one door to the machine.
//!
//! Every crate of `nic-driver` that reads or changes a Linux machine does so through a [`Host`]: a cheap-to-clone
//! value that holds a root folder and the way commands are executed. Handed a fixture tree, the same code reads
//! the fixture; handed a replay of commands, it executes nothing.
//!
//! What it offers:
//! - files below the root: [`Host::read`], [`Host::list`], [`Host::link_name`]; regular ones alone, up to a length; in a container,
//!   those of the machine it runs on are below [`HOST_MOUNT`];
//! - kernel attributes: [`Host::attribute`], [`Host::write_attribute_within`], with the kernel's errno kept in the error;
//! - looks that may hang in the kernel: [`Host::look_within`], from a thread with a deadline;
//! - state that must survive: [`Host::write_durably`], [`Host::append_durably`];
//! - how long files stay: [`Host::file_lifetime`];
//! - which device files a process has open, by the device's number: [`Host::open_devices`];
//! - whether others may have written what is obeyed: [`Host::ensure_trusted`];
//! - SELinux labels for kernel modules' files: [`Host::label_module_files`];
//! - commands: [`Invocation`] and [`Host::run`], argv only, output captured, always with a deadline; [`Host::run_lines`]
//!   for those whose output is followed line by line; package managers are left to their end: [`transactions_ended`];
//! - [`ProgramEnvironment`], what all programs get and hide;
//! - [`Secret`], a text that is handed to programs and written nowhere;
//! - [`error_chain`], an error with its causes in one line; [`Foreign`] and [`ForeignWord`], text of others in a message;
//! - facts: [`KernelRelease`], [`BootId`], [`OsRelease`], and the [`DriverVersion`] that names files.
//!
//! What it is not: it knows nothing of NICs, modules or packages, and nothing of netlink, which does not go
//! through the file system and speaks of the running kernel only (see [`Host::is_running_machine`]).
//!
//! Start reading at [`Host`].

mod attended;
mod command;
mod driver_version;
mod error_chain;
mod facts;
mod host;
mod lifetime;
mod open_devices;
mod programs;
mod read;
mod reading;
mod replay;
mod run;
mod secret;
mod selinux;
mod stream;
mod text;
mod trust;
mod within;
mod write;

pub use attended::{running_transactions, transactions_ended};
pub use command::{Captured, CommandError, Invocation};
pub use driver_version::{DriverVersion, ParseDriverVersionError};
pub use error_chain::{LONGEST_MESSAGE, error_chain};
pub use facts::{BootId, KernelRelease, OsRelease, ParseKernelReleaseError};
pub use host::{HOST_MOUNT, Host};
pub use lifetime::FileLifetime;
pub use open_devices::{DeviceNumber, OpenDevice, ParseDeviceNumberError};
pub use programs::ProgramEnvironment;
pub use read::{LONGEST_ATTRIBUTE, LONGEST_FILE, LONGEST_TEXT, ListError, ReadError};
pub use replay::Replay;
pub use secret::{HIDDEN, Secret};
pub use selinux::LabelError;
pub use stream::CommandEnd;
pub use text::{Foreign, ForeignWord, ForeignWords, LONGEST_FOREIGN, MOST_FOREIGN, in_one_line, printable};
pub use trust::{TrustError, Writer};
pub use within::LookError;
pub use write::{DeadlineWriteError, WriteError, open_own};

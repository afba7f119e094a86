//! Linux kernel modules: which build is loaded, which would be, and how to swap the one for the other.
//!
//! - Names and identities: [`ModuleName`], [`SrcVersion`], [`BuildId`].
//! - What the kernel has: [`LoadedModules`], [`LoadedModule`].
//! - What is on the disk: [`ModuleFile`] for one file, [`ModuleIndex`] for what modprobe would load.
//! - Whether they are the same: [`IdentityVerdict::of`], [`IdentityReport`] and [`IdentityReport::decide`].
//! - What to unload and to load, as plain data: [`UnloadPlan`], [`LoadPlan`].
//! - What the running kernel refuses to load: [`ModuleGate`].
//! - Who uses them without being a module: [`observe_users`]. What they were given: [`ParameterDefaults`].
//! - Doing it: [`unload`], [`load`], with a [`Blacklist`] meanwhile.
//! - Going back: [`find_module_files`], [`file_of_loaded`], [`load_file`].
//!
//! What it is not: it does not know which modules make up a driver, and it does not decide when to swap them. It
//! counts the users that are no modules ([`LoadedModule::foreign_references`]) and finds those that can be found, but
//! does not decide what may be taken from them. It does not evaluate modprobe's configuration: modprobe does.
//!
//! Reading and planning work on any tree a [`nic_host::Host`] stands for. [`unload`] and [`load`] speak to the running
//! kernel and refuse every other host.
//!
//! `examples/identity.rs` compares the modules it is given.
//!
//! Start reading at [`IdentityVerdict::of`], and then at [`UnloadPlan::compute`].

mod name;

mod alias;
mod beneath;
mod file;
mod index;
mod loaded;
mod module_image;
mod module_sections;
mod signature;
mod symbols;

mod gate;
mod identity;
mod load_plan;
mod parameter;
mod parameters;
mod unload_plan;
mod users;

mod blacklist;
mod load;
mod previous;
mod unload;

mod compression;
mod concurrent;
#[cfg(test)]
mod fixture;

pub use blacklist::{Blacklist, BlacklistError, BlacklistOrigin, FoundBlacklist};
pub use file::{ModuleFile, ModuleFileError, ParseModuleError, SoftDeps, Vermagic};
pub use gate::{CandidateModule, Enforcement, KernelSymbols, LoadRefusal, ModuleGate};
pub use identity::{
    Identity, IdentityDifference, IdentityError, IdentityReport, IdentityVerdict, Incomparable,
    ModuleIdentity, OnDisk, ReloadDecision,
};
pub use index::{ModuleIndex, ModuleIndexError, ParseIndexError, Resolution};
pub use load::{LoadError, LoadRequest, load, page_in};
pub use load_plan::{LoadPlan, LoadReason, LoadStep};
pub use loaded::{LoadedModule, LoadedModules, ModuleState, ParseModulesError, ReadLoadedError};
pub use name::{
    BuildId, ModuleName, ParseBuildIdError, ParseModuleNameError, ParseSrcVersionError, SrcVersion,
};
pub use parameter::{ParameterDifference, UnsayableParameter, is_parameter_name, not_taken};
pub use parameters::ParameterDefaults;
pub use previous::{LONGEST_WHOLE, file_of_loaded, find_module_files, load_file, read_unpacked};
pub use signature::ModuleSignature;
pub use symbols::ModuleSymbols;
pub use unload::{ObserveError, UnloadError, Unloaded, unload};
pub use unload_plan::{ForeignReferences, UnloadBlocked, UnloadBlocker, UnloadPlan, UnloadPolicy};
pub use users::{
    ModuleUser, ModuleUsers, ObserveUsersError, Peer, RemoteStorage, RemoteUse, UserKind,
    observe_remote_storage, observe_users,
};

//! The driver in the kernel: what is in the way, modules out, modules in, and the way back.
//!
//! The order of the files is that of a reload: `find_blockers`, `back_up_running_modules`, `prepare_loads`, then the
//! critical section (`swap_driver`), and `load_backup_modules` when the new driver does not come up.

mod attempt;
mod backup;
mod backup_plan;
mod blocker;
mod checkpoint;
mod critical_section;
mod dependents;
mod find_blockers;
mod foreseen;
mod found_module;
mod hooks;
mod identity;
mod inbox;
mod init_script;
mod leftovers;
mod load;
mod missing_modules;
mod module_tree;
mod parameters;
mod refused_modules;
mod rollback;
mod unload;
mod unload_policy;
mod way_back;
mod which_tree;

pub(crate) use attempt::{current_attempt, earlier_rollback, record_rollback};
pub use backup::BackupError;
pub(crate) use backup::{back_up_running_modules, back_up_verified_driver, size_of_next_backup};
pub(crate) use blocker::list;
pub use blocker::{Blocker, BlockerKind, BlockersFound};
pub(crate) use checkpoint::checkpoint;
pub use critical_section::SwapError;
pub(crate) use critical_section::{FailedSwap, Swap, swap_driver};
pub use find_blockers::{FindBlockersError, FoundBlockers};
pub(crate) use find_blockers::{Look, find_blockers};
pub use foreseen::Foreseen;
pub use identity::CompareModulesError;
pub(crate) use identity::{decide, read_identity};
pub use init_script::InitScriptError;
pub(crate) use leftovers::{blacklist_of_swap, remove_leftover_blacklist};
pub(crate) use load::{prepare_loads, prepare_missing};
pub use missing_modules::DriverError;
pub(crate) use missing_modules::{ensure_driver_loaded, load_missing_modules, load_vf_drivers};
pub use module_tree::ModuleTree;
pub(crate) use parameters::given_parameters;
pub use rollback::RollbackError;
pub(crate) use rollback::load_backup_modules;
pub use unload::UnloadStackError;
pub use way_back::WayBack;
pub(crate) use way_back::find_way_back;
pub use which_tree::InboxTreeError;
pub(crate) use which_tree::tree_of_inbox_driver;

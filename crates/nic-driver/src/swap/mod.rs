//! The driver in the kernel: what is in the way, modules out, modules in, and the way back.
//!
//! What a reload does of it, and in which order, its plan says (`phase/reload/plan.rs`). The parts that a plan prints are values from here:
//! `unload_order`, `prepare_loads`, `Hooks`, `Restart`; when the new driver does not come up, `load_backup_modules` goes back.

mod attempt;
mod backup;
mod backup_plan;
mod blocker;
mod checkpoint;
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
mod swap_error;
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
pub use find_blockers::{FindBlockersError, FoundBlockers};
pub(crate) use find_blockers::{Look, find_blockers};
pub use foreseen::{Foreseen, LeftOut};
pub(crate) use hooks::{Hook, Hooks, run_script, step_of_script};
pub use identity::CompareModulesError;
pub(crate) use identity::{decide, read_identity};
pub use init_script::InitScriptError;
pub(crate) use init_script::{Restart, ensure_swapped, restart_by_init_script};
pub(crate) use leftovers::{blacklist_of_swap, leftover_blacklist, remove_leftover_blacklist};
pub(crate) use load::{
    Loads, PreparedLoads, load_beforehand, load_latecomers, prepare_loads, prepare_missing,
};
pub use missing_modules::DriverError;
pub(crate) use missing_modules::{ensure_driver_loaded, load_vf_drivers};
pub use module_tree::ModuleTree;
pub(crate) use parameters::given_parameters;
pub use rollback::RollbackError;
pub(crate) use rollback::load_backup_modules;
pub use swap_error::SwapError;
pub use unload::UnloadStackError;
pub(crate) use unload::{Leaving, UnloadScope, remove_all_vfs, unload_stack};
pub use way_back::WayBack;
pub(crate) use way_back::{find_way_back, is_swap_under_way, runs_what_is_gone_back_to};
pub use which_tree::InboxTreeError;
pub(crate) use which_tree::tree_of_inbox_driver;

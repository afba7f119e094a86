//! The phases: what each command does, composed from the libraries. No mechanism of their own.

mod context;
#[cfg(test)]
mod fixture;
mod grace;
mod hooks;
mod init_script;
mod inspect;
mod install;
mod keep;
mod machine;
mod modules;
mod network;
mod preflight;
mod readiness;
mod reload;
mod restore;
mod resume;
mod rollback;
mod snapshot;
mod swap;
mod terminate;

pub use context::{Context, ContextError, MayUnload, ReloadWith, Settings};
pub use grace::NoTimeLeft;
pub use init_script::InitScriptError;
pub use inspect::{
    PlanError, ReloadForecast, ReportedVersion, Status, StatusError, plan_reload, plan_restore_sriov, status,
};
pub use install::{InstallError, Installed, install};
pub use keep::KeepError;
pub use machine::{MachineStatus, RunningStatus};
pub use modules::UnloadStackError;
pub use network::{ManagementBlocked, ManagementError, ManagementNic};
pub use preflight::{Blocker, BlockerKind, Preflight, PreflightBlocked, PreflightError, preflight};
pub use reload::{ModuleTree, ReloadError, Reloaded, reload};
pub use restore::{RestorePhaseError, Restored, restore_sriov};
pub use resume::{DriverError, LeftoverError, PfMissing};
pub use rollback::GoBackError;
pub use snapshot::{TakeSnapshotError, TakenSnapshot, snapshot};
pub use terminate::{TerminateError, Terminated, terminate};

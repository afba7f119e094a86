//! The phases: what each command does, composed from [`crate::swap`] and [`crate::node`]. No mechanism of their own.

mod blockers;
mod build_packages;
mod error;
mod first_of;
mod install;
mod nics_to_change;
mod obtain_error;
mod package_error;
mod plan;
mod preflight;
mod probe;
mod ready_without_swap;
mod reload;
mod restore;
mod rollback;
mod run;
mod snapshot;
mod status;
mod terminate;

pub use build_packages::{
    BuildPackagesRequest, BuiltPackages, Layer, LayerKind, LayerTarget, build_packages,
};
pub use error::PhaseError;
pub use install::{
    DriverSources, ForecastPart, InstallForecast, InstallRequest, Installed, OTHERS_BUILD_DEADLINE,
    PackageOrigin, PackagesFrom, clean_up_inventory, install, plan_install,
};
pub use obtain_error::ObtainError;
pub use package_error::PackageError;
pub use plan::{PlannedRestore, plan_restore_sriov};
pub use preflight::{Preflight, preflight};
pub use probe::{Probe, ProbeAnswer, probe};
pub use ready_without_swap::{NotReady, PfNotUp};
pub use reload::{ReloadDuty, ReloadPlan, Reloaded, plan_reload, reload};
pub use restore::{NothingOwed, RestoreOrNothing, Restored, restore_sriov};
pub use run::{NamesRule, RunEnded, RunRequest, SharedHeaders, run};
pub use snapshot::{TakenSnapshot, snapshot};
pub use status::{
    LastNight, ModulesStatus, PfStatus, RolledBackStatus, SnapshotStatus, Status, StatusLevel, StatusSeen,
    StatusVerdict, status,
};
pub use terminate::{DriverAfterwards, Terminated, terminate};

//! How kernel module packages come to be, and where built ones are kept.
//!
//! 1. At every start [`certificates()`] and [`fips()`] decide (purely) by [`StartFacts`] what is to be run.
//! 2. [`Work::due`] says whether anything is built on a node. For that [`BuildFacts::observe`] reads what a build needs, and
//!    [`compiler()`] and [`prerequisites()`] decide. Each of the four is a [`Plan`], whose commands have their environment,
//!    what they are for, and what their failure means. It is shown as it is, and carried out by [`Plan::apply`].
//! 3. [`Preparation`] puts them together, in order, with the build itself: [`install_pl()`].
//! 4. [`build()`] runs it, and [`built_packages()`] finds what it has left.
//!
//! [`Proxies`] go into the environment of all of them. No secret is in a plan's text, in a log or in an error.
//!
//! The [`Inventory`] is the folder in which built packages outlive the container that built them. An entry is used again
//! when it is whole and a [`BuildKey`] says that a build would make the same; [`sources_digest`] is the part of the key that
//! must be worked out. [`lay_out`] makes of built packages what goes into an image.
//!
//! What it is not: it does not install packages (`nic-packages`), and knows nothing of the build sidecar (`nic-dtk`) nor of
//! loaded modules.
//!
//! Start reading at [`Plan`], and at [`Inventory`].

mod inventory;
mod layout;
mod sources;

mod apply;
mod build;
mod build_log;
mod built_packages;
mod certificates;
mod command;
mod compiler;
mod facts;
mod fips;
mod gcc;
mod inherited;
mod install_pl;
mod preparation;
mod prerequisites;
mod progress;
mod proxies;
mod step;
mod work;

pub use inventory::{
    BuildInputs, BuildKey, CleanUpPlan, CleanedUp, FileOperation, Inventory, InventoryEntry, InventoryLock,
    InventoryLockError, LookUpError, NotedSettings, OpenInventoryError, Outdated, PlanCleanUpError,
    RemoveError, StoreError, StorePlan, Stored, StoredPackage, TakeError, TemporaryPackages, Trust,
};
pub use layout::{
    ArchiveError, LaidOut, Layout, LayoutError, TreeError, ensure_free, lay_out, write_archive,
};
pub use sources::{SourcesDigestError, sources_digest};

pub use apply::ApplyError;
pub use build::{BuildError, Built, NamedLog, build};
pub use build_log::{BUILD_LOG, BuildLog, LOG_LIMIT};
pub use built_packages::{BuiltPackagesError, built_packages};
pub use certificates::certificates;
pub use command::{OnFailure, PlannedCommand, Variable, Word};
pub use compiler::compiler;
pub use facts::{BuildFacts, StartFacts};
pub use fips::fips;
pub use gcc::GccVersion;
pub use inherited::{TOKEN, programs_of_this_process};
pub use install_pl::{BuildSettings, UserFlags, UserFlagsError, install_pl, install_pl_with};
pub use preparation::{Preparation, PreparationRequest};
pub use prerequisites::prerequisites;
pub use progress::Progress;
pub use proxies::Proxies;
pub use step::{CopyExtent, Plan, Step};
pub use work::{PackageSource, Work};

//! How kernel module packages come to be, and where built ones are kept.
//!
//! The [`Inventory`] is the folder in which built packages outlive the container that built them. An entry is used again
//! when it is whole and a [`BuildKey`] says that a build would make the same; [`sources_digest`] is the part of the key that
//! must be worked out. [`lay_out`] makes of built packages what goes into an image.
//!
//! What it is not: it does not install packages (`nic-packages`), and knows nothing of the build sidecar (`nic-dtk`) nor of
//! loaded modules.
//!
//! Start reading at [`Inventory`].

mod inventory;
mod layout;
mod sources;

pub use inventory::{
    BuildInputs, BuildKey, BuildSettings, CleanUpPlan, CleanedUp, FileOperation, Inventory, InventoryEntry,
    InventoryLock, InventoryLockError, LookUpError, OpenInventoryError, Outdated, PlanCleanUpError,
    RemoveError, StoreError, StorePlan, Stored, TemporaryPackages, Trust,
};
pub use layout::{ArchiveError, LaidOut, Layout, LayoutError, TreeError, lay_out, write_archive};
pub use sources::{SourcesDigestError, sources_digest};

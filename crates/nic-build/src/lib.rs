//! How kernel module packages come to be, and where built ones are kept.
//!
//! The [`Inventory`] is the folder in which built packages outlive the container that built them.
//!
//! What it is not: it does not install packages (`nic-packages`), and knows nothing of the build sidecar (`nic-dtk`) nor of
//! loaded modules.
//!
//! Start reading at [`Inventory`].

mod inventory;

pub use inventory::{
    Inventory, InventoryEntry, LookUpError, OpenInventoryError, Outdated, StoreError, Stored,
};

//! SR-IOV network cards: what they are, and how to give them back what they were.
//!
//! A NIC's physical functions (PFs) carry virtual functions (VFs) that the kernel forgets when the PF's driver is
//! unloaded: their number, the attributes that the PF holds for them, the drivers they were bound to, and all that
//! was set on their netdevs. This crate reads all of it into plain data ([`NicState`]), plans what is to be done to
//! get back there ([`plan_restore`]), does it ([`restore()`]) and verifies the result ([`compare()`]).
//!
//! It identifies devices by PCI address and netdevs by ifindex. Names are what it restores, never what it goes by:
//! while VFs appear, udev renames them.
//!
//! What it is not: it loads and unloads no kernel modules, and stores nothing; those who use it do.
//!
//! Start reading at [`NicState`], then [`observe()`], `plan.rs`, `restore.rs`.

mod address;
mod attribute;
mod ofed;
mod state;
mod vf_netdev;

mod check;
mod ib_folders;
mod net_folder;
mod not_known;
mod observe;
mod rdma;
mod source;
mod unmakeable;

mod compare;
mod component;
mod names;
mod patience;
mod plan;
mod stage;

mod arrivals;
mod machine;
mod restore;
mod step;
mod sysfs;
mod teardown;
mod usage;

pub use address::{DeviceAddress, ParseAddressError, PciAddress, PciId};
pub use arrivals::{Arrival, ArrivalError, Arrivals};
pub use attribute::Attribute;
pub use check::{Contradiction, MOST_VFS};
pub use compare::{Difference, Gravity, compare};
pub use component::Component;
pub use names::{NameTaken, Rename, plan_names};
pub use not_known::NotKnown;
pub use observe::{BusDevice, DeviceSelector, bus_devices, find_pfs, observe, observe_whole, vf_addresses};
pub use ofed::{OfedAttributes, OfedStep, plan_ofed};
pub use patience::{Operation, Patience};
pub use plan::{
    AdminStep, BindStep, DeviceUsers, LeftAlone, NetdevStep, PfStep, PlannedStep, RdmaRename,
    RestoreObstacle, RestorePlan, RestoreStep, SkippedPf, devices_to_ask, obstacles, obstacles_in_use,
    plan_admin_after, plan_admin_before, plan_binding, plan_eswitch, plan_finish, plan_netdev, plan_prepare,
    plan_rates_before, plan_rdma_names, plan_restore, vfs_need_binding, vfs_to_unbind,
};
pub use restore::{
    RestoreError, RestoreEvent, RestoreOptions, RestoreOutcome, StepFailure, VfOutcome, restore,
};
pub use source::{KernelLinks, LinkSource, ObserveError, RecordedEswitch, Recording};
pub use stage::Stage;
pub use state::{NetdevState, NicState, PfSeen, PfState, RepresentorState, UnreadPf, VfNetdev, VfState};
pub use sysfs::{VfWriteError, set_num_vfs};
pub use teardown::{RemoveVfsError, await_pfs, remove_vfs};
pub use unmakeable::{UnmakeablePorts, unmakeable_ports};
pub use usage::{DeviceUser, Inquiry, Untold, Usage};

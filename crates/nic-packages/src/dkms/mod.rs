//! What packages register with DKMS, which builds modules anew for each kernel: finding their sources, registering them,
//! and telling what is registered, so that it can be taken out.
//!
//! What is registered outlives the removal of its modules: the next kernel, or the next run of `dkms autoinstall`, has
//! them again, and they stand in front of the inbox driver.

mod module;
mod registration;
mod sources;
mod systemctl;

pub use module::{DkmsModule, DkmsState, DkmsStatus};
pub use registration::{DkmsError, DkmsExtent, DkmsFacts, DkmsPlan, DkmsStep};
pub use sources::{DkmsSource, FindSourcesError};
pub use systemctl::SystemctlStub;

pub(crate) use module::registered;
pub(crate) use sources::{of_recorded, source_folders};

//! Kernel module packages of Linux distributions: what is in them, whether they suit the running kernel, and how
//! they get on the machine and off it again.
//!
//! The way through the crate:
//! 1. [`Node`] says which node this is: its [`Distribution`], the variant of its kernel, its releases. The
//!    [`DistributionFamily`] tells which [`PackageFormat`] it takes.
//! 2. [`PackageSet::read`] reads every package file of a folder without an external program;
//!    [`PackageSet::check`] finds packages for another kernel or architecture before anything is changed.
//! 3. [`InstallState::observe`] reads the machine, [`InstallPlan::new`] decides (purely) what is to be done, and
//!    [`InstallPlan::apply`] does it and looks again. Its result, an [`InstallRecord`], is what must be kept to
//!    undo it.
//! 4. [`RemovalPlan`] undoes it, so that the inbox driver is found again; what the packages have registered with DKMS
//!    ([`DkmsModule`]) is taken out first.
//! 5. [`read_contents`] hands out the files of a package without installing it.
//! 6. [`DkmsPlan`] registers sources that packages have brought with DKMS, and builds modules from them.
//! 7. [`make_source_links_relative`] lets others find the installed driver's headers.
//! 8. [`HostTree`] is for a container on a host that wants the modules in its own tree, and takes them out again.
//!
//! What it is not: it does not build packages, does not fetch them, and knows nothing of loaded modules. Package
//! managers (`rpm`, `apt-get`, `dpkg`) are used to change and to query the machine's package database and for
//! nothing else; `dkms` is used to register what packages have put in, and to take it out.
//!
//! Start reading at [`Node`] and [`PackageSet`], then [`InstallPlan`].

mod ar;
mod contained_path;
mod contents;
mod cpio;
mod deb;
mod distribution;
mod dkms;
mod fields;
mod foreign;
mod host_tree;
mod install;
mod install_step;
mod installed;
mod node;
mod package;
mod read_package;
mod remove;
mod rpm_bounds;
mod rpm_header;
mod set;
mod source_links;
mod tar_members;
mod unpack;
mod weak_links;

pub use contents::{ContainedFile, ContainedKind, ReadContentsError, read_contents};
pub use distribution::{Architecture, DistributionFamily, PackageFormat, UnknownDistributionError};
pub use dkms::{
    DkmsError, DkmsExtent, DkmsFacts, DkmsModule, DkmsPlan, DkmsSource, DkmsState, DkmsStatus, DkmsStep,
    FindSourcesError, SystemctlStub,
};
pub use host_tree::{HostFolderOwner, HostTree, HostTreeError, OwnerError, Withdrawn};
pub use install::{InstallError, InstallPlan, InstallRecord, InstallState, ObserveError, RecordedPackage};
pub use install_step::InstallStep;
pub use installed::{InstalledError, InstalledPackage, installed};
pub use node::{
    Distribution, KernelFlavour, KernelVariant, Node, NodeError, NotKnown, OpenShiftRelease, RhelRelease,
    RhelReleaseError, UnknownNodeError, UnknownVariantError,
};
pub use package::{PackageFile, ParsePackageError};
pub use read_package::ReadPackageError;
pub use remove::{RemovalError, RemovalPlan, RemovalStep};
pub use set::{CheckError, ModuleOrigin, PackageSet, ReadSetError};
pub use source_links::{SourceLinksError, make_source_links_relative};
pub use weak_links::WeakLinksError;

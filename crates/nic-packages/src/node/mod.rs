//! Which node is this: its distribution, how it gets its files, its kernel's variant, its releases.
//!
//! In a container two distributions count: the container's, whose package manager and repositories there are, and the
//! host's, whose kernel runs. Start reading at [`Node`].

mod distribution;
mod identity;
mod openshift;
mod os;
mod rhel;
mod variant;

pub use distribution::Distribution;
pub use identity::{Node, NodeError, NotKnown, UnknownNodeError};
pub use openshift::OpenShiftRelease;
pub use rhel::{RhelRelease, RhelReleaseError};
pub use variant::{KernelFlavour, KernelVariant, UnknownVariantError};

pub(crate) use os::{BootedImage, os_release_of_host};

//! The build sidecar: [`nic_build`] behind the handshake of [`nic_dtk`].
//!
//! The sidecar is a container of OpenShift's Driver Toolkit, an image of somebody else's, and what runs in it is a program that
//! the driver container has put into the shared folder. So this crate is also a program of its own, `nic-driver-sidecar`, which
//! has `dtk-build` and nothing else. It uses no library that is linked at run time but the C library, so that it can be linked
//! statically: then it runs in any image. `cargo xtask sidecar` does that, and proves it.
//!
//! What it is not: it knows no NICs, no modules and no netlink, and installs nothing but what a build needs.
//!
//! Start reading at [`dtk_build()`].

mod dtk_build;

pub use dtk_build::{ServeError, dtk_build, sidecar_prerequisites};

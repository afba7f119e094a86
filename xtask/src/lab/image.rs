//! An image of the distribution, for containers in which the program builds and installs: installed by the distribution's own
//! tools, so with a package database, and with what builds kernel modules and packages.

use std::path::Path;

use super::apt::Apt;
use super::cache::{Cache, Cached};

/// What is installed beside apt and what every system has. dkms brings the compiler; iproute2 and mount are for the program that
/// the driver container replaces.
const PACKAGES: &[&str] = &[
    "dkms", "gcc", "iproute2", "kmod", "libelf1", "libudev1", "make", "mount", "perl", "rpm", "udev",
    "xz-utils",
];

/// The folder that holds the image, as it is unpacked.
pub(super) fn folder(apt: &Apt, cache: &Cache) -> anyhow::Result<Cached> {
    cache.folder("image", &[include_str!("image.rs")], |folder| apt.bootstrap(PACKAGES, &root(folder)))
}

/// The image's root in the folder of [`folder`].
pub(super) fn root(folder: &Path) -> std::path::PathBuf {
    folder.join("root")
}

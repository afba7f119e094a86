use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use nic_host::{Foreign, ForeignWord, KernelRelease};
use serde::{Deserialize, Serialize};

use crate::PackageFormat;

/// A package file: what its header says, and where its files go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageFile {
    /// Where it lies, as a path of the host.
    pub path: PathBuf,
    /// Its format, by its first bytes and not by its name.
    pub format: PackageFormat,
    /// The package's name.
    pub name: String,
    /// Its version in the package manager's own form: `[epoch:]version-release` for rpm (an epoch of 0 is left out:
    /// rpm takes both for equal), the `Version` field for Debian.
    pub version: String,
    /// Its architecture in the package manager's own words, e.g. `x86_64`, `noarch`, `amd64`, `all`.
    pub architecture: String,
    /// The files it installs, with absolute paths: regular files and links, no folders, and nothing that it only
    /// owns (`%ghost`).
    pub files: Vec<PathBuf>,
}

/// What is wrong with the content of a package file.
#[derive(Debug, thiserror::Error)]
pub enum ParsePackageError {
    /// It begins like neither format.
    #[error("the file is neither an rpm nor a deb: it begins with {beginning:02x?}")]
    Format {
        /// Its first bytes, at most 8.
        beginning: Vec<u8>,
    },
    /// It could not be read, or a part of it is not what that part must be.
    #[error("cannot read the part {part}")]
    Read {
        /// Which part: `first bytes`, `archive`, `control.tar.xz`…
        part: String,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// It has fewer bytes than its signature tells: a download that was broken off, or a full disk.
    #[error("the package is cut off: {missing} bytes are missing")]
    CutOff {
        /// How many, at least.
        missing: u64,
    },
    /// It has more bytes than its signature tells.
    #[error("the package has {more} bytes more than its signature tells")]
    TooLong {
        /// How many, at least.
        more: u64,
    },
    /// A part is not what it was when the package was made.
    #[error("the checksum of the part {part} does not match")]
    Checksum {
        /// Which part: `header`, `payload`.
        part: &'static str,
    },
    /// A name, a version or an architecture is such that the package manager refuses it, or would take it for something else, such as an
    /// option.
    #[error("the field {field} is {}, which the package manager does not take", Foreign(value))]
    Field {
        /// The field's name in the package manager's words.
        field: &'static str,
        /// Its value, or the beginning of it.
        value: String,
    },
    /// A field of a control file is there twice.
    #[error("the field {field} is there twice")]
    Twice {
        /// The field's name.
        field: &'static str,
    },
    /// The control file of a deb is none.
    #[error("the control file {reason}")]
    Control {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A library of others that reads packed data has panicked.
    #[error("a library that reads packed data failed on the package: {}", ForeignWord(message))]
    Panicked {
        /// What it said.
        message: String,
    },
    /// It holds sources, which are not installed but built.
    #[error("the package holds sources, which are built and not installed")]
    Source,
    /// A part that every package has is missing.
    #[error("the package has no {part}")]
    Missing {
        /// Which part: `control.tar`, `data.tar`, `field Version`…
        part: &'static str,
    },
    /// A part is compressed in a way that is not supported.
    #[error("the part {} is compressed in an unknown way", Foreign(part))]
    Compression {
        /// The name of the part, whose suffix tells the compression.
        part: String,
    },
}

impl ParsePackageError {
    pub(crate) fn read(part: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let part = part.into();
        |source| Self::Read { part, source }
    }
}

impl PackageFile {
    /// The kernels into whose `/lib/modules/<release>/` it puts files.
    #[must_use]
    pub fn kernels(&self) -> BTreeSet<KernelRelease> {
        self.files.iter().filter_map(|file| kernel_of(file)).collect()
    }

    /// The kernel modules it holds for any kernel: `….ko`, also compressed.
    pub fn modules(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(PathBuf::as_path).filter(|file| is_module(file))
    }

    /// The kernel modules it holds for `kernel`.
    pub fn modules_for(&self, kernel: &KernelRelease) -> impl Iterator<Item = &Path> {
        self.modules().filter(move |file| kernel_of(file).as_ref() == Some(kernel))
    }
}

/// The kernel whose module folder `file` lies in. A folder there that cannot be a kernel release belongs to none.
pub(crate) fn kernel_of(file: &Path) -> Option<KernelRelease> {
    let below = ["/lib/modules", "/usr/lib/modules"].iter().find_map(|root| file.strip_prefix(root).ok())?;
    let mut components = below.components();
    let release = components.next()?.as_os_str().to_str()?.parse().ok()?;
    components.next().map(|_| release)
}

fn is_module(file: &Path) -> bool {
    let name = file.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    [".ko", ".ko.xz", ".ko.zst", ".ko.gz"].iter().any(|suffix| name.ends_with(suffix))
}

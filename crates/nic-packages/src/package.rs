use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use nic_host::{Host, KernelRelease};
use serde::{Deserialize, Serialize};

use crate::{PackageFormat, deb, rpm_header};

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

/// A package file that could not be opened or understood.
#[derive(Debug, thiserror::Error)]
pub enum ReadPackageError {
    /// It could not be opened.
    #[error("cannot open the package {}", path.display())]
    Open {
        /// The path as this process sees it.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// It could be opened, and makes no sense.
    #[error("cannot understand the package {}", path.display())]
    Parse {
        /// The path as this process sees it.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: ParsePackageError,
    },
}

/// What is wrong with the content of a package file.
#[derive(Debug, thiserror::Error)]
pub enum ParsePackageError {
    /// It begins like neither format.
    #[error("it is neither an rpm nor a deb: it begins with {beginning:02x?}")]
    Format {
        /// Its first bytes, at most 8.
        beginning: Vec<u8>,
    },
    /// It could not be read, or a part of it is not what that part must be.
    #[error("cannot read its {part}")]
    Read {
        /// Which part: `first bytes`, `archive`, `control.tar.xz`…
        part: String,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// Its rpm header does not parse.
    #[error("its rpm header does not parse")]
    RpmHeader(#[source] rpm::Error),
    /// It holds sources, which are not installed but built.
    #[error("it is a source package")]
    Source,
    /// A part that every package has is missing.
    #[error("it has no {part}")]
    Missing {
        /// Which part: `control.tar`, `data.tar`, `field Version`…
        part: &'static str,
    },
    /// A part is compressed in a way that is not supported.
    #[error("its {part} is compressed in an unknown way")]
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
    /// Reads a package file of either format. No external program is used.
    ///
    /// Of an rpm only the header is read; a deb has no list of its files, so its data is decompressed.
    pub fn read(host: &Host, path: impl AsRef<Path>) -> Result<Self, ReadPackageError> {
        let (path, seen) = (path.as_ref(), host.path(&path));
        let file =
            File::open(&seen).map_err(|source| ReadPackageError::Open { path: seen.clone(), source })?;
        Self::parse(path, BufReader::new(file))
            .map_err(|source| ReadPackageError::Parse { path: seen, source })
    }

    /// Reads a package from its bytes. `path` is only noted.
    pub fn parse(path: impl Into<PathBuf>, mut content: impl BufRead) -> Result<Self, ParsePackageError> {
        // A buffered reader's first fill holds at least the first bytes of any regular file or slice.
        let beginning = content.fill_buf().map_err(ParsePackageError::read("first bytes"))?;
        let contained = if beginning.starts_with(&rpm_header::MAGIC) {
            rpm_header::parse(content)?
        } else if beginning.starts_with(&deb::MAGIC) {
            deb::parse(content)?
        } else {
            let beginning = beginning.iter().take(8).copied().collect();
            return Err(ParsePackageError::Format { beginning });
        };
        Ok(Self { path: path.into(), ..contained })
    }

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
fn kernel_of(file: &Path) -> Option<KernelRelease> {
    let below = ["/lib/modules", "/usr/lib/modules"].iter().find_map(|root| file.strip_prefix(root).ok())?;
    let mut components = below.components();
    let release = components.next()?.as_os_str().to_str()?.parse().ok()?;
    components.next().map(|_| release)
}

fn is_module(file: &Path) -> bool {
    let name = file.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    [".ko", ".ko.xz", ".ko.zst", ".ko.gz"].iter().any(|suffix| name.ends_with(suffix))
}

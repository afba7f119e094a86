//! Reading package files of either format.

use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use nic_host::Host;

use crate::foreign::guarded;
use crate::{PackageFile, ParsePackageError, deb, rpm_header};

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

impl PackageFile {
    /// Reads a package file of either format. No external program is used.
    ///
    /// All of it is read, so that a package that was cut off or damaged is found out before a package manager is asked: of an rpm the
    /// checksums are compared, a deb's parts are unpacked, which also tells its files.
    pub fn read(host: &Host, path: impl AsRef<Path>) -> Result<Self, ReadPackageError> {
        let (path, seen) = (path.as_ref(), host.path(&path));
        let file = host
            .open(path)
            .map_err(|error| ReadPackageError::Open { path: error.path, source: error.source })?;
        Self::parse(path, BufReader::new(file))
            .map_err(|source| ReadPackageError::Parse { path: seen, source })
    }

    /// Reads a package from its bytes. `path` is only noted.
    pub fn parse(path: impl Into<PathBuf>, mut content: impl BufRead) -> Result<Self, ParsePackageError> {
        // A buffered reader's first fill holds at least the first bytes of any regular file or slice.
        let beginning = content.fill_buf().map_err(ParsePackageError::read("first bytes"))?;
        let contained = if beginning.starts_with(&rpm_header::MAGIC) {
            guarded(|| rpm_header::parse(content))?
        } else if beginning.starts_with(&deb::MAGIC) {
            guarded(|| deb::parse(content))?
        } else {
            let beginning = beginning.iter().take(8).copied().collect();
            return Err(ParsePackageError::Format { beginning });
        };
        Ok(Self { path: path.into(), ..contained })
    }
}

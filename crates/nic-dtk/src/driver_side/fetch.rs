use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nic_host::{Host, error_chain};

use crate::beneath::{Folder, FolderError, absent_is_none};
use crate::blocking::Abort;
use crate::digest::Digest;
use crate::driver_side::Prepared;
use crate::packages::{FindPackagesError, PackageLimits, find};
use crate::result::{BuildResult, LARGEST_RESULT, Outcome, PackageRecord};
use crate::shared_folder::{OWN_FOLDER, RESULT_FILE, done_flag_name};

/// What was taken out of the shared folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedPackages {
    /// The packages, sorted by name.
    pub packages: Vec<FetchedPackage>,
    /// What shows that they are what was asked for.
    pub proof: Proof,
}

/// A package in the private folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedPackage {
    /// Where it is.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// The digest of what is there.
    pub sha256: Digest,
}

/// What shows that packages are what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// The sidecar has said what it built from which sources, flags and kernel, and each package is that.
    Result,
    /// The done flag alone: it is of this version, and came after this request. The incumbent's sidecar leaves no more.
    DoneFlag,
}

/// Packages that cannot be taken. Nothing of them is left in the private folder.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// They cannot be found.
    #[error(transparent)]
    Find(#[from] FindPackagesError),
    /// One of them, or the sidecar's result, cannot be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The result is not of what was asked for any more.
    #[error("{} is not of the sources, flags and kernel that were asked for", path.display())]
    OtherResult {
        /// The result's path.
        path: PathBuf,
    },
    /// A package is there that the sidecar has not built.
    #[error("{} is not among the packages that the sidecar says it has built", path.display())]
    Unknown {
        /// Its path.
        path: PathBuf,
    },
    /// A package that the sidecar has built is not there.
    #[error("{} is not there; the sidecar says that it has built it", path.display())]
    Missing {
        /// Its path.
        path: PathBuf,
    },
    /// A package is not what the sidecar has built.
    #[error("{} is not what the sidecar says it has built: {found} bytes with SHA-256 {found_sha256}, not {built} with {built_sha256}", path.display())]
    Differs {
        /// Its path in the shared folder.
        path: PathBuf,
        /// Bytes that were copied.
        found: u64,
        /// Their digest.
        found_sha256: Digest,
        /// Bytes that were built.
        built: u64,
        /// Their digest.
        built_sha256: Digest,
    },
    /// A package, or the list of them, changed while they were copied.
    #[error("{} has changed while it was copied", path.display())]
    Changed {
        /// Its path in the shared folder.
        path: PathBuf,
    },
    /// They are too many bytes together.
    #[error("the packages in {} have more than {limit} bytes together", folder.display())]
    TooLarge {
        /// Their folder.
        folder: PathBuf,
        /// What is allowed.
        limit: u64,
    },
    /// The private folder is not empty.
    #[error("{} is not empty", path.display())]
    NotEmpty {
        /// Its path.
        path: PathBuf,
    },
    /// The private folder, or a file in it, cannot be used.
    #[error("cannot {action} {}", path.display())]
    Private {
        /// What was to be done.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl FetchError {
    /// Whether it is about what lies in the shared folder, so that trying again is of no use without another build.
    fn is_of_shared_folder(&self) -> bool {
        !matches!(self, Self::NotEmpty { .. } | Self::Private { .. })
    }
}

/// Takes the packages. What is refused is not offered again: its done flag is taken off, so that the next start has them
/// built anew.
pub(super) fn fetch_or_refuse(
    host: &Host,
    prepared: &Prepared,
    limits: &PackageLimits,
    into: &Path,
    abort: &Abort,
) -> Result<FetchedPackages, FetchError> {
    fetch(host, prepared, limits, into, abort).inspect_err(|error| {
        if abort.check().is_ok() && error.is_of_shared_folder() {
            let folder = &prepared.request.folder;
            let kernels = Folder::open(host, folder.base()).and_then(|base| base.folder(folder.name()));
            let flag = done_flag_name(&prepared.request.version);
            if let Err(error) = kernels.and_then(|kernels| kernels.remove(&flag)) {
                tracing::warn!(flag, error = %error_chain(&error), "the done flag of packages that were refused stays");
            }
        }
    })
}

/// Copies the packages into the folder `into`, and checks what was copied.
fn fetch(
    host: &Host,
    prepared: &Prepared,
    limits: &PackageLimits,
    into: &Path,
    abort: &Abort,
) -> Result<FetchedPackages, FetchError> {
    let request = &prepared.request;
    let kernels = Folder::open(host, request.folder.base())?.folder(request.folder.name())?;
    let built = built_packages(&kernels, prepared)?;
    let (folder, names) = find(&kernels, &request.version, &request.architecture, limits)?;
    if let Some(built) = &built {
        compare_names(&folder, &names, built)?;
    }
    let private = host.path(into);
    make_private(&private)?;
    let fetched = copy_all(&folder, &names, built.as_deref(), limits, &private, abort).and_then(|packages| {
        // Without a manifest this is all that can be said of the list: it stood still.
        let (after, names_after) = find(&kernels, &request.version, &request.architecture, limits)?;
        if after.inode()? != folder.inode()? || names_after != names {
            return Err(FetchError::Changed { path: folder.path().to_path_buf() });
        }
        Ok(packages)
    });
    let packages = match fetched {
        Ok(packages) => packages,
        Err(error) => {
            discard(&private, &names);
            return Err(error);
        }
    };
    let packages = packages.into_iter().map(|PackageRecord { name, size, sha256 }| FetchedPackage {
        path: into.join(name),
        size,
        sha256,
    });
    let proof = if built.is_some() { Proof::Result } else { Proof::DoneFlag };
    Ok(FetchedPackages { packages: packages.collect(), proof })
}

/// What the sidecar says it has built, where it says so.
fn built_packages(kernels: &Folder, prepared: &Prepared) -> Result<Option<Vec<PackageRecord>>, FetchError> {
    let Some(own) = absent_is_none(kernels.folder(OWN_FOLDER))? else { return Ok(None) };
    let Some(result) = own.json::<BuildResult>(RESULT_FILE, LARGEST_RESULT)? else { return Ok(None) };
    match result.outcome {
        Outcome::Built { packages } if result.digest == Some(prepared.digest) => Ok(Some(packages)),
        _ => Err(FetchError::OtherResult { path: own.path().join(RESULT_FILE) }),
    }
}

fn compare_names(folder: &Folder, names: &[String], built: &[PackageRecord]) -> Result<(), FetchError> {
    let path = |name: &str| folder.path().join(name);
    if let Some(name) = names.iter().find(|name| built.iter().all(|package| package.name != **name)) {
        return Err(FetchError::Unknown { path: path(name) });
    }
    match built.iter().find(|package| !names.contains(&package.name)) {
        Some(package) => Err(FetchError::Missing { path: path(&package.name) }),
        None => Ok(()),
    }
}

fn copy_all(
    folder: &Folder,
    names: &[String],
    built: Option<&[PackageRecord]>,
    limits: &PackageLimits,
    private: &Path,
    abort: &Abort,
) -> Result<Vec<PackageRecord>, FetchError> {
    let (mut packages, mut total) = (Vec::new(), 0_u64);
    for name in names {
        let built = built.and_then(|built| built.iter().find(|package| package.name == *name));
        let package = copy(folder, name, limits, private, abort)?;
        if let Some(built) = built.filter(|built| **built != package) {
            return Err(FetchError::Differs {
                path: folder.path().join(name),
                found: package.size,
                found_sha256: package.sha256,
                built: built.size,
                built_sha256: built.sha256,
            });
        }
        total = total.saturating_add(package.size);
        if total > limits.total {
            return Err(FetchError::TooLarge { folder: folder.path().to_path_buf(), limit: limits.total });
        }
        packages.push(package);
    }
    sync(private)?;
    Ok(packages)
}

/// Copies a package, and says what the copy is: that alone is what will be installed.
fn copy(
    folder: &Folder,
    name: &str,
    limits: &PackageLimits,
    private: &Path,
    abort: &Abort,
) -> Result<PackageRecord, FetchError> {
    let target = private.join(name);
    let in_private = |action| {
        let path = target.clone();
        move |source| FetchError::Private { action, path, source }
    };
    let mut open = folder.file(name, limits.size)?;
    let options = OpenOptions::new().write(true).create_new(true).mode(0o600).clone();
    let mut file = options.open(&target).map_err(in_private("create"))?;
    let (mut left, mut unwritten) = (open.size, None);
    let read = Digest::of_reader(&mut open.file, abort, |piece| {
        let length = u64::try_from(piece.len()).unwrap_or(u64::MAX);
        // No byte more than it had when it was opened, however it grows.
        left = left.checked_sub(length).ok_or(io::ErrorKind::FileTooLarge)?;
        file.write_all(piece).map_err(|error| {
            let kind = error.kind();
            unwritten = Some(error);
            kind.into()
        })
    });
    if let Some(error) = unwritten {
        return Err(in_private("write")(error));
    }
    let path = open.path.clone();
    let (read, size) = match read {
        Ok((_, size)) if size != open.size => return Err(FetchError::Changed { path }),
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
            return Err(FetchError::Changed { path });
        }
        Ok(read) => read,
        Err(source) => return Err(FolderError::Io { action: "read", path, source }.into()),
    };
    file.sync_all().map_err(in_private("write"))?;
    // What is there now is read again: what was read before was the shared folder's.
    let mut copied = File::open(&target).map_err(in_private("open"))?;
    let copied = Digest::of_reader(&mut copied, abort, |_| Ok(())).map_err(in_private("read"))?;
    if copied != (read, size) {
        return Err(FetchError::Changed { path: target });
    }
    Ok(PackageRecord { name: name.to_owned(), size, sha256: read })
}

fn make_private(private: &Path) -> Result<(), FetchError> {
    let failed = |action| move |source| FetchError::Private { action, path: private.to_path_buf(), source };
    DirBuilder::new().recursive(true).mode(0o700).create(private).map_err(failed("make the folder"))?;
    match fs::read_dir(private).map_err(failed("list"))?.next() {
        None => Ok(()),
        Some(_) => Err(FetchError::NotEmpty { path: private.to_path_buf() }),
    }
}

fn sync(private: &Path) -> Result<(), FetchError> {
    File::open(private).and_then(|folder| folder.sync_all()).map_err(|source| FetchError::Private {
        action: "sync",
        path: private.to_path_buf(),
        source,
    })
}

/// Removes what was copied before the failure that is told.
fn discard(private: &Path, names: &[String]) {
    for path in names.iter().map(|name| private.join(name)) {
        match fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(path = %path.display(), %error, "a package is left behind"),
        }
    }
}

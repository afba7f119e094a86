use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader};
use std::path::{Path, PathBuf};

use nic_host::{DriverVersion, Host, KernelRelease, ListError, ReadError, WriteError};
use sha2::{Digest, Sha256};

/// The folder in which built packages outlive the container that built them.
///
/// ```text
/// <path>/<uname -r>/<driver version>/             the package files
/// <path>/<uname -r>/<driver version>.checksum     their SHA-256, as sha256sum(1) prints it
/// <path>/<uname -r>/<driver version>.buildconfig  what they were built with
/// ```
///
/// In the folder of the packages, `sha256sum -c ../<driver version>.checksum` checks them by hand.
///
/// The checksum is written last and removed first, so a stored build is either whole or not valid, whenever the
/// process or the machine dies. There is one writer at a time: the caller holds the driver container's lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inventory {
    path: PathBuf,
}

/// The path given for an inventory is not a folder.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the inventory of built packages {} is not a folder", path.display())]
pub struct OpenInventoryError {
    /// The path as this process sees it.
    pub path: PathBuf,
}

/// The place of one build in the inventory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InventoryEntry {
    /// The folder of the package files.
    pub folder: PathBuf,
    /// The file with their checksums.
    pub checksum: PathBuf,
    /// The file that says what they were built with.
    pub build_config: PathBuf,
}

/// What the inventory holds of a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored {
    /// Nothing.
    Absent,
    /// Packages that must not be used.
    Outdated(Outdated),
    /// Packages that are whole, and built with what was asked for.
    Valid,
}

/// Why stored packages must not be used. Displayed, it is the reason behind "the packages are built anew:".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Outdated {
    /// There is no checksum, so they were not stored to the end.
    #[error("{} is missing", checksum.display())]
    NoChecksum {
        /// The file that is missing.
        checksum: PathBuf,
    },
    /// They are not the files that were stored, or the checksum is of another program's form.
    #[error("the files in {} are not those of its checksum: {difference}", folder.display())]
    Checksum {
        /// The folder of the packages.
        folder: PathBuf,
        /// The first difference.
        difference: String,
    },
    /// They were built with something else.
    #[error("the packages were built with {stored:?}, and now {wanted:?} is asked for")]
    BuildConfig {
        /// What is stored; empty where that is missing.
        stored: String,
        /// What is asked for.
        wanted: String,
    },
}

/// The inventory could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LookUpError {
    /// The folder of the packages could not be listed.
    #[error("cannot look into the inventory of built packages")]
    List(#[from] ListError),
    /// A file could not be read.
    #[error("cannot look into the inventory of built packages")]
    Read(#[from] ReadError),
}

/// Packages could not be stored.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is nothing to store.
    #[error("there are no packages to store in {}", folder.display())]
    Nothing {
        /// Where they were to go.
        folder: PathBuf,
    },
    /// A path names no file, or two files have the same name.
    #[error("cannot store {} in one folder with the other packages: its name is taken, or it has none", path.display())]
    Name {
        /// The path.
        path: PathBuf,
    },
    /// A package could not be copied.
    #[error("cannot copy {} to {}", from.display(), to.display())]
    Copy {
        /// The package.
        from: PathBuf,
        /// Where it was to go.
        to: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A folder could not be created, replaced or removed.
    #[error("cannot {action} {}", path.display())]
    Folder {
        /// `create`, `remove`, `put in place`, `sync`.
        action: &'static str,
        /// The folder.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A file beside the packages could not be written or removed.
    #[error("cannot note what the stored packages are")]
    Note(#[from] WriteError),
    /// The copies could not be read back.
    #[error("cannot read the stored packages back")]
    ReadBack(#[source] LookUpError),
}

impl Inventory {
    /// The inventory at `path`, which must be a folder.
    pub fn open(host: &Host, path: impl Into<PathBuf>) -> Result<Self, OpenInventoryError> {
        let path = path.into();
        if host.path(&path).is_dir() {
            Ok(Self { path })
        } else {
            Err(OpenInventoryError { path: host.path(&path) })
        }
    }

    /// The place of the packages of this driver version for this kernel, as paths of the host.
    pub fn entry(&self, kernel: &KernelRelease, driver_version: &DriverVersion) -> InventoryEntry {
        let folder = self.path.join(kernel.as_str());
        InventoryEntry {
            checksum: folder.join(format!("{driver_version}.checksum")),
            build_config: folder.join(format!("{driver_version}.buildconfig")),
            folder: folder.join(driver_version.as_str()),
        }
    }
}

impl InventoryEntry {
    /// Whether packages are stored here, whole, and built with `build_config`.
    pub fn look_up(&self, host: &Host, build_config: &str) -> Result<Stored, LookUpError> {
        if host.list_if_exists(&self.folder)?.is_empty() {
            return Ok(Stored::Absent);
        }
        let Some(noted) = host.read_if_exists(&self.checksum)? else {
            return Ok(Stored::Outdated(Outdated::NoChecksum { checksum: self.checksum.clone() }));
        };
        let stored = host.read_if_exists(&self.build_config)?.unwrap_or_default();
        if stored != build_config {
            return Ok(Stored::Outdated(Outdated::BuildConfig { stored, wanted: build_config.to_owned() }));
        }
        let found = checksums(host, &self.folder)?;
        Ok(match difference(&noted, &found) {
            None => Stored::Valid,
            Some(difference) => {
                Stored::Outdated(Outdated::Checksum { folder: self.folder.clone(), difference })
            }
        })
    }

    /// Stores copies of `packages`, in place of what is stored here.
    ///
    /// The copies are made in a folder of their own, `.<driver version>.partial`, synced, and put in place by a
    /// rename. One that a killed process left behind is removed first.
    pub fn store(&self, host: &Host, packages: &[PathBuf], build_config: &str) -> Result<(), StoreError> {
        if packages.is_empty() {
            return Err(StoreError::Nothing { folder: self.folder.clone() });
        }
        let folder = host.path(&self.folder);
        let version = self.folder.file_name().unwrap_or_default().to_string_lossy();
        let partial = folder.with_file_name(format!(".{version}.partial"));
        let doing = |action: &'static str, path: &Path| {
            let path = path.to_path_buf();
            move |source| StoreError::Folder { action, path, source }
        };
        remove_folder(&partial)?;
        fs::create_dir_all(&partial).map_err(doing("create", &partial))?;
        for package in packages {
            copy_durably(&host.path(package), &partial)?;
        }
        sync_folder(&partial).map_err(doing("sync", &partial))?;

        // From here to the last line, what is stored is not valid.
        host.remove_file(&self.checksum)?;
        remove_folder(&folder)?;
        fs::rename(&partial, &folder).map_err(doing("put in place", &folder))?;
        if let Some(parent) = folder.parent() {
            sync_folder(parent).map_err(doing("sync", parent))?;
        }
        host.write_durably(&self.build_config, build_config.as_bytes())?;
        let sums = checksums(host, &self.folder).map_err(StoreError::ReadBack)?;
        host.write_durably(&self.checksum, render(&sums).as_bytes())?;
        Ok(())
    }
}

fn remove_folder(path: &Path) -> Result<(), StoreError> {
    match fs::remove_dir_all(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(StoreError::Folder { action: "remove", path: path.to_path_buf(), source })
        }
        _ => Ok(()),
    }
}

fn copy_durably(from: &Path, folder: &Path) -> Result<(), StoreError> {
    let to = match from.file_name().map(|name| folder.join(name)) {
        Some(to) if !to.exists() => to,
        _ => return Err(StoreError::Name { path: from.to_path_buf() }),
    };
    fs::copy(from, &to).and_then(|_| File::open(&to)?.sync_all()).map_err(|source| StoreError::Copy {
        from: from.to_path_buf(),
        to,
        source,
    })
}

/// Makes the names in a folder durable.
fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// The SHA-256 of each file in a folder, by name.
fn checksums(host: &Host, folder: &Path) -> Result<BTreeMap<String, String>, LookUpError> {
    host.list(folder)?
        .into_iter()
        .map(|name| {
            let path = host.path(folder.join(&name));
            let sum = sha256(&path).map_err(|source| ReadError { path, source })?;
            Ok((name, sum))
        })
        .collect()
}

fn sha256(path: &Path) -> io::Result<String> {
    let mut content = BufReader::with_capacity(256 * 1024, File::open(path)?);
    let mut hasher = Sha256::new();
    loop {
        let read = content.fill_buf()?;
        if read.is_empty() {
            return Ok(hex::encode(hasher.finalize()));
        }
        hasher.update(read);
        let length = read.len();
        content.consume(length);
    }
}

/// The form of sha256sum(1): sum, two spaces, name.
fn render(sums: &BTreeMap<String, String>) -> String {
    sums.iter().map(|(name, sum)| format!("{sum}  {name}\n")).collect()
}

/// The first difference between a checksum file and what is found.
fn difference(noted: &str, found: &BTreeMap<String, String>) -> Option<String> {
    let mut expected = BTreeMap::new();
    for line in noted.lines() {
        let Some((sum, name)) = line.split_once("  ") else {
            return Some(format!("{line:?} is not a line of sha256sum"));
        };
        expected.insert(name, sum);
    }
    let changed = expected.iter().find_map(|(name, sum)| match found.get(*name) {
        None => Some(format!("{name} is missing")),
        Some(other) if other != sum => Some(format!("{name} has changed")),
        Some(_) => None,
    });
    changed.or_else(|| {
        let added = found.keys().find(|name| !expected.contains_key(name.as_str()));
        added.map(|name| format!("{name} was added"))
    })
}

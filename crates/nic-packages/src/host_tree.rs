//! Modules in the host's own tree, put there from a container, and taken out again.
//!
//! On RHEL the kernel loads modules only from files that SELinux knows as modules, and a container's file system cannot
//! be labelled so. Therefore the folders below `extra/` that packages have brought go to the host's `/lib/modules` as
//! well, and the container's become links to those. They outlive the container and the boot, so what was put there must
//! be known there: a manifest in each folder tells the files with their checksums.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use nic_host::{CommandError, Host, Invocation, KernelRelease, ListError, ReadError, WriteError};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use walkdir::WalkDir;

use crate::Distribution;
use crate::install_step::DEPMOD_DEADLINE;
use crate::node::{BootedImage, os_release_of_host};

const HOST: &str = "/host";
const MANIFEST: &str = ".nic-driver.json";
/// What a folder's name ends in, with a dot in front, while it is being made or removed. No module is looked for there
/// under a name that anybody else would choose.
const UNFINISHED: [&str; 2] = [".nic-driver-new", ".nic-driver-old"];

/// The host's modules of the running kernel, as a container sees them below `/host`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostTree {
    kernel: KernelRelease,
}

/// What was put into one folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    /// Who is to be asked.
    made_by: String,
    /// SHA-256 of each file, by its path in the folder.
    files: BTreeMap<PathBuf, String>,
}

/// What was taken out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Withdrawn {
    /// The folders.
    pub folders: Vec<PathBuf>,
    /// Files in them that somebody else has put there or changed, and which stay.
    pub left: Vec<PathBuf>,
}

/// The host's tree could not be changed. It can be tried anew.
#[derive(Debug, thiserror::Error)]
pub enum HostTreeError {
    /// Somebody else has put modules in the place.
    #[error("{} is not of this program: it has no {MANIFEST}", folder.display())]
    Foreign {
        /// The folder on the host.
        folder: PathBuf,
    },
    /// A manifest is damaged, so that it is not known whose the files are.
    #[error("{} does not tell what was put there", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// A folder could not be searched.
    #[error("cannot search {}", folder.display())]
    Search {
        /// The folder.
        folder: PathBuf,
        /// The reason.
        #[source]
        source: walkdir::Error,
    },
    /// A folder could not be listed.
    #[error(transparent)]
    List(#[from] ListError),
    /// A file could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A file could not be written or removed.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The host's index could not be built.
    #[error("cannot build the index of the host's modules")]
    Depmod(#[from] CommandError),
}

impl HostTree {
    /// The host's tree for this kernel, where this is a container that sees it.
    #[must_use]
    pub fn find(host: &Host, kernel: &KernelRelease) -> Option<Self> {
        let tree = Self { kernel: kernel.clone() };
        host.path(tree.folder()).is_dir().then_some(tree)
    }

    /// Whether modules belong there: the host is a RHEL or its like, and none that is updated as a whole image (OpenShift's,
    /// image mode), whose `/usr` cannot be written.
    pub fn wants_modules(&self, host: &Host) -> Result<bool, ReadError> {
        let Some((_, os)) = os_release_of_host(host)? else { return Ok(false) };
        let booted = BootedImage::read(host)?;
        // Fedora is of the family, and no host that a driver is built for.
        Ok(os.id != "fedora" && Distribution::of(&os, &os, booted) == Ok(Distribution::RedHat))
    }

    /// Takes the container's links to the host's tree away. A package manager must not write through them.
    pub fn unlink(&self, host: &Host) -> Result<(), HostTreeError> {
        for name in host.list_if_exists(self.extra_of_container())? {
            let link = self.extra_of_container().join(&name);
            if self.is_link_to(host, &link, &name) {
                host.remove_file(&link)?;
            }
        }
        Ok(())
    }

    /// Puts the folders below `extra/` that hold one of `modules` into the host's tree, builds its index, and makes the
    /// container's folders links to them. Returns the host's folders; nothing is changed when all is so already.
    pub async fn put(&self, host: &Host, modules: &[PathBuf]) -> Result<Vec<PathBuf>, HostTreeError> {
        let mut folders = Vec::new();
        let below_extra =
            modules.iter().filter_map(|module| module.strip_prefix(self.extra_of_container()).ok());
        let names: BTreeSet<&str> = below_extra
            .filter(|path| path.components().count() > 1)
            .filter_map(|path| path.components().next()?.as_os_str().to_str())
            .collect();
        let is_linked = |name: &&str| self.is_link_to(host, &self.extra_of_container().join(name), name);
        for name in names.into_iter().filter(|name| !is_linked(name)) {
            self.copy(host, name)?;
            folders.push(self.extra().join(name));
        }
        if folders.is_empty() {
            return Ok(folders);
        }
        host.run(&self.depmod()).await?;
        for folder in &folders {
            if let Some(name) = folder.file_name() {
                self.link(host, &self.extra_of_container().join(name), folder)?;
            }
        }
        Ok(folders)
    }

    /// Takes everything out of the host's tree that [`HostTree::put`] has put there, and builds its index anew.
    pub async fn take_out(&self, host: &Host) -> Result<Withdrawn, HostTreeError> {
        self.unlink(host)?;
        let mut withdrawn = Withdrawn::default();
        for name in host.list_if_exists(self.extra())? {
            let folder = self.extra().join(&name);
            if is_unfinished(&name) {
                remove_folder(host, &folder)?;
            } else if let Some(manifest) = self.manifest(host, &folder)? {
                withdrawn.left.extend(remove_files(host, &folder, &manifest)?);
                withdrawn.folders.push(folder);
            }
        }
        if withdrawn.folders.is_empty() {
            return Ok(withdrawn);
        }
        host.run(&self.depmod()).await?;
        // The manifests go last: who is killed before that begins anew.
        for folder in &withdrawn.folders {
            host.remove_file(folder.join(MANIFEST))?;
            remove_empty_folders(host, folder)?;
        }
        Ok(withdrawn)
    }

    fn folder(&self) -> PathBuf {
        Path::new(HOST).join("lib/modules").join(self.kernel.as_str())
    }

    fn extra(&self) -> PathBuf {
        self.folder().join("extra")
    }

    fn extra_of_container(&self) -> PathBuf {
        Path::new("/lib/modules").join(self.kernel.as_str()).join("extra")
    }

    fn depmod(&self) -> Invocation {
        Invocation::new("depmod").args(["-b", HOST, self.kernel.as_str()]).deadline(DEPMOD_DEADLINE)
    }

    fn is_link_to(&self, host: &Host, link: &Path, name: &str) -> bool {
        fs::read_link(host.path(link)).is_ok_and(|target| target == self.extra().join(name))
    }

    fn manifest(&self, host: &Host, folder: &Path) -> Result<Option<Manifest>, HostTreeError> {
        let path = folder.join(MANIFEST);
        let Some(text) = host.read_if_exists(&path)? else { return Ok(None) };
        serde_json::from_str(&text)
            .map(Some)
            .map_err(|source| HostTreeError::Manifest { path: host.path(&path), source })
    }

    /// Copies one folder beside its place and then puts it there, so that no half of it is ever found.
    fn copy(&self, host: &Host, name: &str) -> Result<(), HostTreeError> {
        let (from, to) = (self.extra_of_container().join(name), self.extra().join(name));
        let [new, old] = UNFINISHED.map(|suffix| self.extra().join(format!(".{name}{suffix}")));
        if host.exists(&to) && self.manifest(host, &to)?.is_none() {
            return Err(HostTreeError::Foreign { folder: host.path(&to) });
        }
        remove_folder(host, &new)?;
        remove_folder(host, &old)?;
        let mut manifest = Manifest { made_by: "nic-driver".to_owned(), files: BTreeMap::new() };
        let mut labelled = vec![new.clone()];
        create_folder(host, &new)?;
        for entry in WalkDir::new(host.path(&from)).min_depth(1).sort_by_file_name() {
            let entry = entry.map_err(|source| HostTreeError::Search { folder: host.path(&from), source })?;
            let Ok(below) = entry.path().strip_prefix(host.path(&from)) else { continue };
            let target = new.join(below);
            if entry.file_type().is_dir() {
                create_folder(host, &target)?;
            } else {
                copy_file(entry.path(), &host.path(&target))?;
                manifest.files.insert(below.to_path_buf(), checksum(host, &target)?);
            }
            labelled.push(target);
        }
        let text = serde_json::to_vec_pretty(&manifest)
            .map_err(|source| HostTreeError::Manifest { path: host.path(new.join(MANIFEST)), source })?;
        host.write_durably(new.join(MANIFEST), &text)?;
        if let Err(error) = host.label_module_files(&labelled) {
            // Whether that matters is for the policy to say; loading the module tells.
            tracing::warn!(
                error = nic_host::error_chain(&error),
                "the copied modules keep the label they have"
            );
        }
        if host.exists(&to) {
            rename(host, &to, &old)?;
        }
        rename(host, &new, &to)?;
        remove_folder(host, &old)
    }

    /// Puts a link in a folder's place.
    fn link(&self, host: &Host, folder: &Path, target: &Path) -> Result<(), HostTreeError> {
        let new = folder.with_extension("nic-driver-link");
        host.remove_file(&new)?;
        symlink(target, host.path(&new))
            .map_err(|source| write_error(host, "create the link", &new, source))?;
        remove_folder(host, folder)?;
        rename(host, &new, folder)
    }
}

fn is_unfinished(name: &str) -> bool {
    name.starts_with('.') && UNFINISHED.iter().any(|suffix| name.ends_with(suffix))
}

fn checksum(host: &Host, file: &Path) -> Result<String, ReadError> {
    // Of a link, what it says and not what it leads to.
    let content = match fs::read_link(host.path(file)) {
        Ok(target) => target.into_os_string().into_encoded_bytes(),
        Err(_) => host.read_bytes(file)?,
    };
    Ok(hex::encode(Sha256::digest(content)))
}

/// Removes the files of a manifest as they were put there. Returns those that have been changed since, and those that
/// are in no manifest.
fn remove_files(host: &Host, folder: &Path, manifest: &Manifest) -> Result<Vec<PathBuf>, HostTreeError> {
    for (below, digest) in &manifest.files {
        let file = folder.join(below);
        if host.exists(&file) && checksum(host, &file)? == *digest {
            host.remove_file(&file)?;
        }
    }
    let mut left = Vec::new();
    for entry in WalkDir::new(host.path(folder)).sort_by_file_name() {
        let entry = entry.map_err(|source| HostTreeError::Search { folder: host.path(folder), source })?;
        let Ok(below) = entry.path().strip_prefix(host.path(folder)) else { continue };
        if !entry.file_type().is_dir() && below != Path::new(MANIFEST) {
            left.push(folder.join(below));
        }
    }
    Ok(left)
}

fn remove_empty_folders(host: &Host, folder: &Path) -> Result<(), HostTreeError> {
    for entry in WalkDir::new(host.path(folder)).contents_first(true) {
        let entry = entry.map_err(|source| HostTreeError::Search { folder: host.path(folder), source })?;
        if !entry.file_type().is_dir() {
            continue;
        }
        match fs::remove_dir(entry.path()) {
            Err(source) if source.kind() != io::ErrorKind::DirectoryNotEmpty => {
                return Err(write_error(host, "remove", folder, source));
            }
            _ => {}
        }
    }
    Ok(())
}

fn remove_folder(host: &Host, folder: &Path) -> Result<(), HostTreeError> {
    match fs::remove_dir_all(host.path(folder)) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(write_error(host, "remove", folder, source))
        }
        _ => Ok(()),
    }
}

fn create_folder(host: &Host, folder: &Path) -> Result<(), HostTreeError> {
    fs::create_dir_all(host.path(folder)).map_err(|source| write_error(host, "create", folder, source))
}

fn rename(host: &Host, from: &Path, to: &Path) -> Result<(), HostTreeError> {
    fs::rename(host.path(from), host.path(to)).map_err(|source| write_error(host, "rename", from, source))
}

/// Copies a file with its permissions, or a link as a link, and has it on the disk when it returns.
fn copy_file(from: &Path, to: &Path) -> Result<(), HostTreeError> {
    let copied = match fs::read_link(from) {
        Ok(target) => symlink(target, to),
        Err(_) => fs::copy(from, to).and_then(|_| fs::File::open(to)?.sync_all()),
    };
    copied.map_err(|source| {
        WriteError { path: to.to_path_buf(), action: "copy a module to".to_owned(), source }.into()
    })
}

fn write_error(host: &Host, action: &str, path: &Path, source: io::Error) -> HostTreeError {
    WriteError { path: host.path(path), action: action.to_owned(), source }.into()
}

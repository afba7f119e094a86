//! Modules in the host's own tree, put there from a container, and taken out again.
//!
//! On RHEL the kernel loads modules only from files that SELinux knows as modules, and a container's file system cannot
//! be labelled so. Therefore the folders below `extra/` that packages have brought go to the host's `/lib/modules` as
//! well, and the container's become links to those. They outlive the container and the boot, so what was put there must
//! be known there: a manifest in each folder tells the files with their checksums.
//!
//! The incumbent puts one folder there, of a fixed name, and leaves it without a note. Where nobody else is known to own it,
//! it gets a manifest, and so is replaced and taken out as if this program had put it there.

mod error;
mod files;
mod manifest;
mod owner;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use nic_host::{HOST_MOUNT, Host, Invocation, KernelRelease, ReadError};
use serde::Serialize;
use walkdir::WalkDir;

use self::files::{
    checksum, copy_file, create_folder, remove_empty_folders, remove_files, remove_folder, rename,
};
use self::manifest::{MANIFEST, Manifest};
use crate::Distribution;
use crate::install_step::DEPMOD_DEADLINE;
use crate::node::{BootedImage, os_release_of_host};

pub use error::HostTreeError;
pub use owner::{HostFolderOwner, OwnerError};

/// The folder that the incumbent leaves.
const OF_INCUMBENT: &str = "mlnx-ofa_kernel";
/// What a folder's name ends in, with a dot in front, while it is being made or removed. No module is looked for there
/// under a name that anybody else would choose.
const UNFINISHED: [&str; 2] = [".nic-driver-new", ".nic-driver-old"];

/// The host's modules of the running kernel, as a container sees them below `/host`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostTree {
    kernel: KernelRelease,
}

/// What was taken out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Withdrawn {
    /// The folders.
    pub folders: Vec<PathBuf>,
    /// Files in them that somebody else has put there or changed, and which stay.
    pub left: Vec<PathBuf>,
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
    ///
    /// Modules of another kernel, which this one uses through links, are put into this one's folder: where their own is, the
    /// host knows no kernel.
    pub async fn put(&self, host: &Host, modules: &[PathBuf]) -> Result<Vec<PathBuf>, HostTreeError> {
        let mut folders = Vec::new();
        // This kernel's own come last, and so replace another's of the same name.
        let (own, others): (Vec<_>, Vec<_>) = modules
            .iter()
            .filter_map(|module| folder_below_extra(module))
            .partition(|folder| folder.starts_with(self.extra_of_container()));
        let sources: BTreeMap<&str, &Path> = others
            .into_iter()
            .chain(own)
            .filter_map(|folder| Some((folder.file_name()?.to_str()?, folder)))
            .collect();
        let is_linked = |name: &str| self.is_link_to(host, &self.extra_of_container().join(name), name);
        for (name, source) in sources.into_iter().filter(|(name, _)| !is_linked(name)) {
            let folder = self.extra().join(name);
            if host.exists(&folder) && self.manifest(host, &folder)?.is_none() {
                match self.take_over(host, name).await? {
                    None => {}
                    Some(owner) => return Err(HostTreeError::Foreign { folder: host.path(&folder), owner }),
                }
            }
            self.copy(host, name, source)?;
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

    /// Takes everything out of the host's tree that [`HostTree::put`] or the incumbent has put there, and builds its index
    /// anew.
    pub async fn take_out(&self, host: &Host) -> Result<Withdrawn, HostTreeError> {
        self.unlink(host)?;
        let mut withdrawn = Withdrawn::default();
        for name in host.list_if_exists(self.extra())? {
            let folder = self.extra().join(&name);
            if name == OF_INCUMBENT
                && self.manifest(host, &folder)?.is_none()
                && self.wants_modules(host)?
                && let Some(owner) = self.take_over(host, &name).await?
            {
                tracing::warn!(folder = %folder.display(), %owner, "the folder of modules on the host stays");
            }
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
        Path::new(HOST_MOUNT).join("lib/modules").join(self.kernel.as_str())
    }

    fn extra(&self) -> PathBuf {
        self.folder().join("extra")
    }

    fn extra_of_container(&self) -> PathBuf {
        Path::new("/lib/modules").join(self.kernel.as_str()).join("extra")
    }

    fn depmod(&self) -> Invocation {
        Invocation::new("depmod").args(["-b", HOST_MOUNT, self.kernel.as_str()]).deadline(DEPMOD_DEADLINE)
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

    /// Makes a folder that the incumbent has left one of this program's, by a manifest of what is in it. Returns whose it is,
    /// where it is not the incumbent's.
    async fn take_over(&self, host: &Host, name: &str) -> Result<Option<HostFolderOwner>, HostTreeError> {
        let folder = self.extra().join(name);
        let is_folder = fs::symlink_metadata(host.path(&folder)).is_ok_and(|metadata| metadata.is_dir());
        if name != OF_INCUMBENT || !is_folder {
            return Ok(Some(HostFolderOwner::Unknown));
        }
        match owner::owner(host, &folder, name).await {
            Ok(HostFolderOwner::Unknown) => {}
            Ok(owner) => return Ok(Some(owner)),
            Err(source) => return Err(HostTreeError::Owner { folder: host.path(&folder), source }),
        }
        let mut manifest = Manifest::new();
        for entry in WalkDir::new(host.path(&folder)).min_depth(1).sort_by_file_name() {
            let entry =
                entry.map_err(|source| HostTreeError::Search { folder: host.path(&folder), source })?;
            if let Ok(below) = entry.path().strip_prefix(host.path(&folder))
                && !entry.file_type().is_dir()
            {
                manifest.files.insert(below.to_path_buf(), checksum(host, &folder.join(below))?);
                manifest.taken_over.push(below.to_path_buf());
            }
        }
        self.write_manifest(host, &folder, &manifest)?;
        tracing::info!(
            folder = %folder.display(),
            files = manifest.taken_over.len(),
            "modules on the host that an earlier entrypoint left are taken over"
        );
        Ok(None)
    }

    fn write_manifest(&self, host: &Host, folder: &Path, manifest: &Manifest) -> Result<(), HostTreeError> {
        let path = folder.join(MANIFEST);
        let text = serde_json::to_vec_pretty(manifest)
            .map_err(|source| HostTreeError::Manifest { path: host.path(&path), source })?;
        Ok(host.write_durably(path, &text)?)
    }

    /// Copies one folder beside its place and then puts it there, so that no half of it is ever found.
    fn copy(&self, host: &Host, name: &str, from: &Path) -> Result<(), HostTreeError> {
        let to = self.extra().join(name);
        let [new, old] = UNFINISHED.map(|suffix| self.extra().join(format!(".{name}{suffix}")));
        let mut manifest = Manifest::new();
        if let Some(replaced) = self.manifest(host, &to)? {
            manifest.taken_over = replaced.taken_over;
        }
        remove_folder(host, &new)?;
        remove_folder(host, &old)?;
        let mut labelled = vec![new.clone()];
        create_folder(host, &new)?;
        for entry in WalkDir::new(host.path(from)).min_depth(1).sort_by_file_name() {
            let entry = entry.map_err(|source| HostTreeError::Search { folder: host.path(from), source })?;
            let Ok(below) = entry.path().strip_prefix(host.path(from)) else { continue };
            let target = new.join(below);
            if entry.file_type().is_dir() {
                create_folder(host, &target)?;
            } else {
                copy_file(entry.path(), &host.path(&target))?;
                manifest.files.insert(below.to_path_buf(), checksum(host, &target)?);
            }
            labelled.push(target);
        }
        self.write_manifest(host, &new, &manifest)?;
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
        host.make_link(&new, target)?;
        remove_folder(host, folder)?;
        rename(host, &new, folder)
    }
}

/// The folder below a kernel's `extra/` that holds a module. One that lies in none of its own stays where it is.
fn folder_below_extra(module: &Path) -> Option<&Path> {
    module.ancestors().skip(1).find(|folder| {
        folder.parent().is_some_and(|extra| {
            extra.ends_with("extra")
                && extra.parent().and_then(Path::parent) == Some(Path::new("/lib/modules"))
        })
    })
}

fn is_unfinished(name: &str) -> bool {
    name.starts_with('.') && UNFINISHED.iter().any(|suffix| name.ends_with(suffix))
}

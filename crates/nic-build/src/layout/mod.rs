//! Built packages laid out as files, so that a fleet builds once per kernel and not once per node.
//!
//! | layout | what | where |
//! |---|---|---|
//! | [`Layout::ImageLayer`] | all files of the packages | as the packages say; the modules indexed |
//! | [`Layout::ModuleLoader`] | modules and firmware | below `/opt`, as the Kernel Module Management operator's worker takes them |
//!
//! A third one, an entry of the inventory, is [`crate::InventoryEntry::store`].
//!
//! The same packages and the same depmod(8) give the same bytes: nothing depends on the order in which a file system lists, on
//! the clock, on who builds, or on where. [`write_archive`] makes a tree a tar archive under the same rule.

mod archive;
mod error;
mod index;
mod target;
mod tree;

use std::path::{Path, PathBuf};

use nic_host::{Host, KernelRelease};
use nic_packages::{PackageSet, read_contents};

pub use archive::{ArchiveError, write_archive};
pub use error::LayoutError;
pub use tree::TreeError;

use target::Target;
use tree::Tree;

/// How packages are laid out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layout {
    /// A layer of the image of a driver container that only loads.
    ImageLayer {
        /// Whether the image below has `/lib` as a link to `/usr/lib`, as all but SLES 15 have. A layer with a folder `/lib` would
        /// replace that link.
        merged_usr: bool,
    },
    /// What the operator's worker takes: it copies `/opt` and runs `modprobe -d` on the copy. The kernel's own modules are found
    /// through the link `host` beside the modules, which leads to the node's `/lib/modules/<kernel>`.
    ModuleLoader,
}

/// The link through which the kernel's own modules are found. Any name serves; this is the one that the operator's documentation
/// uses.
const LINK_TO_HOST: &str = "host";
const MODULE_LOADER: &str = "opt";

/// What was laid out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaidOut {
    /// The modules, as paths below the tree.
    pub modules: Vec<PathBuf>,
    /// Whether the index knows the kernel's own modules. Where it does not, a module that needs one of them does not find it by
    /// [`Layout::ModuleLoader`]. An image's layer is indexed without them: the driver container loads them from the host's tree.
    pub knows_own_modules: bool,
}

/// Makes sure that packages can be laid out in `folder`: it is not there, or empty, or holds nothing but what a layout that was cut off
/// has left in it. Changes nothing.
pub fn ensure_free(host: &Host, folder: &Path) -> Result<(), LayoutError> {
    Target::find(host, folder).map(drop)
}

/// Lays `set` out in `folder`, and indexes the modules for `kernel`. `modified` is the time, in seconds since 1970, that everything in it
/// gets.
///
/// The folder must be free, as [`ensure_free`] says. It is whole once the file `.nic-driver-unfinished` is gone from it.
pub async fn lay_out(
    host: &Host,
    set: &PackageSet,
    kernel: &KernelRelease,
    layout: &Layout,
    folder: &Path,
    modified: u32,
) -> Result<LaidOut, LayoutError> {
    if set.modules_for(kernel).next().is_none() {
        return Err(LayoutError::NoModules { folder: set.folder.clone(), kernel: kernel.clone() });
    }
    let target = Target::find(host, folder)?;
    let unfinished = target.begin()?;
    let mut tree = Tree::new(host.path(&unfinished));
    let mut packages: Vec<_> = set.packages.iter().collect();
    packages.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    for package in packages {
        read_contents(host, &package.path, |file, content| match place(&file.path, kernel, layout) {
            Some(path) => tree.add(&path, file, |other| place(other, kernel, layout), content),
            None => Ok(()),
        })
        .map_err(|source| LayoutError::Unpack { package: package.path.clone(), source })?;
    }
    let base = match layout {
        Layout::ImageLayer { merged_usr: true } => "usr",
        Layout::ImageLayer { merged_usr: false } => "",
        Layout::ModuleLoader => MODULE_LOADER,
    };
    let modules_folder = Path::new(base).join("lib/modules").join(kernel.as_str());
    let own_modules = Path::new("/lib/modules").join(kernel.as_str());
    if *layout == Layout::ModuleLoader {
        tree.link(&modules_folder.join(LINK_TO_HOST), &own_modules)?;
    }
    let modules =
        index::build(host, &unfinished.join(base), &unfinished.join(&modules_folder), kernel).await?;
    tree.finish(modified)?;
    target.finish(modified)?;
    Ok(LaidOut {
        modules: modules.iter().map(|module| modules_folder.join(module)).collect(),
        knows_own_modules: *layout == Layout::ModuleLoader && host.path(own_modules).join("kernel").is_dir(),
    })
}

/// Where a file of a package goes in the tree, if it goes there.
fn place(path: &Path, kernel: &KernelRelease, layout: &Layout) -> Option<PathBuf> {
    const MERGED: [&str; 4] = ["lib", "lib64", "bin", "sbin"];
    let below_root = path.strip_prefix("/").ok()?;
    match layout {
        Layout::ImageLayer { merged_usr: true } if MERGED.iter().any(|name| below_root.starts_with(name)) => {
            Some(Path::new("usr").join(below_root))
        }
        // depmod looks for the modules of a tree in one place only.
        Layout::ImageLayer { merged_usr: false } if below_root.starts_with("usr/lib/modules") => {
            below_root.strip_prefix("usr").ok().map(Path::to_path_buf)
        }
        Layout::ImageLayer { .. } => Some(below_root.to_path_buf()),
        Layout::ModuleLoader => {
            let below_lib = ["lib", "usr/lib"].iter().find_map(|lib| below_root.strip_prefix(lib).ok())?;
            let is_taken = below_lib.starts_with(Path::new("modules").join(kernel.as_str()))
                || below_lib.starts_with("firmware");
            is_taken.then(|| Path::new(MODULE_LOADER).join("lib").join(below_lib))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let kernel = "5.14.0-570.73.1.el9_6.x86_64".parse().unwrap();
        let merged = Layout::ImageLayer { merged_usr: true };
        let separate = Layout::ImageLayer { merged_usr: false };
        let module = "lib/modules/5.14.0-570.73.1.el9_6.x86_64/extra/a.ko";
        for (path, layout, expected) in [
            (format!("/{module}"), &merged, Some(format!("usr/{module}"))),
            (format!("/usr/{module}"), &merged, Some(format!("usr/{module}"))),
            (format!("/{module}"), &separate, Some(module.to_owned())),
            (format!("/usr/{module}"), &separate, Some(module.to_owned())),
            (format!("/{module}"), &Layout::ModuleLoader, Some(format!("opt/{module}"))),
            (format!("/usr/{module}"), &Layout::ModuleLoader, Some(format!("opt/{module}"))),
            ("/sbin/mlnx_tune".to_owned(), &merged, Some("usr/sbin/mlnx_tune".to_owned())),
            ("/sbin/mlnx_tune".to_owned(), &separate, Some("sbin/mlnx_tune".to_owned())),
            ("/libexec/x".to_owned(), &merged, Some("libexec/x".to_owned())),
            ("/etc/infiniband/openib.conf".to_owned(), &Layout::ModuleLoader, None),
            ("/lib/modules/5.14.0/extra/a.ko".to_owned(), &Layout::ModuleLoader, None),
            (
                "/lib/firmware/mlx.bin".to_owned(),
                &Layout::ModuleLoader,
                Some("opt/lib/firmware/mlx.bin".to_owned()),
            ),
        ] {
            assert_eq!(
                place(Path::new(&path), &kernel, layout),
                expected.map(PathBuf::from),
                "{path} {layout:?}"
            );
        }
    }
}

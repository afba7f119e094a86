//! Which tree a driver is loaded from that is not the installed one: the inbox driver, and one of which half is loaded.

use std::path::PathBuf;

use nic_host::HOST_MOUNT;
use nic_kmod::{IdentityReport, IdentityVerdict, ModuleIndex, ModuleIndexError, ModuleName, Resolution};

use super::identity::compare;
use super::module_tree::{ModuleTree, sees_hosts_modules};
use crate::context::Context;

/// There is no inbox driver to go back to.
#[derive(Debug, thiserror::Error)]
pub enum InboxTreeError {
    /// This process's own modules are not indexed.
    #[error(transparent)]
    Index(#[from] ModuleIndexError),
    /// What modprobe finds is not the distribution's.
    #[error(
        "there is no inbox driver to go back to: {module} is {}, which the distribution has not brought, and {HOST_MOUNT} has \
         no modules of the host",
        file.display()
    )]
    InFront {
        /// The module without which there is no NIC.
        module: ModuleName,
        /// The file that modprobe finds.
        file: PathBuf,
    },
}

/// The tree from which modprobe loads the driver that the distribution brought: the host's, where this is a container that sees it,
/// for what lies in an image is nobody's to remove; else this process's own, from which the packages are gone.
///
/// What a package or DKMS has put in front of the distribution's on the host is what the host itself would load, and is gone back to; but it
/// is not called the distribution's.
pub(crate) fn tree_of_inbox_driver(context: &Context) -> Result<ModuleTree, InboxTreeError> {
    if sees_hosts_modules(context) {
        let tree = ModuleTree::Below(HOST_MOUNT.into());
        if let Ok(index) = tree.index(context)
            && let Some((module, file)) = in_front(context, &index)
        {
            tracing::warn!(
                %module,
                file = %file.display(),
                "the driver that is gone back to is the host's own, and not the distribution's"
            );
        }
        return Ok(tree);
    }
    let index = ModuleTree::Own.index(context)?;
    match in_front(context, &index) {
        Some((module, file)) => Err(InboxTreeError::InFront { module, file }),
        None => Ok(ModuleTree::Own),
    }
}

/// The file that modprobe finds for the driver in place of the distribution's, which lies below `kernel/`.
fn in_front(context: &Context, index: &ModuleIndex) -> Option<(ModuleName, PathBuf)> {
    let driver = context.family.modules.identity.first()?;
    match index.resolve(driver) {
        Resolution::File(file) if !file.starts_with(index.folder().join("kernel")) => {
            Some((driver.clone(), file))
        }
        Resolution::File(_) | Resolution::Builtin | Resolution::Absent => None,
    }
}

/// The tree from which a driver is completed of which half is loaded: the host's, where a module that is loaded is the host's and not
/// the one of the same name that this process's own tree has; else its own.
pub(super) fn tree_of_loaded_modules(context: &Context) -> ModuleTree {
    if !sees_hosts_modules(context) {
        return ModuleTree::Own;
    }
    let of_host = ModuleTree::Below(HOST_MOUNT.into());
    let compared = compare(context, &ModuleTree::Own).and_then(|own| Ok((own, compare(context, &of_host)?)));
    match compared {
        Ok((own, host)) if is_hosts_alone(&own, &host) => of_host,
        Ok(_) => ModuleTree::Own,
        Err(error) => {
            tracing::info!(error = crate::error_chain(&error), "the host's modules are not compared");
            ModuleTree::Own
        }
    }
}

/// Whether a module that is loaded is the host's and not this process's own: pure.
fn is_hosts_alone(own: &IdentityReport, host: &IdentityReport) -> bool {
    own.modules.iter().zip(&host.modules).any(|(own, host)| {
        matches!(own.verdict, IdentityVerdict::Different(_))
            && matches!(host.verdict, IdentityVerdict::Equal(_))
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use nic_host::Host;

    use super::*;
    use crate::fixture;

    /// The inbox driver runs on it, and a vendor's is installed.
    const BEFORE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/documented-node/before");
    const TREE: &str = "lib/modules/5.14.0-570.73.1.el9_6.aarch64+64k";

    /// The documented node as a container sees it whose image has the vendor's modules and no others.
    fn container() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (folder, tree) in [("extra", TREE.to_owned()), ("kernel", format!("host/{TREE}"))] {
            let tree = dir.path().join(tree);
            fs::create_dir_all(&tree).unwrap();
            symlink(Path::new(BEFORE).join(TREE).join(folder), tree.join(folder)).unwrap();
            fs::write(tree.join("modules.dep"), index_of(&tree, folder)).unwrap();
        }
        for folder in ["etc", "proc", "sys"] {
            symlink(Path::new(BEFORE).join(folder), dir.path().join(folder)).unwrap();
        }
        dir
    }

    /// What depmod would find in a folder, dependencies left out.
    fn index_of(tree: &Path, folder: &str) -> String {
        let find = |folder: &Path| {
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>()
        };
        let (mut open, mut index) = (find(&tree.join(folder)), String::new());
        while let Some(path) = open.pop() {
            if path.is_dir() {
                open.extend(find(&path));
            } else {
                index.push_str(&format!("{}:\n", path.strip_prefix(tree).unwrap().display()));
            }
        }
        index
    }

    fn context(dir: &Path) -> Context {
        fixture::context(Host::at(dir), &dir.join("state"))
    }

    /// Other modules are loaded than on the documented node: none but this one, of this build.
    fn load_alone(dir: &Path, module: &str, srcversion: &str) {
        for folder in ["proc", "sys"] {
            fs::remove_file(dir.join(folder)).unwrap();
        }
        for (file, text) in [
            ("proc/modules", format!("{module} 16384 0 - Live 0x0000000000000000\n")),
            (
                "proc/sys/kernel/osrelease",
                fs::read_to_string(format!("{BEFORE}/proc/sys/kernel/osrelease")).unwrap(),
            ),
            ("proc/sys/kernel/random/boot_id", "boot\n".to_owned()),
            (&format!("sys/module/{module}/srcversion"), format!("{srcversion}\n")),
        ] {
            fs::create_dir_all(dir.join(file).parent().unwrap()).unwrap();
            fs::write(dir.join(file), text).unwrap();
        }
    }

    #[test]
    fn the_inbox_driver_is_the_hosts_or_else_what_the_distribution_brought() {
        let dir = container();
        assert_eq!(tree_of_inbox_driver(&context(dir.path())).unwrap(), ModuleTree::Below("/host".into()));

        // The volume is missing: the image's driver would be "gone back to".
        fs::rename(dir.path().join("host"), dir.path().join("elsewhere")).unwrap();
        let error = tree_of_inbox_driver(&context(dir.path())).unwrap_err();
        assert!(
            matches!(&error, InboxTreeError::InFront { file, .. } if file.ends_with("mlx5_core.ko")),
            "{error}"
        );
        assert!(error.to_string().contains("/extra/mlnx-ofa_kernel/"), "{error}");

        // A node from which the packages are gone.
        let tree = dir.path().join(TREE);
        fs::remove_dir_all(&tree).unwrap();
        fs::rename(dir.path().join("elsewhere").join(TREE), &tree).unwrap();
        assert_eq!(tree_of_inbox_driver(&context(dir.path())).unwrap(), ModuleTree::Own);
    }

    #[test]
    fn fault_7_7_what_the_host_has_in_front_of_the_distributions_driver_is_known() {
        let dir = container();
        let in_front_of_hosts = || {
            let context = context(dir.path());
            let tree = tree_of_inbox_driver(&context).unwrap();
            assert_eq!(tree, ModuleTree::Below("/host".into()));
            in_front(&context, &tree.index(&context).unwrap()).map(|(_, file)| file)
        };
        assert_eq!(in_front_of_hosts(), None);
        let tree = dir.path().join("host").join(TREE);
        symlink(Path::new(BEFORE).join(TREE).join("extra"), tree.join("extra")).unwrap();
        fs::write(tree.join("modules.dep"), index_of(&tree, "extra")).unwrap();
        let file = in_front_of_hosts().unwrap();
        assert!(file.starts_with(Path::new("/host").join(TREE).join("extra")), "{}", file.display());
    }

    #[test]
    fn half_a_driver_gets_its_other_half_from_where_it_is() {
        let of_host = ModuleTree::Below("/host".into());
        let dir = container();
        assert_eq!(tree_of_loaded_modules(&context(dir.path())), of_host, "the inbox driver runs");
        for (module, srcversion, expected) in [
            ("mlx5_core", "0ABBD64B830E38B1EEA0116", of_host),
            ("mlx5_core", "3017B5F3151151974EE539D", ModuleTree::Own),
            ("mlx5_core", "FFFFFFFFFFFFFFFFFFFFFFF", ModuleTree::Own),
            // Only the host has it: it tells nothing.
            ("psample", "FFFFFFFFFFFFFFFFFFFFFFF", ModuleTree::Own),
        ] {
            let dir = container();
            load_alone(dir.path(), module, srcversion);
            assert_eq!(tree_of_loaded_modules(&context(dir.path())), expected, "{module} {srcversion}");
        }
        fs::remove_file(dir.path().join("host").join(TREE).join("modules.dep")).unwrap();
        assert_eq!(tree_of_loaded_modules(&context(dir.path())), ModuleTree::Own);
    }
}

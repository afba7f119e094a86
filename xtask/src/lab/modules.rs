//! The kernel modules of a guest: those of a list, and everything they depend on.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use super::cache::{Cache, Cached};
use super::kernel::KernelTree;
use super::{cpio, process};

const LIST: &str = include_str!("modules.list");
/// These stay compressed where the distribution compresses them, because the program under test reads them. The others do
/// not: depmod, which decompresses every module, would take a large part of each scenario under software emulation.
const AS_SHIPPED: [&str; 2] = ["igb", "igbvf"];

/// The part of a guest that holds the modules of `tree`'s kernel.
pub(crate) fn archive(tree: &KernelTree, cache: &Cache) -> anyhow::Result<Cached> {
    let name = format!("modules-{}", tree.release());
    let recipe = [include_str!("modules.rs"), include_str!("cpio.rs"), LIST, &tree.key()];
    cache.folder(&name, &recipe, |folder| make(tree, folder))
}

/// The archive file in the folder of [`archive`].
pub(crate) fn file(cached: &Cached) -> PathBuf {
    cached.path().join("modules.cpio")
}

fn make(tree: &KernelTree, folder: &Path) -> anyhow::Result<()> {
    let release = tree.release();
    let all = folder.join("all");
    let whole = whole(tree);
    let indexed = index_whole(tree, &all)?;
    let index = indexed.join("modules.dep");
    let index =
        parse_index(&fs::read_to_string(&index).with_context(|| format!("cannot read {}", index.display()))?);
    let builtin = fs::read_to_string(whole.join("modules.builtin")).context("cannot read modules.builtin")?;
    let builtin: BTreeSet<_> = builtin.lines().map(module_name).collect();

    let subset = folder.join("subset/usr/lib/modules").join(release);
    let mut compressed = Vec::new();
    for path in closure(&index, &builtin)? {
        let target = subset.join(&path);
        let parent = target.parent().context("a module without a folder")?;
        fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
        fs::copy(whole.join(&path), &target).with_context(|| format!("cannot copy {path}"))?;
        if path.ends_with(".xz") && !AS_SHIPPED.contains(&module_name(&path).as_str()) {
            compressed.push(target);
        }
    }
    if !compressed.is_empty() {
        process::run(Command::new("xz").args(["--decompress", "--threads=0"]).args(&compressed))?;
    }
    for name in ["modules.builtin", "modules.builtin.modinfo", "modules.order"] {
        fs::copy(whole.join(name), subset.join(name)).with_context(|| format!("cannot copy {name}"))?;
    }
    let root = folder.join("subset");
    std::os::unix::fs::symlink("usr/lib", root.join("lib")).context("cannot link lib")?;
    depmod(&root, release)?;

    let file = fs::File::create(folder.join("modules.cpio")).context("cannot create modules.cpio")?;
    let mut archive = cpio::Archive::new(BufWriter::new(file));
    archive.tree(&root, |path| path != Path::new("lib"))?;
    archive.finish().context("cannot write modules.cpio")?;
    fs::remove_dir_all(&all).context("cannot remove the index of all modules")?;
    fs::remove_dir_all(&root).context("cannot remove the copied modules")
}

/// The modules as the distribution ships them; without an index.
fn whole(tree: &KernelTree) -> PathBuf {
    tree.root().join("usr/lib/modules").join(tree.release())
}

/// Makes `root/lib/modules/<release>`, with an index of all modules, and returns it.
pub(crate) fn index_whole(tree: &KernelTree, root: &Path) -> anyhow::Result<PathBuf> {
    // depmod looks for /lib/modules and writes there; the unpacked kernel is shared and stays as it is.
    let whole = whole(tree);
    let indexed = root.join("lib/modules").join(tree.release());
    fs::create_dir_all(&indexed).context("cannot create a folder for modules")?;
    for entry in fs::read_dir(&whole).with_context(|| format!("cannot list {}", whole.display()))? {
        let entry = entry.with_context(|| format!("cannot list {}", whole.display()))?;
        std::os::unix::fs::symlink(entry.path(), indexed.join(entry.file_name()))
            .context("cannot link to the modules")?;
    }
    depmod(root, tree.release())?;
    Ok(indexed)
}

fn depmod(root: &Path, release: &str) -> anyhow::Result<()> {
    process::run(Command::new("/sbin/depmod").arg("--basedir").arg(root).arg(release))
}

/// `modules.dep` as a map from module name to its path and all paths it needs.
pub(crate) fn parse_index(text: &str) -> BTreeMap<String, Vec<String>> {
    text.lines()
        .filter_map(|line| {
            let (path, needs) = line.split_once(':')?;
            let mut paths = vec![path.to_owned()];
            paths.extend(needs.split_whitespace().map(ToOwned::to_owned));
            Some((module_name(path), paths))
        })
        .collect()
}

/// `kernel/net/9p/9pnet_virtio.ko.xz` → `9pnet_virtio`. A dash and an underscore are the same to the kernel.
fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split(".ko").next().unwrap_or(file).replace('-', "_")
}

/// The files of all listed modules.
fn closure(
    index: &BTreeMap<String, Vec<String>>,
    builtin: &BTreeSet<String>,
) -> anyhow::Result<BTreeSet<String>> {
    let mut files = BTreeSet::new();
    for line in LIST.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (required, name) = line.strip_prefix('!').map_or((false, line), |name| (true, name));
        let name = module_name(name);
        match index.get(&name) {
            Some(paths) => files.extend(paths.iter().cloned()),
            None if required && !builtin.contains(&name) => bail!("the kernel has no module {name}"),
            None => {}
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_names() {
        assert_eq!(module_name("kernel/drivers/pci/controller/pci-hyperv-intf.ko.xz"), "pci_hyperv_intf");
        assert_eq!(module_name("kernel/fs/9p/9p.ko"), "9p");
        assert_eq!(module_name("vfio-pci"), "vfio_pci");
    }

    #[test]
    fn an_index_is_read() {
        let index = parse_index("kernel/a.ko.xz: kernel/b.ko.xz kernel/c.ko.xz\nkernel/b.ko.xz:\n");
        assert_eq!(index["a"], ["kernel/a.ko.xz", "kernel/b.ko.xz", "kernel/c.ko.xz"]);
        assert_eq!(index["b"], ["kernel/b.ko.xz"]);
    }

    #[test]
    fn a_required_module_must_be_there() {
        let error = closure(&BTreeMap::new(), &BTreeSet::new()).unwrap_err();
        assert!(error.to_string().contains("virtio_pci"), "{error}");
    }
}

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use nic_host::{Foreign, Host, KernelRelease, ReadError};
use serde::{Deserialize, Serialize};

use crate::{ModuleName, SoftDeps};

/// The longest index that is read, in bytes. A distribution's `modules.dep` has less than 1 MiB; in memory it takes many times as much.
const LONGEST_INDEX: u64 = 8 << 20;

/// What modprobe finds for a kernel: the files, dependencies and built-in modules that `depmod` and the kernel's
/// build have written down in `/lib/modules/<release>`.
///
/// Files can be symbolic links, which are followed as modprobe follows them: an absolute one (`weak-updates`) leads
/// out of a tree that is mounted elsewhere, also with `modprobe -d`.
///
/// Which of several files of one module is used (`updates/`, `extra/`, `weak-updates/`, the kernel's own) has been decided
/// by depmod, from its configuration: `modules.dep` names one only.
///
/// It does not know modprobe's configuration (`alias`, `install`, `options` and `softdep` in `modprobe.d`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleIndex {
    folder: PathBuf,
    files: BTreeMap<ModuleName, Entry>,
    builtin: BTreeSet<ModuleName>,
    softdeps: BTreeMap<ModuleName, SoftDeps>,
    behind: Option<Box<Behind>>,
}

/// The tree of another root, which is asked for what the first one lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Behind {
    root: PathBuf,
    index: ModuleIndex,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    path: PathBuf,
    dependencies: Vec<ModuleName>,
}

/// What `modprobe NAME` would use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resolution {
    /// This file, as a path of the host.
    File(PathBuf),
    /// Nothing: the module is part of the kernel's image.
    Builtin,
    /// Nothing: there is no such module.
    Absent,
}

impl ModuleIndex {
    /// Reads the index for the kernel `release` in `tree`, e.g. `/lib/modules` or `/host/lib/modules`.
    pub fn read(host: &Host, tree: &Path, release: &KernelRelease) -> Result<Self, ModuleIndexError> {
        let folder = tree.join(release.as_str());
        if !host.path(&folder).is_dir() {
            return Err(ModuleIndexError::NoTree { folder: host.path(folder), release: release.clone() });
        }
        let text = |name: &str| host.read_up_to_if_exists(folder.join(name), LONGEST_INDEX);
        let Some(dep) = text("modules.dep")? else {
            return Err(ModuleIndexError::NotIndexed { folder: host.path(folder), release: release.clone() });
        };
        // Both may be missing: a container's tree often holds nothing but one package's modules.
        let builtin = text("modules.builtin")?.unwrap_or_default();
        let softdep = text("modules.softdep")?.unwrap_or_default();
        Ok(Self::parse(&folder, &dep, &builtin, &softdep)?)
    }

    /// Reads the texts of `modules.dep`, `modules.builtin` and `modules.softdep` of the tree `folder`.
    pub fn parse(folder: &Path, dep: &str, builtin: &str, softdep: &str) -> Result<Self, ParseIndexError> {
        let mut index = Self {
            folder: folder.to_path_buf(),
            files: BTreeMap::new(),
            builtin: BTreeSet::new(),
            softdeps: BTreeMap::new(),
            behind: None,
        };
        for line in lines(dep) {
            let error = || ParseIndexError { file: folder.join("modules.dep"), line: line.to_owned() };
            let (path, dependencies) = line.split_once(':').ok_or_else(error)?;
            let name = ModuleName::of_file(path).ok_or_else(error)?;
            // depmod writes the nearest dependency first; libkmod loads them from the last to the first
            // (`kmod_module_parse_depline`).
            let dependencies = dependencies
                .split_whitespace()
                .rev()
                .map(|path| ModuleName::of_file(path).ok_or_else(error))
                .collect::<Result<_, _>>()?;
            // `join` keeps an absolute path, which depmod writes for modules outside the tree.
            index.files.insert(name, Entry { path: folder.join(path), dependencies });
        }
        for line in lines(builtin) {
            let error = || ParseIndexError { file: folder.join("modules.builtin"), line: line.to_owned() };
            index.builtin.insert(ModuleName::of_file(line).ok_or_else(error)?);
        }
        for line in lines(softdep) {
            let error = || ParseIndexError { file: folder.join("modules.softdep"), line: line.to_owned() };
            let rest = line.strip_prefix("softdep ").ok_or_else(error)?.trim_start();
            let (name, list) = rest.split_once(' ').ok_or_else(error)?;
            index.softdeps.entry(name.parse().map_err(|_| error())?).or_default().add(list);
        }
        Ok(index)
    }

    /// Asks `other`, the index of the modules of the same kernel below `root`, for what this one lacks.
    ///
    /// A container's tree often holds nothing but one package's modules, while the host's has the kernel's own.
    #[must_use]
    pub fn backed_by(mut self, root: impl Into<PathBuf>, other: Self) -> Self {
        self.behind = Some(Box::new(Behind { root: root.into(), index: other }));
        self
    }

    /// Whether there is a tree behind this one.
    #[must_use]
    pub fn is_backed(&self) -> bool {
        self.behind.is_some()
    }

    /// The root to tell modprobe (`-d`) for a module that only the tree behind this one has.
    #[must_use]
    pub fn root_of(&self, name: &ModuleName) -> Option<&Path> {
        let behind = self.behind.as_ref()?;
        (!self.files.contains_key(name) && behind.index.files.contains_key(name)).then_some(&behind.root)
    }

    /// The root that a module's file is below: `/host` of `/host/lib/modules/<release>`.
    pub(crate) fn root_of_file(&self, name: &ModuleName) -> &Path {
        let own = || self.folder.ancestors().nth(3).unwrap_or(Path::new("/"));
        self.root_of(name).unwrap_or_else(own)
    }

    /// Whether nothing but the tree behind this one could have it.
    #[must_use]
    pub fn lacks(&self, name: &ModuleName) -> bool {
        !self.files.contains_key(name) && !self.builtin.contains(name)
    }

    fn entry(&self, name: &ModuleName) -> Option<&Entry> {
        self.files.get(name).or_else(|| self.behind.as_ref().and_then(|behind| behind.index.files.get(name)))
    }

    fn is_builtin(&self, name: &ModuleName) -> bool {
        // All trees are of one kernel: what one of them knows to be built in, is.
        self.builtin.contains(name)
            || self.behind.as_ref().is_some_and(|behind| behind.index.is_builtin(name))
    }

    /// The folder that was read, `<tree>/<release>`.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What `modprobe NAME` would use.
    ///
    /// A module that is listed as built in is built in, though there be a file: modprobe does not look further
    /// (`kmod_module_get_initstate` in `libkmod-module.c`).
    #[must_use]
    pub fn resolve(&self, name: &ModuleName) -> Resolution {
        if self.is_builtin(name) {
            return Resolution::Builtin;
        }
        self.entry(name).map_or(Resolution::Absent, |entry| Resolution::File(entry.path.clone()))
    }

    /// The modules that modprobe loads before this one because this one or they use their symbols, in loading
    /// order. Empty also for what is built in or absent.
    #[must_use]
    pub fn dependencies(&self, name: &ModuleName) -> &[ModuleName] {
        self.entry(name).map_or(&[], |entry| &entry.dependencies)
    }

    /// The modules that modprobe tries to load before and after this one.
    #[must_use]
    pub fn softdeps(&self, name: &ModuleName) -> Option<&SoftDeps> {
        self.softdeps.get(name).or_else(|| self.behind.as_ref()?.index.softdeps(name))
    }

    /// The modules there are files of in this tree, in the names' order.
    pub fn names(&self) -> impl Iterator<Item = &ModuleName> {
        self.files.keys()
    }
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// The index of a module tree could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ModuleIndexError {
    /// There is no folder for this kernel.
    #[error("no modules for kernel {release}: there is no {}", folder.display())]
    NoTree {
        /// The folder as this process sees it.
        folder: PathBuf,
        /// The kernel.
        release: KernelRelease,
    },
    /// There is a folder, but no `modules.dep` in it: `depmod` has not been run.
    #[error("the modules in {} are not indexed: it has no modules.dep (`depmod {release}` writes it)", folder.display())]
    NotIndexed {
        /// The folder as this process sees it.
        folder: PathBuf,
        /// The kernel.
        release: KernelRelease,
    },
    /// A file could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A file is not as expected.
    #[error(transparent)]
    Parse(#[from] ParseIndexError),
}

/// A line that depmod does not write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unexpected line in {}: {}", file.display(), Foreign(line))]
pub struct ParseIndexError {
    /// The file, as a path of the host.
    pub file: PathBuf,
    /// The line.
    pub line: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{file, name, names};

    /// From Debian's 6.12, and a vendor's package; the last one as depmod writes a module outside the tree.
    const DEP: &str = "\
kernel/drivers/infiniband/hw/mlx5/mlx5_ib.ko.xz: kernel/drivers/net/ethernet/mellanox/mlx5/core/mlx5_core.ko.xz kernel/drivers/net/ethernet/mellanox/mlxfw/mlxfw.ko.xz kernel/drivers/infiniband/core/ib_uverbs.ko.xz kernel/drivers/infiniband/core/ib_core.ko.xz kernel/drivers/pci/controller/pci-hyperv-intf.ko.xz
kernel/drivers/pci/controller/pci-hyperv-intf.ko.xz:
updates/dkms/igb.ko:
/opt/vendor/mlx_compat.ko.zst:
kernel/drivers/platform/iosf_mbi.ko.xz:
";
    const BUILTIN: &str = "kernel/arch/x86/platform/intel/iosf_mbi.ko\nkernel/lib/libcrc32c.ko\n";
    const SOFTDEP: &str = "\
# Soft dependencies extracted from modules themselves.
softdep ext4 pre: crypto-crc32c
softdep mlx5-core post: mlx5_ib
softdep mlx5_core pre: mlx_compat
softdep cifs gcm
";

    fn release() -> KernelRelease {
        "6.12.100+deb12-amd64".parse().unwrap()
    }

    #[test]
    fn trial_w4_tables_without_measure_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::at(dir.path());
        let folder = dir.path().join("lib/modules").join(release().as_str());
        file(dir.path(), "proc/modules", "");
        std::fs::create_dir_all(&folder).unwrap();
        for table in [folder.join("modules.dep"), dir.path().join("proc/modules")] {
            let table = std::fs::File::create(table).unwrap();
            table.set_len(LONGEST_INDEX + 1).unwrap();
        }
        let index = ModuleIndex::read(&host, Path::new("/lib/modules"), &release()).unwrap_err();
        let loaded = crate::LoadedModules::read_graph(&host).unwrap_err();
        for told in [nic_host::error_chain(&index), nic_host::error_chain(&loaded)] {
            assert!(told.contains("longer than the "), "{told}");
        }
    }

    #[test]
    fn what_modprobe_would_use() {
        let folder = Path::new("/host/lib/modules/6.12.100+deb12-amd64");
        let index = ModuleIndex::parse(folder, DEP, BUILTIN, SOFTDEP).unwrap();
        let file = |path: &str| Resolution::File(folder.join(path));
        for (module, resolution) in [
            ("mlx5-ib", file("kernel/drivers/infiniband/hw/mlx5/mlx5_ib.ko.xz")),
            ("pci_hyperv_intf", file("kernel/drivers/pci/controller/pci-hyperv-intf.ko.xz")),
            ("igb", file("updates/dkms/igb.ko")),
            ("mlx_compat", Resolution::File("/opt/vendor/mlx_compat.ko.zst".into())),
            ("libcrc32c", Resolution::Builtin),
            ("iosf_mbi", Resolution::Builtin),
            ("nosuch", Resolution::Absent),
        ] {
            assert_eq!(index.resolve(&name(module)), resolution, "{module}");
        }
        assert_eq!(index.folder(), folder);
        // The order in which `modprobe --show-depends mlx5_ib` lists them.
        assert_eq!(
            index.dependencies(&name("mlx5_ib")),
            names("pci_hyperv_intf ib_core ib_uverbs mlxfw mlx5_core")
        );
        assert_eq!(index.dependencies(&name("igb")), []);
        assert_eq!(index.dependencies(&name("nosuch")), []);
        let expected = SoftDeps { pre: names("mlx_compat"), post: names("mlx5_ib") };
        assert_eq!(index.softdeps(&name("mlx5_core")), Some(&expected));
        assert_eq!(index.softdeps(&name("igb")), None);
        assert_eq!(index.names().count(), 5);
    }

    #[test]
    fn what_depmod_does_not_write() {
        for (dep, builtin, softdep, error) in [
            ("kernel/igb.ko", "", "", "unexpected line in /m/modules.dep: \"kernel/igb.ko\""),
            ("kernel/igb: ", "", "", "unexpected line in /m/modules.dep: \"kernel/igb:\""),
            ("a.ko: b", "", "", "unexpected line in /m/modules.dep: \"a.ko: b\""),
            ("", "kernel/igb", "", "unexpected line in /m/modules.builtin: \"kernel/igb\""),
            ("", "", "soft igb pre: a", "unexpected line in /m/modules.softdep: \"soft igb pre: a\""),
            ("", "", "softdep a/b pre: a", "unexpected line in /m/modules.softdep: \"softdep a/b pre: a\""),
        ] {
            let found = ModuleIndex::parse(Path::new("/m"), dep, builtin, softdep).unwrap_err();
            assert_eq!(found.to_string(), error);
        }
    }

    #[test]
    fn what_a_container_lacks_comes_from_the_host() {
        let of_container = ModuleIndex::parse(
            Path::new("/m"),
            "extra/mlx5_core.ko: extra/mlx_compat.ko\nextra/mlx_compat.ko:\n",
            "",
            "",
        );
        let of_host = ModuleIndex::parse(
            Path::new("/host/m"),
            "kernel/mlx5_core.ko:\nkernel/psample.ko: kernel/tls.ko\nkernel/tls.ko:\n",
            "kernel/net/devlink.ko\n",
            "softdep psample pre: tls\n",
        );
        let index = of_container.unwrap().backed_by("/host", of_host.unwrap());
        for (module, resolution, root, lacks) in [
            ("mlx5_core", Resolution::File("/m/extra/mlx5_core.ko".into()), None, false),
            ("psample", Resolution::File("/host/m/kernel/psample.ko".into()), Some(Path::new("/host")), true),
            ("devlink", Resolution::Builtin, None, true),
            ("nosuch", Resolution::Absent, None, true),
        ] {
            let module = name(module);
            assert_eq!(index.resolve(&module), resolution);
            assert_eq!((index.root_of(&module), index.lacks(&module)), (root, lacks), "{module}");
        }
        assert_eq!(index.dependencies(&name("mlx5_core")), names("mlx_compat"));
        assert_eq!(index.dependencies(&name("psample")), names("tls"));
        assert!(index.softdeps(&name("psample")).is_some());
    }

    #[test]
    fn a_tree_is_read_and_what_it_lacks_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::at(dir.path());
        let read = || ModuleIndex::read(&host, Path::new("/host/lib/modules"), &release());
        let error = read().unwrap_err();
        assert!(matches!(error, ModuleIndexError::NoTree { .. }));
        assert!(error.to_string().contains("host/lib/modules/6.12.100+deb12-amd64"), "{error}");

        let tree = "/host/lib/modules/6.12.100+deb12-amd64";
        file(dir.path(), &format!("{tree}/modules.order"), "");
        let error = read().unwrap_err();
        assert!(matches!(error, ModuleIndexError::NotIndexed { .. }));
        assert!(error.to_string().contains("`depmod 6.12.100+deb12-amd64`"), "{error}");

        // A container's tree with one package in it: no modules.builtin, no modules.softdep.
        file(dir.path(), &format!("{tree}/modules.dep"), DEP);
        let index = read().unwrap();
        let igb = Resolution::File(format!("{tree}/updates/dkms/igb.ko").into());
        assert_eq!(index.resolve(&name("igb")), igb);
        assert_eq!(index.resolve(&name("libcrc32c")), Resolution::Absent);

        file(dir.path(), &format!("{tree}/modules.builtin"), BUILTIN);
        file(dir.path(), &format!("{tree}/modules.softdep"), SOFTDEP);
        let whole = ModuleIndex::parse(Path::new(tree), DEP, BUILTIN, SOFTDEP).unwrap();
        assert_eq!(read().unwrap(), whole);
    }
}

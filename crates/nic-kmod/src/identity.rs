use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use nic_host::Host;
use serde::{Deserialize, Serialize};

use crate::beneath::leads_out;
use crate::concurrent::read_concurrently;
use crate::{
    BuildId, LoadedModule, LoadedModules, ModuleFile, ModuleFileError, ModuleIndex, ModuleName,
    ReadLoadedError, Resolution, SrcVersion,
};

/// What modprobe would load for a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OnDisk {
    /// This module.
    File(Box<ModuleFile>),
    /// Nothing: the module is part of the kernel's image.
    Builtin,
    /// Nothing: there is no such module.
    Absent,
}

impl OnDisk {
    /// Looks `name` up in `index` and reads its file.
    pub fn read(host: &Host, index: &ModuleIndex, name: &ModuleName) -> Result<Self, ModuleFileError> {
        Ok(match index.resolve(name) {
            // What the link means on the machine whose tree it is, modprobe does not find, and what it finds instead is another's file.
            Resolution::File(path) if leads_out(host, index.root_of_file(name), &path)? => {
                tracing::warn!(
                    module = %name,
                    file = %path.display(),
                    "the module's file is a link that leads out of its tree's root: it counts as absent"
                );
                Self::Absent
            }
            Resolution::File(path) => match ModuleFile::read(host, path) {
                Err(ModuleFileError::Read(error))
                    if index.root_of(name).is_some()
                        && error.source.kind() == std::io::ErrorKind::NotFound =>
                {
                    tracing::debug!(module = %name, %error, "the module is not in the tree behind either");
                    Self::Absent
                }
                read => Self::File(Box::new(read?)),
            },
            Resolution::Builtin => Self::Builtin,
            Resolution::Absent => Self::Absent,
        })
    }
}

/// Whether the module in the kernel is the one on the disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum IdentityVerdict {
    /// It is.
    Equal(Identity),
    /// It is not.
    Different(IdentityDifference),
    /// There is no such module on the disk: what is loaded, if anything, cannot be replaced.
    AbsentOnDisk,
    /// The tree itself has no such module, and only the one behind it ([`ModuleIndex::backed_by`]) does: it is not of
    /// the driver that is installed.
    OnlyBehind,
    /// There is one on the disk, and it is not loaded.
    NotLoaded,
    /// The module is part of the kernel's image, and cannot be replaced.
    Builtin,
    /// Nothing that both have tells one build from another.
    NotComparable {
        /// What is missing.
        reason: Incomparable,
    },
}

impl IdentityVerdict {
    /// Compares the module in the kernel with the one on the disk.
    ///
    /// The srcversion decides where at least one of them has it. The kernel copies it from the module's `.modinfo` and
    /// shows it always (`MODINFO_ATTR(srcversion)` in `kernel/module/main.c`), so that two copies of one file have it
    /// both or lack it both: when only one has it they are different builds. That is what replacing a distribution's
    /// module without a srcversion by a vendor's with one looks like.
    ///
    /// Where neither has one the build-ids are compared, if both are known. One alone proves nothing, because the
    /// kernel does not always show its own. Two missing values are never equal.
    ///
    /// The version is not compared: a module that declares one has a srcversion too, which tells more.
    #[must_use]
    pub fn of(loaded: Option<&LoadedModule>, on_disk: &OnDisk) -> Self {
        let file = match on_disk {
            OnDisk::Builtin => return Self::Builtin,
            OnDisk::Absent => return Self::AbsentOnDisk,
            OnDisk::File(file) => file,
        };
        let Some(loaded) = loaded else { return Self::NotLoaded };
        match (&loaded.srcversion, &file.srcversion) {
            (Some(one), Some(other)) if one == other => {
                return Self::Equal(Identity::SrcVersion(one.clone()));
            }
            (None, None) => {}
            (one, other) => {
                let difference =
                    IdentityDifference::SrcVersion { loaded: one.clone(), on_disk: other.clone() };
                return Self::Different(difference);
            }
        }
        let reason = match (&loaded.build_id, &file.build_id) {
            (Some(one), Some(other)) if one == other => {
                return Self::Equal(Identity::BuildId(one.clone()));
            }
            (Some(one), Some(other)) => {
                let difference = IdentityDifference::BuildId { loaded: one.clone(), on_disk: other.clone() };
                return Self::Different(difference);
            }
            (None, None) => Incomparable::NoBuildId,
            (None, Some(_)) => Incomparable::LoadedHasNoBuildId,
            (Some(_), None) => Incomparable::FileHasNoBuildId,
        };
        Self::NotComparable { reason }
    }
}

/// What a module's identity is known by, with its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", content = "value", rename_all = "snake_case")]
pub enum Identity {
    /// The checksum of its sources.
    #[serde(rename = "srcversion")]
    SrcVersion(SrcVersion),
    /// The identity of its build.
    BuildId(BuildId),
}

/// How two modules differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum IdentityDifference {
    /// In the checksum of their sources; at most one of them has none.
    #[serde(rename = "srcversion")]
    SrcVersion {
        /// In the kernel.
        loaded: Option<SrcVersion>,
        /// On the disk.
        on_disk: Option<SrcVersion>,
    },
    /// In the identity of their builds.
    BuildId {
        /// In the kernel.
        loaded: BuildId,
        /// On the disk.
        on_disk: BuildId,
    },
}

/// Why two modules, neither of which has a srcversion, cannot be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Incomparable {
    /// Neither module has a build-id.
    NoBuildId,
    /// The module in the kernel has no build-id, or the kernel does not show it.
    LoadedHasNoBuildId,
    /// The module on the disk has no build-id.
    FileHasNoBuildId,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SrcVersion(version) => write!(f, "srcversion {version}"),
            Self::BuildId(id) => write!(f, "build-id {id}"),
        }
    }
}

impl fmt::Display for IdentityDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text =
            |version: &Option<SrcVersion>| version.as_ref().map_or("none", SrcVersion::as_str).to_owned();
        match self {
            Self::SrcVersion { loaded, on_disk } => {
                write!(f, "srcversion {} loaded, {} on disk", text(loaded), text(on_disk))
            }
            Self::BuildId { loaded, on_disk } => write!(f, "build-id {loaded} loaded, {on_disk} on disk"),
        }
    }
}

impl fmt::Display for Incomparable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoBuildId => "no srcversion and no build-id, neither loaded nor on disk",
            Self::LoadedHasNoBuildId => "no srcversion, and no build-id of the loaded module",
            Self::FileHasNoBuildId => "no srcversion, and no build-id in the file",
        })
    }
}

impl fmt::Display for IdentityVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Equal(identity) => write!(f, "equal: {identity}"),
            Self::Different(difference) => write!(f, "different: {difference}"),
            Self::AbsentOnDisk => f.write_str("not on disk"),
            Self::OnlyBehind => f.write_str("only in the host's tree"),
            Self::NotLoaded => f.write_str("not loaded"),
            Self::Builtin => f.write_str("built into the kernel"),
            Self::NotComparable { reason } => write!(f, "not comparable: {reason}"),
        }
    }
}

/// One module's identity in the kernel and on the disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleIdentity {
    /// The module.
    pub module: ModuleName,
    /// Whether it is loaded.
    pub loaded: bool,
    /// The version that is loaded, where it has one.
    pub loaded_version: Option<String>,
    /// The srcversion that is loaded, where it has one.
    pub loaded_srcversion: Option<SrcVersion>,
    /// The build-id that is loaded, where the kernel shows one.
    pub loaded_build_id: Option<BuildId>,
    /// The taint flags that the loaded module brought, e.g. `OE`; mostly empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub taint: String,
    /// The loaded module's parameters that can be read, with their present values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
    /// The file that modprobe would load, as a path of the host.
    pub file: Option<PathBuf>,
    /// The version of that file, where it has one.
    pub file_version: Option<String>,
    /// The srcversion of that file, where it has one.
    pub file_srcversion: Option<SrcVersion>,
    /// The build-id of that file, where it has one.
    pub file_build_id: Option<BuildId>,
    /// How they compare.
    pub verdict: IdentityVerdict,
}

impl ModuleIdentity {
    /// Compares one module.
    #[must_use]
    pub fn new(module: ModuleName, loaded: Option<&LoadedModule>, on_disk: &OnDisk) -> Self {
        let file = match on_disk {
            OnDisk::File(file) => Some(file),
            OnDisk::Builtin | OnDisk::Absent => None,
        };
        Self {
            module,
            loaded: loaded.is_some(),
            loaded_version: loaded.and_then(|loaded| loaded.version.clone()),
            loaded_srcversion: loaded.and_then(|loaded| loaded.srcversion.clone()),
            loaded_build_id: loaded.and_then(|loaded| loaded.build_id.clone()),
            taint: loaded.map(|loaded| loaded.taint.clone()).unwrap_or_default(),
            parameters: loaded.map(|loaded| loaded.parameters.clone()).unwrap_or_default(),
            file: file.map(|file| file.path.clone()),
            file_version: file.and_then(|file| file.version.clone()),
            file_srcversion: file.and_then(|file| file.srcversion.clone()),
            file_build_id: file.and_then(|file| file.build_id.clone()),
            verdict: IdentityVerdict::of(loaded, on_disk),
        }
    }
}

/// How a list of modules compares, in the list's order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct IdentityReport {
    /// One entry for each module.
    pub modules: Vec<ModuleIdentity>,
}

/// What is to be done so that the modules on the disk run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReloadDecision<'a> {
    /// Nothing: they run.
    Nothing,
    /// The driver runs, and nothing that is loaded is another build: these are loaded beside it, and nothing is unloaded.
    LoadMissing(Vec<&'a ModuleIdentity>),
    /// The driver itself, the first module of the list, is not loaded: with it devices come up. Nothing that is loaded is
    /// another build.
    LoadDriver(Vec<&'a ModuleIdentity>),
    /// These are other builds, or not known to be the same: they are unloaded, and those on the disk loaded.
    Swap(Vec<&'a ModuleIdentity>),
}

impl<'a> ReloadDecision<'a> {
    /// Whether devices lose or get their driver: more than to load what is missing beside it.
    #[must_use]
    pub fn is_swap(&self) -> bool {
        match self {
            Self::LoadDriver(_) | Self::Swap(_) => true,
            Self::Nothing | Self::LoadMissing(_) => false,
        }
    }

    /// The modules that make something to be done.
    #[must_use]
    pub fn reasons(&self) -> &[&'a ModuleIdentity] {
        match self {
            Self::Nothing => &[],
            Self::LoadMissing(reasons) | Self::LoadDriver(reasons) | Self::Swap(reasons) => reasons,
        }
    }

    /// The modules that are loaded beside the driver, without a swap.
    #[must_use]
    pub fn missing(&self) -> Vec<ModuleName> {
        match self {
            Self::LoadMissing(missing) => missing.iter().map(|module| module.module.clone()).collect(),
            Self::Nothing | Self::LoadDriver(_) | Self::Swap(_) => Vec::new(),
        }
    }
}

impl IdentityReport {
    /// Reads and compares `names`, the files concurrently: unpacking them is what takes the time.
    pub fn read(host: &Host, index: &ModuleIndex, names: &[ModuleName]) -> Result<Self, IdentityError> {
        let loaded = LoadedModules::read_lines(host, |name| names.contains(name))?;
        let on_disk = read_concurrently(names, |name| OnDisk::read(host, index, name))?;
        let compare = |(name, on_disk): (&ModuleName, &OnDisk)| {
            let mut identity = ModuleIdentity::new(name.clone(), loaded.get(name), on_disk);
            if index.root_of(name).is_some() && matches!(on_disk, OnDisk::File(_)) {
                identity.verdict = IdentityVerdict::OnlyBehind;
            }
            identity
        };
        let modules = std::iter::zip(names, &on_disk).map(compare).collect();
        Ok(Self { modules })
    }

    /// What is to be done so that the modules on the disk run.
    ///
    /// They are swapped when one is different or cannot be compared: what is not known to be the installed driver is not
    /// taken for it. One that is not loaded is no other build: it is loaded, where it `is_wanted`. A module that is
    /// built in, absent from the disk, or in no tree but the one behind, is no reason: a swap would not change it.
    #[must_use]
    pub fn decide(&self, is_wanted: impl Fn(&ModuleName) -> bool) -> ReloadDecision<'_> {
        let with =
            |is: fn(&IdentityVerdict) -> bool| self.modules.iter().filter(move |module| is(&module.verdict));
        let others: Vec<_> = with(|verdict| {
            matches!(verdict, IdentityVerdict::Different(_) | IdentityVerdict::NotComparable { .. })
        })
        .collect();
        if !others.is_empty() {
            return ReloadDecision::Swap(others);
        }
        let missing: Vec<_> = with(|verdict| *verdict == IdentityVerdict::NotLoaded)
            .filter(|module| is_wanted(&module.module))
            .collect();
        match (self.modules.first(), missing.as_slice()) {
            (_, []) => ReloadDecision::Nothing,
            (Some(driver), [first, ..]) if driver.module == first.module => {
                ReloadDecision::LoadDriver(missing)
            }
            _ => ReloadDecision::LoadMissing(missing),
        }
    }
}

/// One line for each module: its name and how it compares.
impl fmt::Display for IdentityReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.modules.iter().try_for_each(|module| writeln!(f, "{}: {}", module.module, module.verdict))
    }
}

/// Modules could not be compared.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The kernel's modules could not be read.
    #[error(transparent)]
    Loaded(#[from] ReadLoadedError),
    /// A module's file could not be read.
    #[error(transparent)]
    File(#[from] ModuleFileError),
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::compression::Compression;
    use crate::fixture::{build_id_note, file, module, name, names, pack};

    fn loaded(srcversion: Option<&str>, build_id: Option<&str>) -> LoadedModule {
        LoadedModule {
            srcversion: srcversion.map(|text| text.parse().unwrap()),
            build_id: build_id.map(|text| text.parse().unwrap()),
            ..LoadedModule::new(name("igb"), Vec::new())
        }
    }

    fn on_disk(srcversion: Option<&str>, build_id: Option<&str>) -> OnDisk {
        let mut file = ModuleFile::parse("igb.ko".as_ref(), &module(&[], None)).unwrap();
        file.srcversion = srcversion.map(|text| text.parse().unwrap());
        file.build_id = build_id.map(|text| text.parse().unwrap());
        OnDisk::File(Box::new(file))
    }

    #[test]
    fn every_combination_of_identities() {
        // srcversion and build-id in the kernel, then on the disk.
        let table = [
            (Some("A"), Some("01"), Some("A"), Some("01"), "equal: srcversion A"),
            // The same sources built twice are the same driver.
            (Some("A"), Some("01"), Some("A"), Some("02"), "equal: srcversion A"),
            (Some("A"), None, Some("A"), None, "equal: srcversion A"),
            (Some("A"), None, Some("B"), None, "different: srcversion A loaded, B on disk"),
            (Some("A"), Some("01"), Some("B"), Some("01"), "different: srcversion A loaded, B on disk"),
            (None, None, Some("B"), None, "different: srcversion none loaded, B on disk"),
            (None, Some("01"), Some("B"), Some("01"), "different: srcversion none loaded, B on disk"),
            (Some("A"), None, None, None, "different: srcversion A loaded, none on disk"),
            (None, Some("01"), None, Some("01"), "equal: build-id 01"),
            (None, Some("01"), None, Some("02"), "different: build-id 01 loaded, 02 on disk"),
            (
                None,
                None,
                None,
                None,
                "not comparable: no srcversion and no build-id, neither loaded nor on disk",
            ),
            (
                None,
                None,
                None,
                Some("02"),
                "not comparable: no srcversion, and no build-id of the loaded module",
            ),
            (None, Some("01"), None, None, "not comparable: no srcversion, and no build-id in the file"),
        ];
        for (one, one_id, other, other_id, verdict) in table {
            let found = IdentityVerdict::of(Some(&loaded(one, one_id)), &on_disk(other, other_id));
            assert_eq!(found.to_string(), verdict);
        }
    }

    #[test]
    fn what_is_missing_on_one_side() {
        let (loaded, file) = (loaded(Some("A"), None), on_disk(Some("A"), None));
        assert_eq!(IdentityVerdict::of(None, &file), IdentityVerdict::NotLoaded);
        assert_eq!(IdentityVerdict::of(Some(&loaded), &OnDisk::Absent), IdentityVerdict::AbsentOnDisk);
        assert_eq!(IdentityVerdict::of(None, &OnDisk::Absent), IdentityVerdict::AbsentOnDisk);
        assert_eq!(IdentityVerdict::of(None, &OnDisk::Builtin), IdentityVerdict::Builtin);
        assert_eq!(IdentityVerdict::of(Some(&loaded), &OnDisk::Builtin), IdentityVerdict::Builtin);
    }

    /// The decision on modules of these verdicts, by name.
    fn decide(modules: &[(&str, IdentityVerdict)]) -> (&'static str, Vec<String>) {
        let absent = |name: &str| ModuleIdentity::new(name.parse().unwrap(), None, &OnDisk::Absent);
        let modules = modules
            .iter()
            .map(|(name, verdict)| ModuleIdentity { verdict: verdict.clone(), ..absent(name) })
            .collect();
        let report = IdentityReport { modules };
        let decision = report.decide(|module| module.as_str() != "nvme_rdma");
        let what = match &decision {
            ReloadDecision::Nothing => "nothing",
            ReloadDecision::LoadMissing(_) => "load what is missing",
            ReloadDecision::LoadDriver(_) => "load the driver",
            ReloadDecision::Swap(_) => "swap",
        };
        (what, decision.reasons().iter().map(|reason| reason.module.to_string()).collect())
    }

    #[test]
    fn what_is_to_be_done() {
        use IdentityVerdict::{AbsentOnDisk, Builtin, NotLoaded, OnlyBehind};
        let equal = IdentityVerdict::of(Some(&loaded(Some("A"), None)), &on_disk(Some("A"), None));
        let different = IdentityVerdict::of(Some(&loaded(Some("A"), None)), &on_disk(Some("B"), None));
        let unknown = IdentityVerdict::of(Some(&loaded(None, None)), &on_disk(None, None));
        for (driver, rdma, other, expected) in [
            (&equal, &equal, &equal, ("nothing", "")),
            (&equal, &NotLoaded, &equal, ("load what is missing", "mlx5_ib")),
            (&equal, &NotLoaded, &NotLoaded, ("load what is missing", "mlx5_ib ib_umad")),
            (&NotLoaded, &NotLoaded, &equal, ("load the driver", "mlx5_core mlx5_ib")),
            (&NotLoaded, &equal, &equal, ("load the driver", "mlx5_core")),
            // A different one decides, whatever is missing.
            (&NotLoaded, &NotLoaded, &different, ("swap", "ib_umad")),
            (&different, &NotLoaded, &equal, ("swap", "mlx5_core")),
            (&equal, &unknown, &equal, ("swap", "mlx5_ib")),
            // What a swap would not change decides nothing.
            (&equal, &OnlyBehind, &AbsentOnDisk, ("nothing", "")),
            (&Builtin, &Builtin, &OnlyBehind, ("nothing", "")),
            (&equal, &OnlyBehind, &NotLoaded, ("load what is missing", "ib_umad")),
        ] {
            let modules = [("mlx5_core", driver), ("mlx5_ib", rdma), ("ib_umad", other)];
            let modules = modules.map(|(name, verdict)| (name, verdict.clone()));
            let (what, reasons) = decide(&modules);
            assert_eq!((what, reasons.join(" ").as_str()), expected, "{modules:?}");
        }
        // One that nobody wants decides while it is loaded alone.
        let with =
            |verdict: &IdentityVerdict| decide(&[("igb", equal.clone()), ("nvme_rdma", verdict.clone())]).0;
        assert_eq!((with(&NotLoaded), with(&equal), with(&different)), ("nothing", "nothing", "swap"));
        assert_eq!(decide(&[]).0, "nothing");
    }

    #[test]
    fn what_only_the_tree_behind_has_is_not_of_the_installed_driver() {
        let (dir, host) = node();
        file(dir.path(), "own/6.12.1/modules.dep", "extra/ib_core.ko:\n");
        file(dir.path(), "own/6.12.1/extra/ib_core.ko", module(&["srcversion=C0FFEE"], None));
        let own = ModuleIndex::read(&host, "/own".as_ref(), &"6.12.1".parse().unwrap()).unwrap();
        let index = own.backed_by("/", index(&host));
        let report =
            IdentityReport::read(&host, &index, &names("ib_core mlx5_core mlx_compat dimlib")).unwrap();
        insta::assert_snapshot!(report, @r"
        ib_core: equal: srcversion C0FFEE
        mlx5_core: only in the host's tree
        mlx_compat: only in the host's tree
        dimlib: built into the kernel
        ");
        assert_eq!(report.decide(|_| true), ReloadDecision::Nothing);
    }

    /// A node on which the vendor's packages have been installed, and the distribution's modules still run.
    fn node() -> (tempfile::TempDir, Host) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        file(
            root,
            "proc/modules",
            "mlx5_ib 1 0 - Live 0x0\nmlx5_core 1 1 mlx5_ib, Live 0x0\nigb 1 0 - Live 0x0\nib_core 1 1 mlx5_ib, Live 0x0\n",
        );
        file(
            root,
            "sys/module/mlx5_core/notes/.note.gnu.build-id",
            build_id_note(object::Endianness::Little, &[1]),
        );
        file(
            root,
            "sys/module/igb/notes/.note.gnu.build-id",
            build_id_note(object::Endianness::Little, &[7]),
        );
        file(root, "sys/module/ib_core/srcversion", "C0FFEE\n");
        file(root, "sys/module/ib_core/version", "25.10\n");
        let tree = "lib/modules/6.12.1";
        file(
            root,
            &format!("{tree}/modules.dep"),
            "extra/mlx5_core.ko.xz:\nextra/mlx5_ib.ko.zst: extra/mlx5_core.ko.xz\nkernel/igb.ko:\nextra/ib_core.ko.gz:\nextra/mlx_compat.ko:\n",
        );
        file(root, &format!("{tree}/modules.builtin"), "kernel/lib/dimlib.ko\n");
        for (path, compression, entries, id) in [
            ("extra/mlx5_core.ko.xz", Compression::Xz, vec!["srcversion=BEEF", "version=25.10"], Some(2)),
            ("extra/mlx5_ib.ko.zst", Compression::Zstd, vec![], Some(3)),
            ("kernel/igb.ko", Compression::None, vec![], Some(7)),
            ("extra/ib_core.ko.gz", Compression::Gzip, vec!["srcversion=C0FFEE", "version=25.10"], None),
            ("extra/mlx_compat.ko", Compression::None, vec!["srcversion=F00"], None),
        ] {
            let elf = module(&entries, id.as_ref().map(std::slice::from_ref));
            file(root, &format!("{tree}/{path}"), pack(compression, &elf));
        }
        let host = Host::at(root);
        (dir, host)
    }

    fn index(host: &Host) -> ModuleIndex {
        ModuleIndex::read(host, "/lib/modules".as_ref(), &"6.12.1".parse().unwrap()).unwrap()
    }

    #[test]
    fn a_node_before_its_reload() {
        let (_dir, host) = node();
        let all = names("mlx5_core mlx5_ib igb ib_core mlx_compat dimlib nosuch");
        let report = IdentityReport::read(&host, &index(&host), &all).unwrap();
        insta::assert_snapshot!(report, @r"
        mlx5_core: different: srcversion none loaded, BEEF on disk
        mlx5_ib: not comparable: no srcversion, and no build-id of the loaded module
        igb: equal: build-id 07
        ib_core: equal: srcversion C0FFEE
        mlx_compat: not loaded
        dimlib: built into the kernel
        nosuch: not on disk
        ");
        insta::assert_json_snapshot!(report.modules[0], @r#"
        {
          "module": "mlx5_core",
          "loaded": true,
          "loaded_version": null,
          "loaded_srcversion": null,
          "loaded_build_id": "01",
          "file": "/lib/modules/6.12.1/extra/mlx5_core.ko.xz",
          "file_version": "25.10",
          "file_srcversion": "BEEF",
          "file_build_id": "02",
          "verdict": {
            "is": "different",
            "by": "srcversion",
            "loaded": null,
            "on_disk": "BEEF"
          }
        }
        "#);
        insta::assert_json_snapshot!(report.modules[3], @r#"
        {
          "module": "ib_core",
          "loaded": true,
          "loaded_version": "25.10",
          "loaded_srcversion": "C0FFEE",
          "loaded_build_id": null,
          "file": "/lib/modules/6.12.1/extra/ib_core.ko.gz",
          "file_version": "25.10",
          "file_srcversion": "C0FFEE",
          "file_build_id": null,
          "verdict": {
            "is": "equal",
            "by": "srcversion",
            "value": "C0FFEE"
          }
        }
        "#);
        let decision = report.decide(|_| true);
        assert!(decision.is_swap() && decision.missing().is_empty());
        let reasons: Vec<_> = decision.reasons().iter().map(|reason| reason.module.as_str()).collect();
        assert_eq!(reasons, ["mlx5_core", "mlx5_ib"]);
        let json = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<IdentityReport>(&json).unwrap(), report);
    }

    #[test]
    fn fault_7_8_an_absolute_link_of_a_tree_below_another_root_is_absent_whoever_has_its_file() {
        let release = "6.12.1".parse().unwrap();
        let elf = module(&["srcversion=BEEF"], None);
        for (on_host, in_container) in [(true, false), (false, true), (true, true)] {
            let dir = tempfile::tempdir().unwrap();
            let host = Host::at(dir.path());
            let link = dir.path().join("host/lib/modules/6.12.1/weak-updates/x.ko");
            let target = "lib/modules/6.12.0/extra/x.ko";
            file(dir.path(), "lib/modules/6.12.1/modules.dep", "");
            file(dir.path(), "host/lib/modules/6.12.1/modules.dep", "weak-updates/x.ko:\n");
            std::fs::create_dir_all(link.parent().unwrap()).unwrap();
            // A tree's root is that of the machine: what the link names is looked for there.
            std::os::unix::fs::symlink(Path::new("/").join(target), &link).unwrap();
            for folder in [("host", on_host), (".", in_container)].iter().filter(|(_, is_there)| *is_there) {
                file(dir.path(), &format!("{}/{target}", folder.0), &elf);
            }
            let of_host = ModuleIndex::read(&host, "/host/lib/modules".as_ref(), &release).unwrap();
            let own = ModuleIndex::read(&host, "/lib/modules".as_ref(), &release).unwrap();
            for index in [of_host.clone(), own.backed_by("/host", of_host)] {
                let found = OnDisk::read(&host, &index, &"x".parse().unwrap()).unwrap();
                assert_eq!(found, OnDisk::Absent, "{on_host} {in_container}");
            }
        }
    }

    #[test]
    fn a_damaged_file_is_named() {
        let (dir, host) = node();
        file(dir.path(), "lib/modules/6.12.1/extra/mlx5_ib.ko.zst", b"\x28\xb5\x2f\xfd");
        let error = IdentityReport::read(&host, &index(&host), &names("mlx5_core mlx5_ib")).unwrap_err();
        assert!(error.to_string().contains("extra/mlx5_ib.ko.zst"), "{error}");
    }
}

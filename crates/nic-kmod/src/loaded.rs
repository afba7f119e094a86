use std::collections::BTreeMap;
use std::path::PathBuf;

use nic_host::{Foreign, Host, ListError, ReadError};
use serde::{Deserialize, Serialize};

use crate::{BuildId, ModuleName, SrcVersion};

/// The longest `/proc/modules` that is read, in bytes. A line has about a hundred, and a node some hundred modules.
const LONGEST_LIST: u64 = 4 << 20;

/// A module in the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadedModule {
    /// The module's name.
    pub name: ModuleName,
    /// The memory it takes, in bytes.
    pub size: u64,
    /// How many references keep it from being unloaded: one for each of its holders, and one for each other user
    /// (an open device file, a mount, a socket). 0 where the kernel was built without `MODULE_UNLOAD`.
    pub refcount: u32,
    /// The modules that use its symbols, in the kernel's order.
    pub holders: Vec<ModuleName>,
    /// Whether it cannot be unloaded at all: it has no exit function, or the kernel was built without
    /// `MODULE_UNLOAD`.
    pub permanent: bool,
    /// Where it is in its life.
    pub state: ModuleState,
    /// The checksum of its sources, where it has one.
    pub srcversion: Option<SrcVersion>,
    /// Its `MODULE_VERSION`, where it has one.
    pub version: Option<String>,
    /// The identity of its build, where it has one and the kernel shows it (`CONFIG_KALLSYMS`).
    pub build_id: Option<BuildId>,
    /// The taint flags it brought, e.g. `OE` (out of tree, unsigned); mostly empty.
    pub taint: String,
    /// The parameters that can be read, with their present values.
    pub parameters: BTreeMap<String, String>,
}

/// Where a loaded module is in its life (`enum module_state` in `include/linux/module.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModuleState {
    /// Its init function has not returned.
    Loading,
    /// In use.
    Live,
    /// Its exit function has not returned.
    Unloading,
}

impl LoadedModule {
    /// A live module of which no more than its holders is known; its refcount is their number.
    ///
    /// For those who build a [`LoadedModules`] by hand, to plan for a machine that is not there.
    #[must_use]
    pub fn new(name: ModuleName, holders: Vec<ModuleName>) -> Self {
        Self {
            name,
            size: 0,
            refcount: u32::try_from(holders.len()).unwrap_or(u32::MAX),
            holders,
            permanent: false,
            state: ModuleState::Live,
            srcversion: None,
            version: None,
            build_id: None,
            taint: String::new(),
            parameters: BTreeMap::new(),
        }
    }

    /// References that no module accounts for: processes with a device of the module open, mounts, block devices,
    /// sockets. The module cannot be unloaded before they are gone.
    #[must_use]
    pub fn foreign_references(&self) -> u32 {
        self.refcount.saturating_sub(u32::try_from(self.holders.len()).unwrap_or(u32::MAX))
    }

    /// Whether the module is not of the kernel's own source tree (taint flag `O`).
    #[must_use]
    pub fn is_out_of_tree(&self) -> bool {
        self.taint.contains('O')
    }

    /// Reads one module, or `None` when it is not loaded. A module built into the kernel is not loaded.
    pub fn read(host: &Host, name: &ModuleName) -> Result<Option<Self>, ReadLoadedError> {
        Ok(LoadedModules::read_lines(host, |listed| listed == name)?.modules.pop())
    }

    /// Adds what sysfs says. All of it may be missing: the module may have gone since it was listed.
    fn read_details(&mut self, host: &Host) -> Result<(), ReadLoadedError> {
        let folder = folder(&self.name);
        let attribute = |name: &str| -> Result<Option<String>, ReadError> {
            Ok(host.attribute(folder.join(name))?.filter(|value| !value.is_empty()))
        };
        // A value that does not parse cannot come from the kernel's own writers of these attributes.
        if let Some(text) = attribute("srcversion")? {
            let path = folder.join("srcversion");
            self.srcversion =
                Some(text.parse().map_err(|source| ReadLoadedError::SrcVersion { path, source })?);
        }
        self.version = attribute("version")?;
        if let Some(taint) = attribute("taint")? {
            self.taint = taint;
        }
        let note = folder.join("notes/.note.gnu.build-id");
        if host.exists(&note) {
            match host.read_bytes(&note) {
                Ok(bytes) => self.build_id = BuildId::from_notes(&bytes),
                Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
        for parameter in host.list_if_exists(folder.join("parameters"))? {
            match host.attribute(folder.join("parameters").join(&parameter)) {
                Ok(Some(value)) => {
                    self.parameters.insert(parameter, value);
                }
                Ok(None) => {}
                // Some parameters can only be written, and some drivers' own readers fail. No decision rests on a
                // parameter's value.
                Err(error) => {
                    tracing::debug!(
                        module = %self.name,
                        parameter,
                        error = %error.source,
                        "parameter is not readable"
                    );
                }
            }
        }
        Ok(())
    }
}

/// The modules in the kernel, the one loaded last first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LoadedModules {
    modules: Vec<LoadedModule>,
}

impl LoadedModules {
    /// Reads all loaded modules from `/proc/modules` and `/sys/module`.
    ///
    /// # Errors
    /// Also where there is no `/proc/modules`: `/proc` is not mounted, or the kernel has no loadable modules.
    pub fn read(host: &Host) -> Result<Self, ReadLoadedError> {
        Self::read_lines(host, |_| true)
    }

    /// Reads names, holders and reference counts alone (`/proc/modules`): the graph, in one read.
    ///
    /// # Errors
    /// As [`LoadedModules::read`].
    pub fn read_graph(host: &Host) -> Result<Self, ReadLoadedError> {
        Ok(Self::parse(&host.read_up_to("/proc/modules", LONGEST_LIST)?)?)
    }

    pub(crate) fn read_lines(
        host: &Host,
        wanted: impl Fn(&ModuleName) -> bool,
    ) -> Result<Self, ReadLoadedError> {
        let mut loaded = Self::parse(&host.read_up_to("/proc/modules", LONGEST_LIST)?)?;
        loaded.modules.retain(|module| wanted(&module.name));
        for module in &mut loaded.modules {
            module.read_details(host)?;
        }
        Ok(loaded)
    }

    /// Reads the text of `/proc/modules` (`m_show` in `kernel/module/procfs.c`), which has no srcversions, versions,
    /// build-ids and parameters.
    ///
    /// Not crate procfs' parser: that one loses the kernel's order and the taint flags, and takes the mark
    /// `[permanent]` for a module.
    pub fn parse(text: &str) -> Result<Self, ParseModulesError> {
        let modules = text
            .lines()
            .map(|line| parse_line(line).ok_or_else(|| ParseModulesError { line: line.to_owned() }))
            .collect::<Result<_, _>>()?;
        Ok(Self { modules })
    }

    /// One module.
    #[must_use]
    pub fn get(&self, name: &ModuleName) -> Option<&LoadedModule> {
        self.modules.iter().find(|module| module.name == *name)
    }

    /// Whether a module is loaded.
    #[must_use]
    pub fn contains(&self, name: &ModuleName) -> bool {
        self.get(name).is_some()
    }

    /// All of them, the one loaded last first.
    pub fn iter(&self) -> std::slice::Iter<'_, LoadedModule> {
        self.modules.iter()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.modules.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.modules.is_empty()
    }
}

impl FromIterator<LoadedModule> for LoadedModules {
    fn from_iter<I: IntoIterator<Item = LoadedModule>>(modules: I) -> Self {
        Self { modules: modules.into_iter().collect() }
    }
}

impl<'a> IntoIterator for &'a LoadedModules {
    type Item = &'a LoadedModule;
    type IntoIter = std::slice::Iter<'a, LoadedModule>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// The loaded modules could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadLoadedError {
    /// A file could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A folder could not be listed.
    #[error(transparent)]
    List(#[from] ListError),
    /// `/proc/modules` is not as expected.
    #[error(transparent)]
    Parse(#[from] ParseModulesError),
    /// A module's srcversion is not as expected.
    #[error("unexpected content of {}", path.display())]
    SrcVersion {
        /// The attribute.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: crate::ParseSrcVersionError,
    },
}

/// A line that no kernel writes to `/proc/modules`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unexpected line in /proc/modules: {}", Foreign(line))]
pub struct ParseModulesError {
    /// The line.
    pub line: String,
}

/// A module's folder in sysfs.
pub(crate) fn folder(name: &ModuleName) -> PathBuf {
    PathBuf::from("/sys/module").join(name.as_str())
}

fn parse_line(line: &str) -> Option<LoadedModule> {
    let mut fields = line.split(' ').filter(|field| !field.is_empty());
    let name = fields.next()?.parse().ok()?;
    let size = fields.next()?.parse().ok()?;
    let refcount = fields.next()?;
    let users = fields.next()?;
    let state = match fields.next()? {
        "Live" => ModuleState::Live,
        "Loading" => ModuleState::Loading,
        "Unloading" => ModuleState::Unloading,
        _ => return None,
    };
    let _address = fields.next()?;
    // The flags in parentheses end with `+` or `-` while the module is loading or unloading (`module_flags`).
    let taint = fields.next().unwrap_or_default().chars().filter(char::is_ascii_uppercase).collect();

    let mut module = LoadedModule { size, state, taint, ..LoadedModule::new(name, Vec::new()) };
    match refcount {
        // A kernel built without MODULE_UNLOAD keeps no count.
        "-" => module.permanent = true,
        // A module that is unloading counts -1: the base reference is gone (`module_refcount`).
        count => module.refcount = u32::try_from(count.parse::<i32>().ok()?.max(0)).ok()?,
    }
    for user in users.split(',').filter(|user| !user.is_empty() && *user != "-") {
        match user {
            "[permanent]" => module.permanent = true,
            holder => module.holders.push(holder.parse().ok()?),
        }
    }
    Some(module)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::fixture::{build_id_note, file, name, names};

    /// From a node with the vendor's driver, one where a module is being loaded and one is going, and a kernel
    /// without `MODULE_UNLOAD`.
    const CAPTURE: &str = "\
rdma_ucm 32768 0 - Live 0x0000000000000000 (OE)
ib_ipoib 155648 0 - Live 0xffffffffc1a3d000 (OE)
ib_core 520192 5 rdma_ucm,ib_ipoib,mlx5_ib, Live 0xffffffffc188f000 (OE)
igb 303104 0 - Loading 0xffffffffc0a00000 (E+)
e1000e 319488 -1 - Unloading 0xffffffffc0b00000 (-)
efivarfs 28672 1 [permanent], Live 0xffffffffc0c00000
nf_nat 65536 2 nft_chain_nat,[permanent], Live 0xffffffffc0d00000
";

    #[test]
    fn proc_modules() {
        let loaded = LoadedModules::parse(CAPTURE).unwrap();
        let seen: Vec<_> = loaded
            .iter()
            .map(|m| {
                let holders: Vec<_> = m.holders.iter().map(ModuleName::as_str).collect();
                (
                    m.name.as_str(),
                    m.size,
                    m.refcount,
                    holders.join(" "),
                    m.permanent,
                    m.state,
                    m.taint.as_str(),
                )
            })
            .collect();
        let s = |text: &str| text.to_owned();
        assert_eq!(
            seen,
            [
                ("rdma_ucm", 32768, 0, s(""), false, ModuleState::Live, "OE"),
                ("ib_ipoib", 155_648, 0, s(""), false, ModuleState::Live, "OE"),
                ("ib_core", 520_192, 5, s("rdma_ucm ib_ipoib mlx5_ib"), false, ModuleState::Live, "OE"),
                ("igb", 303_104, 0, s(""), false, ModuleState::Loading, "E"),
                ("e1000e", 319_488, 0, s(""), false, ModuleState::Unloading, ""),
                ("efivarfs", 28672, 1, s(""), true, ModuleState::Live, ""),
                ("nf_nat", 65536, 2, s("nft_chain_nat"), true, ModuleState::Live, ""),
            ]
        );
        assert_eq!(loaded.get(&name("ib_core")).unwrap().foreign_references(), 2);
        assert_eq!(loaded.get(&name("nf_nat")).unwrap().foreign_references(), 1);
        assert!(loaded.get(&name("ib-ipoib")).unwrap().is_out_of_tree());
        assert!(!loaded.get(&name("igb")).unwrap().is_out_of_tree());
    }

    #[test]
    fn proc_modules_of_a_kernel_that_cannot_unload() {
        let loaded = LoadedModules::parse("igb 303104 - - Live 0xffffffffc0a00000\n").unwrap();
        let igb = loaded.get(&name("igb")).unwrap();
        assert!(igb.permanent);
        assert_eq!((igb.refcount, igb.foreign_references()), (0, 0));
    }

    #[test]
    fn what_is_no_line_of_proc_modules() {
        for line in [
            "igb",
            "igb 1 0 -",
            "igb x 0 - Live 0x0",
            "igb 1 x - Live 0x0",
            "igb 1 0 - Dead 0x0",
            "../x 1 0 - Live 0x0",
        ] {
            assert_eq!(LoadedModules::parse(line).unwrap_err().line, line);
        }
        assert!(LoadedModules::parse("").unwrap().is_empty());
    }

    fn tree() -> (tempfile::TempDir, Host) {
        let dir = tempfile::tempdir().unwrap();
        let file = |path: &str, content: &[u8]| file(dir.path(), path, content);
        file(
            "proc/modules",
            b"mlx5_ib 446464 0 - Live 0x0 (OE)\nmlx5_core 2801664 2 mlx5_ib, Live 0x0 (OE)\nigb 303104 0 - Live 0x0\n",
        );
        file("sys/module/mlx5_core/srcversion", b"60F2A0BF5FA1E1D8C3C5F2A\n");
        file("sys/module/mlx5_core/version", b"25.10-1.2.8\n");
        file("sys/module/mlx5_core/taint", b"OE\n");
        file(
            "sys/module/mlx5_core/notes/.note.gnu.build-id",
            &build_id_note(object::Endianness::Little, &[0xca, 0xfe]),
        );
        file("sys/module/mlx5_core/parameters/prof_sel", b"2\n");
        file("sys/module/mlx5_core/parameters/node_guid", b"\n");
        // Reading a folder fails, as reading a parameter that can only be written does.
        fs::create_dir(dir.path().join("sys/module/mlx5_core/parameters/debug_mask")).unwrap();
        file("sys/module/igb/taint", b"\n");
        file("sys/module/printk/parameters/time", b"Y\n");
        let host = Host::at(dir.path());
        (dir, host)
    }

    #[test]
    fn all_that_the_kernel_shows_is_read() {
        let (_dir, host) = tree();
        let core = LoadedModule::read(&host, &name("mlx5-core")).unwrap().unwrap();
        assert_eq!(core.srcversion.as_ref().map(SrcVersion::as_str), Some("60F2A0BF5FA1E1D8C3C5F2A"));
        assert_eq!(core.version.as_deref(), Some("25.10-1.2.8"));
        assert_eq!(core.build_id.as_ref().map(BuildId::as_str), Some("cafe"));
        assert_eq!(
            (core.refcount, core.holders.clone(), core.foreign_references()),
            (2, names("mlx5_ib"), 1)
        );
        let parameters: Vec<_> =
            core.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(parameters, [("node_guid", ""), ("prof_sel", "2")]);

        let all = LoadedModules::read(&host).unwrap();
        let order: Vec<_> = all.iter().map(|module| module.name.as_str()).collect();
        assert_eq!(order, ["mlx5_ib", "mlx5_core", "igb"]);
        assert_eq!(all.get(&name("mlx5_core")), Some(&core));
        let igb = all.get(&name("igb")).unwrap();
        assert_eq!(
            (&igb.srcversion, &igb.version, &igb.build_id, igb.taint.as_str()),
            (&None, &None, &None, "")
        );
    }

    #[test]
    fn what_is_built_in_is_not_loaded() {
        let (_dir, host) = tree();
        assert_eq!(LoadedModule::read(&host, &name("printk")).unwrap(), None);
        assert_eq!(LoadedModule::read(&host, &name("nosuch")).unwrap(), None);
    }

    #[test]
    fn a_missing_proc_is_not_an_empty_kernel() {
        let dir = tempfile::tempdir().unwrap();
        let error = LoadedModules::read(&Host::at(dir.path())).unwrap_err();
        assert!(error.to_string().contains("/proc/modules"), "{error}");
    }

    #[test]
    fn a_srcversion_that_is_none_is_an_error_that_names_it() {
        let (dir, host) = tree();
        fs::write(dir.path().join("sys/module/igb/srcversion"), "two words\n").unwrap();
        let error = LoadedModules::read(&host).unwrap_err();
        assert_eq!(error.to_string(), "unexpected content of /sys/module/igb/srcversion");
    }
}

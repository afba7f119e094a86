use std::collections::BTreeMap;
use std::path::PathBuf;

use nic_host::{Host, ListError, ReadError};
use serde::{Deserialize, Serialize};

use crate::{BuildId, ModuleName, SrcVersion};

/// A module in the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadedModule {
    /// Its name.
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
                    tracing::debug!(module = %self.name, parameter, error = %error.source, "parameter is not readable");
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

    pub(crate) fn read_lines(
        host: &Host,
        wanted: impl Fn(&ModuleName) -> bool,
    ) -> Result<Self, ReadLoadedError> {
        let mut loaded = Self::parse(&host.read("/proc/modules")?)?;
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
#[error("unexpected line in /proc/modules: {line:?}")]
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

//! NIC families as data: which devices, which drivers, which modules.

use std::path::{Path, PathBuf};

use nic_host::{Foreign, ForeignWord, Host, ReadError};
use nic_kmod::ModuleName;
use nic_sriov::DeviceSelector;
use serde::{Deserialize, Serialize};

/// Everything the phases need to know of a kind of NIC. No code asks for a vendor by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NicFamily {
    /// The name it is chosen by.
    pub name: String,
    /// What it is, in a few words.
    pub description: String,
    /// Its devices.
    pub devices: DeviceSelector,
    /// Its kernel modules.
    pub modules: FamilyModules,
    /// Its vendor's scripts.
    #[serde(default)]
    pub scripts: FamilyScripts,
}

/// The scripts of a family's vendor.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FamilyScripts {
    /// The init script that unloads and loads the stack with the argument `restart`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<PathBuf>,
    /// The folder of `pre-stop-hook.sh`, `post-stop-hook.sh`, `pre-start-hook.sh` and `post-start-hook.sh`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hooks: Option<PathBuf>,
}

/// The kernel modules of a family.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FamilyModules {
    /// Modules are swapped when one of these is another build than the installed one; one that is not loaded is
    /// loaded. The first is the one without which there is no NIC.
    pub identity: Vec<ModuleName>,
    /// Those of `identity` without which the driver does not work: where one cannot be loaded, the driver has failed. A
    /// failure of another one is told, and the driver stays [default: the first of `identity`].
    #[serde(default)]
    pub required: Vec<ModuleName>,
    /// What is loaded before anything is unloaded, where it exists: modules of the kernel's own that the driver uses
    /// without depending on them.
    #[serde(default)]
    pub beforehand: Vec<ModuleName>,
    /// What else belongs to the stack and is unloaded with it.
    #[serde(default)]
    pub stack: Vec<ModuleName>,
    /// What is loaded afterwards, in order.
    pub load: Vec<ModuleName>,
    /// Those of `load` whose devices probe concurrently (module parameter `async_probe`).
    #[serde(default)]
    pub async_probe: Vec<ModuleName>,
    /// Modules on top of the driver that come and go with it.
    #[serde(default)]
    pub auxiliary: Vec<ModuleName>,
    /// Other vendors' modules on top of the stack that are unloaded while nobody uses them, and loaded again where their
    /// files are.
    #[serde(default)]
    pub peers: Vec<ModuleName>,
    /// Storage over RDMA: unloaded only when that is allowed.
    #[serde(default)]
    pub storage: Vec<ModuleName>,
    /// Those of the storage modules that NFS over RDMA uses: where it is asked for they are the driver's as well, while
    /// they are loaded.
    #[serde(default)]
    pub nfsrdma: Vec<ModuleName>,
    /// Those of them that are loaded with the driver then. The others are loaded by whoever uses them.
    #[serde(default)]
    pub nfsrdma_load: Vec<ModuleName>,
    /// Other vendors' RDMA drivers: unloaded only when that is allowed.
    #[serde(default)]
    pub third_party: Vec<ModuleName>,
    /// Not loaded by alias while the modules are swapped.
    pub blacklist: Vec<ModuleName>,
}

impl FamilyModules {
    /// The stack itself. Storage modules are never of it, though they be loaded with it: they go only where that is
    /// allowed.
    #[must_use]
    pub fn own(&self) -> Vec<ModuleName> {
        let mut modules: Vec<ModuleName> = Vec::new();
        for module in self.identity.iter().chain(&self.stack).chain(&self.load) {
            if !modules.contains(module) && !self.storage.contains(module) {
                modules.push(module.clone());
            }
        }
        modules
    }

    /// What a reload unloads, whether or not it is loaded.
    #[must_use]
    pub fn unloaded(&self) -> Vec<ModuleName> {
        let mut modules = self.own();
        for module in &self.auxiliary {
            if !modules.contains(module) {
                modules.push(module.clone());
            }
        }
        modules
    }

    /// Makes the modules of NFS over RDMA the driver's: those that are loaded with it, and those that decide a swap.
    pub fn enable_nfsrdma(&mut self) {
        for (list, with) in [(&mut self.identity, &self.nfsrdma), (&mut self.load, &self.nfsrdma_load)] {
            let new = with.iter().filter(|module| !list.contains(module)).cloned().collect::<Vec<_>>();
            list.extend(new);
        }
    }

    /// Undoes [`FamilyModules::enable_nfsrdma`].
    pub fn disable_nfsrdma(&mut self) {
        self.identity.retain(|module| !self.nfsrdma.contains(module));
        self.load.retain(|module| !self.nfsrdma_load.contains(module));
    }

    /// Whether the driver has failed when the module cannot be loaded.
    #[must_use]
    pub fn is_required(&self, module: &ModuleName) -> bool {
        if self.required.is_empty() {
            self.identity.first() == Some(module)
        } else {
            self.required.contains(module)
        }
    }

    /// Whether the module is loaded where it is missing. One that NFS over RDMA uses and does not load counts only while
    /// it is loaded.
    #[must_use]
    pub fn is_wanted(&self, module: &ModuleName) -> bool {
        !self.nfsrdma.contains(module) || self.load.contains(module)
    }
}

/// A family that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FamilyError {
    /// No such name, and not a path either.
    #[error("there is no NIC family {}: built in are {}; a path to a TOML file works too", Foreign(name), NAMES.join(", "))]
    Unknown {
        /// What was asked for.
        name: String,
    },
    /// The file could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The file is not a family.
    #[error("{} does not describe a NIC family: line {line}: {why}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// Why.
        why: String,
    },
    /// The family's name is none.
    #[error("{}: the name {} of the family is not made of letters, digits, `-` and `_`", path.display(), Foreign(name))]
    Name {
        /// The file.
        path: PathBuf,
        /// The name.
        name: String,
    },
    /// A value that no device, driver or file can have.
    #[error("{}: {field} of the family {} is {}, which is not {expected}", path.display(), ForeignWord(name), Foreign(value))]
    Value {
        /// The file.
        path: PathBuf,
        /// The family.
        name: String,
        /// The field.
        field: &'static str,
        /// Its value.
        value: String,
        /// What it should be.
        expected: &'static str,
    },
    /// The description is incomplete.
    #[error("{}: the family {} lists no module under {list}", path.display(), ForeignWord(name))]
    Empty {
        /// The file.
        path: PathBuf,
        /// The family.
        name: String,
        /// The list.
        list: &'static str,
    },
}

const NAMES: [&str; 3] = ["mlx5", "igb", "netdevsim"];

impl NicFamily {
    /// A built-in family by its name, or one described in a file by its path (which holds a `/` or ends in `.toml`).
    pub fn open(name_or_path: &str) -> Result<Self, FamilyError> {
        let built_in = match name_or_path {
            "mlx5" => include_str!("../families/mlx5.toml"),
            "igb" => include_str!("../families/igb.toml"),
            "netdevsim" => include_str!("../families/netdevsim.toml"),
            path if path.contains('/') || path.ends_with(".toml") => {
                let text = Host::running().read(path)?;
                return Self::parse(Path::new(path), &text);
            }
            name => return Err(FamilyError::Unknown { name: name.to_owned() }),
        };
        Self::parse(Path::new(name_or_path), built_in)
    }

    /// Reads a description. `path` is for the error alone.
    pub fn parse(path: &Path, text: &str) -> Result<Self, FamilyError> {
        let family: Self = toml::from_str(text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            FamilyError::Parse { path: path.to_owned(), line, why: error.message().to_owned() }
        })?;
        // It names a folder of the state directory, and stands in messages.
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if family.name.is_empty() || !family.name.chars().all(is_plain) {
            return Err(FamilyError::Name { path: path.to_owned(), name: family.name });
        }
        for (list, modules) in [("identity", &family.modules.identity), ("load", &family.modules.load)] {
            if modules.is_empty() {
                return Err(FamilyError::Empty { path: path.to_owned(), name: family.name, list });
            }
        }
        match family.impossible_value() {
            None => Ok(family),
            Some((field, value, expected)) => {
                Err(FamilyError::Value { path: path.to_owned(), name: family.name, field, value, expected })
            }
        }
    }

    /// The first field whose value matches no device, with what was expected.
    fn impossible_value(&self) -> Option<(&'static str, String, &'static str)> {
        let is_name = |text: &str| {
            !text.is_empty()
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
        };
        let devices = &self.devices;
        if !is_name(&devices.bus) {
            return Some(("devices.bus", devices.bus.clone(), "the name of a bus in /sys/bus"));
        }
        let is_id = |id: &str| {
            id.strip_prefix("0x").is_some_and(|digits| {
                digits.len() == 4
                    && digits.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
            })
        };
        if let Some(vendor) = devices.vendor.as_ref().filter(|vendor| !is_id(vendor)) {
            let expected = "a PCI vendor as sysfs writes it, such as 0x15b3";
            return Some(("devices.vendor", vendor.clone(), expected));
        }
        if devices.pf_drivers.is_empty() {
            return Some(("devices.pf_drivers", String::new(), "a list of at least one driver"));
        }
        for (field, drivers) in
            [("devices.pf_drivers", &devices.pf_drivers), ("devices.vf_drivers", &devices.vf_drivers)]
        {
            if let Some(driver) = drivers.iter().find(|driver| !is_name(driver)) {
                return Some((field, driver.clone(), "a list of drivers' names"));
            }
        }
        for (field, path) in [("scripts.init", &self.scripts.init), ("scripts.hooks", &self.scripts.hooks)] {
            if let Some(path) = path.as_ref().filter(|path| !path.is_absolute()) {
                return Some((field, path.display().to_string(), "an absolute path"));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trial_w16_a_family_that_can_never_match_is_refused() {
        let igb = include_str!("../families/igb.toml");
        for (from, to, field) in [
            ("bus = \"pci\"", "bus = \"\"", "devices.bus"),
            ("bus = \"pci\"", "bus = \"../../etc\"", "devices.bus"),
            ("bus = \"pci\"", "bus = \"pci/devices/..\"", "devices.bus"),
            ("\"0x8086\"", "\"intel\"", "devices.vendor"),
            ("\"0x8086\"", "\"\"", "devices.vendor"),
            ("\"0x8086\"", "\"8086\"", "devices.vendor"),
            ("\"0x8086\"", "\"0x15B3\"", "devices.vendor"),
            ("pf_drivers = [\"igb\"]", "pf_drivers = []", "devices.pf_drivers"),
            ("pf_drivers = [\"igb\"]", "pf_drivers = [\"a/b\"]", "devices.pf_drivers"),
            ("vf_drivers = [\"igbvf\"]", "vf_drivers = [\"\\n\"]", "devices.vf_drivers"),
        ] {
            let text = igb.replace(from, to);
            assert_ne!(text, igb, "{from}");
            let error = NicFamily::parse(Path::new("f.toml"), &text).unwrap_err().to_string();
            assert!(error.contains(field) && !error.contains('\n'), "{to}: {error}");
        }
        let text = format!("{igb}\n[scripts]\ninit = \"openibd\"\n");
        let error = NicFamily::parse(Path::new("f.toml"), &text).unwrap_err().to_string();
        assert!(error.contains("scripts.init") && error.contains("an absolute path"), "{error}");
    }

    #[test]
    fn the_built_in_families_are_complete() {
        for name in NAMES {
            let family = NicFamily::open(name).unwrap();
            assert_eq!(family.name, name);
            assert!(!family.devices.pf_drivers.is_empty());
            assert!(family.modules.is_required(&family.modules.identity[0]));
            for module in &family.modules.required {
                assert!(family.modules.identity.contains(module), "{name}: {module} is never looked at");
            }
            for module in family.modules.load.iter().chain(&family.modules.async_probe) {
                assert!(
                    family.modules.unloaded().contains(module),
                    "{name}: {module} is loaded, never unloaded"
                );
            }
        }
    }

    #[test]
    fn nfs_over_rdma_is_loaded_and_compared_and_still_not_unloaded_unasked() {
        let mut modules = NicFamily::open("mlx5").unwrap().modules;
        let before = modules.clone();
        modules.enable_nfsrdma();
        let names = |list: &[ModuleName]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(names(&modules.load[before.load.len()..]), ["rpcrdma"]);
        assert_eq!(names(&modules.identity[before.identity.len()..]), ["nvme_rdma", "rpcrdma"]);
        assert_eq!(modules.unloaded(), before.unloaded());
        let is = |name: &str| {
            let module = name.parse().unwrap();
            (modules.is_required(&module), modules.is_wanted(&module))
        };
        assert_eq!(is("mlx5_ib"), (true, true));
        assert_eq!(is("ib_umad"), (false, true));
        assert_eq!(is("rpcrdma"), (false, true));
        assert_eq!(is("nvme_rdma"), (false, false));
        let once = modules.clone();
        modules.enable_nfsrdma();
        assert_eq!(modules, once);
        modules.disable_nfsrdma();
        assert_eq!(modules, before);
    }

    #[test]
    fn what_is_wrong_with_a_family_is_said() {
        let error = NicFamily::open("mlx4").unwrap_err();
        assert!(error.to_string().contains("mlx5, igb, netdevsim"), "{error}");
        let text = include_str!("../families/igb.toml").replace("blacklist", "blocklist");
        let error = NicFamily::parse(Path::new("my.toml"), &text).unwrap_err();
        assert!(matches!(&error, FamilyError::Parse { path, .. } if path == Path::new("my.toml")), "{error}");
        let text = include_str!("../families/igb.toml").replace("load = [\"igb\", \"igbvf\"]", "load = []");
        assert!(matches!(
            NicFamily::parse(Path::new("my.toml"), &text),
            Err(FamilyError::Empty { list: "load", .. })
        ));
        for name in ["", "../igb", "a b", "i/gb", ".."] {
            let text =
                include_str!("../families/igb.toml").replace("name = \"igb\"", &format!("name = {name:?}"));
            let error = NicFamily::parse(Path::new("my.toml"), &text).unwrap_err();
            assert!(matches!(error, FamilyError::Name { .. }), "{error}");
        }
    }
}

//! What the running kernel refuses to load, as far as a look tells.
//!
//! The rules are those of `kernel/module/main.c` (`may_init_module`, `blacklisted`, `check_modinfo`, `simplify_symbols`), `signing.c`
//! (`module_sig_check`) and `version.c` (`same_magic`). Only what the kernel is certain to refuse is a refusal: what a look cannot tell is left
//! to the load itself.

mod kernel_symbols;
mod lockdown;

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use nic_host::{Foreign, ForeignWords, Host, KernelRelease};

pub use self::kernel_symbols::KernelSymbols;
use self::lockdown::lockdown;
use crate::compression;
use crate::concurrent::read_concurrently;
use crate::file::open_unpacked;
use crate::module_image::ModuleImage;
use crate::{
    IdentityVerdict, LoadedModule, LoadedModules, ModuleFile, ModuleFileError, ModuleIndex, ModuleName,
    ModuleSignature, ModuleSymbols, OnDisk, Resolution,
};

/// What decides whether the running kernel takes a module.
#[derive(Debug, Clone)]
pub struct ModuleGate {
    /// The running kernel.
    pub release: KernelRelease,
    /// Whether modules can no longer be loaded nor unloaded until the next boot (`kernel.modules_disabled`).
    pub disabled: bool,
    /// Names that the kernel refuses (`module_blacklist=` on its command line).
    pub refused_names: Vec<ModuleName>,
    /// Whether a module must be signed.
    pub enforcement: Enforcement,
    /// The descriptions of the keys that a signature may be checked with; `None` where they cannot be seen.
    pub keys: Option<Vec<String>>,
    /// What stands behind the release in the `vermagic` of this kernel's own modules; `None` where none of them was found.
    pub flags: Option<Vec<String>>,
    /// The kernel's symbols; `None` where they cannot be seen.
    pub symbols: Option<KernelSymbols>,
}

/// Whether a module must have a signature that the kernel trusts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Enforcement {
    /// It need not.
    None,
    /// By `module.sig_enforce`, or by the kernel's configuration.
    SigEnforce,
    /// By the kernel's lockdown, of this level.
    Lockdown(String),
    /// The kernel's lockdown cannot be seen: securityfs is not mounted.
    NotKnown,
}

/// A module that may be loaded, read.
#[derive(Debug, Clone)]
pub struct CandidateModule {
    /// What it says of itself.
    pub file: ModuleFile,
    /// The symbols that it needs and has; `None` where they cannot be read, or lie in a part of a large file that is not kept in memory.
    pub symbols: Option<ModuleSymbols>,
}

/// Why the kernel refuses a module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoadRefusal {
    /// `kernel.modules_disabled` is 1: nothing is loaded nor unloaded before the next boot.
    Disabled,
    /// `module_blacklist=` on the kernel's command line names it.
    NameRefused,
    /// It has no signature.
    Unsigned(Enforcement),
    /// It was signed by somebody of whom the kernel has no key.
    UnknownSigner {
        /// The signer.
        signer: String,
        /// What asks for a signature.
        enforcement: Enforcement,
    },
    /// It was built for another release, and does not say with which versions of the kernel's symbols.
    Release(KernelRelease),
    /// The kernel that it was built for is configured otherwise.
    Flags {
        /// What its `vermagic` says.
        file: Vec<String>,
        /// What the running kernel's says.
        kernel: Vec<String>,
    },
    /// Neither the kernel nor a module that is loaded with it has these symbols.
    UnknownSymbols(Vec<String>),
}

impl CandidateModule {
    /// Reads a module's file, packed or not, in memory that does not grow with it.
    ///
    /// # Errors
    /// As for [`ModuleFile::read`].
    pub fn read(host: &Host, path: impl AsRef<Path>) -> Result<Self, ModuleFileError> {
        let path = path.as_ref();
        let image = open_unpacked(host, path, compression::LARGEST, |content| ModuleImage::read(content))?;
        let file = ModuleFile::parse_image(path, &image, image.end())
            .map_err(|source| ModuleFileError::Parse { path: host.path(path), source })?;
        let symbols = ModuleSymbols::of_image(&image).inspect_err(|error| {
            tracing::info!(module = %file.name, error = nic_host::error_chain(error), "the module's symbols are not known");
        });
        Ok(Self { symbols: symbols.ok(), file })
    }

    /// Reads several, concurrently: unpacking them is what takes the time.
    #[must_use]
    pub fn read_all(
        host: &Host,
        files: Vec<(ModuleName, PathBuf)>,
    ) -> Vec<(ModuleName, Result<Self, ModuleFileError>)> {
        let read = |path: &PathBuf| Ok::<_, std::convert::Infallible>(Self::read(host, path));
        let (names, paths): (Vec<_>, Vec<_>) = files.into_iter().unzip();
        let Ok(read) = read_concurrently(&paths, read);
        std::iter::zip(names, read).collect()
    }
}

impl ModuleGate {
    /// Reads it. `index` leads to the kernel's own modules, of which those that are loaded tell the kernel's `vermagic`.
    ///
    /// What cannot be read is not known, with a log line.
    #[must_use]
    pub fn read(host: &Host, release: &KernelRelease, index: &ModuleIndex, loaded: &LoadedModules) -> Self {
        let attribute = |path: &str| {
            host.attribute(path).unwrap_or_else(|error| {
                tracing::info!(
                    error = nic_host::error_chain(&error),
                    "what the kernel refuses to load is known in part"
                );
                None
            })
        };
        let refused_names = attribute("/sys/module/kernel/parameters/module_blacklist").unwrap_or_default();
        // Without CONFIG_MODULE_SIG there is no such parameter, and no lockdown either, which selects it.
        let enforcement = match attribute("/sys/module/module/parameters/sig_enforce").as_deref() {
            None => Enforcement::None,
            Some("Y") => Enforcement::SigEnforce,
            Some(_) => match lockdown(host).as_deref() {
                None => Enforcement::NotKnown,
                Some("none") => Enforcement::None,
                Some(level) => Enforcement::Lockdown(level.to_owned()),
            },
        };
        Self {
            release: release.clone(),
            disabled: attribute("/proc/sys/kernel/modules_disabled").as_deref() == Some("1"),
            refused_names: refused_names.split(',').filter_map(|name| name.parse().ok()).collect(),
            enforcement,
            keys: read_keys(host),
            flags: flags(host, index, loaded),
            symbols: KernelSymbols::read(host),
        }
    }

    /// Why the kernel refuses a module, its symbols aside. Pure.
    #[must_use]
    pub fn refusals(&self, file: &ModuleFile) -> Vec<LoadRefusal> {
        if self.disabled {
            return vec![LoadRefusal::Disabled];
        }
        let mut refusals = Vec::new();
        if self.refused_names.contains(&file.name) {
            refusals.push(LoadRefusal::NameRefused);
        }
        refusals.extend(self.signature(&file.signature));
        refusals.extend(self.vermagic(file));
        refusals
    }

    /// The symbols that a module lacks when all of these are loaded, and what is `going` is not any more; `None` also where that is not
    /// known. Pure.
    #[must_use]
    pub fn unknown_symbols(
        &self,
        module: &CandidateModule,
        loaded_with: &[&CandidateModule],
        going: &BTreeSet<ModuleName>,
    ) -> Option<LoadRefusal> {
        let kernel = self.symbols.as_ref()?;
        // Where one's are not known, another may need just those.
        let others: Option<Vec<&ModuleSymbols>> =
            loaded_with.iter().map(|other| other.symbols.as_ref()).collect();
        let others = others?;
        let has = |symbol: &str| others.iter().any(|other| other.defined.contains(symbol));
        let needed = module.symbols.as_ref()?.needed.iter();
        let unknown = needed.filter(|symbol| !kernel.has(symbol, going) && !has(symbol));
        let unknown: Vec<String> = unknown.cloned().collect();
        (!unknown.is_empty()).then_some(LoadRefusal::UnknownSymbols(unknown))
    }

    fn signature(&self, signature: &ModuleSignature) -> Option<LoadRefusal> {
        let enforcement = match &self.enforcement {
            Enforcement::None | Enforcement::NotKnown => return None,
            enforcement => enforcement.clone(),
        };
        match (signature, &self.keys) {
            (ModuleSignature::Unsigned, _) => Some(LoadRefusal::Unsigned(enforcement)),
            // A key's description has the common name of the certificate's subject (`x509_fabricate_name`). A certificate that another one has
            // issued names that one in the signature, and has a key under a name of its own.
            (ModuleSignature::By(signer), Some(keys))
                if !keys.iter().any(|key| key.contains(signer.as_str())) =>
            {
                Some(LoadRefusal::UnknownSigner { signer: signer.clone(), enforcement })
            }
            (ModuleSignature::By(_) | ModuleSignature::ByUnknown, _) => None,
        }
    }

    /// A module without `vermagic` is taken or not as the kernel is configured (`MODULE_FORCE_LOAD`).
    fn vermagic(&self, file: &ModuleFile) -> Vec<LoadRefusal> {
        let Some(vermagic) = &file.vermagic else { return Vec::new() };
        let mut refusals = Vec::new();
        if vermagic.release != self.release && !file.has_symbol_versions {
            refusals.push(LoadRefusal::Release(vermagic.release.clone()));
        }
        if let Some(kernel) = self.flags.as_ref().filter(|flags| **flags != vermagic.flags) {
            refusals.push(LoadRefusal::Flags { file: vermagic.flags.clone(), kernel: kernel.clone() });
        }
        refusals
    }
}

/// The descriptions of the asymmetric keys, of whatever keyring. A runtime hides `/proc/keys` behind an empty file.
fn read_keys(host: &Host) -> Option<Vec<String>> {
    let text = host.read_if_exists("/proc/keys").ok().flatten().filter(|text| !text.trim().is_empty())?;
    Some(text.lines().filter(|line| line.contains(" asymmetri ")).map(str::to_owned).collect())
}

/// The flags in the `vermagic` of a module that runs and whose file is the kernel's own.
fn flags(host: &Host, index: &ModuleIndex, loaded: &LoadedModules) -> Option<Vec<String>> {
    /// Of so many modules a file is read; each is one to be unpacked.
    const TRIED: usize = 8;

    let own = loaded.iter().filter(|module| !module.is_out_of_tree());
    let with_file = own.filter_map(|module| match index.resolve(&module.name) {
        Resolution::File(path) => Some((module, path)),
        Resolution::Builtin | Resolution::Absent => None,
    });
    with_file.take(TRIED).find_map(|(module, path)| {
        let file = ModuleFile::read(host, path).ok()?;
        let module: LoadedModule = LoadedModule::read(host, &module.name).ok().flatten()?;
        let on_disk = OnDisk::File(Box::new(file.clone()));
        let is_loaded_one = matches!(IdentityVerdict::of(Some(&module), &on_disk), IdentityVerdict::Equal(_));
        file.vermagic.filter(|_| is_loaded_one).map(|vermagic| vermagic.flags)
    })
}

impl fmt::Display for Enforcement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("nothing"),
            Self::SigEnforce => f.write_str("module.sig_enforce"),
            Self::Lockdown(level) => write!(f, "the kernel's lockdown ({level})"),
            Self::NotKnown => f.write_str("a lockdown that cannot be seen"),
        }
    }
}

impl fmt::Display for LoadRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disabled => f.write_str(
                "kernel.modules_disabled is 1: this kernel loads and unloads no module before the next boot",
            ),
            Self::NameRefused => f.write_str("module_blacklist= on the kernel's command line names it"),
            Self::Unsigned(enforcement) => {
                write!(f, "the file is not signed, and {enforcement} asks for a signature")
            }
            Self::UnknownSigner { signer, enforcement } => write!(
                f,
                "the file is signed by {}, of whom the kernel has no key, and {enforcement} asks for a signature that it trusts",
                Foreign(signer)
            ),
            Self::Release(built_for) => {
                write!(f, "the file is for the kernel {built_for}, and has no versions of symbols to compare")
            }
            Self::Flags { file, kernel } => write!(
                f,
                "the file is for a kernel of another configuration: its vermagic has {}, and the running kernel's {}",
                Foreign(&file.join(" ")),
                Foreign(&kernel.join(" "))
            ),
            Self::UnknownSymbols(symbols) => {
                const TOLD: usize = 5;
                let told = ForeignWords(symbols.get(..TOLD).unwrap_or(symbols));
                let more = symbols.len().saturating_sub(TOLD);
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                write!(
                    f,
                    "neither the running kernel nor a module that is loaded with it has the symbols {told}{more}"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use nic_host::{Foreign, ForeignWord, Host, KernelRelease, ReadError};
use object::ReadRef;
use serde::{Deserialize, Serialize};

use crate::compression;
use crate::module_image::ModuleImage;
use crate::module_sections::ModuleSections;
use crate::{BuildId, ModuleName, ModuleSignature, SrcVersion};

/// What a module's file on disk says of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleFile {
    /// Where it was read, as a path of the host.
    pub path: PathBuf,
    /// The module's name.
    pub name: ModuleName,
    /// Its `MODULE_VERSION`, where it has one.
    pub version: Option<String>,
    /// The checksum of its sources, where it has one.
    pub srcversion: Option<SrcVersion>,
    /// The identity of its build, where it has one.
    pub build_id: Option<BuildId>,
    /// The kernel it was built for. `None` for a module without `vermagic`, which no kernel loads unforced.
    pub vermagic: Option<Vermagic>,
    /// The modules whose symbols it uses.
    pub depends: Vec<ModuleName>,
    /// The modules it wants loaded before or after it.
    pub softdeps: SoftDeps,
    /// The parameters it takes, with their descriptions.
    pub parameters: BTreeMap<String, String>,
    /// The device patterns it is loaded for.
    pub aliases: Vec<String>,
    /// The signature that is appended to it.
    pub signature: ModuleSignature,
    /// Whether it says which version of each of the kernel's symbols it was built with. A kernel that compares them
    /// takes it whatever release its `vermagic` names (`same_magic` in `kernel/module/version.c`).
    pub has_symbol_versions: bool,
}

/// The kernel and its configuration a module was built for (`include/linux/vermagic.h`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vermagic {
    /// The kernel's release.
    pub release: KernelRelease,
    /// What else must fit: `SMP`, `preempt`, `mod_unload`, `modversions`… With `modversions` a kernel of another
    /// release may take the module too.
    pub flags: Vec<String>,
}

/// Modules a module would like to have, without using their symbols (`MODULE_SOFTDEP`, or `softdep` in modprobe's
/// configuration). modprobe loads them when it can, and goes on when it cannot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SoftDeps {
    /// To be loaded before it.
    pub pre: Vec<ModuleName>,
    /// To be loaded after it.
    pub post: Vec<ModuleName>,
}

impl SoftDeps {
    /// Adds what a text like `pre: a b post: c` names. Words that are no module's name are passed over, as modprobe
    /// passes over modules it does not find.
    pub(crate) fn add(&mut self, text: &str) {
        let mut section = None;
        for word in text.split_whitespace() {
            match (word, &mut section, word.parse()) {
                ("pre:", ..) => section = Some(&mut self.pre),
                ("post:", ..) => section = Some(&mut self.post),
                (_, Some(names), Ok(name)) => names.push(name),
                _ => tracing::debug!(text, word, "a word is no part of a soft dependency"),
            }
        }
    }
}

impl ModuleFile {
    /// Reads a module's file, packed or not, in memory that does not grow with it.
    ///
    /// # Errors
    /// The file cannot be read or unpacked, has more than 1 GiB, or is no whole module.
    pub fn read(host: &Host, path: impl AsRef<Path>) -> Result<Self, ModuleFileError> {
        Self::read_with_size(host, path).map(|(file, _)| file)
    }

    /// Reads a module's file, as [`ModuleFile::read`] does, and tells how many bytes it has unpacked.
    ///
    /// # Errors
    /// As for [`ModuleFile::read`].
    pub fn read_with_size(host: &Host, path: impl AsRef<Path>) -> Result<(Self, u64), ModuleFileError> {
        let path = path.as_ref();
        let image = open_unpacked(host, path, compression::LARGEST, |content| ModuleImage::read(content))?;
        let read = Self::parse_image(path, &image, image.end());
        let file = read.map_err(|source| ModuleFileError::Parse { path: host.path(path), source })?;
        Ok((file, image.size))
    }

    /// Reads the bytes of an unpacked module, which were found at `path`.
    ///
    /// # Errors
    /// They are no whole module.
    pub fn parse(path: &Path, elf: &[u8]) -> Result<Self, ParseModuleError> {
        Self::parse_image(path, elf, elf)
    }

    /// `end` is the file's end, or all of it.
    pub(crate) fn parse_image<'data>(
        path: &Path,
        elf: impl ReadRef<'data>,
        end: &[u8],
    ) -> Result<Self, ParseModuleError> {
        let told = ModuleSections::read(elf).map_err(ParseModuleError::Elf)?;
        let mut entries = Modinfo::default();
        for entry in told.modinfo.ok_or(ParseModuleError::NoModinfo)?.split(|byte| *byte == 0) {
            let entry = String::from_utf8_lossy(entry);
            if let Some((key, value)) = entry.split_once('=') {
                entries.add(key, value)?;
            }
        }
        // Modules of kernels before 4.13 do not tell their names.
        let of_file = || path.to_str().and_then(ModuleName::of_file);
        Ok(Self {
            path: path.to_path_buf(),
            name: entries.name.or_else(of_file).ok_or(ParseModuleError::NoName)?,
            version: entries.version,
            srcversion: entries.srcversion,
            build_id: told.build_id.and_then(BuildId::from_bytes),
            vermagic: entries.vermagic,
            depends: entries.depends,
            softdeps: entries.softdeps,
            parameters: entries.parameters,
            aliases: entries.aliases,
            signature: ModuleSignature::of(end),
            has_symbol_versions: told.has_symbol_versions,
        })
    }
}

/// Opens a module's file, and has its unpacked content read, which may be `longest` bytes.
pub(crate) fn open_unpacked<T>(
    host: &Host,
    path: &Path,
    longest: u64,
    read: impl FnOnce(Box<dyn io::Read + '_>) -> io::Result<T>,
) -> Result<T, ModuleFileError> {
    let file = host.open(path)?;
    let unpack = || -> io::Result<T> {
        let size = file.metadata()?.len();
        read(compression::unpacked(BufReader::with_capacity(READ_AT_ONCE, &file), size, longest)?)
    };
    unpack().map_err(|source| ModuleFileError::Unpack { path: host.path(path), source })
}

/// How many bytes of a file are read at once.
const READ_AT_ONCE: usize = 256 << 10;

/// The entries of a `.modinfo` section: NUL-terminated texts `key=value` (`include/linux/moduleparam.h`).
#[derive(Default)]
struct Modinfo {
    name: Option<ModuleName>,
    version: Option<String>,
    srcversion: Option<SrcVersion>,
    vermagic: Option<Vermagic>,
    depends: Vec<ModuleName>,
    softdeps: SoftDeps,
    parameters: BTreeMap<String, String>,
    aliases: Vec<String>,
}

impl Modinfo {
    fn add(&mut self, key: &str, value: &str) -> Result<(), ParseModuleError> {
        let invalid = || ParseModuleError::Entry { key: key.to_owned(), value: value.to_owned() };
        match key {
            "name" => self.name = Some(value.parse().map_err(|_| invalid())?),
            "version" => self.version = Some(value.to_owned()),
            "srcversion" => self.srcversion = Some(value.parse().map_err(|_| invalid())?),
            "vermagic" => {
                let mut words = value.split_whitespace();
                let release = words.next().and_then(|release| release.parse().ok()).ok_or_else(invalid)?;
                self.vermagic = Some(Vermagic { release, flags: words.map(str::to_owned).collect() });
            }
            "depends" => {
                for name in value.split(',').filter(|name| !name.is_empty()) {
                    self.depends.push(name.parse().map_err(|_| invalid())?);
                }
            }
            "softdep" => self.softdeps.add(value),
            "alias" => self.aliases.push(value.to_owned()),
            // `parm=name:description` and `parmtype=name:type`; either may be missing.
            "parm" => {
                let (name, description) = value.split_once(':').unwrap_or((value, ""));
                self.parameters.insert(name.to_owned(), description.to_owned());
            }
            "parmtype" => {
                let (name, _) = value.split_once(':').unwrap_or((value, ""));
                self.parameters.entry(name.to_owned()).or_default();
            }
            _ => {}
        }
        Ok(())
    }
}

/// A module's file that could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ModuleFileError {
    /// The file could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The file could not be unpacked: it is damaged or cut short.
    #[error("cannot unpack the module {}", path.display())]
    Unpack {
        /// The path as this process sees it.
        path: PathBuf,
        /// What the decoder said.
        #[source]
        source: io::Error,
    },
    /// The content is not a kernel module: it is damaged or cut short.
    #[error("{} is not a whole kernel module", path.display())]
    Parse {
        /// The path as this process sees it.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: ParseModuleError,
    },
}

/// Bytes that are no kernel module.
#[derive(Debug, thiserror::Error)]
pub enum ParseModuleError {
    /// They are no complete ELF file.
    #[error("the content is not a complete ELF file")]
    Elf(#[source] object::read::Error),
    /// They have no section `.modinfo`.
    #[error("the ELF file has no section .modinfo")]
    NoModinfo,
    /// Neither the content nor the file's name says which module it is.
    #[error("the file does not say which module it is")]
    NoName,
    /// An entry of `.modinfo` has an impossible value.
    #[error("the section .modinfo has the entry {}={}", ForeignWord(key), Foreign(value))]
    Entry {
        /// The entry's key.
        key: String,
        /// The entry's value.
        value: String,
    },
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use object::{Architecture, Endianness};
    use proptest::prelude::*;

    use super::*;
    use crate::compression::Compression;
    use crate::fixture::{self, names};

    /// `MODULE_SIG_STRING` in `include/linux/module_signature.h`.
    const SIGNED: &[u8] = b"~Module signature appended~\n";

    /// The entries of the vendor's mlx5_core, shortened, in the linker's order.
    const ENTRIES: &[&str] = &[
        "version=25.10-1.2.8",
        "license=Dual BSD/GPL",
        "srcversion=60F2A0BF5FA1E1D8C3C5F2A",
        "alias=pci:v000015B3d0000A2DFsv*sd*bc*sc*i*",
        "alias=auxiliary:mlx5_core.eth",
        "depends=mlxdevm,mlx_compat,pci-hyperv-intf,tls",
        "softdep=pre: mlx_compat post: mlx5-ib mlx5_vdpa",
        "retpoline=Y",
        "name=mlx5_core",
        "vermagic=5.14.0-570.73.1.el9_6.x86_64 SMP preempt mod_unload modversions ",
        "parm=debug_mask:debug mask: 1 = dump cmd data, 2 = dump cmd exec time",
        "parmtype=debug_mask:uint",
        "parmtype=probe_vf:bool",
    ];

    fn parse(elf: &[u8]) -> Result<ModuleFile, ParseModuleError> {
        ModuleFile::parse(Path::new("/lib/modules/k/extra/mlx5_core.ko"), elf)
    }

    #[test]
    fn what_a_module_says_of_itself() {
        for (architecture, endianness) in
            [(Architecture::X86_64, Endianness::Little), (Architecture::S390x, Endianness::Big)]
        {
            let elf = fixture::module_of(architecture, endianness, ENTRIES, Some(&[0xde, 0xad, 0x01]));
            let file = parse(&elf).unwrap();
            assert_eq!(file.name.as_str(), "mlx5_core");
            assert_eq!(file.version.as_deref(), Some("25.10-1.2.8"));
            assert_eq!(file.srcversion.as_ref().map(SrcVersion::as_str), Some("60F2A0BF5FA1E1D8C3C5F2A"));
            assert_eq!(file.build_id.as_ref().map(BuildId::as_str), Some("dead01"));
            let vermagic = file.vermagic.unwrap();
            assert_eq!(vermagic.release.as_str(), "5.14.0-570.73.1.el9_6.x86_64");
            assert_eq!(vermagic.flags, ["SMP", "preempt", "mod_unload", "modversions"]);
            assert_eq!(file.depends, names("mlxdevm mlx_compat pci_hyperv_intf tls"));
            assert_eq!(
                file.softdeps,
                SoftDeps { pre: names("mlx_compat"), post: names("mlx5_ib mlx5_vdpa") }
            );
            let parameters: Vec<_> = file.parameters.iter().map(|(n, d)| (n.as_str(), d.as_str())).collect();
            assert_eq!(
                parameters,
                [("debug_mask", "debug mask: 1 = dump cmd data, 2 = dump cmd exec time"), ("probe_vf", "")]
            );
            assert_eq!(file.aliases.len(), 2);
            assert_eq!(file.signature, ModuleSignature::Unsigned);
        }
    }

    #[test]
    fn a_module_that_says_little() {
        let mut elf = fixture::module(&["license=GPL", "depends="], None);
        elf.extend_from_slice(b"PKCS#7 here~Module signature appended~\n");
        let file = parse(&elf).unwrap();
        assert_eq!(file.name.as_str(), "mlx5_core", "named after its file");
        assert_eq!((file.version, file.srcversion, file.build_id, file.vermagic), (None, None, None, None));
        assert_eq!((file.depends, file.softdeps), (Vec::new(), SoftDeps::default()));
        assert_eq!(file.signature, ModuleSignature::ByUnknown);
        assert!(!file.has_symbol_versions);
    }

    #[test]
    fn soft_dependencies() {
        let table: &[(&str, &str, &str)] = &[
            ("pre: a b post: c", "a b", "c"),
            ("post: c pre: a", "a", "c"),
            // Seen in cifs of 6.12: what stands under no heading is ignored by modprobe too.
            ("gcm", "", ""),
            ("", "", ""),
        ];
        for (text, pre, post) in table {
            let mut deps = SoftDeps::default();
            deps.add(text);
            assert_eq!(deps, SoftDeps { pre: names(pre), post: names(post) }, "{text}");
        }
    }

    #[test]
    fn what_is_no_module() {
        let chain = |elf: &[u8]| {
            let error = parse(elf).unwrap_err();
            [error.to_string(), error.source().map(ToString::to_string).unwrap_or_default()].join(": ")
        };
        let other =
            object::write::Object::new(object::BinaryFormat::Elf, Architecture::X86_64, Endianness::Little);
        assert_eq!(chain(&other.write().unwrap()), "the ELF file has no section .modinfo: ");
        assert!(chain(b"").starts_with("the content is not a complete ELF file: "));
        assert!(chain(b"<html>404</html>").starts_with("the content is not a complete ELF file: "));
        let odd = fixture::module(&["name=a b"], None);
        assert_eq!(chain(&odd), "the section .modinfo has the entry name=\"a b\": ");
        let empty = fixture::module(&["srcversion="], None);
        assert_eq!(chain(&empty), "the section .modinfo has the entry srcversion=\"\": ");
        let unnamed = ModuleFile::parse(Path::new("/tmp/x"), &fixture::module(&["license=GPL"], None));
        assert!(matches!(unnamed, Err(ParseModuleError::NoName)));
    }

    #[test]
    fn a_file_is_read_however_it_is_packed() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::at(dir.path());
        let elf = fixture::module(ENTRIES, Some(&[1, 2, 3]));
        let mut seen = Vec::new();
        for (compression, suffix) in [
            (Compression::None, ""),
            (Compression::Xz, ".xz"),
            (Compression::Zstd, ".zst"),
            (Compression::Gzip, ".gz"),
        ] {
            let path = format!("/lib/modules/k/mlx5_core.ko{suffix}");
            let packed = fixture::pack(compression, &elf);
            fixture::file(dir.path(), &path, &packed);
            let file = ModuleFile::read(&host, &path).unwrap();
            assert_eq!(file.path.to_str(), Some(path.as_str()));
            seen.push(ModuleFile { path: PathBuf::new(), ..file });

            // Cut short, as by a full disk, it is an error that names the file.
            fixture::file(dir.path(), &path, &packed[..packed.len() - 40]);
            let error = ModuleFile::read(&host, &path).unwrap_err();
            assert!(error.to_string().contains(&path), "{error}");
            assert!(error.source().is_some());
        }
        seen.dedup();
        assert_eq!(seen.len(), 1);
        let error = ModuleFile::read(&host, "/lib/modules/k/nosuch.ko").unwrap_err();
        assert!(error.to_string().contains("nosuch.ko"), "{error}");
    }

    #[test]
    fn trial_w4_a_large_module_tells_the_same_as_a_small_one() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::at(dir.path());
        let mut elf = fixture::module_with_debugging(ENTRIES, &[1, 2, 3], 40 << 20);
        elf.extend_from_slice(SIGNED);
        fixture::file(dir.path(), "/a/mlx5_core.ko", &elf);
        let (large, size) = ModuleFile::read_with_size(&host, "/a/mlx5_core.ko").unwrap();
        assert_eq!(size, elf.len() as u64);
        let mut small = fixture::module(ENTRIES, Some(&[1, 2, 3]));
        small.extend_from_slice(SIGNED);
        assert_eq!(large, ModuleFile::parse(Path::new("/a/mlx5_core.ko"), &small).unwrap());
        assert!(large.signature == ModuleSignature::ByUnknown && large.build_id.is_some());
        // Cut off, its section headers are missing.
        fixture::file(dir.path(), "/a/mlx5_core.ko", &elf[..elf.len() - 200]);
        ModuleFile::read(&host, "/a/mlx5_core.ko").unwrap_err();
    }

    #[test]
    fn a_module_cut_short_anywhere_is_an_error() {
        let elf = fixture::module(ENTRIES, Some(&[1, 2, 3]));
        for end in 0..elf.len() {
            assert!(parse(&elf[..end]).is_err(), "cut to {end} of {} bytes", elf.len());
        }
    }

    proptest! {
        #[test]
        fn a_damaged_module_never_panics(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..40)) {
            let mut elf = fixture::module(ENTRIES, Some(&[1, 2, 3]));
            for (index, byte) in changes {
                let at = index.index(elf.len());
                elf[at] = byte;
            }
            // Either outcome is right: not every byte matters.
            let _ = parse(&elf);
        }
    }
}

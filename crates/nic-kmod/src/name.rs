use std::fmt;
use std::str::FromStr;

use nic_host::Foreign;
use serde::{Deserialize, Serialize};

/// The kernel's name of a module, e.g. `mlx5_core`.
///
/// `-` and `_` mean the same in a module's name: the build replaces the one by the other (`scripts/Makefile.lib`,
/// `name-fix-token`), and modprobe accepts both. Here `_` is written always, so that names compare as text. A name
/// is part of paths below `/sys/module`; it holds ASCII letters, digits and `_` only.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ModuleName(String);

/// A text that is no module's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is not the name of a kernel module", Foreign(.0))]
pub struct ParseModuleNameError(pub String);

impl ModuleName {
    /// The longest name the kernel takes, in bytes: `MODULE_NAME_LEN` of a 64-bit kernel less the closing NUL
    /// (`include/linux/module.h`).
    pub const MAX_LENGTH: usize = 55;

    /// The text, with `_` for `-`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name that the file `path` gives its module: the file's name up to `.ko`.
    pub(crate) fn of_file(path: &str) -> Option<Self> {
        let file = path.rsplit('/').next().unwrap_or(path);
        file.split_once(".ko").and_then(|(stem, _)| stem.parse().ok())
    }
}

impl FromStr for ModuleName {
    type Err = ParseModuleNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let well_formed = !text.is_empty()
            && text.len() <= Self::MAX_LENGTH
            && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
            // An option of modprobe, not a module.
            && !text.starts_with('-');
        if well_formed {
            Ok(Self(text.replace('-', "_")))
        } else {
            Err(ParseModuleNameError(text.to_owned()))
        }
    }
}

impl TryFrom<String> for ModuleName {
    type Error = ParseModuleNameError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ModuleName> for String {
    fn from(name: ModuleName) -> Self {
        name.0
    }
}

/// In JSON, the text it is displayed as.
impl schemars::JsonSchema for ModuleName {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ModuleName".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "description": "with underscores" })
    }
}

impl fmt::Display for ModuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The checksum over a module's sources that `modpost` puts into the module (`scripts/mod/sumversion.c`), e.g.
/// `60F2A0BF5FA1E1D8C3C5F2A`.
///
/// A module has one when its kernel was configured with `MODULE_SRCVERSION_ALL` or the module declares a
/// `MODULE_VERSION`. Opaque: only equality means anything.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SrcVersion(String);

/// A text that is no srcversion.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is not a srcversion", Foreign(.0))]
pub struct ParseSrcVersionError(pub String);

impl SrcVersion {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SrcVersion {
    type Err = ParseSrcVersionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // Not held to hexadecimal digits: nothing here depends on what it is made of. An empty one would make two
        // modules without any look equal.
        if text.is_empty() || !text.chars().all(|c| c.is_ascii_graphic()) {
            return Err(ParseSrcVersionError(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for SrcVersion {
    type Error = ParseSrcVersionError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<SrcVersion> for String {
    fn from(version: SrcVersion) -> Self {
        version.0
    }
}

impl fmt::Display for SrcVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The linker's identity of one build of a module (ELF note `NT_GNU_BUILD_ID`), written as lower-case hexadecimal
/// digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BuildId(String);

/// A text that is no build-id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is not a build-id", Foreign(.0))]
pub struct ParseBuildIdError(pub String);

impl BuildId {
    /// The build-id of these bytes; `None` when there are none.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        use std::fmt::Write as _;
        if bytes.is_empty() {
            return None;
        }
        Some(Self(bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            write!(text, "{byte:02x}").expect("writing to a String cannot fail");
            text
        })))
    }

    /// Finds the build-id in the bytes of a note section, as `/sys/module/<m>/notes/.note.gnu.build-id` gives it.
    ///
    /// `None` when no note in it is a build-id, or when the notes are cut short.
    #[must_use]
    pub fn from_notes(section: &[u8]) -> Option<Self> {
        const NT_GNU_BUILD_ID: u32 = 3;
        // Notes are in the machine's byte order. The first word is the length of the owner's name, a small number,
        // so it also tells the order; a tree can come from another machine.
        let (first, _) = section.split_first_chunk::<4>()?;
        let number: fn([u8; 4]) -> u32 =
            if u32::from_le_bytes(*first) <= 0xffff { u32::from_le_bytes } else { u32::from_be_bytes };
        let mut rest = section;
        loop {
            let (name_size, tail) = rest.split_first_chunk::<4>()?;
            let (desc_size, tail) = tail.split_first_chunk::<4>()?;
            let (kind, tail) = tail.split_first_chunk::<4>()?;
            let name_size = usize::try_from(number(*name_size)).ok()?;
            let desc_size = usize::try_from(number(*desc_size)).ok()?;
            let (name, desc_on) =
                (tail.get(..name_size)?, tail.get(name_size.checked_next_multiple_of(4)?..)?);
            let desc = desc_on.get(..desc_size)?;
            if number(*kind) == NT_GNU_BUILD_ID && name == b"GNU\0" {
                return Self::from_bytes(desc);
            }
            rest = desc_on.get(desc_size.checked_next_multiple_of(4)?..)?;
        }
    }

    /// The hexadecimal digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for BuildId {
    type Err = ParseBuildIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() || !text.len().is_multiple_of(2) || !text.chars().all(|c| c.is_ascii_hexdigit()) {
            return Err(ParseBuildIdError(text.to_owned()));
        }
        Ok(Self(text.to_ascii_lowercase()))
    }
}

impl TryFrom<String> for BuildId {
    type Error = ParseBuildIdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<BuildId> for String {
    fn from(id: BuildId) -> Self {
        id.0
    }
}

impl fmt::Display for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_normalised_and_checked() {
        for (text, name) in
            [("mlx5-core", "mlx5_core"), ("8021q", "8021q"), ("pci-hyperv-intf", "pci_hyperv_intf")]
        {
            assert_eq!(text.parse::<ModuleName>().unwrap().as_str(), name);
        }
        let long = "a".repeat(56);
        for bad in ["", "..", "../igb", "-r", "--all", "mlx5 core", "igb\n", "igb.ko", &long] {
            assert_eq!(bad.parse::<ModuleName>(), Err(ParseModuleNameError(bad.to_owned())));
        }
        assert!("a".repeat(55).parse::<ModuleName>().is_ok());
    }

    #[test]
    fn trial_w14_a_long_or_hostile_text_is_told_escaped_and_cut() {
        let hostile = format!("a\n\u{1b}[31m{}", "x".repeat(1 << 20));
        let mut told = vec![
            hostile.parse::<ModuleName>().unwrap_err().to_string(),
            hostile.parse::<SrcVersion>().unwrap_err().to_string(),
            hostile.parse::<BuildId>().unwrap_err().to_string(),
            crate::LoadedModules::parse(&hostile.replace('\n', "\r")).unwrap_err().to_string(),
        ];
        let holders = vec![hostile.clone(); 1000];
        let source = std::io::Error::other("busy");
        let held = crate::UnloadError::Held { module: "igb".parse().unwrap(), holders, source };
        told.push(held.to_string());
        for told in told {
            assert!(told.len() < 3000 && !told.contains(char::is_control), "{} {told:.200}", told.len());
        }
    }

    #[test]
    fn a_name_in_a_file_of_settings_is_checked_too() {
        assert_eq!(serde_json::from_str::<ModuleName>("\"ib-core\"").unwrap().as_str(), "ib_core");
        let error = serde_json::from_str::<ModuleName>("\"../x\"").unwrap_err();
        assert!(error.to_string().contains("\"../x\""), "{error}");
    }

    #[test]
    fn the_name_that_a_file_gives() {
        for (path, name) in [
            ("kernel/drivers/net/ethernet/mellanox/mlx5/core/mlx5_core.ko.xz", Some("mlx5_core")),
            ("extra/aegis128-aesni.ko", Some("aegis128_aesni")),
            ("modules.dep", None),
            (".ko", None),
        ] {
            assert_eq!(ModuleName::of_file(path).as_ref().map(ModuleName::as_str), name, "{path}");
        }
    }

    #[test]
    fn an_empty_srcversion_is_none_at_all() {
        assert!("".parse::<SrcVersion>().is_err());
        assert!("two words".parse::<SrcVersion>().is_err());
        assert_eq!(
            "60F2A0BF5FA1E1D8C3C5F2A".parse::<SrcVersion>().unwrap().as_str(),
            "60F2A0BF5FA1E1D8C3C5F2A"
        );
    }

    fn note(number: fn(u32) -> [u8; 4], owner: &[u8], kind: u32, desc: &[u8]) -> Vec<u8> {
        let length = |bytes: &[u8]| number(u32::try_from(bytes.len()).unwrap());
        let mut bytes = [length(owner), length(desc), number(kind)].concat();
        for part in [owner, desc] {
            bytes.extend_from_slice(part);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        bytes
    }

    #[test]
    fn a_build_id_is_found_among_the_notes_of_either_byte_order() {
        for number in [u32::to_le_bytes, u32::to_be_bytes] {
            let linux = note(number, b"Linux\0", 0x101, b"x");
            let id = note(number, b"GNU\0", 3, &[0xde, 0xad, 0xbe, 0xef]);
            let both = [linux.clone(), id.clone()].concat();
            assert_eq!(BuildId::from_notes(&id).unwrap().as_str(), "deadbeef");
            assert_eq!(BuildId::from_notes(&both).unwrap().as_str(), "deadbeef");
            assert_eq!(BuildId::from_notes(&linux), None);
            for end in 0..id.len() {
                assert_eq!(BuildId::from_notes(&id[..end]), None, "cut after {end} bytes");
            }
        }
    }

    #[test]
    fn a_build_id_compares_without_regard_to_case() {
        assert_eq!(
            "DEADBEEF".parse::<BuildId>().unwrap(),
            BuildId::from_bytes(&[0xde, 0xad, 0xbe, 0xef]).unwrap()
        );
        for bad in ["", "abc", "xy"] {
            assert!(bad.parse::<BuildId>().is_err());
        }
        assert_eq!(BuildId::from_bytes(&[]), None);
    }
}

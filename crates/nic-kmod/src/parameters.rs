use std::collections::BTreeMap;

use object::{Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget, SectionIndex};
use serde::{Deserialize, Serialize};

use crate::LoadedModule;

/// The parameters of a module and the values they have when nobody gives any, as sysfs would show them.
///
/// The kernel does not tell which parameters a module was given. But the module's file says what they would be without:
/// each `struct kernel_param` in the section `__param` (`include/linux/moduleparam.h`) points at its variable, and the
/// variable's content in the file is the default. Only 64-bit kernels are known, and of the types those with one value:
/// numbers, switches and texts. Of arrays and of drivers' own types no default is known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ParameterDefaults(BTreeMap<String, String>);

impl ParameterDefaults {
    /// Reads them from an unpacked module's bytes.
    ///
    /// # Errors
    /// When the bytes are no ELF file. A parameter whose entry is not understood is left out.
    pub fn parse(elf: &[u8]) -> Result<Self, object::read::Error> {
        let object = object::File::parse(elf)?;
        let mut defaults = BTreeMap::new();
        if let Some(section) = object.section_by_name("__param").filter(|_| object.is_64()) {
            let image = Image { object: &object };
            // Of the data that are there, and not of a size that a damaged header claims.
            let size = section.data()?.len() as u64;
            for at in (0..size).step_by(ENTRY_SIZE) {
                if let Some((name, value)) = image.parameter(section.index(), at) {
                    defaults.insert(name, value);
                }
            }
        }
        Ok(Self(defaults))
    }

    /// Whether no default is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The parameters whose default is known.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// A parameter's default, where it is known.
    #[must_use]
    pub fn get(&self, parameter: &str) -> Option<&str> {
        self.0.get(parameter).map(String::as_str)
    }

    /// The parameters of `loaded` that are not what they would be had nobody given any.
    #[must_use]
    pub fn given(&self, loaded: &LoadedModule) -> BTreeMap<String, String> {
        let is_given = |(name, value): &(&String, &String)| {
            self.get(name).is_some_and(|default| default != value.as_str())
                // A text that was given and taken away again: there is no way to write it.
                && value.as_str() != NO_TEXT
        };
        loaded.parameters.iter().filter(is_given).map(|(name, value)| (name.clone(), value.clone())).collect()
    }
}

/// `sizeof(struct kernel_param)` on 64-bit kernels: name, module, operations, permissions with level and flags, and the
/// variable.
const ENTRY_SIZE: usize = 40;
/// Offsets in it.
const NAME: u64 = 0;
const OPERATIONS: u64 = 16;
const VARIABLE: u64 = 32;
/// How the kernel shows a text that is not there (`param_get_charp`, `vsnprintf`).
const NO_TEXT: &str = "(null)";

/// A place in a relocatable file.
#[derive(Clone, Copy)]
struct Place {
    section: SectionIndex,
    offset: u64,
}

struct Image<'file, 'data> {
    object: &'file object::File<'data>,
}

impl Image<'_, '_> {
    fn parameter(&self, section: SectionIndex, at: u64) -> Option<(String, String)> {
        let name = self.text(self.place(section, at + NAME)?)?;
        let operations = self.symbol_name(section, at + OPERATIONS)?;
        let variable = self.place(section, at + VARIABLE)?;
        let number = |size: usize| self.bytes(variable, size).and_then(|bytes| self.number(&bytes));
        let signed = |size: usize| {
            let bits = 64 - 8 * u32::try_from(size).ok()?;
            number(size).map(|value| (value.cast_signed() << bits >> bits).to_string())
        };
        let unsigned = |size: usize| number(size).map(|value| value.to_string());
        let switch =
            |on: char, off: char| number(1).map(|value| (if value == 0 { off } else { on }).to_string());
        // The formats of `STANDARD_PARAM_DEF` and its neighbours in kernel/params.c.
        let value = match operations.as_str() {
            "param_ops_byte" => unsigned(1),
            "param_ops_short" => signed(2),
            "param_ops_ushort" => unsigned(2),
            "param_ops_int" | "param_ops_bint" => signed(4),
            "param_ops_uint" => unsigned(4),
            "param_ops_long" => signed(8),
            "param_ops_ulong" | "param_ops_ullong" => unsigned(8),
            "param_ops_hexint" => number(4).map(|value| format!("{value:#08x}")),
            "param_ops_bool" | "param_ops_bool_enable_only" => switch('Y', 'N'),
            "param_ops_invbool" => switch('N', 'Y'),
            "param_ops_charp" => match self.place(variable.section, variable.offset) {
                Some(text) => self.text(text).map(|text| text.trim().to_owned()),
                None => Some(NO_TEXT.to_owned()),
            },
            _ => None,
        };
        Some((name, value?))
    }

    /// Where the pointer at this offset points, in this file.
    fn place(&self, section: SectionIndex, at: u64) -> Option<Place> {
        let (symbol, addend) = self.relocation(section, at)?;
        let symbol = self.object.symbol_by_index(symbol).ok()?;
        let offset = symbol.address().checked_add_signed(addend)?;
        Some(Place { section: symbol.section_index()?, offset })
    }

    fn symbol_name(&self, section: SectionIndex, at: u64) -> Option<String> {
        let (symbol, _) = self.relocation(section, at)?;
        Some(self.object.symbol_by_index(symbol).ok()?.name().ok()?.to_owned())
    }

    fn relocation(&self, section: SectionIndex, at: u64) -> Option<(object::SymbolIndex, i64)> {
        let section = self.object.section_by_index(section).ok()?;
        let (_, found) = section.relocations().find(|(offset, _)| *offset == at)?;
        match found.target() {
            RelocationTarget::Symbol(symbol) => Some((symbol, found.addend())),
            _ => None,
        }
    }

    fn bytes(&self, place: Place, size: usize) -> Option<Vec<u8>> {
        let section = self.object.section_by_index(place.section).ok()?;
        let end = place.offset.checked_add(u64::try_from(size).ok()?)?;
        if end > section.size() {
            return None;
        }
        if section.kind() == object::SectionKind::UninitializedData {
            return Some(vec![0; size]);
        }
        let data = section.data().ok()?;
        data.get(usize::try_from(place.offset).ok()?..usize::try_from(end).ok()?).map(<[u8]>::to_vec)
    }

    fn number(&self, bytes: &[u8]) -> Option<u64> {
        let mut wide = [0; 8];
        if self.object.is_little_endian() {
            wide.get_mut(..bytes.len())?.copy_from_slice(bytes);
            Some(u64::from_le_bytes(wide))
        } else {
            wide.get_mut(8_usize.checked_sub(bytes.len())?..)?.copy_from_slice(bytes);
            Some(u64::from_be_bytes(wide))
        }
    }

    fn text(&self, place: Place) -> Option<String> {
        let section = self.object.section_by_index(place.section).ok()?;
        let data = section.data().ok()?.get(usize::try_from(place.offset).ok()?..)?;
        let end = data.iter().position(|byte| *byte == 0)?;
        Some(String::from_utf8_lossy(data.get(..end)?).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use object::write::{Object, Relocation, StandardSection, Symbol, SymbolSection};
    use object::{
        Architecture, BinaryFormat, Endianness, RelocationFlags, SectionKind, SymbolFlags, SymbolKind,
        SymbolScope,
    };

    use super::*;
    use crate::fixture::name;

    /// A module with these parameters: name, operations, and the bytes of the variable, or `None` for one of zeros.
    fn module(endianness: Endianness, parameters: &[(&str, &str, Option<&[u8]>)]) -> Vec<u8> {
        let architecture = match endianness {
            Endianness::Little => Architecture::X86_64,
            Endianness::Big => Architecture::S390x,
        };
        let absolute = match endianness {
            Endianness::Little => object::elf::R_X86_64_64,
            Endianness::Big => object::elf::R_390_64,
        };
        let mut object = Object::new(BinaryFormat::Elf, architecture, endianness);
        let table = object.add_section(Vec::new(), b"__param".to_vec(), SectionKind::ReadOnlyData);
        let symbol = |object: &mut Object<'_>, name: &str, section, value| {
            object.add_symbol(Symbol {
                name: name.as_bytes().to_vec(),
                value,
                size: 0,
                kind: SymbolKind::Data,
                scope: SymbolScope::Compilation,
                weak: false,
                section,
                flags: SymbolFlags::None,
            })
        };
        for (name, operations, value) in parameters {
            let text = object.section_id(StandardSection::ReadOnlyData);
            let at = object.append_section_data(text, &[name.as_bytes(), b"\0"].concat(), 1);
            let name = symbol(&mut object, &format!("__param_str_{name}"), SymbolSection::Section(text), at);
            let operations = symbol(&mut object, operations, SymbolSection::Undefined, 0);
            let (section, at) = match value {
                Some(bytes) => {
                    let data = object.section_id(StandardSection::Data);
                    (data, object.append_section_data(data, bytes, 8))
                }
                None => {
                    let bss = object.section_id(StandardSection::UninitializedData);
                    (bss, object.append_section_bss(bss, 8, 8))
                }
            };
            let variable = symbol(&mut object, "variable", SymbolSection::Section(section), at);
            let entry = object.append_section_data(table, &[0; ENTRY_SIZE], 8);
            for (offset, symbol) in [(NAME, name), (OPERATIONS, operations), (VARIABLE, variable)] {
                let flags = RelocationFlags::Elf { r_type: absolute };
                let relocation = Relocation { offset: entry + offset, symbol, addend: 0, flags };
                object.add_relocation(table, relocation).unwrap();
            }
        }
        object.write().unwrap()
    }

    #[test]
    fn defaults_are_what_the_variables_hold() {
        let four = |value: i32, endianness| match endianness {
            Endianness::Little => value.to_le_bytes(),
            Endianness::Big => value.to_be_bytes(),
        };
        for endianness in [Endianness::Little, Endianness::Big] {
            let elf = module(
                endianness,
                &[
                    ("prof_sel", "param_ops_uint", Some(&four(2, endianness))),
                    ("threads", "param_ops_int", Some(&four(-1, endianness))),
                    ("debug_mask", "param_ops_uint", None),
                    ("mask", "param_ops_hexint", Some(&four(0x1f, endianness))),
                    ("probe_vf", "param_ops_bool", Some(&[1])),
                    ("off", "param_ops_bool", None),
                    ("inverse", "param_ops_invbool", None),
                    ("guid", "param_ops_charp", None),
                    ("list", "param_array_ops", None),
                    ("own", "driver_ops", None),
                ],
            );
            let defaults = ParameterDefaults::parse(&elf).unwrap();
            let found: Vec<_> =
                defaults.0.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            assert_eq!(
                found,
                [
                    ("debug_mask", "0"),
                    ("guid", "(null)"),
                    ("inverse", "Y"),
                    ("mask", "0x00001f"),
                    ("off", "N"),
                    ("probe_vf", "Y"),
                    ("prof_sel", "2"),
                    ("threads", "-1"),
                ]
            );
        }
    }

    #[test]
    fn what_was_given_is_what_is_not_the_default() {
        let elf = module(
            Endianness::Little,
            &[
                ("prof_sel", "param_ops_uint", Some(&[2, 0, 0, 0])),
                ("probe_vf", "param_ops_bool", None),
                ("guid", "param_ops_charp", None),
                ("list", "param_array_ops", None),
            ],
        );
        let defaults = ParameterDefaults::parse(&elf).unwrap();
        let values =
            [("prof_sel", "3"), ("probe_vf", "N"), ("guid", "02:00"), ("list", "1,2"), ("other", "7")];
        let parameters =
            values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let loaded = LoadedModule { parameters, ..LoadedModule::new(name("mlx5_core"), Vec::new()) };
        let given = defaults.given(&loaded);
        let given: Vec<_> = given.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        // Of a parameter without a known default it cannot be told, and it is left to modprobe's configuration.
        assert_eq!(given, [("guid", "02:00"), ("prof_sel", "3")]);
    }

    #[test]
    fn what_is_no_module_is_an_error_and_damage_no_panic() {
        assert!(ParameterDefaults::parse(b"no module").is_err());
        let elf = module(Endianness::Little, &[("a", "param_ops_uint", Some(&[2, 0, 0, 0]))]);
        for at in 0..elf.len() {
            let mut damaged = elf.clone();
            damaged[at] ^= 0xff;
            // Either outcome is right: not every byte matters.
            let _ = ParameterDefaults::parse(&damaged);
        }
    }
}

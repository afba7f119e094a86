//! The symbols that a module needs and has.

use std::collections::BTreeSet;

use object::{Object as _, ObjectSymbol as _, ReadRef};

use crate::ParseModuleError;

/// The symbols of a module's file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModuleSymbols {
    /// Those that it needs of the kernel and of other modules. Weak ones may be missing.
    pub needed: BTreeSet<String>,
    /// Those that it has and that others can name; whether they are exported is not told.
    pub defined: BTreeSet<String>,
}

impl ModuleSymbols {
    /// Reads them of an unpacked module.
    ///
    /// # Errors
    /// The content is no complete ELF file.
    pub fn parse(module: &[u8]) -> Result<Self, ParseModuleError> {
        Self::of_image(module)
    }

    pub(crate) fn of_image<'data>(module: impl ReadRef<'data>) -> Result<Self, ParseModuleError> {
        let object = object::File::parse(module).map_err(ParseModuleError::Elf)?;
        let mut symbols = Self::default();
        for symbol in object.symbols() {
            let Ok(name) = symbol.name() else { continue };
            if name.is_empty() {
                continue;
            }
            if symbol.is_undefined() {
                if !symbol.is_weak() {
                    symbols.needed.insert(name.to_owned());
                }
            } else if symbol.is_global() {
                symbols.defined.insert(name.to_owned());
            }
        }
        // The linker's own, which the kernel sets up itself (`apply_relocate_add`, `simplify_symbols` on ia64 and powerpc).
        symbols.needed.remove("_GLOBAL_OFFSET_TABLE_");
        symbols.needed.remove("_TOC_");
        symbols.needed.remove(".TOC.");
        Ok(symbols)
    }
}

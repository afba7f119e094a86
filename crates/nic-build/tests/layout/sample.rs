//! Packages with small modules in them.

use std::path::Path;

use object::write::{Object, Symbol, SymbolSection};
use object::{Architecture, BinaryFormat, Endianness, SectionKind, SymbolFlags, SymbolKind, SymbolScope};

/// A relocatable ELF file that depmod(8) takes for a module which exports and needs these symbols.
pub(crate) fn module(name: &str, depends: &str, exports: &[&str], needs: &[&str]) -> Vec<u8> {
    let mut object = Object::new(BinaryFormat::Elf, Architecture::X86_64, Endianness::Little);
    let modinfo = object.add_section(Vec::new(), b".modinfo".to_vec(), SectionKind::ReadOnlyData);
    for entry in [format!("name={name}"), format!("depends={depends}")] {
        object.append_section_data(modinfo, format!("{entry}\0").as_bytes(), 1);
    }
    // The names of exported symbols, one after the other.
    let strings = object.add_section(Vec::new(), b"__ksymtab_strings".to_vec(), SectionKind::ReadOnlyData);
    for export in exports {
        object.append_section_data(strings, format!("{export}\0").as_bytes(), 1);
    }
    for need in needs {
        object.add_symbol(Symbol {
            name: need.as_bytes().to_vec(),
            value: 0,
            size: 0,
            kind: SymbolKind::Unknown,
            scope: SymbolScope::Unknown,
            weak: false,
            section: SymbolSection::Undefined,
            flags: SymbolFlags::None,
        });
    }
    object.write().unwrap()
}

/// Writes a package with these files into a folder.
pub(crate) fn package(folder: &Path, name: &str, files: &[(String, Vec<u8>)]) {
    let mut builder = rpm::PackageBuilder::new(name, "25.10", "GPL-2.0-only", "x86_64", "A sample");
    builder.release("1");
    for (path, content) in files {
        builder.with_file_contents(content.clone(), rpm::FileOptions::new(path.as_str())).unwrap();
    }
    let mut bytes = Vec::new();
    builder.build().unwrap().write(&mut bytes).unwrap();
    std::fs::write(folder.join(format!("{name}-25.10-1.x86_64.rpm")), bytes).unwrap();
}

//! Builds what the tests read: small kernel modules, packed in the ways distributions pack them.

use std::io::Write as _;
use std::path::Path;

use object::write::Object;
use object::{Architecture, BinaryFormat, Endianness, SectionKind};

use crate::ModuleName;
use crate::compression::Compression;

/// A relocatable ELF file with these `.modinfo` entries, and a build-id if one is given.
pub(crate) fn module(entries: &[&str], build_id: Option<&[u8]>) -> Vec<u8> {
    module_of(Architecture::X86_64, Endianness::Little, entries, build_id)
}

/// The same for another machine.
pub(crate) fn module_of(
    architecture: Architecture,
    endianness: Endianness,
    entries: &[&str],
    build_id: Option<&[u8]>,
) -> Vec<u8> {
    object_of(architecture, endianness, entries, build_id).write().unwrap()
}

/// A module with so many bytes of debugging information.
pub(crate) fn module_with_debugging(entries: &[&str], build_id: &[u8], bytes: usize) -> Vec<u8> {
    let mut object = object_of(Architecture::X86_64, Endianness::Little, entries, Some(build_id));
    let debugging = object.add_section(Vec::new(), b".debug_info".to_vec(), SectionKind::Debug);
    object.append_section_data(debugging, &vec![0xd; bytes], 1);
    object.write().unwrap()
}

fn object_of<'a>(
    architecture: Architecture,
    endianness: Endianness,
    entries: &[&str],
    build_id: Option<&[u8]>,
) -> Object<'a> {
    let mut object = Object::new(BinaryFormat::Elf, architecture, endianness);
    let text = object.add_section(Vec::new(), b".text".to_vec(), SectionKind::Text);
    object.append_section_data(text, &[0x90; 4096], 16);
    let modinfo = object.add_section(Vec::new(), b".modinfo".to_vec(), SectionKind::ReadOnlyData);
    for entry in entries {
        object.append_section_data(modinfo, &[entry.as_bytes(), b"\0"].concat(), 1);
    }
    if let Some(id) = build_id {
        let note = object.add_section(Vec::new(), b".note.gnu.build-id".to_vec(), SectionKind::Note);
        object.append_section_data(note, &build_id_note(endianness, id), 4);
    }
    object
}

/// The bytes of a note section with a build-id, as sysfs shows it.
pub(crate) fn build_id_note(endianness: Endianness, id: &[u8]) -> Vec<u8> {
    let number = |number: u32| match endianness {
        Endianness::Little => number.to_le_bytes(),
        Endianness::Big => number.to_be_bytes(),
    };
    let size = number(u32::try_from(id.len()).unwrap());
    let mut note = [number(4), size, number(3), *b"GNU\0"].concat();
    note.extend_from_slice(id);
    note.resize(note.len().next_multiple_of(4), 0);
    note
}

/// Packs `bytes`, with the checksums kernels' builds ask for.
pub(crate) fn pack(compression: Compression, bytes: &[u8]) -> Vec<u8> {
    match compression {
        Compression::None => bytes.to_vec(),
        Compression::Xz => {
            let mut options = lzma_rust2::XzOptions::with_preset(1);
            // The kernel's own decoder knows no other (`Documentation/staging/xz.rst`).
            options.set_check_sum_type(lzma_rust2::CheckType::Crc32);
            let mut writer = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
            writer.write_all(bytes).unwrap();
            writer.finish().unwrap()
        }
        Compression::Zstd => {
            ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
        }
        Compression::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
    }
}

/// A module's name.
pub(crate) fn name(text: &str) -> ModuleName {
    text.parse().unwrap()
}

/// The names of modules, separated by white space.
pub(crate) fn names(text: &str) -> Vec<ModuleName> {
    text.split_whitespace().map(name).collect()
}

/// Writes a file below `root`, with the folders it needs.
pub(crate) fn file(root: &Path, path: &str, content: impl AsRef<[u8]>) {
    let path = root.join(path.trim_start_matches('/'));
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

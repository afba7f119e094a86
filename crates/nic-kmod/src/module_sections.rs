//! The sections of a module's ELF file that tell what it is.

use object::elf::{ELF_NOTE_GNU, FileHeader32, FileHeader64, NT_GNU_BUILD_ID};
use object::read::elf::{FileHeader, SectionHeader as _};
use object::{Endianness, FileKind, ReadRef};

/// What the sections of a module tell of it.
pub(crate) struct ModuleSections<'data> {
    /// The content of `.modinfo`.
    pub(crate) modinfo: Option<&'data [u8]>,
    /// The build-id in its note, of whatever length.
    pub(crate) build_id: Option<&'data [u8]>,
    /// Whether it has `__versions`.
    pub(crate) has_symbol_versions: bool,
}

impl<'data> ModuleSections<'data> {
    /// Only section headers and these sections are looked at: of a large file no more may be in memory.
    pub(crate) fn read(elf: impl ReadRef<'data>) -> object::read::Result<Self> {
        match FileKind::parse(elf)? {
            FileKind::Elf32 => Self::of_class::<FileHeader32<Endianness>>(elf),
            // What is no ELF file at all is told by the header's parser.
            _ => Self::of_class::<FileHeader64<Endianness>>(elf),
        }
    }

    fn of_class<Elf: FileHeader>(elf: impl ReadRef<'data>) -> object::read::Result<Self> {
        let header = Elf::parse(elf)?;
        let endian = header.endian()?;
        // The section headers stand at the end of the file: one that was cut short fails here.
        let sections = header.sections(endian, elf)?;
        let modinfo = sections.section_by_name(endian, b".modinfo");
        let modinfo = modinfo.map(|(_, section)| section.data(endian, elf)).transpose()?;
        let mut build_id = None;
        for section in sections.iter() {
            let Some(mut notes) = section.notes(endian, elf)? else { continue };
            while let Some(note) = notes.next()? {
                if note.name() == ELF_NOTE_GNU && note.n_type(endian) == NT_GNU_BUILD_ID {
                    build_id.get_or_insert(note.desc());
                }
            }
        }
        let has_symbol_versions = sections.section_by_name(endian, b"__versions").is_some();
        Ok(Self { modinfo, build_id, has_symbol_versions })
    }
}

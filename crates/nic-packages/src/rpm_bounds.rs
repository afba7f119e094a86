//! What an rpm file says of itself, looked at before a parser goes by it: one that allocates and slices by offsets and counts of a
//! damaged file takes the process down.
//!
//! The form is rpm's own: lead (lib/rpmlead.c), then signature and header, each with an index of entries and a store
//! (lib/header.c, `hdrblobInit` and `hdrblobVerifyInfo`, with the same limits).

use std::io::{self, BufRead, Read as _};

/// The length of the lead, in bytes.
const LEAD: usize = 96;
/// The first bytes of a header, with its version.
const MAGIC: [u8; 4] = [0x8e, 0xad, 0xe8, 0x01];
/// The length of magic, reserved bytes, number of entries and size of the store.
const INTRODUCTION: usize = 16;
/// The length of an entry of the index: tag, type, offset and count.
const ENTRY: usize = 16;
/// The most entries of an index, as in rpm (`HEADER_TAGS_MAX`).
const MOST_ENTRIES: usize = 65_535;
/// The largest store that is taken. rpm's own limit is 256 MiB (`HEADER_DATA_MAX`); a driver's packages have some 100 KiB.
const LARGEST_STORE: usize = 64 << 20;

/// Tags of a package's files: names, the folder of each, and the folders.
const BASE_NAMES: u32 = 1117;
const DIRECTORY_INDEXES: u32 = 1116;
const DIRECTORY_NAMES: u32 = 1118;

/// Reads lead, signature and header, and returns their bytes when every offset and count in them stays within them.
pub(crate) fn read(content: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut bytes = exactly(content, LEAD)?;
    let signature = read_header(content, &mut bytes, "signature")?;
    // The signature is filled up to a multiple of 8 bytes.
    let padding = exactly(content, signature.next_multiple_of(8) - signature)?;
    bytes.extend(padding);
    read_header(content, &mut bytes, "header")?;
    Ok(bytes)
}

/// Appends one header to `into`, and returns the size of its store.
fn read_header(content: &mut impl BufRead, into: &mut Vec<u8>, part: &str) -> io::Result<usize> {
    let introduction = exactly(content, INTRODUCTION)?;
    if !introduction.starts_with(&MAGIC) {
        return Err(damaged(part, "begins with other bytes than a header"));
    }
    let (entries, size) = (number(&introduction, 8)?, number(&introduction, 12)?);
    if entries == 0 || entries > MOST_ENTRIES || size > LARGEST_STORE {
        return Err(damaged(part, &format!("tells of {entries} entries and {size} bytes")));
    }
    let index = exactly(content, entries * ENTRY)?;
    let store = exactly(content, size)?;
    let mut folders = Folders::default();
    for entry in index.chunks_exact(ENTRY) {
        check_entry(entry, &store, part)?;
        folders.note(entry, &store)?;
    }
    folders.check(part)?;
    into.extend(introduction.into_iter().chain(index).chain(store));
    Ok(size)
}

/// What an entry points to lies in the store.
fn check_entry(entry: &[u8], store: &[u8], part: &str) -> io::Result<()> {
    let (tag, kind) = (number(entry, 0)?, number(entry, 4)?);
    let (offset, count) = (number(entry, 8)?, number(entry, 12)?);
    let wrong = || damaged(part, &format!("tag {tag} of type {kind} points outside: {count} at {offset}"));
    let here = store.get(offset..).ok_or_else(wrong)?;
    let fits = match kind {
        0 => true,
        // Characters, bytes, and data without a form.
        1 | 2 | 7 => count <= here.len(),
        3 => count <= here.len() / 2,
        4 => count <= here.len() / 4,
        5 => count <= here.len() / 8,
        // A text, texts, and texts in languages: each ends with a zero.
        6 => count == 1 && here.contains(&0),
        8 | 9 => here.iter().filter(|byte| **byte == 0).take(count).count() == count,
        _ => false,
    };
    if fits { Ok(()) } else { Err(wrong()) }
}

/// A file's folder is one of the folders.
#[derive(Default)]
struct Folders {
    files: usize,
    highest: Option<usize>,
    indexes: usize,
    folders: usize,
}

impl Folders {
    fn note(&mut self, entry: &[u8], store: &[u8]) -> io::Result<()> {
        let (tag, offset, count) = (number(entry, 0)?, number(entry, 8)?, number(entry, 12)?);
        match u32::try_from(tag) {
            Ok(BASE_NAMES) => self.files = count,
            Ok(DIRECTORY_NAMES) => self.folders = count,
            Ok(DIRECTORY_INDEXES) => {
                self.indexes = count;
                for index in 0..count {
                    self.highest = self.highest.max(Some(number(store, offset + 4 * index)?));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn check(&self, part: &str) -> io::Result<()> {
        if self.files == self.indexes && self.highest.is_none_or(|highest| highest < self.folders) {
            return Ok(());
        }
        Err(damaged(
            part,
            &format!("tells of {} files in {} folders that do not fit", self.files, self.folders),
        ))
    }
}

/// The 32 bits at `offset`, the highest first.
fn number(bytes: &[u8], offset: usize) -> io::Result<usize> {
    let end = offset.checked_add(4).ok_or(io::ErrorKind::UnexpectedEof)?;
    let bytes = bytes.get(offset..end).ok_or(io::ErrorKind::UnexpectedEof)?;
    let number = bytes.iter().fold(0_u32, |number, byte| number << 8 | u32::from(*byte));
    usize::try_from(number).map_err(io::Error::other)
}

fn exactly(content: &mut impl BufRead, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = content.take(u64::try_from(length).map_err(io::Error::other)?).read_to_end(&mut bytes)?;
    if read == length { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

fn damaged(part: &str, why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the {part} {why}"))
}

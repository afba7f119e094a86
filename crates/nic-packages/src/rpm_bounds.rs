//! The headers of an rpm file, read within bounds: nothing is sliced or allocated by offsets and counts of a file before they are known
//! to stay within it.
//!
//! The form is rpm's own: lead (lib/rpmlead.c), then signature and header, each with an index of entries and a store
//! (lib/header.c). What `hdrblobInit` and `hdrblobVerifyInfo` refuse there is refused here, with lower limits.

use std::io::{self, Read};

use sha2::{Digest as _, Sha256};

/// The length of the lead, in bytes.
pub(crate) const LEAD: usize = 96;
/// The first bytes of a header, with its version.
const MAGIC: [u8; 4] = [0x8e, 0xad, 0xe8, 0x01];
/// The length of magic, reserved bytes, number of entries and size of the store.
const INTRODUCTION: usize = 16;
/// The length of an entry of the index: tag, type, offset and count.
const ENTRY: usize = 16;
/// The most entries of an index, as in rpm (`HEADER_TAGS_MAX`).
const MOST_ENTRIES: usize = 65_535;
/// The largest store that is taken. rpm's own limit is 256 MiB (`HEADER_DATA_MAX`); a driver's packages have some 100 KiB, those of a
/// distribution's kernel a few MiB.
const LARGEST_STORE: usize = 16 << 20;
/// The most texts of one entry: a package has fewer files.
const MOST_TEXTS: usize = 1 << 20;
/// Tags of entries that stand for a region of the header (`HEADER_IMAGE` to `HEADER_IMMUTABLE`), and overlap with what is in it.
const REGIONS: std::ops::RangeInclusive<u32> = 61..=63;

/// A header, whose entries all lie in its store.
#[derive(Debug)]
pub(crate) struct Header {
    part: &'static str,
    entries: Vec<Entry>,
    store: Vec<u8>,
    /// The SHA-256 of its bytes, in hexadecimal digits.
    pub(crate) sha256: String,
    /// The number of its bytes.
    pub(crate) size: usize,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    tag: u32,
    kind: u32,
    offset: usize,
    count: usize,
}

impl Header {
    /// Reads a header; errors call it `part`.
    ///
    /// # Errors
    /// It is cut off, or what it says of itself cannot be: an entry lies outside of the store, overlaps with the one before, or has more
    /// texts than any package has.
    pub(crate) fn read(content: &mut dyn Read, part: &'static str) -> io::Result<Self> {
        let introduction = exactly(content, INTRODUCTION)?;
        if !introduction.starts_with(&MAGIC) {
            return Err(damaged(part, "begins with other bytes than a header"));
        }
        let (count, size) = (position(&introduction, 8)?, position(&introduction, 12)?);
        if count == 0 || count > MOST_ENTRIES || size > LARGEST_STORE {
            return Err(damaged(part, &format!("tells of {count} entries and {size} bytes")));
        }
        let index = exactly(content, count * ENTRY)?;
        let store = exactly(content, size)?;
        let mut digest = Sha256::new();
        for bytes in [&introduction, &index, &store] {
            digest.update(bytes);
        }
        let mut entries = Vec::with_capacity(count);
        let mut end = 0;
        for bytes in index.chunks_exact(ENTRY) {
            let entry = Entry {
                tag: number(bytes, 0)?,
                kind: number(bytes, 4)?,
                offset: position(bytes, 8)?,
                count: position(bytes, 12)?,
            };
            let entry_end = entry.end(&store).ok_or_else(|| {
                let Entry { tag, kind, offset, count } = entry;
                damaged(part, &format!("tag {tag} of type {kind} points outside: {count} at {offset}"))
            })?;
            if !REGIONS.contains(&entry.tag) {
                if entry.offset < end {
                    return Err(damaged(part, &format!("tag {} overlaps with the entry before", entry.tag)));
                }
                end = entry_end;
            }
            entries.push(entry);
        }
        let size = INTRODUCTION + index.len() + store.len();
        Ok(Self { part, entries, store, sha256: hex::encode(digest.finalize()), size })
    }

    /// Whether it has an entry of this tag.
    pub(crate) fn has(&self, tag: u32) -> bool {
        self.entry(tag).is_some()
    }

    /// A text, or the first of several; `None` where there is no such entry.
    ///
    /// # Errors
    /// The entry is no text, or not UTF-8.
    pub(crate) fn text(&self, tag: u32) -> io::Result<Option<&str>> {
        self.texts(tag)?.next().transpose()
    }

    /// All texts of an entry; none where there is no such entry.
    ///
    /// # Errors
    /// The entry is no text; each that is not UTF-8.
    pub(crate) fn texts(&self, tag: u32) -> io::Result<impl Iterator<Item = io::Result<&str>>> {
        let (bytes, count) = match self.entry(tag) {
            None => (&[][..], 0),
            Some(Entry { kind: 6 | 8 | 9, offset, count, .. }) => {
                (self.store.get(*offset..).unwrap_or_default(), *count)
            }
            Some(entry) => return Err(self.wrong_kind(entry)),
        };
        let texts = bytes.split(|byte| *byte == 0).take(count);
        Ok(texts.map(move |text| {
            std::str::from_utf8(text)
                .map_err(|_| damaged(self.part, &format!("tag {tag} has a text that is not UTF-8")))
        }))
    }

    /// How many values an entry has; 0 where there is no such entry.
    pub(crate) fn count(&self, tag: u32) -> usize {
        self.entry(tag).map_or(0, |entry| entry.count)
    }

    /// All numbers of an entry, of 16, 32 or 64 bits; none where there is no such entry.
    ///
    /// # Errors
    /// The entry has no such numbers.
    pub(crate) fn numbers(&self, tag: u32) -> io::Result<impl Iterator<Item = u64>> {
        let (bytes, width) = match self.entry(tag) {
            None => (&[][..], 1),
            Some(entry @ Entry { kind: 3..=5, offset, .. }) => {
                let end = entry.end(&self.store).unwrap_or_default();
                (self.store.get(*offset..end).unwrap_or_default(), 1 << (entry.kind - 2))
            }
            Some(entry) => return Err(self.wrong_kind(entry)),
        };
        Ok(bytes
            .chunks_exact(width)
            .map(|bytes| bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))))
    }

    fn entry(&self, tag: u32) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.tag == tag)
    }

    fn wrong_kind(&self, entry: &Entry) -> io::Error {
        damaged(self.part, &format!("tag {} is of type {}, which it cannot be", entry.tag, entry.kind))
    }
}

impl Entry {
    /// Where in the store it ends, if it lies in it as a whole.
    fn end(&self, store: &[u8]) -> Option<usize> {
        let here = store.get(self.offset..)?;
        let length = match self.kind {
            0 => 0,
            // Characters, bytes, and data without a form.
            1 | 2 | 7 => self.count,
            3..=5 => self.count.checked_mul(1 << (self.kind - 2))?,
            // A text, texts, and texts in languages: each ends with a zero.
            6 if self.count != 1 => return None,
            6 | 8 | 9 if self.count > MOST_TEXTS => return None,
            6 | 8 | 9 if self.count == 0 => 0,
            6 | 8 | 9 => {
                let zeros = here.iter().enumerate().filter(|(_, byte)| **byte == 0);
                zeros.map(|(at, _)| at + 1).nth(self.count - 1)?
            }
            _ => return None,
        };
        (length <= here.len()).then_some(self.offset + length)
    }
}

/// The 32 bits at `offset`, the highest first.
fn number(bytes: &[u8], offset: usize) -> io::Result<u32> {
    let end = offset.checked_add(4).ok_or(io::ErrorKind::UnexpectedEof)?;
    let bytes = bytes.get(offset..end).ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok(bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)))
}

fn position(bytes: &[u8], offset: usize) -> io::Result<usize> {
    usize::try_from(number(bytes, offset)?).map_err(io::Error::other)
}

/// So many bytes, for which no more is allocated than there is.
pub(crate) fn exactly(content: &mut dyn Read, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = content.take(u64::try_from(length).map_err(io::Error::other)?).read_to_end(&mut bytes)?;
    if read == length {
        return Ok(bytes);
    }
    let reason = format!("the package is cut off: {} bytes are missing of its headers", length - read);
    Err(io::Error::new(io::ErrorKind::UnexpectedEof, reason))
}

pub(crate) fn damaged(part: &str, why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the {part} {why}"))
}

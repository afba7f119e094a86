//! The bytes of a module's file in memory: all of them, or of a large one those that tell what it is.

use std::io::{self, Read};
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use object::ReadRef;

/// How much of a file's beginning is kept, in bytes. In a relocatable file the linker puts what is loaded, `.modinfo` and the notes
/// among it, before all debugging information (scripts/module.lds.S of the kernel).
const BEGINNING: usize = 32 << 20;
/// How much of its end is kept at least, in bytes: there are the section headers, their names, and the signature.
const END: usize = 1 << 20;
/// Files up to this length, in bytes, are read beside each other, longer ones one after the other.
const SMALL: usize = 8 << 20;

static ONE_LARGE_FILE: Mutex<()> = Mutex::new(());

/// A file of whatever length in at most [`BEGINNING`] and twice [`END`] bytes. All of it was read, so that what checks it has.
pub(crate) struct ModuleImage {
    beginning: Vec<u8>,
    /// The last bytes, where there is more than the beginning.
    end: Vec<u8>,
    /// The number of the file's bytes.
    pub(crate) size: u64,
    _alone: Option<MutexGuard<'static, ()>>,
}

impl ModuleImage {
    pub(crate) fn read(mut file: impl Read) -> io::Result<Self> {
        let mut beginning = Vec::new();
        (&mut file).take(SMALL as u64).read_to_end(&mut beginning)?;
        let alone =
            (beginning.len() == SMALL).then(|| ONE_LARGE_FILE.lock().unwrap_or_else(PoisonError::into_inner));
        (&mut file).take((BEGINNING + END - SMALL) as u64).read_to_end(&mut beginning)?;
        let (mut end, mut passed) = (Vec::new(), 0);
        if beginning.len() == BEGINNING + END {
            end = beginning.split_off(BEGINNING);
        }
        while !end.is_empty() {
            let read = (&mut file).take(END as u64).read_to_end(&mut end)?;
            if read == 0 {
                break;
            }
            let superfluous = end.len().saturating_sub(2 * END);
            end.drain(..superfluous);
            passed += superfluous;
        }
        let size = u64::try_from(beginning.len() + passed + end.len()).map_err(io::Error::other)?;
        Ok(Self { beginning, end, size, _alone: alone })
    }

    /// The last bytes: all of a small file.
    pub(crate) fn end(&self) -> &[u8] {
        if self.end.is_empty() { &self.beginning } else { &self.end }
    }

    /// The bytes from `offset` on that are kept in one piece.
    fn from(&self, offset: u64) -> Option<&[u8]> {
        let of_end = u64::try_from(self.end.len()).ok().and_then(|length| self.size.checked_sub(length))?;
        let (piece, begin) = if offset >= of_end { (&self.end, of_end) } else { (&self.beginning, 0) };
        piece.get(usize::try_from(offset - begin).ok()?..)
    }
}

impl<'data> ReadRef<'data> for &'data ModuleImage {
    fn len(self) -> Result<u64, ()> {
        Ok(self.size)
    }

    fn read_bytes_at(self, offset: u64, size: u64) -> Result<&'data [u8], ()> {
        self.from(offset).and_then(|bytes| bytes.get(..usize::try_from(size).ok()?)).ok_or(())
    }

    fn read_bytes_at_until(self, range: Range<u64>, delimiter: u8) -> Result<&'data [u8], ()> {
        let bytes = self.from(range.start).ok_or(())?;
        let longest = range.end.checked_sub(range.start).and_then(|length| usize::try_from(length).ok());
        let bytes = bytes.get(..longest.ok_or(())?.min(bytes.len())).ok_or(())?;
        let length = bytes.iter().position(|byte| *byte == delimiter).ok_or(())?;
        bytes.get(..length).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trial_w4_of_a_large_file_the_beginning_and_the_end_are_kept() {
        for length in [0, 1, SMALL, BEGINNING, BEGINNING + 1, BEGINNING + END, BEGINNING + 7 * END + 3] {
            let bytes: Vec<u8> = (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect();
            let image = ModuleImage::read(bytes.as_slice()).unwrap();
            assert_eq!(image.size, length as u64);
            assert!(image.beginning.len() + image.end.len() <= BEGINNING + 2 * END);
            assert!(image.end().ends_with(&bytes[length.saturating_sub(20)..]));
            let ends = [0..length.min(BEGINNING), length.saturating_sub(END)..length];
            for kept in ends {
                let found = (&image).read_bytes_at(kept.start as u64, kept.len() as u64).unwrap();
                assert!(found == &bytes[kept.clone()], "{length}: {kept:?}");
            }
            (&image).read_bytes_at(length as u64, 1).unwrap_err();
        }
    }
}

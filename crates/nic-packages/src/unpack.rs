//! Compressed parts of packages, read within bounds: none unpacks to more than a part of its kind has, none takes more memory than its
//! compressor does, and checksums are compared.

use std::io::{self, Read};

use ruzstd::decoding::{FrameDecoder, StreamingDecoder};

use crate::ParsePackageError;

/// The largest archive of files that is unpacked, in bytes.
pub(crate) const LARGEST_FILES: u64 = 2 << 30;
/// The largest archive of a control file and scriptlets that is unpacked, in bytes.
pub(crate) const LARGEST_CONTROL: u64 = 64 << 20;

/// What is unpacked whatever its size is before.
const SMALL: u64 = 64 << 20;
/// How many times as large as before a part may become, beyond [`SMALL`]. Modules shrink to a third to a tenth, texts to a
/// twentieth; zeros, of which hostile parts are made, to a thousandth and less.
const MOST_GROWTH: u64 = 100;

/// The memory that an xz stream may ask for, in KiB: that of `xz -9`, whose dictionary has 64 MiB, and some more.
const XZ_MEMORY: u32 = 96 << 10;
/// The largest window of a zstd frame, in bytes: that of `zstd --ultra -22`, above all that dpkg and rpm write.
const ZSTD_WINDOW: u64 = 128 << 20;

/// What is in a part, by the end of the part's name, which has `packed` bytes and may unpack to `longest`.
///
/// It must be read to its end: only there the checksums are.
pub(crate) fn unpacked<'a>(
    member: impl Read + 'a,
    part: &str,
    packed: u64,
    longest: u64,
) -> Result<Box<dyn Read + 'a>, ParsePackageError> {
    let inner: Box<dyn Read + 'a> = match part.split_once(".tar").map(|(_, suffix)| suffix) {
        Some("") => Box::new(member),
        Some(".gz") => Box::new(flate2::read::MultiGzDecoder::new(member)),
        Some(".xz") => Box::new(lzma_rust2::XzReader::new_mem_limit(member, true, XZ_MEMORY)),
        Some(".zst") => {
            let decoder = StreamingDecoder::new_with_max_window_size(member, ZSTD_WINDOW)
                .map_err(|error| ParsePackageError::read(part)(io::Error::other(error)))?;
            Box::new(ZstdFrame { decoder })
        }
        _ => return Err(ParsePackageError::Compression { part: part.to_owned() }),
    };
    let limit = longest.min(packed.saturating_mul(MOST_GROWTH).saturating_add(SMALL));
    Ok(Box::new(Bounded { inner, left: limit, limit }))
}

/// Reads what is behind an archive's end. The checksums of a compressed one are there, and compared when they are reached.
pub(crate) fn drain(archive: &mut dyn Read) -> io::Result<()> {
    io::copy(archive, &mut io::sink()).map(|_| ())
}

/// A reader that fails, and does not end, where there is more than a limit.
struct Bounded<R> {
    inner: R,
    left: u64,
    limit: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        let left = u64::try_from(read).ok().and_then(|read| self.left.checked_sub(read));
        self.left = left.ok_or_else(|| {
            let message = format!("unpacks to more than the {} MiB that it may have", self.limit >> 20);
            io::Error::new(io::ErrorKind::FileTooLarge, message)
        })?;
        Ok(read)
    }
}

/// One frame, whose checksum is compared: the decoder computes it, and leaves that to its caller.
struct ZstdFrame<R: Read> {
    decoder: StreamingDecoder<R, FrameDecoder>,
}

impl<R: Read> Read for ZstdFrame<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.decoder.read(buffer)?;
        if read > 0 || buffer.is_empty() {
            return Ok(read);
        }
        let frame = &self.decoder.decoder;
        let (told, found) = (frame.get_checksum_from_data(), frame.get_calculated_checksum());
        if told.is_some() && told != found {
            return Err(damaged("the checksum of the zstd frame does not match"));
        }
        // dpkg and rpm write one frame. What is behind it would be lost without a word.
        if self.decoder.get_mut().read(&mut [0])? > 0 {
            return Err(damaged("there is more after the zstd frame"));
        }
        Ok(0)
    }
}

fn damaged(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

use std::io::{self, BufRead, Read};

use ruzstd::decoding::{FrameDecoder, StreamingDecoder};

/// The longest module that is read, in bytes, whatever is done with it.
pub(crate) const LARGEST: u64 = 1 << 30;
/// The most that a packed module unpacks to, in bytes. Those of NICs' drivers, with all their debugging information, stay below a
/// half of it.
const LARGEST_PACKED: u64 = 256 << 20;
/// What a module may unpack to whatever its packed size is, in bytes.
const SMALL: u64 = 16 << 20;
/// How many times as large as its packed file a module may be, beyond [`SMALL`]. Modules shrink to a third to a tenth; zeros, of
/// which files are made that are to exhaust a machine, to a thousandth and less.
const MOST_GROWTH: u64 = 32;
/// The memory that an xz stream may ask for, in KiB: that of `xz -9`, whose dictionary has 64 MiB, and some more.
const XZ_MEMORY: u32 = 96 << 10;

/// The largest window of a zstd frame, in bytes: that of `zstd --ultra --long=27`, and also the limit of the
/// kernel's own decoder (`CONFIG_MODULE_DECOMPRESS`, `ZSTD_WINDOWLOG_MAX`).
const MAX_WINDOW: u64 = 128 << 20;

/// How a module's file is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Xz,
    Zstd,
    Gzip,
}

impl Compression {
    /// Judged by the first bytes and not by the file's name, as libkmod does (`libkmod-file.c`, `comp_types`).
    pub(crate) fn of(bytes: &[u8]) -> Self {
        match bytes {
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            [0x1f, 0x8b, ..] => Self::Gzip,
            _ => Self::None,
        }
    }

    fn reader<'a>(self, packed: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
        Ok(match self {
            Self::None => Box::new(packed),
            Self::Xz => Box::new(lzma_rust2::XzReader::new_mem_limit(packed, true, XZ_MEMORY)),
            Self::Gzip => Box::new(flate2::read::MultiGzDecoder::new(packed)),
            Self::Zstd => {
                let decoder = StreamingDecoder::new_with_max_window_size(packed, MAX_WINDOW)
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                Box::new(ZstdFrame { decoder })
            }
        })
    }
}

/// Unpacks what is read, up to `longest` bytes; it may be packed or not. Checksums are compared when the end is reached.
///
/// # Errors
/// On reading: the content is damaged, or more than `longest` bytes, or more than a packed file of `packed_size` bytes may be.
pub(crate) fn unpacked<'a>(
    mut packed: impl BufRead + 'a,
    packed_size: u64,
    longest: u64,
) -> io::Result<Box<dyn Read + 'a>> {
    let compression = Compression::of(packed.fill_buf()?);
    let most = match compression {
        Compression::None => LARGEST,
        _ => packed_size.saturating_mul(MOST_GROWTH).saturating_add(SMALL).min(LARGEST_PACKED),
    };
    let limit = longest.min(most);
    Ok(Box::new(Bounded { inner: compression.reader(packed)?, left: limit, limit }))
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
            let message = format!("its content is more than the {} MiB that it may be", self.limit >> 20);
            io::Error::new(io::ErrorKind::FileTooLarge, message)
        })?;
        Ok(read)
    }
}

/// A module's only zstd frame, with its checksum.
struct ZstdFrame<R: Read> {
    decoder: StreamingDecoder<R, FrameDecoder>,
}

impl<R: Read> Read for ZstdFrame<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.decoder.read(buffer)?;
        if read > 0 || buffer.is_empty() {
            return Ok(read);
        }
        let damaged = |reason| io::Error::new(io::ErrorKind::InvalidData, reason);
        let frame = &self.decoder.decoder;
        // The decoder computes the checksum, and leaves it to its caller to compare it.
        if let Some(expected) = frame.get_checksum_from_data()
            && frame.get_calculated_checksum() != Some(expected)
        {
            return Err(damaged("the zstd frame's checksum does not match"));
        }
        // A kernel's module is one frame. Data behind it would be lost without a word.
        if self.decoder.get_mut().read(&mut [0])? > 0 {
            return Err(damaged("there is more after the zstd frame"));
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::pack;

    const ALL: [Compression; 4] = [Compression::None, Compression::Xz, Compression::Zstd, Compression::Gzip];

    fn unpack(packed: &[u8]) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        unpacked(packed, packed.len() as u64, 3 << 20)?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn sample() -> Vec<u8> {
        (0..200_000_u32).flat_map(|n| (n / 7).to_le_bytes()).collect()
    }

    #[test]
    fn what_is_packed_is_recognised_and_unpacked() {
        for compression in ALL {
            let packed = pack(compression, &sample());
            assert_eq!(Compression::of(&packed), compression);
            assert_eq!(unpack(&packed).unwrap(), sample(), "{compression:?}");
        }
        assert_eq!(Compression::of(b""), Compression::None);
    }

    #[test]
    fn a_file_cut_short_anywhere_is_an_error() {
        for compression in &ALL[1..] {
            let packed = pack(*compression, &sample());
            for kept in [0.2, 0.5, 0.9, 0.99] {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a fraction of a length"
                )]
                let end = (packed.len() as f64 * kept) as usize;
                assert!(unpack(&packed[..end]).is_err(), "{compression:?} cut to {end} bytes");
            }
        }
    }

    #[test]
    fn a_flipped_bit_is_an_error() {
        for compression in &ALL[1..] {
            let mut packed = pack(*compression, &sample());
            let middle = packed.len() / 2;
            packed[middle] ^= 0x10;
            assert!(unpack(&packed).is_err(), "{compression:?}");
        }
    }

    #[test]
    fn trial_w4_what_unpacks_to_too_much_is_refused() {
        for compression in ALL {
            let packed = pack(compression, &vec![0; 3 << 20]);
            assert_eq!(unpack(&packed).unwrap().len(), 3 << 20, "{compression:?}");
            let error = unpack(&pack(compression, &vec![0; (3 << 20) + 1])).unwrap_err();
            assert_eq!(
                error.to_string(),
                "its content is more than the 3 MiB that it may be",
                "{compression:?}"
            );
        }
        // A small file is not unpacked to a large one, whatever may be read.
        let zeros = pack(Compression::Xz, &vec![0; 32 << 20]);
        let mut image = unpacked(zeros.as_slice(), zeros.len() as u64, LARGEST).unwrap();
        let error = io::copy(&mut image, &mut io::sink()).unwrap_err();
        assert_eq!(error.to_string(), "its content is more than the 16 MiB that it may be");
    }
}

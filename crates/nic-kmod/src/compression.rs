use std::io::{self, Read};

use ruzstd::decoding::StreamingDecoder;

/// The largest module that is unpacked, in bytes. The largest in use, with all their debugging information, stay
/// below a quarter of it; a file that unpacks to more is damaged, or made to exhaust the memory.
const MAX_UNPACKED: u64 = 512 << 20;

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

    /// Unpacks `bytes`, checksums included.
    pub(crate) fn unpack(self, bytes: Vec<u8>) -> io::Result<Vec<u8>> {
        self.unpack_up_to(bytes, MAX_UNPACKED)
    }

    fn unpack_up_to(self, bytes: Vec<u8>, limit: u64) -> io::Result<Vec<u8>> {
        let packed = bytes.as_slice();
        match self {
            Self::None => Ok(bytes),
            Self::Xz => read_up_to(lzma_rust2::XzReader::new(packed, true), packed.len(), limit),
            Self::Gzip => read_up_to(flate2::read::MultiGzDecoder::new(packed), packed.len(), limit),
            Self::Zstd => unpack_zstd_frame(packed, limit),
        }
    }
}

fn unpack_zstd_frame(mut packed: &[u8], limit: u64) -> io::Result<Vec<u8>> {
    let packed_size = packed.len();
    let mut decoder = StreamingDecoder::new_with_max_window_size(&mut packed, MAX_WINDOW)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    let unpacked = read_up_to(&mut decoder, packed_size, limit)?;
    let frame = decoder.into_frame_decoder();
    // The decoder computes the checksum, and leaves it to its caller to compare it.
    if let Some(expected) = frame.get_checksum_from_data()
        && frame.get_calculated_checksum() != Some(expected)
    {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the zstd frame's checksum does not match"));
    }
    // A kernel's module is one frame. Data behind it would be lost without a word.
    if !packed.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "there is more after the zstd frame"));
    }
    Ok(unpacked)
}

fn read_up_to(reader: impl Read, packed_size: usize, limit: u64) -> io::Result<Vec<u8>> {
    // Modules shrink to about a quarter.
    let mut unpacked = Vec::with_capacity(packed_size.saturating_mul(4));
    let size = reader.take(limit + 1).read_to_end(&mut unpacked)?;
    if size as u64 > limit {
        let message = format!("it unpacks to more than {} MiB", limit >> 20);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(unpacked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::pack;

    const ALL: [Compression; 4] = [Compression::None, Compression::Xz, Compression::Zstd, Compression::Gzip];

    fn sample() -> Vec<u8> {
        (0..200_000_u32).flat_map(|n| (n / 7).to_le_bytes()).collect()
    }

    #[test]
    fn what_is_packed_is_recognised_and_unpacked() {
        for compression in ALL {
            let packed = pack(compression, &sample());
            assert_eq!(Compression::of(&packed), compression);
            assert_eq!(compression.unpack(packed).unwrap(), sample(), "{compression:?}");
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
                assert!(
                    compression.unpack(packed[..end].to_vec()).is_err(),
                    "{compression:?} cut to {end} bytes"
                );
            }
        }
    }

    #[test]
    fn a_flipped_bit_is_an_error() {
        for compression in &ALL[1..] {
            let mut packed = pack(*compression, &sample());
            let middle = packed.len() / 2;
            packed[middle] ^= 0x10;
            assert!(compression.unpack(packed).is_err(), "{compression:?}");
        }
    }

    #[test]
    fn what_unpacks_to_too_much_is_refused() {
        for compression in &ALL[1..] {
            let packed = pack(*compression, &vec![0; 3 << 20]);
            assert_eq!(compression.unpack_up_to(packed.clone(), 3 << 20).unwrap().len(), 3 << 20);
            let error = compression.unpack_up_to(packed, 2 << 20).unwrap_err();
            assert_eq!(error.to_string(), "it unpacks to more than 2 MiB", "{compression:?}");
        }
    }
}

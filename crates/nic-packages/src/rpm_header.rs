//! The header of an rpm file.

use std::io::BufRead;
use std::path::PathBuf;

use rpm::{Error, FileEntry, FileFlags, FileType, IndexTag, PackageMetadata};

use crate::rpm_bounds;
use crate::{PackageFile, PackageFormat, ParsePackageError};

/// The first bytes of the lead of every rpm file (rpm's lib/rpmlead.c, `lead_magic`).
pub(crate) const MAGIC: [u8; 4] = [0xed, 0xab, 0xee, 0xdb];

/// Reads lead, signature and header; the payload is left alone. The path stays empty.
pub(crate) fn parse(mut content: impl BufRead) -> Result<PackageFile, ParsePackageError> {
    let bytes = rpm_bounds::read(&mut content).map_err(ParsePackageError::read("rpm header"))?;
    let metadata = PackageMetadata::parse(&mut bytes.as_slice()).map_err(ParsePackageError::RpmHeader)?;
    if metadata.is_source_package() {
        return Err(ParsePackageError::Source);
    }
    fields(&metadata).map_err(ParsePackageError::RpmHeader)
}

fn fields(metadata: &PackageMetadata) -> Result<PackageFile, Error> {
    let epoch = match metadata.header.get_entry_data_as_u32(IndexTag::RPMTAG_EPOCH) {
        Ok(epoch) => epoch,
        Err(Error::TagNotFound(_)) => 0,
        Err(error) => return Err(error),
    };
    let version_release = format!("{}-{}", metadata.get_version()?, metadata.get_release()?);
    let mut files: Vec<PathBuf> = metadata
        .get_file_entries()?
        .iter()
        .filter(|entry| {
            entry.mode().file_type() != FileType::Dir && !entry.flags().contains(FileFlags::GHOST)
        })
        .map(FileEntry::path)
        .collect();
    files.sort_unstable();
    Ok(PackageFile {
        path: PathBuf::new(),
        format: PackageFormat::Rpm,
        name: metadata.get_name()?.to_owned(),
        version: with_epoch(epoch, &version_release),
        architecture: metadata.get_arch()?.to_owned(),
        files,
    })
}

/// `version-release` with its epoch in front, unless that is 0.
pub(crate) fn with_epoch(epoch: u32, version_release: &str) -> String {
    match epoch {
        0 => version_release.to_owned(),
        epoch => format!("{epoch}:{version_release}"),
    }
}

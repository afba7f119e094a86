//! What the headers of an rpm file say, and whether the file is whole.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::contained_path::{PathBounds, within_package};
use crate::fields::{FieldKind, check_field};
use crate::rpm_bounds::{self, Header, damaged, exactly};
use crate::{PackageFile, PackageFormat, ParsePackageError};

/// The first bytes of the lead of every rpm file (rpm's lib/rpmlead.c, `lead_magic`).
pub(crate) const MAGIC: [u8; 4] = [0xed, 0xab, 0xee, 0xdb];

/// Tags of a header, and their names in rpm's include/rpm/rpmtag.h.
mod tag {
    pub(super) const NAME: u32 = 1000;
    pub(super) const VERSION: u32 = 1001;
    pub(super) const RELEASE: u32 = 1002;
    pub(super) const EPOCH: u32 = 1003;
    pub(super) const ARCH: u32 = 1022;
    pub(super) const FILE_MODES: u32 = 1030;
    pub(super) const FILE_FLAGS: u32 = 1037;
    pub(super) const SOURCE_RPM: u32 = 1044;
    pub(super) const SOURCE_PACKAGE: u32 = 1106;
    pub(super) const DIRECTORY_INDEXES: u32 = 1116;
    pub(super) const BASE_NAMES: u32 = 1117;
    pub(super) const DIRECTORY_NAMES: u32 = 1118;
    pub(super) const PAYLOAD_COMPRESSOR: u32 = 1125;
    /// `RPMTAG_PAYLOADSHA256`, once `RPMTAG_PAYLOADDIGEST`; no other algorithm was ever used.
    pub(super) const PAYLOAD_SHA256: u32 = 5092;
}

/// Tags of a signature (include/rpm/rpmtag.h, `RPMSIGTAG_…`).
mod signature_tag {
    pub(super) const LONG_SIZE: u32 = 270;
    pub(super) const HEADER_SHA256: u32 = 273;
    pub(super) const SIZE: u32 = 1000;
}

/// `RPMFILE_GHOST` (include/rpm/rpmfiles.h): a file that the package owns and does not bring.
const GHOST: u64 = 1 << 6;

/// The headers of a package.
#[derive(Debug)]
pub(crate) struct Headers {
    signature: Header,
    header: Header,
}

impl Headers {
    /// Reads lead, signature and header.
    pub(crate) fn read(content: &mut dyn Read) -> Result<Self, ParsePackageError> {
        let mut headers = || -> io::Result<Self> {
            exactly(content, rpm_bounds::LEAD)?;
            let signature = Header::read(content, "signature")?;
            // The signature is filled up to a multiple of 8 bytes.
            exactly(content, signature.size.next_multiple_of(8) - signature.size)?;
            Ok(Self { signature, header: Header::read(content, "header")? })
        };
        headers().map_err(ParsePackageError::read("rpm header"))
    }

    /// How the payload is compressed, in rpm's words; `None` where that is not told. Then rpm takes it for what gzip packs, or
    /// for what is not packed.
    pub(crate) fn compressor(&self) -> Result<Option<&str>, ParsePackageError> {
        self.header.text(tag::PAYLOAD_COMPRESSOR).map_err(ParsePackageError::read("rpm header"))
    }

    /// The size of the payload in bytes, where the signature tells it.
    pub(crate) fn payload_size(&self) -> io::Result<Option<u64>> {
        let long = self.signature.numbers(signature_tag::LONG_SIZE)?.next();
        let Some(size) = long.or(self.signature.numbers(signature_tag::SIZE)?.next()) else {
            return Ok(None);
        };
        let header = u64::try_from(self.header.size).map_err(io::Error::other)?;
        let payload = size.checked_sub(header);
        payload.map(Some).ok_or_else(|| damaged("signature", "tells of fewer bytes than the header has"))
    }

    /// Reads the payload, and compares what the headers tell of it and of each other.
    ///
    /// rpm does the same before it installs a package (lib/rpmvs.c). A package without these digests, as they were written before
    /// rpm 4.14, is told by its size alone.
    fn verify(&self, content: &mut dyn Read) -> Result<(), ParsePackageError> {
        let header = ParsePackageError::read("rpm header");
        let read = || -> io::Result<_> {
            let header_sha256 = self.signature.text(signature_tag::HEADER_SHA256)?;
            Ok((header_sha256, self.header.text(tag::PAYLOAD_SHA256)?, self.payload_size()?))
        };
        let (header_sha256, payload_sha256, told) = read().map_err(header)?;
        if header_sha256.is_some_and(|told| !told.eq_ignore_ascii_case(&self.header.sha256)) {
            return Err(ParsePackageError::Checksum { part: "header" });
        }
        let mut payload = Digesting { digest: Sha256::new() };
        // What is behind a payload whose size is known need not be read to its end.
        let longest = told.unwrap_or(u64::MAX).saturating_add(LONGEST_REST);
        let size =
            io::copy(&mut content.take(longest), &mut payload).map_err(ParsePackageError::read("payload"))?;
        match told {
            Some(told) if size < told => return Err(ParsePackageError::CutOff { missing: told - size }),
            Some(told) if size > told => return Err(ParsePackageError::TooLong { more: size - told }),
            _ => {}
        }
        let sha256 = hex::encode(payload.digest.finalize());
        if payload_sha256.is_some_and(|told| !told.eq_ignore_ascii_case(&sha256)) {
            return Err(ParsePackageError::Checksum { part: "payload" });
        }
        Ok(())
    }

    fn is_source_package(&self) -> bool {
        let (header, only_folder) = (&self.header, self.header.text(tag::DIRECTORY_NAMES));
        header.has(tag::SOURCE_PACKAGE)
            || !header.has(tag::SOURCE_RPM)
                && header.count(tag::DIRECTORY_NAMES) == 1
                && only_folder.is_ok_and(|folder| folder == Some(""))
    }

    fn fields(&self) -> Result<PackageFile, ParsePackageError> {
        let header = &self.header;
        let text = |tag, field, missing, kind| -> Result<&str, ParsePackageError> {
            let value = header.text(tag).map_err(ParsePackageError::read("rpm header"))?;
            let value = value.ok_or(ParsePackageError::Missing { part: missing })?;
            check_field(PackageFormat::Rpm, field, value, kind)?;
            Ok(value)
        };
        let name = text(tag::NAME, "Name", "field Name", FieldKind::Name)?;
        let version = text(tag::VERSION, "Version", "field Version", FieldKind::Version)?;
        let release = text(tag::RELEASE, "Release", "field Release", FieldKind::Version)?;
        let architecture = text(tag::ARCH, "Arch", "field Arch", FieldKind::Architecture)?;
        let rest = || -> io::Result<_> {
            Ok((header.numbers(tag::EPOCH)?.next().unwrap_or_default(), self.files()?))
        };
        let (epoch, files) = rest().map_err(ParsePackageError::read("rpm header"))?;
        Ok(PackageFile {
            path: PathBuf::new(),
            format: PackageFormat::Rpm,
            name: name.to_owned(),
            version: with_epoch(epoch, &format!("{version}-{release}")),
            architecture: architecture.to_owned(),
            files,
        })
    }

    /// The files that it installs, sorted: no folders, and nothing that it only owns.
    fn files(&self) -> io::Result<Vec<PathBuf>> {
        let header = &self.header;
        let folders: Vec<&str> = header.texts(tag::DIRECTORY_NAMES)?.collect::<io::Result<_>>()?;
        let files = header.count(tag::BASE_NAMES);
        if [tag::DIRECTORY_INDEXES, tag::FILE_MODES, tag::FILE_FLAGS]
            .iter()
            .any(|tag| header.count(*tag) != files)
        {
            return Err(damaged(
                "header",
                &format!("tells of {files} files, and not of as many folders, modes and flags"),
            ));
        }
        let names = header.texts(tag::BASE_NAMES)?.zip(header.numbers(tag::DIRECTORY_INDEXES)?);
        let kinds = header.numbers(tag::FILE_MODES)?.zip(header.numbers(tag::FILE_FLAGS)?);
        let (mut paths, mut bounds) = (Vec::new(), PathBounds::default());
        for ((name, folder), (mode, flags)) in names.zip(kinds) {
            let (name, folder) = (name?, usize::try_from(folder).map_err(io::Error::other)?);
            let folder = folders.get(folder).ok_or_else(|| {
                damaged(
                    "header",
                    &format!("tells of {} folders, and of a file in folder {folder}", folders.len()),
                )
            })?;
            bounds.note(folder.len() + name.len())?;
            let path = within_package(Path::new(&format!("{folder}{name}")))?;
            if mode & FILE_TYPE != FOLDER && flags & GHOST == 0 {
                paths.push(path);
            }
        }
        paths.sort_unstable();
        Ok(paths)
    }
}

/// Type bits of a mode (inode(7)), and those of a folder.
const FILE_TYPE: u64 = 0o170_000;
const FOLDER: u64 = 0o040_000;

/// How much is read behind a payload, to tell that there is more.
const LONGEST_REST: u64 = 1 << 20;

struct Digesting {
    digest: Sha256,
}

impl io::Write for Digesting {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.digest.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads a package: what its header says, and whether it is whole. The path stays empty.
pub(crate) fn parse(mut content: impl Read) -> Result<PackageFile, ParsePackageError> {
    let headers = Headers::read(&mut content)?;
    if headers.is_source_package() {
        return Err(ParsePackageError::Source);
    }
    let package = headers.fields()?;
    headers.verify(&mut content)?;
    Ok(package)
}

/// `version-release` with its epoch in front, unless that is 0.
pub(crate) fn with_epoch(epoch: u64, version_release: &str) -> String {
    match epoch {
        0 => version_release.to_owned(),
        epoch => format!("{epoch}:{version_release}"),
    }
}

//! Debian binary packages (deb(5)): an ar archive of `debian-binary`, `control.tar*` and `data.tar*`, in this order.

use std::io::{self, BufRead, Read};
use std::path::{Path, PathBuf};

use ruzstd::decoding::StreamingDecoder;

use crate::{PackageFile, PackageFormat, ParsePackageError};

/// The first bytes of every ar archive.
pub(crate) const MAGIC: [u8; 8] = *b"!<arch>\n";

/// Reads the control file and the list of files. The path stays empty.
pub(crate) fn parse(content: impl BufRead) -> Result<PackageFile, ParsePackageError> {
    let mut archive = ar::Archive::new(content);
    let (mut control, mut files) = (None, None);
    while let Some(member) = archive.next_entry() {
        let member = member.map_err(ParsePackageError::read("archive"))?;
        let name = String::from_utf8_lossy(member.header().identifier()).into_owned();
        if name.starts_with("control.tar") {
            control = control_file(member, &name)?;
        } else if name.starts_with("data.tar") {
            files = Some(file_list(member, &name)?);
        }
    }
    let control = control.ok_or(ParsePackageError::Missing { part: "control file" })?;
    let files = files.ok_or(ParsePackageError::Missing { part: "data.tar" })?;
    Ok(PackageFile {
        path: PathBuf::new(),
        format: PackageFormat::Deb,
        name: field(&control, "Package").ok_or(ParsePackageError::Missing { part: "field Package" })?,
        version: field(&control, "Version").ok_or(ParsePackageError::Missing { part: "field Version" })?,
        architecture: field(&control, "Architecture")
            .ok_or(ParsePackageError::Missing { part: "field Architecture" })?,
        files,
    })
}

fn control_file(member: impl Read, part: &str) -> Result<Option<String>, ParsePackageError> {
    let read = || ParsePackageError::read(part);
    let mut archive = tar::Archive::new(decompressed(member, part)?);
    for entry in archive.entries().map_err(read())? {
        let mut entry = entry.map_err(read())?;
        if entry.path().map_err(read())?.file_name().is_some_and(|name| name == "control") {
            let mut text = String::new();
            entry.read_to_string(&mut text).map_err(read())?;
            return Ok(Some(text));
        }
    }
    Ok(None)
}

fn file_list(member: impl Read, part: &str) -> Result<Vec<PathBuf>, ParsePackageError> {
    let read = || ParsePackageError::read(part);
    let mut archive = tar::Archive::new(decompressed(member, part)?);
    let mut files = Vec::new();
    for entry in archive.entries().map_err(read())? {
        let entry = entry.map_err(read())?;
        if !entry.header().entry_type().is_dir() {
            // Members are named `./lib/modules/…`.
            let path = entry.path().map_err(read())?;
            files.push(Path::new("/").join(path.strip_prefix(".").unwrap_or(&path)));
        }
    }
    files.sort_unstable();
    Ok(files)
}

/// The value of a field in a control file (deb-control(5)), whose names are compared without regard to case. The
/// fields asked for are of one line each.
fn field(control: &str, name: &str) -> Option<String> {
    control
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim().to_owned())
}

/// What is in a part, by the end of the part's name.
pub(crate) fn decompressed<'a>(
    member: impl Read + 'a,
    part: &str,
) -> Result<Box<dyn Read + 'a>, ParsePackageError> {
    match part.split_once(".tar").map(|(_, suffix)| suffix) {
        Some("") => Ok(Box::new(member)),
        Some(".gz") => Ok(Box::new(flate2::read::MultiGzDecoder::new(member))),
        Some(".xz") => Ok(Box::new(lzma_rust2::XzReader::new(member, true))),
        // One frame only, which is also all that dpkg-deb reads.
        Some(".zst") => {
            let decoder = StreamingDecoder::new(member)
                .map_err(|error| ParsePackageError::read(part)(io::Error::other(error)))?;
            Ok(Box::new(decoder))
        }
        _ => Err(ParsePackageError::Compression { part: part.to_owned() }),
    }
}

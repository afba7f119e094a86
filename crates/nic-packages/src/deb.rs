//! Debian binary packages (deb(5)): an ar archive of `debian-binary`, `control.tar*` and `data.tar*`, in this order.

use std::io::{self, BufRead, Read};
use std::path::{Path, PathBuf};

use nic_host::Foreign;

use crate::fields::{FieldKind, check_field};
use crate::tar_members::{self, MemberKind};
use crate::unpack::{LARGEST_CONTROL, LARGEST_FILES, drain, unpacked};
use crate::{PackageFile, PackageFormat, ParsePackageError, ar};

pub(crate) use ar::MAGIC;

/// The longest `debian-binary` that is read: a version in one line.
const LONGEST_VERSION: u64 = 64;
/// The longest control file that is read, in bytes.
const LONGEST_CONTROL_FILE: u64 = 1 << 20;

/// A part of a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Control,
    Data,
}

/// Calls `each` for the two parts, each with its name and its unpacked archive, which is read to its end.
///
/// Which members may stand where is as in dpkg-deb (src/deb/extract.c, `extracthalf`): what begins with an underscore is passed over,
/// and so is what stands behind the data, but for what other readers would take for a part.
pub(crate) fn read_parts<E: From<ParsePackageError>>(
    content: impl BufRead,
    mut each: impl FnMut(Part, &str, &mut dyn Read) -> Result<(), E>,
) -> Result<(), E> {
    enum Expected {
        Version,
        Control,
        Data,
        Nothing,
    }
    let mut expected = Expected::Version;
    let result = ar::read(content, |member, content| {
        let name = member.name.as_str();
        let is_part = name.starts_with("control.tar") || name.starts_with("data.tar");
        let part = match expected {
            Expected::Version => {
                expected = Expected::Control;
                return Ok(check_version(name, content)?);
            }
            Expected::Nothing if is_part => {
                return Err(wrong(format!("the member {} is there a second time", Foreign(name))));
            }
            Expected::Nothing => return Ok(()),
            _ if name.starts_with('_') => return Ok(()),
            Expected::Control if name.starts_with("control.tar") => {
                expected = Expected::Data;
                Part::Control
            }
            Expected::Data if name.starts_with("data.tar") => {
                expected = Expected::Nothing;
                Part::Data
            }
            Expected::Control => return Err(misplaced(name, "control.tar")),
            Expected::Data => return Err(misplaced(name, "data.tar")),
        };
        if member.size == 0 {
            return Err(wrong(format!("the member {} is empty", Foreign(name))));
        }
        let longest = if part == Part::Control { LARGEST_CONTROL } else { LARGEST_FILES };
        let mut archive = unpacked(content, name, member.size, longest).map_err(Stop::Parse)?;
        each(part, name, &mut archive).map_err(Stop::Each)?;
        drain(&mut archive).map_err(|error| Stop::Parse(ParsePackageError::read(name)(error)))
    });
    match (result, expected) {
        (Err(Stop::Each(error)), _) => Err(error),
        (Err(Stop::Parse(error)), _) => Err(error.into()),
        (Ok(()), Expected::Version | Expected::Control) => {
            Err(ParsePackageError::Missing { part: "control file" }.into())
        }
        (Ok(()), Expected::Data) => Err(ParsePackageError::Missing { part: "data.tar" }.into()),
        (Ok(()), Expected::Nothing) => Ok(()),
    }
}

/// What stops the reader below.
enum Stop<E> {
    Parse(ParsePackageError),
    Each(E),
}

impl<E> From<io::Error> for Stop<E> {
    fn from(source: io::Error) -> Self {
        Self::Parse(ParsePackageError::read("archive")(source))
    }
}

fn wrong<E>(reason: String) -> Stop<E> {
    io::Error::new(io::ErrorKind::InvalidData, reason).into()
}

fn misplaced<E>(name: &str, expected: &str) -> Stop<E> {
    wrong(format!("the member {} stands where {expected} is expected", Foreign(name)))
}

/// The first member says of which form the others are: `2.` and more in a line.
fn check_version(name: &str, content: &mut dyn Read) -> io::Result<()> {
    let refused = |reason| io::Error::new(io::ErrorKind::InvalidData, reason);
    if name != "debian-binary" {
        let reason = format!("begins with the member {}, as no Debian package does", Foreign(name));
        return Err(refused(reason));
    }
    let mut version = Vec::new();
    content.take(LONGEST_VERSION).read_to_end(&mut version)?;
    let version = String::from_utf8_lossy(&version);
    let line = version.split_inclusive('\n').next().unwrap_or_default();
    if line.starts_with("2.") && line.ends_with('\n') {
        return Ok(());
    }
    Err(refused(format!("of the format {}, and not 2", Foreign(line.trim_end()))))
}

/// Reads the control file and the list of files. The path stays empty.
pub(crate) fn parse(content: impl BufRead) -> Result<PackageFile, ParsePackageError> {
    let (mut control, mut files) = (None, Vec::new());
    read_parts(content, |part, name, archive| {
        let read = match part {
            Part::Control => control_file(archive).map(|text| control = text),
            Part::Data => file_list(archive).map(|list| files = list),
        };
        read.map_err(ParsePackageError::read(name))
    })?;
    let control = control.ok_or(ParsePackageError::Missing { part: "control file" })?;
    let field = |name, missing, kind| -> Result<String, ParsePackageError> {
        let value = field(&control, name)?.ok_or(ParsePackageError::Missing { part: missing })?;
        check_field(PackageFormat::Deb, name, value, kind)?;
        Ok(value.to_owned())
    };
    Ok(PackageFile {
        path: PathBuf::new(),
        format: PackageFormat::Deb,
        name: field("Package", "field Package", FieldKind::Name)?,
        version: field("Version", "field Version", FieldKind::Version)?,
        architecture: field("Architecture", "field Architecture", FieldKind::Architecture)?,
        files,
    })
}

/// The text of the file `control` in the archive's root. Bytes that are no UTF-8 are replaced: they are of other fields than are asked
/// for.
fn control_file(archive: &mut dyn Read) -> io::Result<Option<String>> {
    let mut control = None;
    tar_members::read(archive, |member, content| {
        if member.path == Path::new("/control") && matches!(member.kind, MemberKind::File { .. }) {
            let mut text = Vec::new();
            let read = content.take(LONGEST_CONTROL_FILE + 1).read_to_end(&mut text)?;
            if u64::try_from(read).is_ok_and(|read| read > LONGEST_CONTROL_FILE) {
                let reason = format!("the control file is longer than {LONGEST_CONTROL_FILE} bytes");
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, reason));
            }
            control = Some(String::from_utf8_lossy(&text).into_owned());
        }
        Ok(())
    })?;
    Ok(control)
}

fn file_list(archive: &mut dyn Read) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    tar_members::read(archive, |member, _| {
        if !matches!(member.kind, MemberKind::Folder) {
            files.push(member.path);
        }
        Ok::<_, io::Error>(())
    })?;
    files.sort_unstable();
    Ok(files)
}

/// The value of a field in a control file (deb-control(5)), whose names are compared without regard to case. The
/// fields asked for are of one line each.
///
/// As for dpkg, a field that is there twice is an error, and so is a second paragraph (lib/dpkg/parse.c).
fn field<'a>(control: &'a str, name: &'static str) -> Result<Option<&'a str>, ParsePackageError> {
    let (paragraph, more) = control.trim_start_matches('\n').split_once("\n\n").unwrap_or((control, ""));
    if !more.trim().is_empty() {
        return Err(ParsePackageError::Control { reason: "tells of more than one package" });
    }
    let mut values = paragraph
        .lines()
        .filter_map(|line| line.split_once(':'))
        .filter(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim());
    match (values.next(), values.next()) {
        (_, Some(_)) => Err(ParsePackageError::Twice { field: name }),
        (value, None) => Ok(value),
    }
}

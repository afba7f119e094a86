//! The archives in a deb: what of tar's forms dpkg takes, within bounds.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use tar::EntryType;

use crate::contained_path::{LONGEST_PATH, PathBounds, within_package};

/// A member of an archive.
pub(crate) struct Member {
    /// Where it goes: an absolute path without `..`.
    pub(crate) path: PathBuf,
    pub(crate) kind: MemberKind,
}

pub(crate) enum MemberKind {
    File {
        executable: bool,
    },
    Link {
        /// What it points to, as it is written.
        target: PathBuf,
    },
    SameAs {
        path: PathBuf,
    },
    Folder,
    /// A device or a FIFO.
    Special,
}

/// Calls `each` for every member, with a reader of its content.
///
/// The kinds of members are those of dpkg (lib/dpkg/tarfn.c, `tar_extractor`): GNU's long names are read, and what it refuses is an
/// error here, among it extended headers and sparse files.
pub(crate) fn read<E: From<io::Error>>(
    archive: &mut dyn Read,
    mut each: impl FnMut(Member, &mut dyn Read) -> Result<(), E>,
) -> Result<(), E> {
    let mut archive = tar::Archive::new(archive);
    let (mut long_name, mut long_target) = (None, None);
    let mut bounds = PathBounds::default();
    // Raw, as the crate would read long names and extended headers whole, whatever length they tell.
    for entry in archive.entries()?.raw(true) {
        let mut entry = entry?;
        let kind = entry.header().entry_type();
        if kind.is_gnu_longname() {
            long_name = Some(long_text(&mut entry)?);
            continue;
        }
        if kind.is_gnu_longlink() {
            long_target = Some(long_text(&mut entry)?);
            continue;
        }
        let name = long_name.take().unwrap_or_else(|| entry.header().path_bytes().into_owned());
        let target = long_target.take().or_else(|| entry.header().link_name_bytes().map(Into::into));
        bounds.note(name.len())?;
        let path = within_package(Path::new(OsStr::from_bytes(&name)))?;
        let target = target.map(|target| PathBuf::from(OsStr::from_bytes(&target)));
        let kind = match (kind, target) {
            // Before POSIX a folder was a file whose name ends in a slash.
            (EntryType::Regular, _) if name.ends_with(b"/") => MemberKind::Folder,
            (EntryType::Regular, _) => MemberKind::File { executable: entry.header().mode()? & 0o100 != 0 },
            (EntryType::Directory, _) => MemberKind::Folder,
            (EntryType::Symlink, Some(target)) => MemberKind::Link { target },
            (EntryType::Link, Some(target)) => MemberKind::SameAs { path: within_package(&target)? },
            (EntryType::Char | EntryType::Block | EntryType::Fifo, _) => MemberKind::Special,
            (EntryType::Symlink | EntryType::Link, None) => {
                return Err(invalid("a link leads nowhere".to_owned()).into());
            }
            (other, _) => {
                let kind = char::from(other.as_byte());
                return Err(invalid(format!(
                    "a member of the kind {kind:?} is there, which dpkg does not take"
                ))
                .into());
            }
        };
        each(Member { path, kind }, &mut entry)?;
    }
    Ok(())
}

/// A long name, or a long target of a link, which stand in a member of their own. Whoever ends them with a zero counts it.
fn long_text(entry: &mut tar::Entry<'_, impl Read>) -> io::Result<Vec<u8>> {
    let length = entry.size();
    if length > LONGEST_PATH as u64 + 1 {
        return Err(invalid(format!("a name of {length} bytes is longer than any path")));
    }
    let mut text = Vec::new();
    entry.read_to_end(&mut text)?;
    if let Some(end) = text.iter().position(|byte| *byte == 0) {
        text.truncate(end);
    }
    Ok(text)
}

fn invalid(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

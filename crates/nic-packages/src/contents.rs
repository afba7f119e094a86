//! What is in a package, file by file, without a package manager.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use nic_host::Host;

use crate::contained_path::{LONGEST_PATH, PathBounds, within_package};
use crate::deb::Part;
use crate::foreign::guarded;
use crate::tar_members::{self, MemberKind};
use crate::unpack::{LARGEST_FILES, drain, unpacked};
use crate::{ParsePackageError, ReadPackageError, cpio, deb, rpm_header};

/// The first bytes of what gzip has packed (RFC 1952).
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// A file in a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainedFile {
    /// Where it goes: an absolute path without `..`.
    pub path: PathBuf,
    /// What it is.
    pub kind: ContainedKind,
}

/// What a file in a package is. Folders, devices and the like are passed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContainedKind {
    /// A regular file; its content is read beside this.
    File {
        /// Whether it is executable.
        executable: bool,
    },
    /// A symbolic link.
    Link {
        /// What it points to, as it is written.
        target: PathBuf,
    },
    /// Another name for a file of the package that came before.
    SameAs {
        /// That file.
        path: PathBuf,
    },
}

/// Why reading was stopped.
#[derive(Debug, thiserror::Error)]
pub enum ReadContentsError<E> {
    /// The package cannot be read.
    #[error(transparent)]
    Package(#[from] ReadPackageError),
    /// The receiver of the files has failed.
    #[error(transparent)]
    Receiver(E),
}

/// What stops a reader below.
enum Stop<E> {
    Parse(ParsePackageError),
    Receiver(E),
}

impl<E> From<io::Error> for Stop<E> {
    fn from(source: io::Error) -> Self {
        Self::Parse(ParsePackageError::read("files")(source))
    }
}

impl<E> From<ParsePackageError> for Stop<E> {
    fn from(error: ParsePackageError) -> Self {
        Self::Parse(error)
    }
}

/// Reads the package at `path`, of either format, and hands each file in it to `receive` with its content, in the package's order.
pub fn read_contents<E>(
    host: &Host,
    path: &Path,
    mut receive: impl FnMut(&ContainedFile, &mut dyn Read) -> Result<(), E>,
) -> Result<(), ReadContentsError<E>> {
    let seen = host.path(path);
    let file =
        host.open(path).map_err(|error| ReadPackageError::Open { path: error.path, source: error.source })?;
    guarded(|| read(BufReader::new(file), &mut receive)).map_err(|stop| match stop {
        Stop::Parse(source) => ReadPackageError::Parse { path: seen, source }.into(),
        Stop::Receiver(error) => ReadContentsError::Receiver(error),
    })
}

type Receive<'a, E> = dyn FnMut(&ContainedFile, &mut dyn Read) -> Result<(), E> + 'a;

fn read<E>(mut content: impl BufRead, receive: &mut Receive<'_, E>) -> Result<(), Stop<E>> {
    let beginning = content.fill_buf()?;
    if beginning.starts_with(&rpm_header::MAGIC) {
        read_rpm(content, receive)
    } else if beginning.starts_with(&deb::MAGIC) {
        read_deb(content, receive)
    } else {
        Err(ParsePackageError::Format { beginning: beginning.iter().take(8).copied().collect() }.into())
    }
}

fn read_rpm<E>(mut content: impl BufRead, receive: &mut Receive<'_, E>) -> Result<(), Stop<E>> {
    let headers = rpm_header::Headers::read(&mut content)?;
    let size = headers.payload_size().map_err(ParsePackageError::read("rpm header"))?;
    let suffix = match headers.compressor()? {
        None | Some("gzip") if !content.fill_buf()?.starts_with(&GZIP) => "",
        None | Some("gzip") => ".gz",
        Some("xz") => ".xz",
        Some("zstd") => ".zst",
        Some(other) => {
            let part = format!("payload ({})", nic_host::Foreign(other));
            return Err(ParsePackageError::Compression { part }.into());
        }
    };
    // Of several names of one file all but the last are without its content.
    let mut waiting: BTreeMap<u64, Vec<PathBuf>> = BTreeMap::new();
    let mut bounds = PathBounds::default();
    let part = format!("payload.tar{suffix}");
    let mut payload = unpacked(content, &part, size.unwrap_or(u64::MAX), LARGEST_FILES)?;
    cpio::read(&mut payload, |member, content| {
        bounds.note(member.name.len())?;
        let path = within_package(Path::new(&member.name))?;
        match member.mode & cpio::TYPE {
            cpio::REGULAR if member.links > 1 && member.size == 0 => {
                waiting.entry(member.inode).or_default().push(path);
                Ok(())
            }
            cpio::REGULAR => {
                let kind = ContainedKind::File { executable: member.mode & 0o100 != 0 };
                let file = ContainedFile { path, kind };
                receive(&file, content).map_err(Stop::Receiver)?;
                let others = if member.links > 1 { waiting.remove(&member.inode) } else { None };
                others.unwrap_or_default().into_iter().try_for_each(|other| {
                    let kind = ContainedKind::SameAs { path: file.path.clone() };
                    receive(&ContainedFile { path: other, kind }, &mut io::empty()).map_err(Stop::Receiver)
                })
            }
            cpio::LINK => {
                let mut target = String::new();
                content.take(LONGEST_PATH as u64).read_to_string(&mut target)?;
                let kind = ContainedKind::Link { target: PathBuf::from(target) };
                receive(&ContainedFile { path, kind }, &mut io::empty()).map_err(Stop::Receiver)
            }
            _ => Ok(()),
        }
    })?;
    drain(&mut payload)?;
    // Several names of an empty file: none of them has a content.
    waiting.into_values().flatten().try_for_each(|path| {
        let kind = ContainedKind::File { executable: false };
        receive(&ContainedFile { path, kind }, &mut io::empty()).map_err(Stop::Receiver)
    })
}

fn read_deb<E>(content: impl BufRead, receive: &mut Receive<'_, E>) -> Result<(), Stop<E>> {
    deb::read_parts(content, |part, _, archive| {
        if part == Part::Control {
            return Ok(());
        }
        tar_members::read(archive, |member, content| {
            let kind = match member.kind {
                MemberKind::File { executable } => ContainedKind::File { executable },
                MemberKind::Link { target } => ContainedKind::Link { target },
                MemberKind::SameAs { path } => ContainedKind::SameAs { path },
                MemberKind::Folder | MemberKind::Special => return Ok(()),
            };
            receive(&ContainedFile { path: member.path, kind }, content).map_err(Stop::Receiver)
        })
    })
}

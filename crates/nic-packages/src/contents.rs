//! What is in a package, file by file, without a package manager.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Component, Path, PathBuf};

use nic_host::Host;
use rpm::{CompressionType, PackageMetadata};

use crate::{ParsePackageError, ReadPackageError, cpio, deb, rpm_bounds, rpm_header};

/// The longest target of a symbolic link, in bytes (`PATH_MAX` in include/uapi/linux/limits.h).
const LONGEST_TARGET: u64 = 4096;

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
    read(BufReader::new(file), &mut receive).map_err(|stop| match stop {
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
    let bytes = rpm_bounds::read(&mut content).map_err(ParsePackageError::read("rpm header"))?;
    let metadata = PackageMetadata::parse(&mut bytes.as_slice()).map_err(ParsePackageError::RpmHeader)?;
    let compressor = metadata.get_payload_compressor().map_err(ParsePackageError::RpmHeader)?;
    let suffix = match compressor {
        CompressionType::None => "",
        CompressionType::Gzip => ".gz",
        CompressionType::Xz => ".xz",
        CompressionType::Zstd => ".zst",
        CompressionType::Bzip2 => {
            return Err(ParsePackageError::Compression { part: format!("payload ({compressor})") }.into());
        }
    };
    // Of several names of one file all but the last are without its content.
    let mut waiting: BTreeMap<u64, Vec<PathBuf>> = BTreeMap::new();
    let mut payload = deb::decompressed(content, &format!("payload.tar{suffix}"))?;
    cpio::read(&mut payload, |member, content| {
        let path = absolute(Path::new(&member.name))?;
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
                content.take(LONGEST_TARGET).read_to_string(&mut target)?;
                let kind = ContainedKind::Link { target: PathBuf::from(target) };
                receive(&ContainedFile { path, kind }, &mut io::empty()).map_err(Stop::Receiver)
            }
            _ => Ok(()),
        }
    })?;
    drain(payload)?;
    // Several names of an empty file: none of them has a content.
    waiting.into_values().flatten().try_for_each(|path| {
        let kind = ContainedKind::File { executable: false };
        receive(&ContainedFile { path, kind }, &mut io::empty()).map_err(Stop::Receiver)
    })
}

fn read_deb<E>(content: impl BufRead, receive: &mut Receive<'_, E>) -> Result<(), Stop<E>> {
    let mut archive = ar::Archive::new(content);
    while let Some(member) = archive.next_entry() {
        let member = member?;
        let name = String::from_utf8_lossy(member.header().identifier()).into_owned();
        if !name.starts_with("data.tar") {
            continue;
        }
        let mut files = tar::Archive::new(deb::decompressed(member, &name)?);
        for entry in files.entries()? {
            let mut entry = entry?;
            let path = absolute(&entry.path()?)?;
            let target = entry.link_name()?.map(std::borrow::Cow::into_owned);
            let kind = match (entry.header().entry_type(), target) {
                (tar::EntryType::Regular | tar::EntryType::Continuous, _) => {
                    ContainedKind::File { executable: entry.header().mode()? & 0o100 != 0 }
                }
                (tar::EntryType::Symlink, Some(target)) => ContainedKind::Link { target },
                (tar::EntryType::Link, Some(target)) => ContainedKind::SameAs { path: absolute(&target)? },
                _ => continue,
            };
            receive(&ContainedFile { path, kind }, &mut entry).map_err(Stop::Receiver)?;
        }
        return Ok(drain(files.into_inner())?);
    }
    Err(ParsePackageError::Missing { part: "data.tar" }.into())
}

/// Reads what is behind an archive's end. The checksums of a compressed one are there, and compared when they are reached.
fn drain(mut archive: impl Read) -> io::Result<()> {
    io::copy(&mut archive, &mut io::sink()).map(|_| ())
}

/// The path below `/` that a name in an archive means. One that leads out of it is refused.
fn absolute(name: &Path) -> io::Result<PathBuf> {
    let mut path = PathBuf::from("/");
    for component in name.components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => path.push(name),
            Component::ParentDir | Component::Prefix(_) => {
                let reason = format!("the name {} leads out of the package", name.display());
                return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
            }
        }
    }
    Ok(path)
}

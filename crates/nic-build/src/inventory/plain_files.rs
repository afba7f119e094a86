//! A folder that holds regular files and nothing else.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use md5::Md5;
use rustix::fs::OFlags;
use sha2::{Digest as _, Sha256};

/// A file of an entry, in the order in which the kernel lists its folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PlainFile {
    pub(super) name: String,
    pub(super) sha256: String,
    pub(super) md5: String,
}

/// Reads all files of a folder. An error says in words what is wrong, with the path: whatever it is, the folder is no entry.
pub(super) fn read(folder: &Path) -> Result<Vec<PlainFile>, String> {
    let describe = |path: &Path, error: io::Error| format!("{}: {error}", path.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(|error| describe(folder, error))? {
        let entry = entry.map_err(|error| describe(folder, error))?;
        let path = entry.path();
        let is_file = entry.file_type().map_err(|error| describe(&path, error))?.is_file();
        if !is_file {
            return Err(format!("{} is no regular file", path.display()));
        }
        let name =
            entry.file_name().into_string().map_err(|_| format!("{} has an unusual name", path.display()))?;
        if !is_plain_name(&name) {
            return Err(format!("{} has an unusual name", path.display()));
        }
        let (sha256, md5) = digests(&path).map_err(|error| describe(&path, error))?;
        files.push(PlainFile { name, sha256, md5 });
    }
    Ok(files)
}

/// Whether sha256sum(1) and md5sum(1) write the name as it is: they escape these characters.
pub(super) fn is_plain_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('.')
        && !name.contains(['\\', '/'])
        && !name.contains(char::is_control)
}

/// Never through a link, and never waiting for the other end of a FIFO that came since the folder was listed.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
    File::options().read(true).custom_flags(flags.cast_signed()).open(path)
}

fn digests(path: &Path) -> io::Result<(String, String)> {
    let mut file = open(path)?;
    let (mut sha256, mut md5) = (Sha256::new(), Md5::new());
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let length = file.read(&mut buffer)?;
        let Some(read) = buffer.get(..length).filter(|read| !read.is_empty()) else { break };
        sha256.update(read);
        md5.update(read);
    }
    Ok((hex::encode(sha256.finalize()), hex::encode(md5.finalize())))
}

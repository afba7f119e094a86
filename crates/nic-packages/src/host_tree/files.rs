//! Files and folders of a tree of modules.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use nic_host::{Host, ReadError, WriteError};
use sha2::{Digest as _, Sha256};
use walkdir::WalkDir;

use super::error::HostTreeError;
use super::manifest::{MANIFEST, Manifest};

pub(super) fn checksum(host: &Host, file: &Path) -> Result<String, ReadError> {
    // Of a link, what it says and not what it leads to.
    let content = match fs::read_link(host.path(file)) {
        Ok(target) => target.into_os_string().into_encoded_bytes(),
        Err(_) => host.read_bytes(file)?,
    };
    Ok(hex::encode(Sha256::digest(content)))
}

/// Removes the files of a manifest as they were put there. Returns those that have been changed since, and those that
/// are in no manifest.
pub(super) fn remove_files(
    host: &Host,
    folder: &Path,
    manifest: &Manifest,
) -> Result<Vec<PathBuf>, HostTreeError> {
    for (below, digest) in &manifest.files {
        let file = folder.join(below);
        if host.exists(&file) && checksum(host, &file)? == *digest {
            host.remove_file(&file)?;
        }
    }
    let mut left = Vec::new();
    for entry in WalkDir::new(host.path(folder)).sort_by_file_name() {
        let entry = entry.map_err(|source| HostTreeError::Search { folder: host.path(folder), source })?;
        let Ok(below) = entry.path().strip_prefix(host.path(folder)) else { continue };
        if !entry.file_type().is_dir() && below != Path::new(MANIFEST) {
            left.push(folder.join(below));
        }
    }
    Ok(left)
}

pub(super) fn remove_empty_folders(host: &Host, folder: &Path) -> Result<(), HostTreeError> {
    for entry in WalkDir::new(host.path(folder)).contents_first(true) {
        let entry = entry.map_err(|source| HostTreeError::Search { folder: host.path(folder), source })?;
        if !entry.file_type().is_dir() {
            continue;
        }
        match fs::remove_dir(entry.path()) {
            Err(source) if source.kind() != io::ErrorKind::DirectoryNotEmpty => {
                return Err(write_error(host, "remove", folder, source));
            }
            _ => {}
        }
    }
    Ok(())
}

pub(super) fn remove_folder(host: &Host, folder: &Path) -> Result<(), HostTreeError> {
    match fs::remove_dir_all(host.path(folder)) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(write_error(host, "remove", folder, source))
        }
        _ => Ok(()),
    }
}

pub(super) fn create_folder(host: &Host, folder: &Path) -> Result<(), HostTreeError> {
    fs::create_dir_all(host.path(folder)).map_err(|source| write_error(host, "create", folder, source))
}

pub(super) fn rename(host: &Host, from: &Path, to: &Path) -> Result<(), HostTreeError> {
    fs::rename(host.path(from), host.path(to)).map_err(|source| write_error(host, "rename", from, source))
}

/// Copies a file with its permissions, or a link as a link, and has it on the disk when it returns.
pub(super) fn copy_file(from: &Path, to: &Path) -> Result<(), HostTreeError> {
    let copied = match fs::read_link(from) {
        Ok(target) => symlink(target, to),
        Err(_) => fs::copy(from, to).and_then(|_| fs::File::open(to)?.sync_all()),
    };
    copied.map_err(|source| {
        WriteError { path: to.to_path_buf(), action: "copy a module to".to_owned(), source }.into()
    })
}

pub(super) fn write_error(host: &Host, action: &str, path: &Path, source: io::Error) -> HostTreeError {
    WriteError { path: host.path(path), action: action.to_owned(), source }.into()
}

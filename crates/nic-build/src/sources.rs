//! One digest for a tree of sources.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use nic_host::Host;
use sha2::{Digest as _, Sha256};
use walkdir::WalkDir;

/// Where a build puts its packages, below the sources: what came out does not belong to what went in.
const OUTPUTS: [&str; 2] = ["RPMS", "DEBS"];

/// Sources could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the sources {}", path.display())]
pub struct SourcesDigestError {
    /// The file or folder as this process sees it.
    pub path: PathBuf,
    /// What the kernel said.
    #[source]
    pub source: io::Error,
}

/// The SHA-256 of a tree of sources, as `sha256:` and hexadecimal digits: of the paths in it, what each is, whether it is
/// executable, and its content. Owners and times do not count, nor does the order in which the file system lists them, nor what a
/// build has put into `RPMS` and `DEBS`.
pub fn sources_digest(host: &Host, folder: &Path) -> Result<String, SourcesDigestError> {
    let root = host.path(folder);
    let mut tree = Sha256::new();
    let walk = WalkDir::new(&root).min_depth(1).sort_by_file_name().into_iter().filter_entry(|entry| {
        entry.depth() != 1 || !OUTPUTS.iter().any(|output| entry.file_name() == *output)
    });
    for entry in walk {
        let entry = entry.map_err(|error| SourcesDigestError {
            path: error.path().unwrap_or(&root).to_path_buf(),
            source: error.into(),
        })?;
        let path = entry.path();
        let failed = |source| SourcesDigestError { path: path.to_path_buf(), source };
        let name = path.strip_prefix(&root).unwrap_or(path).as_os_str().as_bytes();
        let metadata = fs::symlink_metadata(path).map_err(failed)?;
        let (kind, content) = if metadata.is_symlink() {
            let target = fs::read_link(path).map_err(failed)?;
            (b'l', Sha256::digest(target.as_os_str().as_bytes()))
        } else if metadata.is_dir() {
            (b'd', Sha256::digest(b""))
        } else if metadata.is_file() {
            let executable = metadata.permissions().mode() & 0o100 != 0;
            (if executable { b'x' } else { b'f' }, digest(path).map_err(failed)?)
        } else {
            let source =
                io::Error::new(io::ErrorKind::InvalidInput, "it is neither a file, a folder nor a link");
            return Err(failed(source));
        };
        // With the length in front no name can be taken for another's content.
        tree.update((name.len() as u64).to_le_bytes());
        tree.update(name);
        tree.update([kind]);
        tree.update(content);
    }
    Ok(format!("sha256:{}", hex::encode(tree.finalize())))
}

fn digest(path: &Path) -> io::Result<sha2::digest::Output<Sha256>> {
    let mut file = File::open(path)?;
    let mut sha256 = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let length = file.read(&mut buffer)?;
        let Some(read) = buffer.get(..length).filter(|read| !read.is_empty()) else { break };
        sha256.update(read);
    }
    Ok(sha256.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_counts_and_what_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::at(dir.path());
        let digest = || sources_digest(&host, Path::new("/src")).unwrap();
        let file = |name: &str| host.path("/src").join(name);
        host.write_durably("/src/install.pl", b"#!/usr/bin/perl\n").unwrap();
        host.write_durably("/src/SRPMS/a.src.rpm", b"a").unwrap();
        let first = digest();
        assert!(first.starts_with("sha256:") && first.len() == 7 + 64, "{first}");

        host.write_durably("/src/RPMS/redhat-release-9/x86_64/a.rpm", b"built").unwrap();
        File::options()
            .append(true)
            .open(file("install.pl"))
            .unwrap()
            .set_modified(std::time::UNIX_EPOCH)
            .unwrap();
        assert_eq!(digest(), first);

        let mut seen = std::collections::BTreeSet::from([first]);
        let mut changed = |what: &str| assert!(seen.insert(digest()), "{what}");
        host.write_durably("/src/SRPMS/a.src.rpm", b"b").unwrap();
        changed("content");
        fs::rename(file("SRPMS/a.src.rpm"), file("SRPMS/b.src.rpm")).unwrap();
        changed("name");
        fs::set_permissions(file("install.pl"), fs::Permissions::from_mode(0o755)).unwrap();
        changed("executable");
        std::os::unix::fs::symlink("SRPMS", file("link")).unwrap();
        changed("link");
        fs::create_dir(file("SRPMS/RPMS")).unwrap();
        changed("a folder deeper down that is named as an output");
        let error = sources_digest(&host, Path::new("/none")).unwrap_err();
        assert_eq!(error.path, host.path("/none"));
    }
}

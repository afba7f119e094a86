//! The files in a package, read without a package manager.

use std::path::{Path, PathBuf};

use nic_host::{Host, error_chain};
use nic_packages::{ContainedFile, ContainedKind, ReadContentsError, read_contents};

use crate::sample::{self, Sample, ar};

const FILES: [&str; 2] = ["/lib/modules/6.8.0-31-generic/updates/dkms/mlx5_core.ko", "/usr/sbin/mlnx_tune"];

/// What a package of these bytes holds, each with its content.
fn read(bytes: &[u8]) -> Result<Vec<(ContainedFile, String)>, String> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("p"), bytes).unwrap();
    let mut files = Vec::new();
    let result = read_contents(&Host::at(dir.path()), Path::new("/p"), |file, content| {
        let mut text = String::new();
        content.read_to_string(&mut text)?;
        files.push((file.clone(), text));
        Ok::<_, std::io::Error>(())
    });
    result.map(|()| files).map_err(|error| error_chain(&error))
}

fn file(path: &str) -> ContainedFile {
    ContainedFile { path: PathBuf::from(path), kind: ContainedKind::File { executable: false } }
}

#[test]
fn files_come_out_as_they_went_in() {
    // What each file holds is its path, with the dot that an archive puts in front or without it.
    let sample = Sample { name: "p", files: &FILES, ..Sample::default() };
    for bytes in ["", ".gz", ".xz", ".zst"].map(|suffix| sample.deb(suffix)).into_iter().chain([sample.rpm()])
    {
        let expected = FILES.map(|path| (file(path), path.to_owned()));
        assert_eq!(read(&bytes).unwrap(), expected);
        let cut = read(&bytes[..bytes.len() / 2]).unwrap_err();
        assert!(cut.starts_with("cannot understand the package "), "{cut}");
    }
    // Behind the last file is what the compression checks.
    for suffix in [".gz", ".xz", ".zst"] {
        let bytes = sample.deb(suffix);
        let cut = read(&bytes[..bytes.len() - 8]).unwrap_err();
        assert!(cut.starts_with("cannot understand the package "), "{suffix} {cut}");
    }
    let mut damaged = sample.deb(".xz");
    let at = damaged.len() - 40;
    damaged[at] ^= 1;
    assert!(read(&damaged).is_err());
    assert!(read(b"<html>404</html>").unwrap_err().contains("neither an rpm nor a deb"));
}

/// A deb whose data are these entries.
fn deb_with(entries: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind, text) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o755);
        // By hand: the crate itself refuses names that lead out.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        let content = if *kind == tar::EntryType::Regular { text.as_bytes() } else { b"" };
        if matches!(kind, tar::EntryType::Link | tar::EntryType::Symlink) {
            header.set_link_name(text).unwrap();
        }
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append(&header, content).unwrap();
    }
    let data = builder.into_inner().unwrap();
    sample::deb_of("Package: p\n", data)
}

#[test]
fn links_and_what_leads_out() {
    use tar::EntryType::{Char, Directory, Link, Regular, Symlink};
    let entries = [
        ("./usr/bin/", Directory, ""),
        ("./usr/bin/a", Regular, "content"),
        ("./usr/bin/b", Symlink, "../bin/a"),
        ("./usr/bin/c", Link, "./usr/bin/a"),
        ("./dev/null", Char, ""),
    ];
    let kinds: Vec<_> =
        read(&deb_with(&entries)).unwrap().into_iter().map(|(file, _)| (file.path, file.kind)).collect();
    assert_eq!(
        kinds,
        [
            (PathBuf::from("/usr/bin/a"), ContainedKind::File { executable: true }),
            (PathBuf::from("/usr/bin/b"), ContainedKind::Link { target: PathBuf::from("../bin/a") }),
            (PathBuf::from("/usr/bin/c"), ContainedKind::SameAs { path: PathBuf::from("/usr/bin/a") }),
        ]
    );
    for entry in [("./usr/../../etc/passwd", Regular, "x"), ("./usr/a", Link, "../etc/passwd")] {
        let error = read(&deb_with(&[entry])).unwrap_err();
        assert!(error.contains("leads out of the package"), "{error}");
    }
    let missing = ar(&[("debian-binary", b"2.0\n".to_vec())]);
    assert!(read(&missing).unwrap_err().contains("has no control file"));
}

#[test]
fn a_receiver_that_fails_ends_it() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("p"), Sample { files: &FILES, ..Sample::default() }.rpm()).unwrap();
    let mut seen = 0;
    let result = read_contents(&Host::at(dir.path()), Path::new("/p"), |_, _| {
        seen += 1;
        Err(std::io::Error::other("the disk is full"))
    });
    assert!(matches!(result, Err(ReadContentsError::Receiver(_))));
    assert_eq!(seen, 1);
}

use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, mknodat};

use super::*;

fn folder(at: &Path) -> Folder {
    Folder::open(&Host::running(), at).unwrap()
}

#[test]
fn links_and_dots_are_named_and_not_followed() {
    let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(outside.path().join("secret"), "secret").unwrap();
    symlink(outside.path(), dir.path().join("away")).unwrap();
    symlink(outside.path().join("secret"), dir.path().join("file")).unwrap();
    symlink("/proc/self/root/etc/hostname", dir.path().join("magic")).unwrap();
    let folder = folder(dir.path());
    for path in ["away/secret", "file", "magic"] {
        assert!(matches!(folder.read(path, 100), Err(FolderError::Link { .. })), "{path}");
    }
    assert!(matches!(folder.folder("away"), Err(FolderError::Link { .. })));
    assert!(matches!(folder.has_flag("file"), Err(FolderError::Link { .. })));
    for path in ["../secret", "/etc/hostname"] {
        assert!(matches!(folder.read(path, 100), Err(FolderError::Outside { .. })), "{path}");
    }
    // A folder that is replaced by a link while it is held open stays the folder it was.
    fs::create_dir(dir.path().join("held")).unwrap();
    let held = folder.folder("held").unwrap();
    fs::rename(dir.path().join("held"), dir.path().join("moved")).unwrap();
    symlink(outside.path(), dir.path().join("held")).unwrap();
    held.write_durably("new", b"x", 0o644).unwrap();
    assert!(dir.path().join("moved/new").exists() && !outside.path().join("new").exists());
    // And what is written over a link replaces the link.
    folder.write_durably("file", b"mine", 0o644).unwrap();
    assert_eq!(fs::read(outside.path().join("secret")).unwrap(), b"secret");
    assert_eq!(folder.read("file", 100).unwrap(), b"mine");
}

#[test]
fn fifos_folders_and_sockets_are_never_opened() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    mknodat(CWD, at("fifo"), FileType::Fifo, Mode::from_raw_mode(0o644), 0).unwrap();
    fs::create_dir(at("folder")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    let expected = [("fifo", "a FIFO"), ("folder", "a folder"), ("socket", "a socket")];
    let folder = folder(dir.path());
    let began = Instant::now();
    for (name, expected) in expected {
        match folder.read(name, 100) {
            Err(FolderError::NotRegular { kind, .. }) => assert_eq!(kind, expected),
            other => panic!("{name}: {other:?}"),
        }
        assert!(matches!(folder.has_flag(name), Err(FolderError::NotRegular { .. })), "{name}");
    }
    assert!(began.elapsed() < Duration::from_secs(5), "something was waited for");
}

#[test]
fn sizes_are_bounded() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "12345").unwrap();
    let folder = folder(dir.path());
    assert_eq!(folder.read("file", 5).unwrap(), b"12345");
    assert!(matches!(folder.read("file", 4), Err(FolderError::TooLarge { size: 5, limit: 4, .. })));
    assert!(folder.read("none", 4).unwrap_err().is_absent());
}

#[test]
fn removal_follows_no_link() {
    let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(outside.path().join("kept"), "kept").unwrap();
    fs::create_dir_all(dir.path().join("tree/below")).unwrap();
    symlink(outside.path(), dir.path().join("tree/below/away")).unwrap();
    symlink(outside.path(), dir.path().join("away")).unwrap();
    let folder = folder(dir.path());
    assert!(folder.remove("tree").unwrap());
    assert!(folder.remove("away").unwrap());
    assert!(!folder.remove("away").unwrap());
    assert!(folder.names().unwrap().is_empty());
    assert_eq!(fs::read(outside.path().join("kept")).unwrap(), b"kept");
}

#[test]
fn a_left_over_partial_file_is_in_nobodys_way() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join(".flag.partial/x")).unwrap();
    let folder = folder(dir.path());
    folder.write_durably("flag", b"", 0o644).unwrap();
    assert!(folder.has_flag("flag").unwrap());
    assert_eq!(folder.names().unwrap(), ["flag"]);
}

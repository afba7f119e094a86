//! What is stored, what is used again, and why not.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use nic_build::{
    BuildKey, Inventory, Outdated, StoreError, Stored, StoredPackage, TakeError, TemporaryPackages, Trust,
};
use nic_host::Host;
use rustix::fs::{CWD, FileType, mknodat};

use crate::fixture::{FOLDER, Fixture, INVENTORY, KERNEL, KERNEL_FOLDER, VERSION, key};

#[test]
fn the_places_of_a_build() {
    let entry = Fixture::new().entry;
    assert_eq!(entry.kernel_folder, Path::new(KERNEL_FOLDER));
    assert_eq!(entry.folder, Path::new(FOLDER));
    for (path, suffix) in
        [(entry.sha256, "sha256"), (entry.checksum, "checksum"), (entry.build_config, "buildconfig")]
    {
        assert_eq!(path, Path::new(&format!("{FOLDER}.{suffix}")));
    }
}

#[test]
fn an_inventory_is_a_folder() {
    let fixture = Fixture::new();
    for path in ["/mnt/nothing", "/build/a.rpm"] {
        let error = Inventory::open(&fixture.host, path).unwrap_err();
        let seen = fixture.host.path(path);
        let message =
            format!("the inventory of built packages {} is not a folder that can be used", seen.display());
        assert_eq!(error.to_string(), message);
    }
}

#[tokio::test]
async fn what_is_stored_is_found_again_by_both() {
    let fixture = Fixture::new();
    assert_eq!(fixture.look_up(&key("flags")), Stored::Absent);
    fixture.store(&key("flags")).await;
    // As sha256sum prints it of "/build/a.rpm" and "/build/b.rpm".
    let packages = [
        ("a.rpm", "f43aaeec687ba5f05c473126455ba27c7d4de25e29d7a172f9c895b35ce93c0a"),
        ("b.rpm", "5753ad09093bd2caebd2dce7deb54a16eebcdcb8637b57469a5e0930bab2d725"),
    ];
    let stored = |(name, sha256): (&str, &str)| StoredPackage {
        path: Path::new(FOLDER).join(name),
        sha256: sha256.to_owned(),
    };
    let packages = packages.map(stored).to_vec();
    assert_eq!(fixture.look_up(&key("flags")), Stored::Valid { packages, trust: Trust::Sha256 });
    assert_eq!(fixture.host.list(FOLDER).unwrap(), ["a.rpm", "b.rpm"]);
    assert_eq!(fixture.host.read(Path::new(FOLDER).join("b.rpm")).unwrap(), "/build/b.rpm");
    let names = [
        ".nic-driver.lock",
        VERSION,
        "25.10-1.2.8.0.buildconfig",
        "25.10-1.2.8.0.checksum",
        "25.10-1.2.8.0.sha256",
    ];
    assert_eq!(fixture.host.list(KERNEL_FOLDER).unwrap(), names);
    assert!(fixture.incumbent_reuses(&key("flags").settings));
    assert!(!fixture.incumbent_reuses(&key("other flags").settings));
    let settings = fixture.host.read(&fixture.entry.build_config).unwrap();
    assert_eq!(settings, "ENABLE_NFSRDMA=false\nUSE_DKMS=false\nAPPEND_DRIVER_BUILD_FLAGS=flags\n");
}

#[tokio::test]
async fn the_checksums_are_ones_that_sha256sum_checks() {
    let fixture = Fixture::new();
    fixture.store(&key("flags")).await;
    let checked = std::process::Command::new("sha256sum")
        .args(["--check", "--strict", "../25.10-1.2.8.0.sha256"])
        .current_dir(fixture.host.path(FOLDER))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&checked.stdout), "a.rpm: OK\nb.rpm: OK\n");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

#[tokio::test]
async fn what_the_incumbent_stored_is_used_when_it_matches() {
    let fixture = Fixture::new();
    let files = [("z.rpm", "z"), ("a.rpm", "a"), ("m.rpm", "m"), ("kmod-b.rpm", "b")];
    fixture.store_as_incumbent(&key("flags").settings, &files);
    assert_eq!(fixture.trust(&key("flags")), Some(Trust::Incumbent));
    // Of the settings alone is known what went in.
    assert_eq!(fixture.trust(&key("other flags")), None);
    let mut nfs = key("flags");
    nfs.settings.nfs_rdma = true;
    assert_eq!(
        fixture.outdated(&nfs),
        "the packages were built with \"ENABLE_NFSRDMA=false\\nUSE_DKMS=false\\nAPPEND_DRIVER_BUILD_FLAGS=flags\", and now \
         \"ENABLE_NFSRDMA=true\\nUSE_DKMS=false\\nAPPEND_DRIVER_BUILD_FLAGS=flags\" is asked for"
    );
    // White space at the ends does not count.
    let text = fs::read_to_string(fixture.host.path(&fixture.entry.checksum)).unwrap();
    fs::write(fixture.host.path(&fixture.entry.checksum), format!("\n {}  -", text.trim())).unwrap();
    assert_eq!(fixture.trust(&key("flags")), Some(Trust::Incumbent));
    fs::write(fixture.path(FOLDER).join("m.rpm"), "M").unwrap();
    let message = format!("the files in {FOLDER} are not those of its checksum: their MD5 differs");
    assert_eq!(fixture.outdated(&key("flags")), message);

    // Where it was copied, another file system lists it otherwise.
    let other = Fixture::new();
    other.store_as_incumbent(&key("flags").settings, &files);
    let folder = other.path(FOLDER);
    fs::remove_dir_all(&folder).unwrap();
    fs::create_dir(&folder).unwrap();
    for (name, text) in files.iter().rev() {
        fs::write(folder.join(name), text).unwrap();
    }
    assert_eq!(other.trust(&key("flags")), Some(Trust::Incumbent));
}

#[tokio::test]
async fn going_back_and_forth_costs_no_build() {
    let fixture = Fixture::new();
    // Ours, then the incumbent with other flags, which leaves our checksums there, then ours with those flags.
    fixture.store(&key("flags")).await;
    fixture.store_as_incumbent(&key("other").settings, &[("a.rpm", "other"), ("b.rpm", "/build/b.rpm")]);
    assert!(fixture.host.exists(&fixture.entry.sha256));
    assert_eq!(fixture.trust(&key("other")), Some(Trust::Incumbent));
    assert_eq!(fixture.trust(&key("flags")), None);
}

#[tokio::test]
async fn what_went_into_our_build_is_compared() {
    let fixture = Fixture::new();
    fixture.store(&key("flags")).await;
    let with = |change: fn(&mut BuildKey)| {
        let mut changed = key("flags");
        change(&mut changed);
        // The incumbent's checksum is right, and yet it is not enough for what this program knows better.
        assert!(fixture.incumbent_reuses(&changed.settings));
        fixture.outdated(&changed)
    };
    for (reason, expected) in [
        (
            with(|key| key.inputs.sources = "sha256:0ther".to_owned()),
            "the packages were built with \"sources: sha256:5eed\", and now it is \"sources: sha256:0ther\"",
        ),
        (
            with(|key| key.inputs.compiler = "gcc 14".to_owned()),
            "the packages were built with \"compiler: gcc (GCC) 11.5.0\", and now it is \"compiler: gcc 14\"",
        ),
        (
            with(|key| key.inputs.flags.push("--new".to_owned())),
            "the packages were built with \"flags: --kernel-only --build-only flags\", and now it is \
             \"flags: --kernel-only --build-only flags --new\"",
        ),
        (
            with(|key| key.inputs.kernel = "5.14.0-570.80.1.el9_6.aarch64+64k".parse().unwrap()),
            "the packages were built with \"kernel: 5.14.0-570.73.1.el9_6.aarch64+64k\", and now it is \
             \"kernel: 5.14.0-570.80.1.el9_6.aarch64+64k\"",
        ),
    ] {
        assert_eq!(reason, expected);
    }
}

#[tokio::test]
async fn what_is_not_what_was_stored_is_not_used() {
    let fixture = Fixture::new();
    let flags = &key("flags");
    let file = |name: &str| fixture.path(FOLDER).join(name);
    let differs =
        |difference: &str| format!("the files in {FOLDER} are not those of its checksum: {difference}");

    fixture.store(flags).await;
    fs::write(file("a.rpm"), "changed").unwrap();
    assert_eq!(fixture.outdated(flags), differs("a.rpm has changed"));

    fixture.store(flags).await;
    fs::remove_file(file("b.rpm")).unwrap();
    assert_eq!(fixture.outdated(flags), differs("b.rpm is missing"));

    fixture.store(flags).await;
    fs::write(file("c.rpm"), "").unwrap();
    assert_eq!(fixture.outdated(flags), differs("c.rpm was added"));

    fixture.store(flags).await;
    fs::write(fixture.host.path(&fixture.entry.sha256), "half a li").unwrap();
    assert_eq!(fixture.outdated(flags), format!("the entry cannot be used: {FOLDER}.sha256 is damaged"));

    for part in [&fixture.entry.checksum, &fixture.entry.build_config] {
        fixture.store(flags).await;
        fs::remove_file(fixture.host.path(part)).unwrap();
        assert_eq!(fixture.look_up(flags), Stored::Outdated(Outdated::Missing { path: part.clone() }));
    }

    fixture.store(flags).await;
    fs::remove_dir_all(fixture.path(FOLDER)).unwrap();
    assert_eq!(fixture.look_up(flags), Stored::Absent);
    fs::create_dir(fixture.path(FOLDER)).unwrap();
    assert_eq!(fixture.outdated(flags), format!("{FOLDER} is empty"));
}

/// A folder, a link, a FIFO: whatever is where a file is expected, a build is due, and it clears the place.
#[tokio::test]
async fn what_is_no_file_is_built_anew() {
    let fixture = Fixture::new();
    let flags = &key("flags");
    let paths: Vec<PathBuf> =
        [&fixture.entry.sha256, &fixture.entry.checksum, &fixture.entry.build_config, &fixture.entry.folder]
            .into_iter()
            .cloned()
            .chain(["a.rpm", "new"].map(|name| fixture.entry.folder.join(name)))
            .collect();
    for path in &paths {
        for kind in ["folder", "link", "fifo", "empty file"] {
            fixture.store(flags).await;
            let seen = fixture.host.path(path);
            if seen.is_dir() { fs::remove_dir_all(&seen) } else { fs::remove_file(&seen) }.ok();
            match kind {
                "folder" => fs::create_dir_all(seen.join("below")).unwrap(),
                "link" => symlink("/build/a.rpm", &seen).unwrap(),
                "fifo" => mknodat(CWD, &seen, FileType::Fifo, 0o600.into(), 0).unwrap(),
                _ => fs::write(&seen, "").unwrap(),
            }
            let case = format!("{} is a {kind}", path.display());
            if kind == "empty file" && *path == fixture.entry.checksum {
                // The incumbent would build anew. What the packages are is known better here.
                assert_eq!(fixture.trust(flags), Some(Trust::Sha256));
                continue;
            }
            assert!(matches!(fixture.look_up(flags), Stored::Outdated(_)), "{case}");
            fixture.entry.wipe(&fixture.host, &fixture.lock().await).unwrap();
            assert_eq!(fixture.host.list(KERNEL_FOLDER).unwrap(), [".nic-driver.lock"], "{case}");
            fixture.store(flags).await;
            assert_eq!(fixture.trust(flags), Some(Trust::Sha256), "{case}");
        }
    }
    assert_eq!(
        fs::read_to_string(fixture.path("/build/a.rpm")).unwrap(),
        "/build/a.rpm",
        "links are not followed"
    );
}

#[tokio::test]
async fn where_it_cannot_be_told_what_is_there_it_is_an_error() {
    let fixture = Fixture::new();
    fs::write(fixture.path(KERNEL_FOLDER), "a file in the folder's place").unwrap();
    let error = fixture.entry.look_up(&fixture.host, &key("flags")).unwrap_err();
    let message = format!("cannot tell whether there is {}", fixture.path(FOLDER).display());
    assert_eq!(error.to_string(), message);
    // A link that leads to itself.
    fs::remove_file(fixture.path(KERNEL_FOLDER)).unwrap();
    symlink(KERNEL, fixture.path(KERNEL_FOLDER)).unwrap();
    fixture.entry.look_up(&fixture.host, &key("flags")).unwrap_err();
}

#[tokio::test]
async fn what_cannot_be_stored_leaves_what_is_stored() {
    let fixture = Fixture::new();
    let flags = &key("flags");
    fixture.store(flags).await;
    let lock = fixture.lock().await;
    let store = |packages: &[&str]| {
        let packages: Vec<PathBuf> = packages.iter().map(PathBuf::from).collect();
        fixture.entry.store(&fixture.host, &lock, &packages, flags).unwrap_err()
    };
    assert!(matches!(store(&[]), StoreError::Nothing { .. }));
    assert!(matches!(store(&["/build/a.rpm", "/build/missing.rpm"]), StoreError::Copy { .. }));
    assert!(matches!(store(&["/build/a.rpm", "/build"]), StoreError::Copy { .. }));
    assert!(matches!(store(&["/build/a.rpm", "/other/a.rpm"]), StoreError::Name { .. }));
    assert!(matches!(store(&["/build/.."]), StoreError::Name { .. }));
    assert!(matches!(store(&["/build/a\nb.rpm"]), StoreError::Name { .. }));
    assert!(matches!(store(&["/build/.hidden.rpm"]), StoreError::Name { .. }));
    assert_eq!(fixture.trust(flags), Some(Trust::Sha256));
    assert!(!fixture.host.exists(format!("{KERNEL_FOLDER}/.{VERSION}.partial")));
    let other = fixture.inventory.entry(&"6.8.0-31-generic".parse().unwrap(), &VERSION.parse().unwrap());
    let error = other.store(&fixture.host, &lock, &fixture.packages, flags).unwrap_err();
    assert!(matches!(error, StoreError::NotLocked { .. }), "{error}");
}

#[tokio::test]
async fn an_unfinished_entry_goes_and_a_whole_one_stays() {
    let fixture = Fixture::new();
    let flags = &key("flags");
    fixture.store(flags).await;
    let lock = fixture.lock().await;
    assert!(!fixture.entry.remove_unfinished(&fixture.host, &lock).unwrap());
    fixture.host.write_durably(format!("{KERNEL_FOLDER}/.{VERSION}.partial/half.rpm"), b"half").unwrap();
    fixture.host.write_durably(format!("{KERNEL_FOLDER}/.{VERSION}.checksum.x7Ab"), b"").unwrap();
    assert!(fixture.entry.remove_unfinished(&fixture.host, &lock).unwrap());
    assert_eq!(fixture.host.list(KERNEL_FOLDER).unwrap().len(), 5);
    assert_eq!(fixture.trust(flags), Some(Trust::Sha256));
    // What the incumbent leaves when it is cut off.
    fs::remove_file(fixture.host.path(&fixture.entry.checksum)).unwrap();
    assert!(fixture.entry.remove_unfinished(&fixture.host, &lock).unwrap());
    assert_eq!(fixture.host.list(KERNEL_FOLDER).unwrap(), [".nic-driver.lock"]);
}

/// An inventory that was given with a slash at its end is another text for a shell, and the same path for a program.
#[test]
fn a_slash_at_the_end_does_not_matter() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::at(dir.path());
    let fixture = Fixture::at(host.clone());
    let folder = fixture.path(FOLDER);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("a.rpm"), "a").unwrap();
    let inventory = Inventory::open(&host, format!("{INVENTORY}/")).unwrap();
    let entry = inventory.entry(&KERNEL.parse().unwrap(), &VERSION.parse().unwrap());
    for named in [format!("{INVENTORY}//{KERNEL}/{VERSION}"), FOLDER.to_owned()] {
        let pipeline = format!("find {}{named} -type f -exec md5sum {{}} + | md5sum", dir.path().display());
        let printed = std::process::Command::new("sh").args(["-c", &pipeline]).output().unwrap();
        fs::write(host.path(&entry.checksum), printed.stdout).unwrap();
        fs::write(host.path(&entry.build_config), key("").settings.to_string()).unwrap();
        assert!(matches!(entry.look_up(&host, &key("")).unwrap(), Stored::Valid { .. }), "{named}");
    }
}

#[test]
fn without_an_inventory_packages_lie_in_a_folder_that_goes() {
    let fixture = Fixture::new();
    let folder = Path::new("/tmp/nic-driver/packages");
    fixture.host.write_durably(folder.join("left.rpm"), b"of one that was killed").unwrap();
    let packages = TemporaryPackages::copy(&fixture.host, folder, &fixture.packages).unwrap();
    assert_eq!(fixture.host.list(packages.folder()).unwrap(), ["a.rpm", "b.rpm"]);
    drop(packages);
    assert!(!fixture.host.exists(folder));
    let missing = [PathBuf::from("/build/missing.rpm")];
    TemporaryPackages::copy(&fixture.host, folder, &missing).unwrap_err();
    assert!(!fixture.host.exists(folder));
    assert!(matches!(TemporaryPackages::copy(&fixture.host, folder, &[]), Err(StoreError::Nothing { .. })));
}

#[tokio::test]
async fn what_is_taken_is_what_was_verified_whatever_becomes_of_the_entry() {
    let fixture = Fixture::new();
    let folder = Path::new("/var/lib/nic-driver/packages");
    let take = |packages: &[StoredPackage]| TemporaryPackages::take(&fixture.host, folder, packages);
    type Change = fn(&Fixture);
    let changes: [(Option<&str>, Change); 4] = [
        (None, |_| {}),
        (Some("b.rpm"), |fixture| fs::write(fixture.path(FOLDER).join("b.rpm"), "/build/c.rpm").unwrap()),
        (Some("a.rpm"), |fixture| fs::remove_dir_all(fixture.path(FOLDER)).unwrap()),
        (Some("a.rpm"), |fixture| {
            let package = fixture.path(FOLDER).join("a.rpm");
            fs::rename(&package, fixture.path("/elsewhere")).unwrap();
            symlink("/elsewhere", package).unwrap();
        }),
    ];
    for (named, change) in changes {
        fixture.store(&key("flags")).await;
        let Stored::Valid { packages, .. } = fixture.look_up(&key("flags")) else { panic!("it was stored") };
        change(&fixture);
        match (named, take(&packages)) {
            (None, Ok(taken)) => {
                // From here on the entry does not matter.
                fs::remove_dir_all(fixture.path(KERNEL_FOLDER)).unwrap();
                assert_eq!(fixture.host.list(taken.folder()).unwrap(), ["a.rpm", "b.rpm"]);
                assert_eq!(fixture.host.read(taken.folder().join("a.rpm")).unwrap(), "/build/a.rpm");
            }
            (Some(named), Err(TakeError::Changed { path, .. })) => assert!(path.ends_with(named), "{path:?}"),
            (_, other) => panic!("{named:?}: {other:?}"),
        }
        assert!(!fixture.host.exists(folder));
    }
}

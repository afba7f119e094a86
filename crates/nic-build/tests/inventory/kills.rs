//! A process that dies at any point leaves an entry that is whole, or none.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use nic_build::{FileOperation, StorePlan, Stored};
use nic_host::Host;

use crate::fixture::{FOLDER, Fixture, key};

/// What may be found: nothing to use, or exactly what was stored with the key.
fn ensure_whole_or_none(fixture: &Fixture, flags: &str, expected: &[(&str, &str)]) -> bool {
    let key = key(flags);
    let (ours, theirs) = (fixture.look_up(&key), fixture.incumbent_reuses(&key.settings));
    if let Stored::Valid { packages, .. } = &ours {
        let found: Vec<(String, String)> = packages
            .iter()
            .map(|package| {
                let name = package.path.file_name().unwrap().to_str().unwrap();
                (name.to_owned(), fixture.host.read(&package.path).unwrap())
            })
            .collect();
        let expected: Vec<(String, String)> =
            expected.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        assert_eq!(found, expected, "{flags}");
    }
    let is_valid = matches!(ours, Stored::Valid { .. });
    assert_eq!(theirs, is_valid, "the incumbent thinks otherwise of {flags}");
    is_valid
}

const OLD: [(&str, &str); 2] = [("a.rpm", "/build/a.rpm"), ("b.rpm", "/build/b.rpm")];
const NEW: [(&str, &str); 2] = [("b.rpm", "new b"), ("c.rpm", "new c")];

async fn fixture_with_old() -> (Fixture, Vec<PathBuf>) {
    let fixture = Fixture::new();
    fixture.store(&key("old")).await;
    let packages = ["/new/b.rpm", "/new/c.rpm"].map(PathBuf::from).to_vec();
    for (path, (_, text)) in packages.iter().zip(NEW) {
        fixture.host.write_durably(path, text.as_bytes()).unwrap();
    }
    (fixture, packages)
}

/// The states in which a kill within an operation can leave the disk.
fn cut_off(fixture: &Fixture, operation: &FileOperation) {
    match operation {
        FileOperation::Copy { to, .. } => fs::write(fixture.host.path(to), "ne").unwrap(),
        // Of a folder, one file after the other.
        FileOperation::Remove { path } => {
            if let Ok(mut files) = fs::read_dir(fixture.host.path(path)) {
                fs::remove_file(files.next().unwrap().unwrap().path()).unwrap();
            }
        }
        // The rest is done by one call of the kernel, or by a rename.
        _ => {}
    }
}

#[tokio::test]
async fn killed_before_or_within_any_operation() {
    let (fixture, packages) = fixture_with_old().await;
    let number = StorePlan::new(&fixture.entry, &packages, &key("new")).unwrap().operations.len();
    let (mut old_until, mut new_from) = (0, number + 1);
    for done in 0..=number {
        for within in [false, true] {
            let (fixture, packages) = fixture_with_old().await;
            let mut plan = StorePlan::new(&fixture.entry, &packages, &key("new")).unwrap();
            let rest = plan.operations.split_off(done);
            plan.apply(&fixture.host).unwrap();
            if let Some(operation) = rest.first().filter(|_| within) {
                cut_off(&fixture, operation);
            }
            if ensure_whole_or_none(&fixture, "old", &OLD) {
                old_until = old_until.max(done);
            }
            if ensure_whole_or_none(&fixture, "new", &NEW) {
                new_from = new_from.min(done);
            }
            // The next one goes on from any of these.
            fixture.entry.remove_unfinished(&fixture.host, &fixture.lock().await).unwrap();
            let left = fixture.host.exists(FOLDER);
            assert_eq!(left, done == number || ensure_whole_or_none(&fixture, "old", &OLD), "{done}");
            fixture.entry.store(&fixture.host, &fixture.lock().await, &packages, &key("new")).unwrap();
            assert!(ensure_whole_or_none(&fixture, "new", &NEW), "{done}");
        }
    }
    assert!(old_until > 4 && old_until < number && new_from == number, "{old_until} {new_from} of {number}");
}

const CHILD: &str = "NIC_BUILD_TEST_STORES_AT";

/// The child of the test below: stores two sets of packages in turn, for ever.
#[tokio::test]
#[ignore = "it is the child process of another test"]
async fn child_that_stores() {
    let Some(root) = std::env::var_os(CHILD) else { return };
    let fixture = Fixture::at(Host::at(PathBuf::from(root)));
    loop {
        for flags in ["one", "other"] {
            let packages = [format!("/{flags}/a.rpm"), format!("/{flags}/b.rpm")].map(PathBuf::from);
            fixture.entry.store(&fixture.host, &fixture.lock().await, &packages, &key(flags)).unwrap();
        }
    }
}

#[tokio::test]
async fn a_process_that_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::at(Host::at(dir.path()));
    for flags in ["one", "other"] {
        for name in ["a.rpm", "b.rpm"] {
            let text = flags.repeat(100_000);
            fixture.host.write_durably(format!("/{flags}/{name}"), text.as_bytes()).unwrap();
        }
    }
    let (mut whole, mut none) = (0, 0);
    for round in 0..40_u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--ignored", "kills::child_that_stores"])
            .env(CHILD, dir.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // Until it is at work, and then for another while each time.
        while !fixture.host.exists(&fixture.entry.kernel_folder) {
            assert_eq!(child.try_wait().unwrap(), None);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        tokio::time::sleep(Duration::from_micros(7_000 + round * 1_700)).await;
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9), "the child ended by itself");
        let valid = ["one", "other"].map(|flags| {
            let text = flags.repeat(100_000);
            ensure_whole_or_none(&fixture, flags, &[("a.rpm", &text), ("b.rpm", &text)])
        });
        assert_ne!(valid, [true, true]);
        if valid.contains(&true) {
            whole += 1;
        } else {
            none += 1;
        }
        // The dead child's lock is nobody's, and what it left is removed.
        fixture.entry.remove_unfinished(&fixture.host, &fixture.lock().await).unwrap();
        assert_eq!(fixture.host.exists(FOLDER), valid.contains(&true));
    }
    assert!(whole + none == 40 && none > 0, "no kill fell into a change: {whole} whole, {none} none");
}

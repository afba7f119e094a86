//! A full disk on either side. Needs a small file system, and so root; where there is none the test says that it was
//! skipped, and in CI that is a failure.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use nic_dtk::{BuildFailure, DriverSideError, FetchError, FolderError, SetUpError, WaitError};
use nic_host::error_chain;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::pod::{Pod, build_by_hand, names};

/// A file system of so many KiB, as long as it is held.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    fn at(path: &'a Path, kib: u32) -> Option<Self> {
        fs::create_dir_all(path).unwrap();
        let options = std::ffi::CString::new(format!("size={kib}k")).unwrap();
        match mount("tmpfs", path, "tmpfs", MountFlags::empty(), options.as_c_str()) {
            Ok(()) => Some(Self(path)),
            Err(error) => {
                assert!(std::env::var_os("CI").is_none(), "cannot mount a tmpfs: {error}");
                println!("skipped: cannot mount a tmpfs: {error}");
                None
            }
        }
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        unmount(self.0, UnmountFlags::DETACH).unwrap();
    }
}

fn fill(path: &Path) -> std::io::Error {
    let block = vec![7; 4096];
    let mut file = fs::File::create(path).unwrap();
    loop {
        if let Err(error) = std::io::Write::write_all(&mut file, &block) {
            return error;
        }
    }
}

#[tokio::test]
async fn the_shared_folder_has_no_room_for_the_sources() {
    let pod = Pod::new();
    fs::write(pod.request.sources.join("SOURCES/large"), vec![1; 1 << 20]).unwrap();
    let Some(_disk) = SmallDisk::at(pod.request.folder.base(), 512) else { return };
    let (result, _) = pod.driver().await;
    let error = result.unwrap_err();
    let DriverSideError::SetUp(SetUpError::Folder(full)) = &error else { panic!("{error:?}") };
    assert!(full.is_full_disk(), "{full:?}");
    assert!(error_chain(&error).contains("large"), "{}", error_chain(&error));
    assert!(!pod.request.folder.start_flag().exists());
    assert_eq!(fs::read_dir(pod.request.folder.own_files()).unwrap().count(), 0, "a part is left behind");
}

#[tokio::test]
async fn the_private_folder_has_no_room_for_the_packages() {
    let pod = Pod::new();
    let private = pod.dir.path().join("private");
    let Some(_disk) = SmallDisk::at(&private, 64) else { return };
    let sidecar = pod.sidecar(async |plan, _| {
        build_by_hand(&plan);
        fs::write(pod.rpms().join("a-large-1.rpm"), vec![1; 1 << 20]).unwrap();
        Ok(())
    });
    let host = nic_host::Host::running();
    let (request, options, into) = (&pod.request, &pod.options, private.join("packages"));
    let fetched = async |into: &Path| {
        let (limits, never) = (&pod.limits, std::future::pending());
        nic_dtk::build_in_sidecar(&host, request, options, limits, into, |_| {}, never).await
    };
    let result = tokio::select! {
        ended = sidecar => panic!("{ended:?}"),
        result = fetched(&into) => result,
    };
    let error = result.unwrap_err();
    assert!(
        matches!(&error, DriverSideError::Fetch(FetchError::Private { action: "write", .. })),
        "{error:?}"
    );
    assert!(error_chain(&error).contains("a-large-1.rpm"), "{}", error_chain(&error));
    assert_eq!(fs::read_dir(&into).unwrap().count(), 0, "a part is left behind");
    // With room, the next start takes what is there.
    assert_eq!(fetched(&pod.dir.path().join("roomy")).await.unwrap().packages.len(), 3);
}

#[tokio::test]
async fn a_build_that_fills_the_disk_is_told_with_its_reason() {
    let pod = Pod::new();
    let Some(_disk) = SmallDisk::at(pod.request.folder.base(), 2048) else { return };
    let sidecar = pod.sidecar(async |plan, reporter| {
        let error = fill(&plan.folder.join("object.o"));
        reporter.line("cc1: error: cannot write object.o");
        // Signs of life go on meanwhile.
        tokio::time::sleep(Duration::from_millis(800)).await;
        Err(BuildFailure::new(format!("install.pl: {error}")))
    });
    let began = Instant::now();
    let (result, events) = tokio::select! {
        ended = sidecar => panic!("{ended:?}"),
        ended = pod.driver() => ended,
    };
    assert!(began.elapsed() < Duration::from_secs(20));
    let Err(DriverSideError::Wait(WaitError::Failed(failed))) = result else { panic!("{result:?}") };
    assert!(failed.reason.contains("No space left on device"), "{}", failed.reason);
    assert_eq!(failed.log_tail, ["cc1: error: cannot write object.o"]);
    let silent = events.iter().any(|event| matches!(event, nic_dtk::DriverEvent::Silent(_)));
    assert!(!silent, "{events:?}");
}

#[tokio::test]
async fn a_disk_without_room_for_the_report_still_tells_the_reason() {
    let pod = Pod::new();
    let Some(_disk) = SmallDisk::at(pod.request.folder.base(), 2048) else { return };
    let first = std::cell::Cell::new(true);
    let sidecar = pod.sidecar(async |plan, _| {
        if !first.replace(false) {
            build_by_hand(&plan);
            return Ok(());
        }
        // Somebody else takes the room that the sidecar has kept for its report.
        fs::remove_file(pod.own("reserve")).unwrap();
        Err(BuildFailure::new(format!("install.pl: {}", fill(&plan.folder.join("object.o")))))
    });
    let driver = async { (pod.driver().await.0, pod.driver().await.0) };
    let (result, next) = tokio::select! {
        ended = sidecar => panic!("{ended:?}"),
        ended = driver => ended,
    };
    // And the next start asks again: the sources are replaced, and what filled the disk goes with them.
    assert_eq!(names(&next.unwrap()).len(), 2);
    let Err(DriverSideError::Wait(WaitError::Failed(failed))) = result else { panic!("{result:?}") };
    assert!(failed.reason.contains("No space left on device"), "{}", failed.reason);
}

#[tokio::test]
async fn a_build_that_fits_with_room_again_succeeds() {
    let pod = Pod::new();
    let Some(_disk) = SmallDisk::at(pod.request.folder.base(), 2048) else { return };
    let full = std::cell::Cell::new(true);
    let sidecar = pod.sidecar(async |plan, _| {
        if full.get() {
            return Err(BuildFailure::new(fill(&plan.folder.join("object.o")).to_string()));
        }
        build_by_hand(&plan);
        Ok(())
    });
    let driver = async {
        pod.driver().await.0.unwrap_err();
        full.set(false);
        pod.driver().await.0.unwrap()
    };
    tokio::select! {
        ended = sidecar => panic!("{ended:?}"),
        fetched = driver => assert_eq!(names(&fetched).len(), 2),
    }
}

#[test]
fn a_full_disk_is_told_apart() {
    let full = FolderError::Io {
        action: "write",
        path: "/x".into(),
        source: std::io::ErrorKind::StorageFull.into(),
    };
    let other = FolderError::Link { path: "/x".into() };
    assert!(full.is_full_disk() && !other.is_full_disk());
}

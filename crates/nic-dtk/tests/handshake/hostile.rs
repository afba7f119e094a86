//! A shared folder in which somebody has put what does not belong there. Each case ends in an error by name, at once,
//! and nothing is taken.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nic_dtk::{
    BuildPlan, DriverSideError, FetchError, FindPackagesError, FolderError, PackageLimits, SetUpError,
    WaitError,
};
use nic_host::error_chain;
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

use crate::pod::{Pod, build_by_hand};

const PACKAGE: &str = "mlnx-ofa_kernel-25.10-1.rpm";

/// A pod in which the packages are built, and fetched once.
async fn built() -> Pod {
    let pod = Pod::new();
    let (fetched, _) = with_sidecar(&pod).await;
    fetched.unwrap();
    pod
}

async fn with_sidecar(
    pod: &Pod,
) -> (Result<nic_dtk::FetchedPackages, DriverSideError>, Vec<nic_dtk::DriverEvent>) {
    let sidecar = pod.sidecar(async |plan: BuildPlan, _| {
        build_by_hand(&plan);
        Ok(())
    });
    tokio::select! {
        ended = sidecar => panic!("{ended:?}"),
        ended = pod.driver() => ended,
    }
}

/// The next start's error. It finds the done flag, so that it only fetches.
async fn refused(pod: &Pod) -> DriverSideError {
    let began = Instant::now();
    let (result, events) = pod.driver().await;
    assert!(began.elapsed() < Duration::from_secs(10), "something was waited for");
    let error = result.unwrap_err();
    assert_eq!(events, [], "{error:?}");
    error
}

fn fifo(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o644), 0).unwrap();
}

#[tokio::test]
async fn packages_that_are_no_files() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "secret").unwrap();
    let secret = outside.path().join("secret");
    type Put<'a> = &'a dyn Fn(&Path);
    let cases: [(&str, Put<'_>); 5] = [
        ("a link to a file of the host", &|path| symlink(&secret, path).unwrap()),
        ("a link that goes up", &|path| symlink("../../../../../dtk.env", path).unwrap()),
        ("a FIFO", &fifo),
        ("a folder", &|path| fs::create_dir(path).unwrap()),
        ("a socket", &|path| {
            mknodat(CWD, path, FileType::Socket, Mode::from_raw_mode(0o644), 0).unwrap();
        }),
    ];
    for (what, put) in cases {
        let pod = built().await;
        let path = pod.rpms().join(PACKAGE);
        fs::remove_file(&path).unwrap();
        put(&path);
        let error = refused(&pod).await;
        match &error {
            DriverSideError::Fetch(FetchError::Folder(FolderError::Link { path: named })) => {
                assert!(what.contains("link") && *named == path, "{what}: {error:?}");
            }
            DriverSideError::Fetch(FetchError::Folder(FolderError::NotRegular { path: named, kind })) => {
                assert_eq!((named, *kind), (&path, what));
            }
            _ => panic!("{what}: {error:?}"),
        }
        assert!(error_chain(&error).contains(PACKAGE));
    }
}

#[tokio::test]
async fn devices() {
    let pod = built().await;
    let path = pod.rpms().join(PACKAGE);
    fs::remove_file(&path).unwrap();
    let made = mknodat(CWD, &path, FileType::CharacterDevice, Mode::from_raw_mode(0o644), makedev(1, 5));
    if let Err(errno) = made {
        assert!(std::env::var_os("CI").is_none(), "cannot make a device: {errno}");
        println!("skipped: cannot make a device: {errno}");
        return;
    }
    let error = refused(&pod).await;
    assert!(
        matches!(
            &error,
            DriverSideError::Fetch(FetchError::Folder(FolderError::NotRegular {
                kind: "a character device",
                ..
            }))
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn folders_on_the_way_that_lead_elsewhere() {
    for below in ["RPMS", "RPMS/redhat-release-9.6-0.1.el9"] {
        let pod = built().await;
        let path = pod.request.folder.sources(&pod.request.version).join(below);
        fs::rename(&path, pod.dir.path().join("away")).unwrap();
        symlink(pod.dir.path().join("away"), &path).unwrap();
        let error = refused(&pod).await;
        assert!(
            matches!(
                &error,
                DriverSideError::Fetch(FetchError::Find(FindPackagesError::Folder(FolderError::Link { .. })))
            ),
            "{below}: {error:?}"
        );
    }
    // The kernel's folder itself: nothing is written through it, nothing is removed behind it.
    let (pod, outside) = (Pod::new(), tempfile::tempdir().unwrap());
    fs::write(outside.path().join("dtk_start_compile"), "kept").unwrap();
    symlink(outside.path(), pod.request.folder.path()).unwrap();
    let (result, _) = pod.driver().await;
    assert!(matches!(&result, Err(DriverSideError::Observe(FolderError::Link { .. }))), "{result:?}");
    // And the folder of our own files.
    let pod = Pod::new();
    fs::create_dir(pod.request.folder.path()).unwrap();
    symlink(outside.path(), pod.request.folder.own_files()).unwrap();
    let (result, _) = pod.driver().await;
    assert!(
        matches!(&result, Err(DriverSideError::SetUp(SetUpError::Folder(FolderError::Link { .. })))),
        "{result:?}"
    );
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    assert_eq!(fs::read(outside.path().join("dtk_start_compile")).unwrap(), b"kept");
}

#[tokio::test]
async fn what_stands_in_the_way_of_setting_up_is_removed_and_not_followed() {
    let (pod, outside) = (Pod::new(), tempfile::tempdir().unwrap());
    fs::write(outside.path().join("kept"), "kept").unwrap();
    let folder = &pod.request.folder;
    fs::create_dir(folder.path()).unwrap();
    symlink(outside.path(), folder.sources(&pod.request.version)).unwrap();
    symlink(outside.path().join("kept"), folder.env_file()).unwrap();
    symlink(outside.path().join("kept"), folder.entrypoint()).unwrap();
    fifo(&folder.done_flag(&pod.request.version));
    fs::create_dir_all(folder.build_script().with_file_name(".dtk_nic_driver_build.sh.partial/x")).unwrap();
    let (fetched, _) = with_sidecar(&pod).await;
    fetched.unwrap();
    assert_eq!(fs::read(outside.path().join("kept")).unwrap(), b"kept");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn answers_that_are_no_answers() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("file"), "{}").unwrap();
    let file = outside.path().join("file");
    let huge = |path: &Path| fs::File::create(path).unwrap().set_len(1 << 40).unwrap();
    type Put<'a> = (&'a str, &'a dyn Fn(&Pod), &'a str);
    let cases: [Put<'_>; 6] = [
        ("FIFO for a done flag", &|pod| fifo(&pod.request.folder.done_flag(&pod.request.version)), "a FIFO"),
        (
            "link for a done flag",
            &|pod| symlink(&file, pod.request.folder.done_flag(&pod.request.version)).unwrap(),
            "symbolic link",
        ),
        ("FIFO for a result", &|pod| fifo(&pod.own("result.json")), "a FIFO"),
        ("link for a result", &|pod| symlink(&file, pod.own("result.json")).unwrap(), "symbolic link"),
        ("huge result", &|pod| huge(&pod.own("result.json")), "at most"),
        ("huge status", &|pod| huge(&pod.own("status")), "at most"),
    ];
    for (what, put, expected) in cases {
        let pod = Pod::new();
        let hostile = async {
            pod.flag().await;
            put(&pod);
            std::future::pending::<()>().await;
        };
        let began = Instant::now();
        let (result, _) = tokio::select! {
            () = hostile => unreachable!(),
            ended = pod.driver() => ended,
        };
        assert!(began.elapsed() < Duration::from_secs(20), "{what}: something was waited for");
        let error = result.unwrap_err();
        assert!(matches!(&error, DriverSideError::Wait(WaitError::Folder(_))), "{what}: {error:?}");
        assert!(error_chain(&error).contains(expected), "{what}: {}", error_chain(&error));
    }
}

#[tokio::test]
async fn packages_that_are_not_what_was_built() {
    let cut_off = |path: &Path| {
        let file = fs::OpenOptions::new().write(true).open(path).unwrap();
        file.set_len(file.metadata().unwrap().len() / 2).unwrap();
    };
    let replaced = |path: &Path| {
        let same_size = "x".repeat(usize::try_from(path.metadata().unwrap().len()).unwrap());
        fs::write(path, same_size).unwrap();
    };
    let is_refused = async |change: &dyn Fn(&Path), expected: fn(&FetchError) -> bool| {
        let pod = built().await;
        change(&pod.rpms().join(PACKAGE));
        let into = fs::read_dir(pod.dir.path()).unwrap().count();
        let error = refused(&pod).await;
        let DriverSideError::Fetch(error) = &error else { panic!("{error:?}") };
        assert!(expected(error), "{error:?}");
        // One more private folder, and nothing is in it.
        let folders: Vec<_> = fs::read_dir(pod.dir.path()).unwrap().map(|entry| entry.unwrap()).collect();
        assert_eq!(folders.len(), into + 1);
        let empty = folders.iter().filter(|entry| {
            entry.file_type().unwrap().is_dir() && fs::read_dir(entry.path()).unwrap().count() == 0
        });
        assert_eq!(empty.count(), 1);
    };
    // What was refused is built anew by the next start.
    let pod = built().await;
    cut_off(&pod.rpms().join(PACKAGE));
    refused(&pod).await;
    let (fetched, events) = with_sidecar(&pod).await;
    assert_eq!(fetched.unwrap().packages.len(), 2);
    assert!(!events.is_empty());

    is_refused(&cut_off, |error| matches!(error, FetchError::Differs { .. })).await;
    is_refused(&replaced, |error| matches!(error, FetchError::Differs { .. })).await;
    is_refused(&|path| fs::remove_file(path).unwrap(), |error| matches!(error, FetchError::Missing { .. }))
        .await;
    is_refused(&|path| fs::write(path.with_file_name("evil-1.rpm"), "evil").unwrap(), |error| {
        matches!(error, FetchError::Unknown { .. })
    })
    .await;
    is_refused(
        &|path| {
            let file = fs::OpenOptions::new().write(true).open(path).unwrap();
            file.set_len(1 << 40).unwrap();
        },
        |error| matches!(error, FetchError::Folder(FolderError::TooLarge { .. })),
    )
    .await;
}

#[tokio::test]
async fn packages_are_bounded_in_number_and_together() {
    let mut pod = built().await;
    pod.limits = PackageLimits { count: 1, ..PackageLimits::default() };
    let error = refused(&pod).await;
    assert!(
        matches!(
            error,
            DriverSideError::Fetch(FetchError::Find(FindPackagesError::TooMany { count: 2, .. }))
        ),
        "{error:?}"
    );
    let mut pod = built().await;
    pod.limits = PackageLimits { total: 10, ..PackageLimits::default() };
    let error = refused(&pod).await;
    assert!(matches!(error, DriverSideError::Fetch(FetchError::TooLarge { .. })), "{error:?}");
}

#[tokio::test]
async fn a_package_that_is_replaced_again_and_again_while_it_is_fetched() {
    let pod = built().await;
    let (path, other) = (pod.rpms().join(PACKAGE), pod.rpms().join("other"));
    let content = fs::read(&path).unwrap();
    let ended = Arc::new(AtomicBool::new(false));
    // The right one and a wrong one of the same size in turns, by a rename, so that each open sees a whole one.
    let (right, writer_ended) = (content.clone(), ended.clone());
    let writer = std::thread::spawn(move || {
        let wrong = vec![b'x'; right.len()];
        while !writer_ended.load(Ordering::Relaxed) {
            for text in [&wrong, &right] {
                fs::write(&other, text).unwrap();
                fs::rename(&other, &path).unwrap();
            }
        }
    });
    let mut outcomes = Vec::new();
    let flag = pod.request.folder.done_flag(&pod.request.version);
    for _ in 0..50 {
        outcomes.push(pod.driver().await.0);
        // What was refused is not offered again, but here.
        assert_eq!(flag.exists(), outcomes.last().unwrap().is_ok());
        fs::write(&flag, "").unwrap();
    }
    ended.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    for outcome in outcomes {
        match outcome {
            // What was taken is what was built, byte by byte.
            Ok(fetched) => assert_eq!(fs::read(&fetched.packages[0].path).unwrap(), content),
            Err(DriverSideError::Fetch(FetchError::Differs { .. } | FetchError::Changed { .. })) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
}

#[tokio::test]
async fn sources_that_were_not_copied_whole_are_not_built() {
    let pod = Pod::new();
    let tampered = async {
        pod.flag().await;
        let file = pod.request.folder.sources(&pod.request.version).join("SOURCES/deep/mlnx-ofa_kernel.tgz");
        fs::write(file, "half").unwrap();
        pod.sidecar(async |_, _| panic!("such sources must not be built")).await
    };
    let (result, _) = tokio::select! {
        ended = tampered => panic!("{ended:?}"),
        ended = pod.driver() => ended,
    };
    let Err(DriverSideError::Wait(WaitError::Failed(failed))) = result else { panic!("{result:?}") };
    assert!(failed.reason.contains("mlnx-ofa_kernel.tgz is not as"), "{}", failed.reason);
}

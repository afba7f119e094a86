//! Flags and results that are not of what is asked for, or not whole.

use std::cell::{Cell, RefCell};
use std::fs;

use nic_dtk::{DriverEvent, Proof};

use crate::pod::{Pod, VERSION, build_by_hand, names, until};

const PACKAGES: [&str; 2] = ["mlnx-ofa_kernel-25.10-1.rpm", "mlnx-tools-25.10-0.rpm"];

#[tokio::test]
async fn a_done_flag_of_something_else_is_stale() {
    let pod = Pod::new();
    let (folder, version) = (&pod.request.folder, &pod.request.version);
    fs::create_dir_all(folder.path()).unwrap();
    // Another version's, and this version's of nobody knows what.
    let other = "25.07-0.9.7.0".parse().unwrap();
    fs::write(folder.done_flag(&other), "").unwrap();
    fs::write(folder.done_flag(version), "").unwrap();
    fs::create_dir_all(pod.rpms()).unwrap();
    fs::write(pod.rpms().join("old-1.rpm"), "old").unwrap();
    let build = async |plan: nic_dtk::BuildPlan, _| {
        build_by_hand(&plan);
        Ok(())
    };
    let fetched = tokio::select! {
        ended = pod.sidecar(build) => panic!("{ended:?}"),
        ended = pod.driver() => ended.0.unwrap(),
    };
    assert_eq!(names(&fetched), PACKAGES);
    assert!(folder.done_flag(&other).exists(), "another version's flag is nobody's business");
    assert_ne!(VERSION, other.as_str());

    // The same, of another kernel: the folder's name may be the same, the request is not.
    let request = pod.own("request.json");
    let text = fs::read_to_string(&request).unwrap();
    let kernel = format!("\"{}\"", pod.request.kernel);
    assert!(text.contains(&kernel));
    let digest = nic_dtk::Digest::try_from("ab".repeat(32)).unwrap();
    let own_digest = text.split("\"digest\": \"").nth(1).unwrap().split('"').next().unwrap();
    let changed = text.replace(&kernel, "\"5.14.0-1.el9.x86_64\"").replace(own_digest, &digest.to_string());
    fs::write(&request, changed).unwrap();
    let (fetched, events) = tokio::select! {
        ended = pod.sidecar(build) => panic!("{ended:?}"),
        ended = pod.driver() => ended,
    };
    assert_eq!(names(&fetched.unwrap()), PACKAGES);
    assert!(events.iter().any(|event| matches!(event, DriverEvent::Step(_))), "{events:?}");
}

#[tokio::test]
async fn a_late_done_flag_of_the_build_before_is_replaced() {
    let pod = Pod::new();
    let events = RefCell::new(Vec::new());
    let (start, done) = (pod.request.folder.start_flag(), pod.request.folder.done_flag(&pod.request.version));
    let sidecars = async {
        pod.flag().await;
        // The sidecar of another request ends in the middle of ours: its result, its done flag, our start flag off.
        let result = format!(
            "{{\"schema\":1,\"attempt\":\"x\",\"digest\":\"{}\",\"outcome\":{{\"outcome\":\"built\",\"packages\":[]}}}}",
            "ab".repeat(32)
        );
        fs::write(pod.own("result.json"), result).unwrap();
        fs::write(&done, "").unwrap();
        // The driver container may have put it again by then.
        let _ = fs::remove_file(&start);
        until(|| events.borrow().contains(&DriverEvent::StaleDoneFlag)).await;
        pod.sidecar(async |plan, _| {
            build_by_hand(&plan);
            Ok(())
        })
        .await
    };
    let fetched = tokio::select! {
        ended = sidecars => panic!("{ended:?}"),
        fetched = pod.driver_until(std::future::pending(), |event| events.borrow_mut().push(event)) => fetched.unwrap(),
    };
    assert_eq!((names(&fetched), fetched.proof), (PACKAGES.map(String::from).to_vec(), Proof::Result));
}

#[tokio::test]
async fn a_sidecar_that_died_between_result_and_flags_builds_nothing_again() {
    let pod = Pod::new();
    let runs = Cell::new(0);
    let build = async |plan: nic_dtk::BuildPlan, _| {
        runs.set(runs.get() + 1);
        build_by_hand(&plan);
        Ok(())
    };
    tokio::select! {
        ended = pod.sidecar(build) => panic!("{ended:?}"),
        ended = pod.driver() => { ended.0.unwrap(); }
    }
    let (start, done) = (pod.request.folder.start_flag(), pod.request.folder.done_flag(&pod.request.version));
    for leave_done in [false, true] {
        fs::write(&start, "").unwrap();
        if !leave_done {
            fs::remove_file(&done).unwrap();
        }
        tokio::select! {
            ended = pod.sidecar(build) => panic!("{ended:?}"),
            () = until(|| done.exists() && !start.exists()) => {}
        }
        assert_eq!(runs.get(), 1);
    }
    // But a package that is not what was built is no result.
    fs::write(&start, "").unwrap();
    fs::write(pod.rpms().join(PACKAGES[0]), "half").unwrap();
    tokio::select! {
        ended = pod.sidecar(build) => panic!("{ended:?}"),
        () = until(|| done.exists() && !start.exists()) => {}
    }
    assert_eq!(runs.get(), 2);
}

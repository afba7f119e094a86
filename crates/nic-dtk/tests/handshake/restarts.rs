//! Failed builds, sidecars that die, and both sides stopped and started again in the middle.

use std::cell::{Cell, RefCell};
use std::fs;
use std::rc::Rc;
use std::time::{Duration, Instant};

use nic_dtk::{BuildFailure, DriverEvent, DriverSideError, Proof, SetUpStep, SidecarState, WaitError};
use nic_host::error_chain;

use crate::pod::{Pod, build_by_hand, names, our_sidecar, sidecar_options, until};

const PACKAGES: [&str; 2] = ["mlnx-ofa_kernel-25.10-1.rpm", "mlnx-tools-25.10-0.rpm"];

#[tokio::test]
async fn a_failed_build_is_named_with_its_reason_and_the_logs_end_and_can_be_asked_for_again() {
    let pod = Pod::new();
    let runs = Cell::new(0);
    let sidecar = pod.sidecar(async |plan, reporter| {
        runs.set(runs.get() + 1);
        for line in 0..300 {
            reporter.line(&format!("CC [M] file{line}.o"));
        }
        reporter.line("\u{1b}[31merror: implicit declaration");
        reporter.packages(1, Some(2));
        if runs.get() == 1 {
            return Err(BuildFailure::new("install.pl ended with exit code 1"));
        }
        build_by_hand(&plan);
        Ok(())
    });
    let driver = async {
        let (failed, _) = pod.driver().await;
        let Err(DriverSideError::Wait(WaitError::Failed(failed))) = failed else { panic!("{failed:?}") };
        assert_eq!(failed.reason, "install.pl ended with exit code 1");
        assert_eq!(failed.log_tail.last().unwrap(), "\u{fffd}[31merror: implicit declaration");
        assert_eq!(failed.log_tail.len(), 200);
        // It does not build the same again by itself,
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(runs.get(), 1);
        // but when it is asked for.
        pod.driver().await.0.unwrap()
    };
    tokio::select! {
        ended = sidecar => panic!("{ended:?}"),
        fetched = driver => assert_eq!((names(&fetched), fetched.proof), (PACKAGES.map(String::from).to_vec(), Proof::Result)),
    }
    assert_eq!(runs.get(), 2);
}

#[tokio::test]
async fn progress_is_told() {
    let pod = Pod::new();
    let events = RefCell::new(Vec::new());
    let told = |line: &str| {
        events.borrow().iter().any(|event| {
            matches!(event, DriverEvent::Progress { state: SidecarState::Building, progress }
                if progress.last_line == line && progress.packages_done == 3 && progress.packages_known == Some(20))
        })
    };
    let sidecar = pod.sidecar(async |plan, reporter| {
        reporter.packages(3, Some(20));
        reporter.line("Building mlnx-ofa_kernel");
        until(|| told("Building mlnx-ofa_kernel")).await;
        build_by_hand(&plan);
        Ok(())
    });
    tokio::select! {
        ended = sidecar => panic!("{ended:?}"),
        fetched = pod.driver_until(std::future::pending(), |event| events.borrow_mut().push(event)) => { fetched.unwrap(); }
    }
    assert!(events.borrow().contains(&DriverEvent::Alive));
}

#[tokio::test]
async fn a_sidecar_that_is_killed_in_mid_build_and_started_again_builds_whole_packages() {
    let mut pod = Pod::new();
    pod.request.entrypoint = our_sidecar();
    pod.options.silent_after = Duration::from_millis(500);
    let (runs, gate) = (pod.runs(), pod.dir.path().join("gate"));
    let variables = [("INSTALL_PL_RUNS", runs.as_path()), ("INSTALL_PL_GATE", gate.as_path())];
    let events = RefCell::new(Vec::new());
    let containers = async {
        let mut first = pod.container(&variables);
        until(|| pod.dir.path().join("gate.reached").exists()).await;
        until(|| events.borrow().contains(&DriverEvent::Alive)).await;
        assert_eq!(fs::read(pod.rpms().join(PACKAGES[0])).unwrap(), b"half");
        first.kill();
        until(|| matches!(events.borrow().last(), Some(DriverEvent::Silent(_)))).await;
        fs::write(&gate, "").unwrap();
        let _second = pod.container(&variables);
        std::future::pending::<()>().await;
    };
    let fetched = tokio::select! {
        () = containers => unreachable!(),
        fetched = pod.driver_until(std::future::pending(), |event| events.borrow_mut().push(event)) => fetched.unwrap(),
    };
    assert_eq!((names(&fetched), fetched.proof), (PACKAGES.map(String::from).to_vec(), Proof::Result));
    for package in &fetched.packages {
        let text = fs::read_to_string(&package.path).unwrap();
        assert!(text.contains("<--build-only>"), "{text}");
    }
    assert_eq!(pod.run_count(), 2);
}

#[tokio::test]
async fn a_sidecar_that_dies_for_good_is_named() {
    let mut pod = Pod::new();
    pod.request.entrypoint = our_sidecar();
    pod.options.give_up_after = Duration::from_secs(3);
    let gate = pod.dir.path().join("gate");
    let mut container = pod.container(&[("INSTALL_PL_GATE", &gate)]);
    let events = RefCell::new(Vec::new());
    let is_building = |event: &DriverEvent| matches!(event, DriverEvent::Progress { progress, .. } if progress.last_line == "Building mlnx-ofa_kernel-25.10-1");
    let killed = async {
        until(|| events.borrow().iter().any(is_building)).await;
        container.kill();
        std::future::pending::<()>().await;
    };
    let failed = tokio::select! {
        () = killed => unreachable!(),
        ended = pod.driver_until(std::future::pending(), |event| events.borrow_mut().push(event)) => ended,
    };
    let error = failed.unwrap_err();
    assert!(matches!(error, DriverSideError::Wait(WaitError::Died { .. })), "{error:?}");
    let words = error_chain(&error);
    assert!(words.contains("no sign of life") && words.contains("Building mlnx-ofa_kernel"), "{words}");
}

#[tokio::test]
async fn a_sidecar_that_never_comes_is_waited_for_until_the_deadline() {
    let mut pod = Pod::new();
    pod.options.deadline = Duration::from_millis(200);
    let (failed, _) = pod.driver().await;
    assert_eq!(
        error_chain(&failed.unwrap_err()),
        "the build sidecar has not built the packages: the build sidecar has not built the packages within 200ms; \
         it has given no sign of life (the incumbent's gives none)"
    );
}

#[tokio::test]
async fn a_driver_container_that_is_stopped_stops_at_once_and_the_next_one_goes_on() {
    let pod = Pod::new();
    let (runs, go) = (Cell::new(0), Rc::new(tokio::sync::Notify::new()));
    let begun = Rc::new(tokio::sync::Notify::new());
    let sidecar = pod.sidecar(async |plan, _| {
        runs.set(runs.get() + 1);
        begun.notify_one();
        go.notified().await;
        build_by_hand(&plan);
        Ok(())
    });
    let driver = async {
        let stopped = Cell::new(None);
        let stop = async {
            begun.notified().await;
            stopped.set(Some(Instant::now()));
        };
        let ended = pod.driver_until(stop, |_| {}).await;
        assert!(matches!(ended, Err(DriverSideError::Stopped)), "{ended:?}");
        assert!(stopped.get().unwrap().elapsed() < Duration::from_secs(5));
        let events = RefCell::new(Vec::new());
        let fetched = pod
            .driver_until(std::future::pending(), |event| {
                if event == DriverEvent::Resumed {
                    go.notify_one();
                }
                events.borrow_mut().push(event);
            })
            .await
            .unwrap();
        assert!(!events.borrow().iter().any(|event| matches!(event, DriverEvent::Step(_))));
        fetched
    };
    tokio::select! {
        ended = sidecar => panic!("{ended:?}"),
        fetched = driver => assert_eq!(fetched.packages.len(), 2),
    }
    assert_eq!(runs.get(), 1);
}

#[tokio::test]
async fn a_driver_container_that_dies_while_it_sets_up_leaves_nothing_that_counts() {
    // Dropped after each step, as many as there are.
    for last in 0.. {
        let pod = Pod::new();
        let (seen, stop) = (Cell::new(0), tokio::sync::Notify::new());
        let is_last = Cell::new(false);
        let ended = tokio::time::timeout(
            Duration::from_secs(60),
            pod.driver_until(stop.notified(), |event| {
                is_last.set(matches!(event, DriverEvent::Step(SetUpStep::PutStartFlag(_))));
                if seen.replace(seen.get() + 1) == last {
                    stop.notify_one();
                }
            }),
        );
        assert!(matches!(ended.await.unwrap(), Err(DriverSideError::Stopped)));
        let sidecar = pod.sidecar(async |plan, _| {
            build_by_hand(&plan);
            Ok(())
        });
        let (fetched, events) = tokio::select! {
            ended = sidecar => panic!("{ended:?}"),
            ended = pod.driver() => ended,
        };
        assert_eq!(names(&fetched.unwrap()), PACKAGES);
        let set_up_anew = events.iter().any(|event| matches!(event, DriverEvent::Step(_)));
        // The step itself may have come to its end or not.
        assert!(set_up_anew || is_last.get(), "{last}: {events:?}");
        if is_last.get() {
            return;
        }
    }
}

#[tokio::test]
async fn what_is_asked_for_anew_ends_the_build_of_what_was_asked_for_before() {
    let mut pod = Pod::new();
    let other = pod.request.clone();
    pod.request.appended_flags.push("--one".to_owned());
    let (built, begun) = (RefCell::new(Vec::new()), Rc::new(tokio::sync::Notify::new()));
    let sidecar = pod.sidecar(async |plan, _| {
        let last = plan.arguments.last().unwrap().clone();
        built.borrow_mut().push(last.clone());
        if last == "--one" {
            begun.notify_one();
            return std::future::pending().await;
        }
        build_by_hand(&plan);
        Ok(())
    });
    let driver = async {
        let stopped = pod.driver_until(begun.notified(), |_| {}).await;
        assert!(matches!(stopped, Err(DriverSideError::Stopped)));
        let into = pod.dir.path().join("into");
        let host = nic_host::Host::running();
        let (options, limits) = (&pod.options, &pod.limits);
        nic_dtk::build_in_sidecar(
            &host,
            &other,
            options,
            &limits.clone(),
            &into,
            |_| {},
            std::future::pending(),
        )
        .await
        .unwrap()
    };
    tokio::select! {
        ended = sidecar => panic!("{ended:?}"),
        fetched = driver => assert_eq!(names(&fetched), PACKAGES),
    }
    assert_eq!(built.borrow().as_slice(), ["--one", "rhel9.6"]);
}

#[tokio::test]
async fn for_the_incumbents_driver_container_a_failed_build_is_tried_again() {
    let pod = Pod::new();
    let folder = &pod.request.folder;
    // What the incumbent's side leaves, in its order.
    let sources = folder.sources(&pod.request.version);
    fs::create_dir_all(&sources).unwrap();
    fs::copy(pod.request.sources.join("install.pl"), sources.join("install.pl")).unwrap();
    fs::write(folder.env_file(), pod.request.env().render()).unwrap();
    fs::write(folder.start_flag(), "").unwrap();
    let runs = Cell::new(0);
    let sidecar = pod.sidecar(async |plan, _| {
        runs.set(runs.get() + 1);
        if runs.get() < 3 {
            return Err(BuildFailure::new("dnf install -y perl ended with exit code 1"));
        }
        build_by_hand(&plan);
        Ok(())
    });
    tokio::select! {
        ended = sidecar => panic!("{ended:?}"),
        () = until(|| folder.done_flag(&pod.request.version).exists() && !folder.start_flag().exists()) => {}
    }
    assert_eq!(runs.get(), 3);
}

#[tokio::test]
async fn clocks_that_jump_change_nothing() {
    let pod = Pod::new();
    let events = RefCell::new(Vec::new());
    let sidecar = pod.sidecar(async |plan, reporter| {
        // All times in the folder go back and forth by decades, while signs of life are given.
        for (round, seconds) in
            [0, 4_000_000_000, 1_000_000_000, 86_400].into_iter().cycle().take(40).enumerate()
        {
            reporter.line(&format!("round {round}"));
            for entry in fs::read_dir(pod.request.folder.own_files()).unwrap() {
                set_times(&entry.unwrap().path(), seconds);
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        build_by_hand(&plan);
        Ok(())
    });
    tokio::select! {
        ended = sidecar => panic!("{ended:?}"),
        fetched = pod.driver_until(std::future::pending(), |event| events.borrow_mut().push(event)) => { fetched.unwrap(); }
    }
    let silent = events.borrow().iter().any(|event| matches!(event, DriverEvent::Silent(_)));
    assert!(!silent, "{events:?}");
}

fn set_times(path: &std::path::Path, seconds: u64) {
    let time = std::time::UNIX_EPOCH + Duration::from_secs(seconds);
    let times = fs::FileTimes::new().set_accessed(time).set_modified(time);
    // A file that is gone by now needs no time.
    if let Ok(file) = fs::File::options().write(true).open(path) {
        file.set_times(times).unwrap();
    }
}

#[tokio::test]
async fn a_sidecar_that_is_stopped_in_mid_build_stops_at_once_and_says_so() {
    let pod = Pod::new();
    let events = RefCell::new(Vec::new());
    let state = |wanted: SidecarState| {
        events
            .borrow()
            .iter()
            .any(|event| matches!(event, DriverEvent::Progress { state, .. } if *state == wanted))
    };
    let sidecar = async {
        pod.flag().await;
        let env = nic_dtk::DtkEnv::from_variables(&pod.variables()).unwrap();
        let build = async |_, _| std::future::pending().await;
        let stopped = Cell::new(None);
        let stop = async {
            until(|| state(SidecarState::Building)).await;
            stopped.set(Some(Instant::now()));
        };
        let (host, options) = (nic_host::Host::running(), sidecar_options());
        nic_dtk::serve(&host, &env, &options, build, stop).await.unwrap();
        assert!(stopped.get().unwrap().elapsed() < Duration::from_secs(5));
        until(|| state(SidecarState::Stopped)).await;
    };
    tokio::select! {
        () = sidecar => {}
        ended = pod.driver_until(std::future::pending(), |event| events.borrow_mut().push(event)) => panic!("{ended:?}"),
    }
}

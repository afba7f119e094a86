//! Pods on this machine, where crun can run. Elsewhere each test says that it is skipped.

mod node;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use lab_guest::pod::{HostPath, Pod, ProbeKind};
use rustix::process::Signal;
use serde_json::json;

use self::node::{Node, is_inside, pod_name, with_probe};
use super::events::{End, Event, What};
use super::set_env;

const SOON: Duration = Duration::from_secs(20);

/// What happened, without what took its time.
fn happened(events: &[Event]) -> Vec<String> {
    events.iter().map(|event| format!("{} {} {}", event.container, event.instance, event.what)).collect()
}

/// A script that ends on SIGTERM with this code.
fn ending_with(code: i32) -> String {
    format!("trap 'echo told; exit {code}' TERM; echo up; while true; do sleep 0.1; done")
}

#[test]
fn a_pod_lives_from_its_image_and_is_deleted_without_a_trace() {
    if !is_inside("a_pod_lives_from_its_image_and_is_deleted_without_a_trace") {
        return;
    }
    let node = Node::new();
    let script = format!(
        "echo $$ $WHO; cat /etc/image; echo changed > /etc/image; echo words >&2; echo why > /dev/termination-log; \
         echo a > /shared/a; echo h > /host/h; {}",
        ending_with(7)
    );
    let stubborn = "trap '' TERM; echo up; while true; do sleep 0.1; done";
    let mut pod = Pod {
        name: pod_name(),
        grace: 5,
        host_paths: vec![HostPath {
            path: node.folder.join("host").display().to_string(),
            kind: String::new(),
        }],
        empty_dirs: vec!["shared".to_owned()],
        containers: vec![node.container("one", &script), node.container("two", stubborn)],
    };
    set_env(&mut pod, "one", "WHO", "user").unwrap();
    fs::create_dir_all(node.folder.join("pods")).unwrap();
    fs::write(node.folder.join(format!("pods/{}.json", pod_name())), serde_json::to_string(&pod).unwrap())
        .unwrap();
    let pod = node.kubelet.start(node.kubelet.read(&pod_name()).unwrap()).unwrap();
    pod.wait_until_ready(SOON).unwrap();
    for container in ["one", "two"] {
        pod.wait_until_it_says(container, "up", SOON).unwrap();
    }
    for line in ["1 user\n", "of the image\n", "words\n"] {
        pod.wait_until_it_says("one", line, SOON).unwrap();
    }
    let output =
        pod.exec("two", &["sh", "-c", "cat /shared/a /host/h /etc/image; echo $WHO; exit 5"]).unwrap();
    assert_eq!((output.code, output.text.as_str()), (5, "a\nh\nof the image\nmanifest\n"));
    assert!(pod.exec("two", &["nonesuch"]).is_err());
    let namespace = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/pid")).unwrap();
    assert_ne!(namespace(pod.pid_1("one").unwrap()), namespace(std::process::id()));
    assert!(pod.is_ready("one").unwrap() && pod.is_ready("three").is_err());

    let logs = pod.logs().to_owned();
    let deleted = pod.delete().unwrap();
    let [one, two] = deleted.as_slice() else { panic!("{deleted:?}") };
    assert_eq!((&one.end, one.was_killed, one.message.as_str()), (&End::Exited(7), false, "why\n"));
    assert!(one.time.unwrap() < Duration::from_secs(5), "{one:?}");
    assert_eq!((&two.end, two.was_killed, two.message.as_str()), (&End::Signalled(9), true, ""));
    assert!(two.time.unwrap() >= Duration::from_secs(5), "{two:?}");
    assert!(fs::read_to_string(logs.join("one/0.log")).unwrap().ends_with("told\n"));
    node.check_that_nothing_is_left();
}

#[test]
fn a_container_that_ends_is_started_again_from_its_image() {
    if !is_inside("a_container_that_ends_is_started_again_from_its_image") {
        return;
    }
    let node = Node::new();
    let script = "cat /etc/image; echo changed > /etc/image; echo x >> /shared/a; cat /shared/a > /dev/termination-log; \
                  while true; do sleep 0.1; done";
    let pod = node.start(vec![node.container("one", script)]);
    let started = |number| move |event: &Event| event.instance == number && event.what == What::Started;
    let count = |number: u32| move |text: String| text.matches("of the image\n").count() == number as usize;
    pod.wait_for_event("the first instance", SOON, started(0)).unwrap();
    pod.wait_until_it_says("one", "of the image", SOON).unwrap();
    crate::wait::until("the first message", SOON, || {
        Ok((pod.exec("one", &["cat", "/dev/termination-log"])?.text == "x\n").then_some(()))
    })
    .unwrap();
    assert_eq!(pod.termination_message("one").unwrap(), None);
    pod.kill("one", Signal::KILL).unwrap();
    pod.wait_for_event("the second instance", SOON, started(1)).unwrap();
    assert_eq!(pod.last_end("one").unwrap(), Some(End::Signalled(9)));
    assert_eq!(pod.termination_message("one").unwrap().unwrap(), "x\n");
    crate::wait::until("the second instance's log", SOON, || Ok(count(2)(pod.log("one")?).then_some(())))
        .unwrap();
    assert_eq!(pod.log_of_instance("one", 1).unwrap(), "of the image\n");
    pod.kill("one", Signal::KILL).unwrap();
    let back_off =
        pod.wait_for_event("a back-off", SOON, |event| matches!(event.what, What::BackOff(_))).unwrap();
    let What::BackOff(wait) = back_off.what else { panic!() };
    assert!(wait > Duration::from_secs(5) && wait <= Duration::from_secs(10), "{wait:?}");
    assert!(!pod.is_ready("one").unwrap());
    assert_eq!(pod.restarts("one").unwrap(), 1);
    let start = Instant::now();
    let deleted = pod.delete().unwrap();
    assert!(start.elapsed() < wait, "the back-off ends with the pod");
    assert_eq!((deleted[0].time, deleted[0].restarts), (None, 1));
    node.check_that_nothing_is_left();
}

#[test]
fn probes_decide_what_is_ready_and_what_is_killed() {
    if !is_inside("probes_decide_what_is_ready_and_what_is_killed") {
        return;
    }
    let node = Node::new();
    let container = node.container("one", &ending_with(0));
    let container = with_probe(container, ProbeKind::Startup, "test -e /shared/started", 30);
    let container = with_probe(container, ProbeKind::Readiness, "test -e /shared/ready", 1);
    let container = with_probe(container, ProbeKind::Liveness, "test ! -e /shared/hangs || sleep 60", 1);
    let pod = node.start(vec![container]);
    let wait = |what: What| pod.wait_for_event(&what.to_string(), SOON, |event| event.what == what).unwrap();
    let touch = |name: &str| pod.exec("one", &["touch", &format!("/shared/{name}")]).unwrap();
    let failed = |kind| What::ProbeFailed(kind, "exit code 1".to_owned());
    wait(failed(ProbeKind::Startup));
    touch("started");
    wait(failed(ProbeKind::Readiness));
    wait(What::ProbePassed(ProbeKind::Liveness));
    assert!(!pod.is_ready("one").unwrap());
    touch("ready");
    pod.wait_until_ready(SOON).unwrap();
    pod.exec("one", &["rm", "/shared/ready"]).unwrap();
    wait(What::NotReady);
    touch("hangs");
    pod.wait_for_event("a restart", SOON, |event| event.instance == 1 && event.what == What::Started)
        .unwrap();
    let said: Vec<_> =
        happened(&pod.events()).into_iter().skip_while(|said| !said.contains("no longer")).collect();
    let expected = [
        "one 0 is no longer ready",
        "one 0 liveness probe failed: no answer within 4 s",
        "one 0 told to stop (SIGTERM): its liveness probe failed too often",
        "one 0 ended: exit code 0",
        "one 1 started",
    ];
    let without_readiness: Vec<_> = said.iter().filter(|said| !said.contains("readiness")).take(5).collect();
    assert_eq!(without_readiness, expected, "{said:?}");
    pod.delete().unwrap();
    node.check_that_nothing_is_left();
}

#[test]
fn what_cannot_be_started_is_told_and_tried_again() {
    if !is_inside("what_cannot_be_started_is_told_and_tried_again") {
        return;
    }
    let node = Node::new();
    let mut container = node.container("one", "");
    container.config["process"]["args"] = json!(["/bin/nonesuch"]);
    let pod = node.start(vec![container]);
    pod.wait_for_event("a back-off", SOON, |event| matches!(event.what, What::BackOff(_))).unwrap();
    let said = happened(&pod.events());
    let [first, second, back_off] = said.as_slice() else { panic!("{said:?}") };
    assert!(first.starts_with("one 0 ended: no start: crun create: "), "{first}");
    assert!(first.contains("/bin/nonesuch") && second.starts_with("one 1 ended: "), "{said:?}");
    assert_eq!(back_off, "one 1 back-off of 10 s");
    let deleted = pod.delete().unwrap();
    assert_eq!((deleted[0].end.code(), deleted[0].restarts), (128, 1));
    node.check_that_nothing_is_left();
}

#[test]
fn a_pod_that_is_dropped_is_gone() {
    if !is_inside("a_pod_that_is_dropped_is_gone") {
        return;
    }
    let node = Node::new();
    let pod = node.start(vec![node.container("one", "trap '' TERM; while true; do sleep 0.1; done")]);
    pod.wait_until_ready(SOON).unwrap();
    let process = PathBuf::from(format!("/proc/{}", pod.pid_1("one").unwrap()));
    assert!(process.exists());
    drop(pod);
    assert!(!process.exists());
    node.check_that_nothing_is_left();
}

#[test]
fn a_container_is_told_to_stop_once() {
    if !is_inside("a_container_is_told_to_stop_once") {
        return;
    }
    let mut node = Node::new();
    node.grace = 2;
    let container = node.container("one", "trap 'echo told' TERM; echo up; while true; do sleep 0.1; done");
    let pod = node.start(vec![with_probe(container, ProbeKind::Liveness, "exit 3", 1)]);
    pod.wait_for_event("a failed probe", SOON, |event| matches!(event.what, What::ToldToStop(_))).unwrap();
    pod.wait_until_it_says("one", "told", SOON).unwrap();
    let logs = pod.logs().to_owned();
    let deleted = pod.delete().unwrap();
    assert_eq!((&deleted[0].end, deleted[0].was_killed), (&End::Signalled(9), true));
    assert_eq!(fs::read_to_string(logs.join("one/0.log")).unwrap(), "up\ntold\n");
    node.check_that_nothing_is_left();
}

#[test]
fn a_mount_that_a_container_leaves_is_told() {
    if !is_inside("a_mount_that_a_container_leaves_is_told") {
        return;
    }
    let node = Node::new();
    let script = format!("mount -t tmpfs left /shared && touch /shared/in; {}", ending_with(0));
    let mut container = node.container("one", &script);
    container.config["linux"]["rootfsPropagation"] = json!("rshared");
    container.config["process"]["capabilities"] = ["bounding", "effective", "permitted"]
        .map(|set| (set, json!(["CAP_SYS_ADMIN"])))
        .into_iter()
        .collect();
    let mounts = container.config["mounts"].as_array_mut().unwrap();
    let shared = mounts.iter_mut().find(|mount| mount["destination"] == "/shared").unwrap();
    shared["options"] = json!(["rbind", "rshared", "rw"]);
    let pod = node.start(vec![container]);
    pod.wait_until_it_says("one", "up", SOON).unwrap();
    let place = node.folder.join("state/pods").join(pod_name()).join("volumes/shared");
    assert!(place.join("in").exists(), "a bidirectional mount reaches the node");
    let error = pod.delete().unwrap_err().to_string();
    assert!(error.contains("mounts are left") && error.contains("volumes/shared"), "{error}");
    assert!(place.join("in").exists(), "what is mounted is not removed");
    rustix::mount::unmount(&place, rustix::mount::UnmountFlags::empty()).unwrap();
}

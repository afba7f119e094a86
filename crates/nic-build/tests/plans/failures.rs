//! What fails, and what that means: every command of every plan.

use nic_build::{BuildFacts, OnFailure, PackageSource, Work, prerequisites};
use nic_host::{Captured, Host, Replay, Secret, error_chain};

use crate::machine::{commands, machines};

fn failure() -> Captured {
    Captured { code: Some(1), stdout: String::new(), stderr: "no such package\n".to_owned() }
}

#[tokio::test]
async fn each_command_of_each_plan_fails_as_the_plan_says() {
    let token = Secret::new("C1token");
    let (mut fatal, mut passed) = (0, 0);
    for machine in machines() {
        let dir = machine.tree();
        let host = Host::at(dir.path());
        for (title, plan) in machine.plans(&host, Some(&token)).plans() {
            let all: Vec<String> =
                commands(&plan.steps).iter().map(|command| command.invocation().to_string()).collect();
            let answers = |failing: &[String]| {
                all.iter().fold(Replay::default(), |replay, command| {
                    let answer = match failing.contains(command) {
                        true => failure(),
                        false => Captured::success(""),
                    };
                    replay.answer(command, answer)
                })
            };
            plan.apply(&host.with_replay(answers(&[]))).await.unwrap();
            for command in commands(&plan.steps) {
                let line = command.invocation().to_string();
                // What is only asked for when a question's answer is no: the questions fail, too.
                let mut failing = vec![line.clone()];
                let replay = answers(&failing);
                let mut ended = plan.apply(&host.with_replay(replay.clone())).await;
                let mut asked = replay.asked();
                if !asked.contains(&line) {
                    failing.extend(all.iter().filter(|other| is_question(other)).cloned());
                    let replay = answers(&failing);
                    ended = plan.apply(&host.with_replay(replay.clone())).await;
                    asked = replay.asked();
                }
                assert!(asked.contains(&line), "{}: {title}: {line} is never run", machine.name);
                if is_question(&line) || command.on_failure != OnFailure::Fatal {
                    passed += 1;
                    ended.unwrap();
                } else {
                    fatal += 1;
                    let error = error_chain(&ended.unwrap_err());
                    assert!(error.starts_with(&format!("cannot {}", command.purpose)), "{error}");
                    assert!(error.contains("no such package") && asked.last() == Some(&line), "{error}");
                }
            }
        }
    }
    assert!(fatal > 40 && passed > 40, "{fatal} {passed}");
}

fn is_question(line: &str) -> bool {
    line.starts_with("dnf makecache") || line.starts_with("dnf list available")
}

#[tokio::test]
async fn files_of_the_host_that_are_missing_are_fatal() {
    for (name, missing) in [
        ("ubuntu_realtime", "host/etc/apt"),
        ("rhel_64k", "host/etc/yum.repos.d/redhat.repo"),
        ("rhel_8_rt", "host/etc/yum.repos.d/redhat.repo"),
    ] {
        let machine = machines().into_iter().find(|machine| machine.name == name).unwrap();
        let dir = machine.tree();
        let host = Host::at(dir.path());
        let plan = machine.plans(&host, None).prerequisites;
        let gone = dir.path().join(missing);
        std::fs::remove_dir_all(&gone).or_else(|_| std::fs::remove_file(&gone)).unwrap();
        let error = error_chain(&plan.apply(&host).await.unwrap_err());
        assert!(error.starts_with("cannot take over the host's") && error.contains(missing), "{error}");
    }
}

#[test]
fn what_tells_nothing_is_an_error_or_leaves_something_out() {
    let machine = machines().into_iter().find(|machine| machine.name == "rhel_9_6").unwrap();
    let dir = machine.tree();
    let host = Host::at(dir.path());
    let mut node = machine.node(&host);
    let facts = BuildFacts::observe(&host, &node).unwrap();
    node.host_os.version_id.clear();
    node.kernel = "6.1.0-custom".parse().unwrap();
    let work = Work::due(PackageSource::Sources, false, false);
    let error = prerequisites(&node, &facts, work).unwrap_err();
    assert!(error.to_string().starts_with("cannot tell the RHEL release"), "{error}");
    // Where nothing is built, nobody asks.
    prerequisites(&node, &facts, Work::due(PackageSource::Sources, true, false)).unwrap();

    // OpenShift that does not tell its release: no repository of OpenShift's, and no guess.
    let machine = machines().into_iter().find(|machine| machine.name == "openshift_4_19").unwrap();
    let dir = machine.tree();
    let host = Host::at(dir.path());
    let mut node = machine.node(&host);
    node.openshift = None;
    let facts = BuildFacts::observe(&host, &node).unwrap();
    let plan = prerequisites(&node, &facts, work).unwrap().to_string();
    assert!(!plan.contains("rhocp") && plan.contains("does not tell its release of OpenShift"), "{plan}");

    // /proc/version that cannot be read; on OpenShift nobody asks.
    std::fs::remove_file(dir.path().join("proc/version")).unwrap();
    assert_eq!(BuildFacts::observe(&host, &node).unwrap(), facts);
    let machine = machines().into_iter().find(|machine| machine.name == "sles").unwrap();
    let dir = machine.tree();
    let host = Host::at(dir.path());
    std::fs::remove_file(dir.path().join("proc/version")).unwrap();
    let error = BuildFacts::observe(&host, &machine.node(&host)).unwrap_err();
    assert!(error.to_string().contains("proc/version"), "{error}");
}

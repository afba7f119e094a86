//! `run` on a node of a test's own, as far as one comes without NICs: what ends the container, and what it waits for.

use std::fs;
use std::time::Duration;

use nic_driver::Exit;

use crate::chroot::{Chroot, until};
use crate::node_tree::{deb, debian_architecture};

const KERNEL: &str = "6.8.0-31-generic";
const MESSAGE: &str = "dev/termination-log";
const PACKAGE: &str = "mlnx-ofed-kernel-modules";

fn ubuntu() -> Chroot {
    let gcc = "x86_64-linux-gnu-gcc-13 (Ubuntu 13.2.0-23ubuntu4) 13.2.0";
    let root = Chroot::new("ubuntu-24.04", None, KERNEL, gcc);
    root.write(MESSAGE, "");
    let module = format!("/lib/modules/{KERNEL}/updates/mlx5_core.ko");
    let package = deb(PACKAGE, "25.10", debian_architecture(), &[&module]);
    root.write(&format!("built/DEBS/ubuntu24.04/{}/modules.deb", std::env::consts::ARCH), package);
    root.write(
        &format!("installed/{PACKAGE}"),
        format!("{PACKAGE}\t25.10\t{}\tii \n", debian_architecture()),
    );
    root
}

fn message(root: &Chroot) -> String {
    fs::read_to_string(root.path(MESSAGE)).unwrap()
}

#[test]
fn a_mode_is_needed_and_a_wrong_one_is_named() {
    let root = ubuntu();
    for (arguments, told) in [
        (&["run"][..], "MODE"),
        (&["run", "source"], "source"),
        (&["run", "sources", "precompiled"], "precompiled"),
    ] {
        let ran = root.run(&[], arguments);
        assert!(ran.code == Exit::Usage as i32 && ran.stderr.contains(told), "{}", ran.text());
    }
    let ran = root.run(&[("NVIDIA_NIC_DRIVER_VER", "")], &["run", "sources"]);
    assert!(ran.code == 2 && ran.stderr.contains("NVIDIA_NIC_DRIVER_VER is not set"), "{}", ran.text());
    assert!(root.commands().is_empty());
}

#[test]
fn a_build_that_fails_ends_it_with_its_reason_but_not_for_ever() {
    let root = ubuntu();
    root.write("fail/install.pl", "");
    root.write("run/mellanox/drivers/.driver-ready", "");
    for _ in 0..3 {
        let ran = root.run(&[], &["run", "sources"]);
        assert_eq!(ran.code, Exit::Failed as i32, "{}", ran.text());
        assert!(
            message(&root).contains("cc1: error: mlnx-ofed-kernel does not compile"),
            "{}",
            message(&root)
        );
        assert!(!root.path("run/mellanox/drivers/.driver-ready").exists());
    }
    // From now on each end would count against the node.
    root.write(MESSAGE, "");
    let mut running = root.start("/nic-driver", &[], &["run", "sources"]);
    until("it tells why it waits", || message(&root).contains("does not compile"));
    running.terminate();
    assert_eq!(running.wait(), Some(Exit::Success as i32));
}

#[test]
fn what_may_pass_is_waited_for_inside() {
    let root = ubuntu();
    root.write("fail/apt-get", "");
    let mut running = root.start("/nic-driver", &[], &["run", "sources"]);
    until("it tells why it waits", || message(&root).contains("apt-get"));
    root.remove("fail/apt-get");
    // The driver that was built is without a module that the family requires, which is the container's fault.
    assert_eq!(running.wait(), Some(Exit::NoModule as i32));
    assert!(root.commands().iter().any(|command| command.starts_with("install.pl")));
    assert!(message(&root).contains("mlx5_core"), "{}", message(&root));
}

#[test]
fn told_to_stop_in_mid_build_it_ends_well_and_leaves_nothing() {
    let root = ubuntu();
    root.write("gate", "");
    let variables = [("NVIDIA_NIC_DRIVERS_INVENTORY_PATH", "/inventory")];
    let mut running = root.start("/nic-driver", &variables, &["run", "sources"]);
    until("the build begins", || root.path("log/reached").exists());
    running.terminate();
    assert_eq!(running.wait(), Some(Exit::Success as i32));
    let left: Vec<_> =
        root.files().into_keys().filter(|path| path.starts_with(&format!("inventory/{KERNEL}/25"))).collect();
    assert_eq!(left, [""; 0]);
    assert!(!root.path("var/lib/nic-driver/packages").exists());
    assert_eq!(message(&root), "", "it was asked to");
}

#[test]
fn it_is_also_the_entrypoint_by_name() {
    let root = ubuntu();
    fs::hard_link(root.path("nic-driver"), root.path("entrypoint")).unwrap();
    let mut running = root.start("/entrypoint", &[], &["precompiled"]);
    assert_eq!(running.wait(), Some(Exit::NoModule as i32));
    assert!(message(&root).contains(KERNEL), "{}", message(&root));
}

#[test]
fn an_instance_that_is_at_work_is_waited_for_and_nothing_is_touched() {
    let root = ubuntu();
    root.write("gate", "");
    let first = root.start("/nic-driver", &[], &["install", "sources"]);
    until("the build begins", || root.path("log/reached").exists());
    root.write("run/mellanox/drivers/.driver-ready", "");
    let mut second = root.start("/nic-driver", &[], &["run", "sources"]);
    std::thread::sleep(Duration::from_secs(2));
    assert!(root.path("run/mellanox/drivers/.driver-ready").exists(), "it is the first one's");
    second.terminate();
    assert_eq!(second.wait(), Some(Exit::Success as i32));
    assert!(root.path("run/mellanox/drivers/.driver-ready").exists(), "it is the first one's");
    drop(first);
}

#[test]
fn a_failed_container_that_is_debugged_pauses_with_everything_in_its_second_log() {
    let root = ubuntu();
    root.write("fail/install.pl", "");
    let password = "s3cret-of-the-proxy";
    let proxy = format!("http://user:{password}@proxy.example.org:3128");
    let variables =
        [("ENTRYPOINT_DEBUG", "true"), ("HTTPS_PROXY", &*proxy), ("UBUNTU_PRO_TOKEN", "C1SecretToken")];
    let mut running = root.start("/nic-driver", &variables, &["run", "sources"]);
    let log = || fs::read_to_string(root.path("tmp/entrypoint_debug_cmds.log")).unwrap_or_default();
    until("it pauses", || log().contains("pauses for a person to look"));
    assert!(log().contains("DEBUG") && log().contains("does not compile"), "{}", log());
    for secret in [password, "C1SecretToken"] {
        assert_eq!(log().lines().find(|line| line.contains(secret)), None);
    }
    assert!(message(&root).contains("does not compile"), "{}", message(&root));
    // The lock is free meanwhile.
    let other = root.run(&[], &["--timeout", "1", "install", "precompiled"]);
    assert_ne!(other.code, Exit::Locked as i32, "{}", other.text());
    running.terminate();
    assert_eq!(running.wait(), Some(Exit::Failed as i32));

    let ran = root.run(&[("ENTRYPOINT_DEBUG", "true"), ("DEBUG_LOG_FILE", "/none/log")], &["run", "sources"]);
    assert!(ran.code == Exit::Usage as i32 && ran.stderr.contains("DEBUG_LOG_FILE"), "{}", ran.text());
    let ran =
        root.run(&[("ENTRYPOINT_DEBUG", "true"), ("DEBUG_SLEEP_SEC_ON_EXIT", "0")], &["run", "sources"]);
    assert_eq!(ran.code, Exit::Failed as i32, "{}", ran.text());
}

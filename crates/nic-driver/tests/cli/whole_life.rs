//! A driver container from its start to its end, on a node without NICs: what it does, in which order, and what it leaves.

use std::fs;
use std::path::Path;

use insta::assert_snapshot;
use nic_driver::Exit;
use serde_json::Value;

use crate::chroot::{Chroot, Running, until};
use crate::program::{AFTER, copy_folder};

/// The documented node's.
const KERNEL: &str = "5.14.0-570.73.1.el9_6.aarch64+64k";
const MESSAGE: &str = "dev/termination-log";
const READY: &str = "run/mellanox/drivers/.driver-ready";
const RULE: &str = "host/etc/udev/rules.d/77-mlnx-net-names.rules";
/// What a container that was killed has left there.
const LEFT_RULE: &str = "# Written by nic-driver\n";
const HEADERS: &str = "usr/src/ofa_kernel/default/Module.symvers";
const SHARED_HEADERS: &str = "run/mellanox/drivers/usr/src";

/// A node whose image has the documented node's driver, which is not loaded; with these modules, too.
fn node(more: &[&str]) -> Chroot {
    let root = Chroot::new("ubuntu-24.04", None, KERNEL, "gcc-13 (Ubuntu 13.2.0) 13.2.0");
    let modules = format!("lib/modules/{KERNEL}");
    copy_folder(&Path::new(AFTER).join(&modules), &root.path(&modules));
    let folder = format!("{modules}/extra/mlnx-ofa_kernel/drivers/infiniband/core");
    let mut index = fs::read_to_string(root.path(format!("{modules}/modules.dep"))).unwrap();
    for name in more {
        fs::copy(root.path(format!("{folder}/ib_umad.ko")), root.path(format!("{folder}/{name}.ko")))
            .unwrap();
        index += &format!("{}/{name}.ko:\n", folder.strip_prefix(&format!("{modules}/")).unwrap());
    }
    root.write(&format!("{modules}/modules.dep"), index);
    for name in loaded(Path::new(AFTER)) {
        let srcversion = fs::read(Path::new(AFTER).join(format!("sys/module/{name}/srcversion"))).unwrap();
        root.write(&format!("srcversions/{name}"), srcversion);
    }
    root.peer("modprobe.sh", &["usr/sbin/modprobe".to_owned()]);
    root.write(HEADERS, "");
    root.write(MESSAGE, "");
    fs::create_dir_all(root.path("host/etc/modprobe.d")).unwrap();
    fs::create_dir_all(root.path("sys/class/net")).unwrap();
    fs::create_dir_all(root.path(RULE).parent().unwrap()).unwrap();
    root
}

/// The same with the driver loaded.
fn running_node() -> Chroot {
    let root = node(&[]);
    copy_folder(&Path::new(AFTER).join("sys/module"), &root.path("sys/module"));
    root.write("proc/modules", fs::read(Path::new(AFTER).join("proc/modules")).unwrap());
    root
}

/// The modules that are loaded, the one loaded last first.
fn loaded(root: &Path) -> Vec<String> {
    let text = fs::read_to_string(root.join("proc/modules")).unwrap();
    text.lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

fn is_ready(root: &Chroot) -> bool {
    root.path(READY).exists()
}

fn get_ready(root: &Chroot, variables: &[(&str, &str)]) -> Running {
    let running = root.start_telling(variables, &["run", "precompiled"]);
    until("it gets ready", || is_ready(root) && root.told().0.contains("waiting to be told to stop"));
    running
}

fn stop(mut running: Running) {
    running.terminate();
    assert_eq!(running.wait(), Some(Exit::Success as i32));
}

/// What the journal tells, in order: phases with their outcomes, and steps by the phase they are of.
fn journal(root: &Chroot) -> String {
    let journal = fs::read_to_string(root.path("run/mellanox/drivers/.nic-driver/journal.jsonl")).unwrap();
    let lines = journal.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let told = lines.filter_map(|line| {
        let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
        match &*text("kind") {
            "phase_began" => Some(format!("{} begins\n", text("phase"))),
            "phase_ended" => {
                Some(format!("{} ends: {} ({})\n", text("phase"), text("outcome"), line["exit"]))
            }
            "step_ended" => Some(format!("  {}: {} {}\n", text("phase"), text("step"), text("outcome"))),
            _ => None,
        }
    });
    told.collect()
}

fn loads(root: &Chroot) -> Vec<String> {
    let commands = root.commands().into_iter();
    commands.filter_map(|command| Some(command.strip_prefix("modprobe -- ")?.to_owned())).collect()
}

#[test]
fn a_life_from_the_start_to_the_request_to_stop_has_its_order() {
    let root = node(&["mlx5_vdpa"]);
    // A container that was killed has left them.
    root.write(READY, "");
    root.write(RULE, LEFT_RULE);
    // An interface of the vendor, of which udev tells nothing.
    root.write("sys/class/net/eth0/device/vendor", "0x15b3\n");
    root.write("sys/class/net/eth0/address", "00:00:00:00:00:01\n");
    let running = get_ready(&root, &[("CREATE_IFNAMES_UDEV", "true")]);
    let rule = fs::read_to_string(root.path(RULE)).unwrap();
    assert!(rule.contains("mlx5_core"), "{rule}");
    let seen = running.root().join(SHARED_HEADERS).join("ofa_kernel/default/Module.symvers");
    assert!(seen.exists(), "others find the headers at {}", seen.display());
    // Nobody had it before: it comes with the driver all the same, and not by an alias before that.
    assert_eq!(loaded(&root.path(""))[0], "mlx5_vdpa");
    let blacklist = fs::read_to_string(root.path("log/blacklist")).unwrap();
    for module in ["mlx5_core", "mlx5_vdpa", "mlx5_fwctl"] {
        assert!(blacklist.contains(&format!("blacklist {module}\n")), "{blacklist}");
    }
    assert!(!root.path("host/etc/modprobe.d/blacklist-ofed-modules.conf").is_symlink());
    assert!(root.told().0.contains("no netdev tells the version of its driver"), "{}", root.told().0);
    stop(running);
    assert!(!is_ready(&root) && !root.path(RULE).exists());
    assert_snapshot!(journal(&root));
}

#[test]
fn nothing_is_loaded_where_the_installed_driver_runs() {
    let root = running_node();
    root.write(RULE, LEFT_RULE);
    // The image has its modules: neither sources nor a version are needed.
    let running = get_ready(&root, &[("NVIDIA_NIC_DRIVER_PATH", ""), ("NVIDIA_NIC_DRIVER_VER", "")]);
    assert!(running.root().join(SHARED_HEADERS).join("ofa_kernel").exists());
    assert_eq!(loads(&root), [""; 0]);
    assert!(journal(&root).contains("reload ends: not due"), "{}", journal(&root));
    assert!(!root.path(RULE).exists());
    stop(running);
    assert!(!is_ready(&root));
}

#[test]
fn what_the_driver_works_without_may_fail_to_load() {
    let root = node(&["rpcrdma", "nvme_rdma", "mlx5_dpll"]);
    root.write("fail/modprobe-rpcrdma", "");
    root.write("fail/modprobe-mlx5_dpll", "");
    root.write("fail/modprobe-pci_hyperv_intf", "");
    let running = get_ready(&root, &[("ENABLE_NFSRDMA", "true")]);
    let loads = loads(&root);
    assert!(loads.contains(&"rpcrdma".to_owned()) && loads.contains(&"mlx5_dpll".to_owned()), "{loads:?}");
    // Whoever uses it loads it.
    assert!(!loads.contains(&"nvme_rdma".to_owned()), "{loads:?}");
    let told = root.told().0;
    for module in ["rpcrdma", "mlx5_dpll"] {
        let line =
            told.lines().find(|line| line.contains("WARN") && line.contains(&format!("module={module} ")));
        assert!(line.is_some_and(|line| line.contains("the driver works without this one")), "{told}");
    }
    stop(running);

    let root = node(&["rpcrdma"]);
    let running = get_ready(&root, &[]);
    assert!(!self::loads(&root).contains(&"rpcrdma".to_owned()));
    stop(running);
}

/// The kernel's own modules are not in the image, as in most of them.
#[test]
fn what_the_image_lacks_comes_from_the_hosts_tree_and_may_fail() {
    let root = node(&[]);
    let own = format!("lib/modules/{KERNEL}");
    let index = fs::read_to_string(root.path(format!("{own}/modules.dep"))).unwrap();
    let (of_kernel, of_image): (Vec<&str>, Vec<&str>) =
        index.lines().partition(|line| line.starts_with("kernel/"));
    let needs_kernels = of_image.iter().find(|line| line.contains("/mlx5_core.ko:")).unwrap();
    assert!(needs_kernels.contains("kernel/net/tls/tls.ko"), "{needs_kernels}");
    copy_folder(&root.path(&own), &root.path(format!("host/{own}")));
    // What depmod does not find it does not list; the host has an inbox driver as well.
    let without: Vec<String> = of_image
        .iter()
        .map(|line| line.split(' ').filter(|word| !word.starts_with("kernel/")).collect::<Vec<_>>().join(" "))
        .collect();
    root.write(&format!("{own}/modules.dep"), without.join("\n") + "\n");
    root.write(&format!("host/{own}/modules.dep"), of_kernel.join("\n") + "\n");
    root.remove(&format!("{own}/kernel"));
    root.remove(&format!("host/{own}/extra"));
    root.write("fail/modprobe-psample", "");

    let running = get_ready(&root, &[]);
    let commands = root.commands();
    let asked = |command: &str| commands.iter().position(|known| known == command);
    let driver = asked("modprobe -- mlx5_core async_probe=1").unwrap();
    for module in ["tls", "psample", "pci_hyperv_intf"] {
        let before = asked(&format!("modprobe -d /host -- {module}"));
        assert!(before.is_some_and(|before| before < driver), "{module}: {commands:?}");
    }
    stop(running);
}

#[test]
fn a_driver_that_does_not_load_is_tried_again_and_never_ready_before() {
    let root = node(&[]);
    root.write("fail/modprobe-mlx5_core", "");
    let running = root.start_telling(&[], &["run", "precompiled"]);
    let message = || fs::read_to_string(root.path(MESSAGE)).unwrap();
    until("it tells why it waits", || message().contains("could not insert 'mlx5_core'"));
    assert!(!is_ready(&root));
    root.remove("fail/modprobe-mlx5_core");
    until("it gets ready", || is_ready(&root) && message().is_empty());
    stop(running);
}

#[test]
fn an_end_that_fails_is_a_failure_with_its_reason_and_cleans_up() {
    let root = running_node();
    let mut running =
        get_ready(&root, &[("RESTORE_DRIVER_ON_POD_TERMINATION", "true"), ("CREATE_IFNAMES_UDEV", "false")]);
    root.write(RULE, LEFT_RULE);
    root.write("run/mellanox/drivers/.nic-driver/mlx5/installed.json", "no record");
    root.write("run/mellanox/drivers/.nic-driver/installed.json", "no record");
    running.terminate();
    assert_eq!(running.wait(), Some(Exit::Failed as i32));
    let message = fs::read_to_string(root.path(MESSAGE)).unwrap();
    assert!(message.contains("installed.json"), "{message}");
    assert!(!is_ready(&root) && !root.path(RULE).exists());
    let journal = journal(&root);
    assert!(journal.contains("unmount the headers"), "{journal}");
}

#[test]
fn the_log_begins_with_what_runs_and_the_debug_log_with_all_that_is_in_force() {
    let root = running_node();
    let variables = [
        ("NVIDIA_NIC_CONTAINER_VER", "7"),
        ("BIND_DELAY_SEC", "4"),
        ("USE_NEW_ENTRYPOINT", "f"),
        ("STORAGE_MODULES", "ib_srp\tib_iser"),
        ("UBUNTU_PRO_TOKEN", "C1SecretToken"),
        ("HTTPS_PROXY", "http://user:s3cret-of-the-proxy@proxy.example.org:3128"),
    ];
    stop(get_ready(&root, &variables));
    let told = root.told().0;
    let lines: Vec<&str> = told.lines().collect();
    assert!(lines[0].contains("mode=\"precompiled\""), "{told}");
    assert!(lines[1].contains("driver container version 25.10-1.2.8.0-7"), "{told}");
    assert!(lines[2].contains("BIND_DELAY_SEC has no effect"), "{told}");
    assert!(lines[3].contains("USE_NEW_ENTRYPOINT has no effect"), "{told}");
    assert!(!told.contains("in force"), "{told}");

    let debugged = [&variables[..], &[("ENTRYPOINT_DEBUG", "true")]].concat();
    stop(get_ready(&root, &debugged));
    let told = root.told().0;
    for expected in [
        "in force setting=\"storage-modules\" value=\"ib_srp\\tib_iser\" from=\"STORAGE_MODULES\"",
        "in force setting=\"lock-file\" value=\"/run/mellanox/drivers/.lock\" from=\"default\"",
        "in force setting=\"third-party-rdma-modules\" value=\"bnxt_re ",
        "in force setting=\"keep-names\" value=\"false\"",
        "in force variable=\"UBUNTU_PRO_TOKEN\" value=\"set\"",
        "in force variable=\"https_proxy\" value=\"http://***@proxy.example.org:3128\"",
        "file=/etc/os-release text=\"PRETTY_NAME=",
        "file=/proc/version text=\"Linux version 5.14.0-570.73.1.el9_6.aarch64+64k",
        "MiB memory available",
    ] {
        let began = told.find("phase begins").unwrap();
        assert!(told.find(expected).is_some_and(|at| at < began), "{expected}: {told}");
    }
    // Of another mode's settings nothing is in force.
    assert!(!told.contains("setting=\"driver-sources\"") && !told.contains("setting=\"modified\""), "{told}");
    for secret in ["C1SecretToken", "s3cret-of-the-proxy"] {
        assert_eq!(told.lines().find(|line| line.contains(secret)), None);
    }
}

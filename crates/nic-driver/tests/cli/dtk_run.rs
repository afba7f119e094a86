//! `install dtk` and `dtk-build`, each as it runs in its container, over one shared folder.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use nic_driver::Exit;

use crate::chroot::{Chroot, Running, until};
use crate::kill_matrix::KillMatrix;
use crate::node_tree::VERSION;

pub(crate) const KERNEL: &str = "5.14.0-570.73.1.el9_6.x86_64";
const PACKAGE: &str = "mlnx-ofa_kernel-modules";
pub(crate) const SHARED: (&str, &str) = ("DTK_OCP_NIC_SHARED_DIR", "/shared");
pub(crate) const INVENTORY: (&str, &str) = ("NVIDIA_NIC_DRIVERS_INVENTORY_PATH", "/inventory");

/// A node of OpenShift, with a package that a build leaves and rpm installs.
pub(crate) fn openshift() -> Chroot {
    let gcc = "gcc (GCC) 11.5.0 20240719 (Red Hat 11.5.0-5)";
    let root = Chroot::new("rhel-9.6", Some("rhcos-4.19"), KERNEL, gcc);
    let architecture = std::env::consts::ARCH;
    let mut builder = rpm::PackageBuilder::new(PACKAGE, "25.10", "GPL-2.0-only", architecture, "A sample");
    let module = format!("/lib/modules/{KERNEL}/extra/mlx5_core.ko");
    builder.release("1").with_file_contents("module", rpm::FileOptions::new(&module)).unwrap();
    let mut package = Vec::new();
    builder.build().unwrap().write(&mut package).unwrap();
    root.write(&built(), package);
    root.write(&format!("installed/{PACKAGE}"), format!("{PACKAGE}\t0\t25.10-1\t{architecture}\n"));
    fs::create_dir(root.path("shared")).unwrap();
    root
}

/// The package that a build leaves.
pub(crate) fn built() -> String {
    format!("built/RPMS/redhat-release-9.6-0.1.el9/{}/modules.rpm", std::env::consts::ARCH)
}

/// The sidecar's container: the pod's loop, and what it executes.
pub(crate) fn sidecar(root: &Chroot, variables: &[(&str, &str)]) -> Running {
    let text = format!(
        "while [ ! -f /shared/{KERNEL}/dtk_start_compile ]; do sleep 0.05; done; exec /shared/{KERNEL}/dtk_nic_driver_build.sh"
    );
    root.start("/bin/sh", variables, &["-c", &text])
}

/// The same with the incumbent's program in it.
fn sidecar_of_the_incumbent(root: &Chroot) -> Running {
    let text = format!(
        "while [ ! -f /shared/{KERNEL}/dtk_start_compile ]; do sleep 0.05; done; . /shared/{KERNEL}/dtk.env; exec /incumbent/entrypoint dtk-build"
    );
    root.start("/bin/sh", &[("PEER_POLL", "0.05")], &["-c", &text])
}

#[test]
fn killed_at_any_line_of_the_journal_the_next_installation_ends_well() {
    let root = openshift();
    let package = fs::read(root.path(built())).unwrap();
    let ours = |root: &Chroot| sidecar(root, &[]);
    for (variables, beside) in [
        (&[SHARED, INVENTORY][..], &ours as &dyn Fn(&Chroot) -> Running),
        (&[SHARED], &sidecar_of_the_incumbent),
    ] {
        let untouched = root.paths();
        let command = &["install", "dtk", "--output", "json"];
        let lines = KillMatrix { root: &root, variables, command, beside: Some(beside) }.run(|ended| {
            assert_eq!(ended.json()["record"]["packages"][0]["name"], PACKAGE, "{}", ended.text());
            let installed = root.installed_files();
            assert!(
                !installed.is_empty() && installed.iter().all(|file| *file == package),
                "{}",
                ended.text()
            );
        });
        assert!(lines > 9, "{variables:?}: {lines}");
        root.reset(&untouched);
    }
}

#[test]
fn a_driver_container_that_is_killed_in_mid_build_costs_no_second_build() {
    let root = openshift();
    let install = ["install", "dtk", "--output", "json"];
    for beside in
        [&(|root: &Chroot| sidecar(root, &[])) as &dyn Fn(&Chroot) -> Running, &sidecar_of_the_incumbent]
    {
        let untouched = root.paths();
        root.write("gate", "");
        let sidecar = beside(&root);
        let killed = root.start("/nic-driver", &[SHARED, INVENTORY], &install);
        until("the build begins", || root.path("log/reached").exists());
        drop(killed);
        let next = root.run(&[SHARED, INVENTORY], &install).json();
        assert_eq!(next["from"]["is"], "sidecar", "{next}");
        let commands = root.commands();
        let builds = commands.iter().filter(|command| command.starts_with("install.pl")).count();
        assert_eq!(builds, 1, "{commands:#?}");
        drop(sidecar);
        root.reset(&untouched);
    }
}

#[test]
fn the_sidecar_builds_and_the_driver_container_installs() {
    let root = openshift();
    let mut sidecar = sidecar(&root, &[]);
    let install = ["install", "dtk", "--output", "json"];
    let first = root.run(&[SHARED, INVENTORY], &install).json();
    assert_eq!((&first["from"]["is"], &first["changed"]), (&"sidecar".into(), &true.into()), "{first}");
    let commands = root.commands();
    let begun = |beginning: &str| commands.iter().any(|command| command.starts_with(beginning));
    assert!(
        begun("dnf install -y perl") && begun("rpm -ivh --replacepkgs --nodeps /var/lib/nic-driver/fetched/"),
        "{commands:#?}"
    );
    let built = commands.iter().find(|command| command.starts_with("install.pl")).unwrap();
    assert!(built.starts_with("install.pl --build-only --kernel-only --without-knem"), "{built}");
    assert!(built.ends_with(&format!("--kernel {KERNEL} --distro rhel9.6")), "{built}");
    assert!(root.entry().join("modules.rpm").exists());
    assert!(!root.path("var/lib/nic-driver/fetched").exists());
    assert!(root.path("shared").join(KERNEL).join("dtk_done_compile_25_10_1_2_8_0").exists());
    // It stays, and its end is a good one.
    sidecar.terminate();
    assert_eq!(sidecar.wait(), Some(0));
    // The inventory needs no sidecar.
    let second = root.run(&[SHARED, INVENTORY], &install).json();
    assert_eq!((&second["from"]["is"], &second["changed"]), (&"inventory".into(), &false.into()), "{second}");
    // Nor is one needed for what was built before, without an inventory.
    let third = root.run(&[SHARED], &install).json();
    assert_eq!(third["from"]["is"], "sidecar");
    assert!(!root.commands().iter().any(|command| command.starts_with("install.pl")));
}

#[test]
fn the_sidecar_is_handed_the_program_that_is_made_for_it() {
    let handed = |program: &str| {
        let root = openshift();
        for (path, mark) in [("nic-driver-sidecar", "beside"), ("opt/given", "given")] {
            root.write(path, format!("#!/bin/sh\necho {mark} >/log/handed\nexec /nic-driver \"$@\"\n"));
            fs::set_permissions(root.path(path), fs::Permissions::from_mode(0o755)).unwrap();
        }
        let _sidecar = sidecar(&root, &[]);
        let ran = root.run(&[SHARED, ("NIC_DRIVER_SIDECAR_PROGRAM", program)], &["install", "dtk"]);
        let mark = fs::read_to_string(root.path("log/handed")).unwrap_or_default();
        (ran.code, mark, ran.stderr)
    };
    for (program, mark) in [("", "beside\n"), ("/opt/given", "given\n")] {
        let (code, handed, stderr) = handed(program);
        assert_eq!((code, &*handed), (0, mark), "{stderr}");
    }
    let (code, _, stderr) = handed("/opt/none");
    assert!(code == Exit::Failed as i32 && stderr.contains("/opt/none"), "{stderr}");
}

#[test]
fn dkms_is_given_the_sources_and_builds_nothing() {
    let root = openshift();
    root.write("usr/src/ofed-1.0/dkms.conf", "PACKAGE_NAME=ofed\nPACKAGE_VERSION=1.0\n");
    let _sidecar = sidecar(&root, &[]);
    let ran =
        root.run(&[SHARED, ("USE_DKMS", "true"), ("DTK_OCP_DRIVER_BUILD", "true")], &["install", "sources"]);
    assert!(ran.succeeded().contains("packages that the sidecar built"), "{}", ran.stdout);
    let commands = root.commands();
    let dkms: Vec<_> = commands.iter().filter(|command| command.starts_with("dkms ")).collect();
    assert_eq!(dkms, ["dkms status", "dkms add -m ofed -v 1.0", "dkms status"]);
    let built = commands.iter().find(|command| command.starts_with("install.pl")).unwrap();
    assert!(!built.contains("--without-dkms"), "{built}");
}

#[test]
fn a_build_that_fails_is_told_at_once_with_its_reason_and_without_secrets() {
    let root = openshift();
    root.write("fail/install.pl", "");
    let proxy = ("HTTPS_PROXY", "http://user:p%40ssw0rd@proxy.example.org:3128");
    let _sidecar = sidecar(&root, &[proxy]);
    let began = Instant::now();
    let ran = root.run(&[SHARED, INVENTORY, proxy], &["install", "dtk"]);
    assert_eq!(ran.code, Exit::Failed as i32, "{}", ran.text());
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    assert!(ran.stderr.contains("failed (exit code 9)"), "{}", ran.stderr);
    assert!(ran.stderr.contains("cc1: error: mlnx-ofed-kernel does not compile"), "{}", ran.stderr);
    let written = root.written() + &ran.text();
    assert!(written.contains("https_proxy=") && written.contains("result.json\n"), "{written}");
    for secret in ["p%40ssw0rd", "p@ssw0rd"] {
        assert_eq!(written.lines().find(|line| line.contains(secret)), None);
    }
    assert!(!root.entry().exists());
}

#[test]
fn both_sides_end_when_they_are_told_to() {
    let root = openshift();
    let mut driver = root.start("/nic-driver", &[SHARED, INVENTORY], &["install", "dtk"]);
    until("the start flag", || root.path("shared").join(KERNEL).join("dtk_start_compile").exists());
    driver.terminate();
    assert_eq!(driver.wait(), Some(Exit::Interrupted as i32));

    root.write("gate", "");
    let mut sidecar = sidecar(&root, &[]);
    until("the build begins", || root.path("log/reached").exists());
    sidecar.terminate();
    assert_eq!(sidecar.wait(), Some(0));
    std::thread::sleep(Duration::from_millis(2500));
    assert!(!root.path("log/survivor").exists(), "a part of the build outlived it");
}

#[test]
fn the_sidecar_names_the_variable_that_is_missing_or_wrong() {
    let root = openshift();
    let flag = |name: &str| format!("/shared/{KERNEL}/{name}");
    let (folder, start, done) = (flag(""), flag("dtk_start_compile"), flag("dtk_done_compile_25_10_1_2_8_0"));
    let all = [
        ("DTK_OCP_NIC_SHARED_DIR", folder.trim_end_matches('/')),
        ("DTK_OCP_COMPILED_DRIVER_VER", VERSION),
        ("DTK_OCP_START_COMPILE_FLAG", &*start),
        ("DTK_OCP_DONE_COMPILE_FLAG", &*done),
    ];
    for (variable, _) in all {
        let others: Vec<_> = all.into_iter().filter(|(name, _)| *name != variable).collect();
        let ran = root.run(&others, &["dtk-build"]);
        assert_eq!((ran.code, ran.stderr), (2, format!("nic-driver: {variable} is not set\n")));
    }
    let ran = root.run(&[&all[..], &[("USE_DKMS", "maybe")]].concat(), &["dtk-build"]);
    assert!(ran.code == 2 && ran.stderr.contains("USE_DKMS=\"maybe\""), "{}", ran.text());
}

#[test]
fn a_container_without_proc_is_told_and_takes_no_request_for_none() {
    let root = openshift();
    root.remove("proc/self");
    let folder = format!("/shared/{KERNEL}");
    for file in ["dtk_start_compile", ".nic-driver/request.json"] {
        root.write(&format!("{folder}/{file}"), "{}");
    }
    let (start, done) =
        (format!("{folder}/dtk_start_compile"), format!("{folder}/dtk_done_compile_25_10_1_2_8_0"));
    let variables = [
        ("DTK_OCP_NIC_SHARED_DIR", &*folder),
        ("DTK_OCP_COMPILED_DRIVER_VER", VERSION),
        ("DTK_OCP_START_COMPILE_FLAG", &*start),
        ("DTK_OCP_DONE_COMPILE_FLAG", &*done),
    ];
    let ran = root.run(&variables, &["--log", "off", "dtk-build"]);
    assert_eq!(ran.code, Exit::Failed as i32, "{}", ran.text());
    assert!(ran.stderr.contains("request.json") && ran.stderr.contains("/proc"), "{}", ran.stderr);
}

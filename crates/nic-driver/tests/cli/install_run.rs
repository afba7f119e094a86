//! `install` and `build` as they run, on a node of a test's own.

use std::fs;
use std::time::Duration;

use nic_driver::Exit;

use crate::chroot::{Chroot, Running, until};
use crate::kill_matrix::KillMatrix;
use crate::node_tree::{VERSION, deb, debian_architecture};

pub(crate) const KERNEL: &str = "6.8.0-31-generic";
pub(crate) const INVENTORY: (&str, &str) = ("NVIDIA_NIC_DRIVERS_INVENTORY_PATH", "/inventory");
pub(crate) const PACKAGE: &str = "mlnx-ofed-kernel-modules";
const TOKEN: &str = "C1AbCdEfToken";
const PROXY: &str = "http://user:p%40ssw0rd@proxy.example.org:3128";
/// What must be written nowhere: the token, the password, and the password as a program may print it.
const SECRETS: [&str; 3] = [TOKEN, "p%40ssw0rd", "p@ssw0rd"];

/// Ubuntu, with a package that a build leaves and apt-get installs.
pub(crate) fn ubuntu() -> Chroot {
    let gcc = "x86_64-linux-gnu-gcc-13 (Ubuntu 13.2.0-23ubuntu4) 13.2.0";
    let root = Chroot::new("ubuntu-24.04", None, KERNEL, gcc);
    let files = [&*format!("/lib/modules/{KERNEL}/updates/mlx5_core.ko"), "/usr/src/ofed-1.0/dkms.conf"];
    let package = deb(PACKAGE, "25.10", debian_architecture(), &files);
    root.write(&format!("built/DEBS/ubuntu24.04/{}/modules.deb", std::env::consts::ARCH), package);
    root.write(
        &format!("installed/{PACKAGE}"),
        format!("{PACKAGE}\t25.10\t{}\tii \n", debian_architecture()),
    );
    root
}

fn position(commands: &[String], beginning: &str) -> usize {
    let found = commands.iter().position(|command| command.starts_with(beginning));
    found.unwrap_or_else(|| panic!("{beginning} was not run: {commands:#?}"))
}

#[test]
fn packages_are_built_once_and_installed_from_the_inventory_afterwards() {
    let root = ubuntu();
    let install = ["install", "sources", "--output", "json"];
    let first = root.run(&[INVENTORY], &install);
    let json = first.json();
    assert_eq!((&json["from"]["is"], &json["changed"]), (&"build".into(), &true.into()), "{json}");
    let commands = root.commands();
    let order =
        ["update-ca-certificates", "update-alternatives", "install.pl --without-depcheck", "dpkg-query"];
    let places: Vec<usize> = order.iter().map(|command| position(&commands, command)).collect();
    assert!(places.is_sorted(), "{commands:#?}");
    assert!(commands.last().unwrap().starts_with("dpkg-query"), "it is looked whether all is there");
    assert!(root.entry().join("modules.deb").exists());
    let beside = |suffix: &str| root.path("inventory").join(KERNEL).join(format!("{VERSION}.{suffix}"));
    assert_eq!(
        fs::read_to_string(beside("buildconfig")).unwrap(),
        "ENABLE_NFSRDMA=false\nUSE_DKMS=false\nAPPEND_DRIVER_BUILD_FLAGS=\n"
    );
    let inputs = fs::read_to_string(beside("sha256")).unwrap();
    assert!(inputs.contains("GCC 13.2.0, which built the kernel"), "{inputs}");
    let report = root.run(&[], &["--output", "json", "report"]);
    for step in [
        "look for packages in /inventory",
        "build packages from",
        "store the packages",
        "install packages from",
    ] {
        assert!(report.succeeded().contains(step), "{step}: {}", report.stdout);
    }

    // Nothing is built, and nothing installed that is.
    let second = root.run(&[INVENTORY], &install).json();
    assert_eq!((&second["from"]["is"], &second["changed"]), (&"inventory".into(), &false.into()), "{second}");
    let commands = root.commands();
    assert!(!commands.iter().any(|command| command.starts_with("apt-get")), "{commands:#?}");

    // A new container needs no repository but for the kernel's other modules, which are an attempt.
    root.renew_container();
    let third = root.run(&[INVENTORY], &install).json();
    assert_eq!((&third["from"]["is"], &third["changed"]), (&"inventory".into(), &true.into()), "{third}");
    let commands = root.commands();
    assert!(!commands.iter().any(|command| command.starts_with("install.pl")), "{commands:#?}");
    position(&commands, "apt-get install");

    // Other flags are another build.
    let flags = ("APPEND_DRIVER_BUILD_FLAGS", "--with 'two words'");
    let fourth = root.run(&[INVENTORY, flags], &install).json();
    assert_eq!(fourth["from"]["is"], "build");
    let commands = root.commands();
    assert!(
        commands[position(&commands, "install.pl")].ends_with("--without-mlnx-nvme-modules --with two words")
    );
}

#[test]
fn without_an_inventory_nothing_is_left() {
    let root = ubuntu();
    let ran = root.run(&[], &["install", "sources"]);
    assert_eq!(ran.succeeded(), format!("installed: {PACKAGE} 25.10\nfrom: packages that were built here\n"));
    assert!(!root.path("var/lib/nic-driver/packages").exists());
}

#[test]
fn a_build_that_fails_says_why_and_leaves_nothing() {
    let root = ubuntu();
    root.write("fail/install.pl", "");
    let ran = root.run(&[INVENTORY], &["--log", "off", "install", "sources"]);
    assert_eq!(ran.code, Exit::Failed as i32, "{}", ran.text());
    assert!(
        ran.stderr.contains("install.pl") && ran.stderr.contains("failed (exit code 9)"),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("cc1: error: mlnx-ofed-kernel does not compile"), "{}", ran.stderr);
    let kept = fs::read_to_string(root.path("var/log/nic-driver/build.log")).unwrap();
    assert!(kept.contains("Build mlnx-ofed-kernel 25.10"), "{kept}");
    assert!(!root.entry().exists());
    // Each program that is needed is named when it fails.
    for (program, told) in [
        ("update-alternatives", "cannot make GCC 13 the one that gcc is"),
        ("apt-get", "cannot get package lists"),
    ] {
        root.write(&format!("fail/{program}"), "");
        let ran = root.run(&[INVENTORY], &["--log", "off", "install", "sources"]);
        assert!(ran.code == Exit::Failed as i32 && ran.stderr.contains(told), "{}", ran.text());
        root.remove(&format!("fail/{program}"));
        root.write("usr/bin/gcc-13", "");
        root.commands();
    }
    // What may fail does.
    root.remove("fail/install.pl");
    root.write("fail/update-ca-certificates", "");
    root.run(&[INVENTORY], &["install", "sources"]).succeeded();
}

#[test]
fn packages_that_are_not_for_this_node_do_not_stay_in_the_inventory() {
    let root = ubuntu();
    let package =
        deb(PACKAGE, "25.10", debian_architecture(), &["/lib/modules/5.0.0-1-generic/updates/mlx5_core.ko"]);
    root.write(&format!("built/DEBS/ubuntu24.04/{}/modules.deb", std::env::consts::ARCH), package);
    let ran = root.run(&[INVENTORY], &["--log", "off", "install", "sources"]);
    assert_eq!(ran.code, Exit::BadPackage as i32, "{}", ran.text());
    assert!(!root.entry().exists());
    assert!(!root.path("db").exists());
}

/// The package that a build leaves.
pub(crate) fn built(root: &Chroot) -> Vec<u8> {
    let package = format!("built/DEBS/ubuntu24.04/{}/modules.deb", std::env::consts::ARCH);
    fs::read(root.path(package)).unwrap()
}

#[test]
fn killed_at_any_line_of_the_journal_the_next_installation_ends_well() {
    let root = ubuntu();
    let package = built(&root);
    let dkms = ("USE_DKMS", "true");
    for variables in [&[INVENTORY, dkms][..], &[]] {
        let matrix = KillMatrix {
            root: &root,
            variables,
            command: &["install", "sources", "--output", "json"],
            beside: None,
        };
        let lines = matrix.run(|ended| {
            let record = &ended.json()["record"];
            assert_eq!(record["packages"][0]["name"], PACKAGE, "{record}");
            assert_eq!(record["dkms_sources"][0], "/usr/src/ofed-1.0", "{record}");
            let installed = root.installed_files();
            assert!(
                !installed.is_empty() && installed.iter().all(|file| *file == package),
                "{}",
                ended.text()
            );
        });
        assert!(lines > 12, "{variables:?}: {lines}");
        if variables.contains(&INVENTORY) {
            // What is done is done.
            root.commands();
            root.run(variables, &["install", "sources"]).succeeded();
            assert!(!root.commands().iter().any(|command| command.starts_with("install.pl")));
        }
        root.remove("inventory");
        fs::create_dir(root.path("inventory")).unwrap();
        root.renew_container();
    }
}

#[test]
fn killed_at_any_line_of_the_journal_the_next_build_leaves_all_of_it() {
    let root = ubuntu();
    let archive = ["build", "--layer", "image", "--archive", "/a.tar", "--output", "json"];
    let folder = ["build", "--layer", "kmm", "--into", "/layer", "--output", "json"];
    for (variables, command) in
        [(&[INVENTORY][..], &["build", "--output", "json"][..]), (&[], &archive), (&[INVENTORY], &folder)]
    {
        let untouched = root.paths();
        let matrix = KillMatrix { root: &root, variables, command, beside: None };
        let lines = matrix.run(|ended| {
            // Where it was killed when all was laid out, the folder is whole, and not free any more.
            let is_whole =
                ended.code == Exit::Usage as i32 && ended.stdout.contains("/layer must be an empty folder");
            assert!(is_whole || !ended.json()["from"]["is"].is_null(), "{}", ended.text());
            assert!(root.installed_files().is_empty());
            if variables.contains(&INVENTORY) {
                assert_eq!(fs::read(root.entry().join("modules.deb")).unwrap(), built(&root));
            }
        });
        assert!(lines > 9, "{variables:?} {command:?}: {lines}");
        root.reset(&untouched);
    }
}

#[test]
fn a_build_ends_when_it_is_told_to_and_leaves_no_process() {
    let root = ubuntu();
    root.write("gate", "");
    let mut running = root.start("/nic-driver", &[INVENTORY], &["install", "sources"]);
    until("the build begins", || root.path("log/reached").exists());
    running.terminate();
    assert_eq!(running.wait(), Some(Exit::Interrupted as i32));
    std::thread::sleep(Duration::from_millis(2500));
    assert!(!root.path("log/survivor").exists(), "a part of the build outlived it");
    assert!(!root.entry().exists());
    let report = root.run(&[], &["report"]);
    assert!(report.succeeded().contains("stopped as asked"), "{}", report.stdout);
}

#[test]
fn no_secret_is_written_anywhere() {
    let root = ubuntu();
    let variables = [INVENTORY, ("UBUNTU_PRO_TOKEN", TOKEN), ("HTTP_PROXY", PROXY), ("https_proxy", PROXY)];
    let mut written = String::new();
    // All that is run prints its environment, and one after the other fails with it.
    for failing in ["none", "install.pl", "dpkg-query", "depmod", "apt-get", "pro", "update-ca-certificates"]
    {
        root.write(&format!("fail/{failing}"), "");
        for format in ["text", "json"] {
            let options =
                ["--log", "trace", "--log-format", format, "--output", format, "install", "sources"];
            let ran = root.run(&variables, &options);
            assert_eq!(ran.code == 0, failing == "none", "{failing}: {}", ran.text());
            written += &ran.text();
            written += &root.run(&variables, &["report"]).text();
            written += &root.written();
            root.renew_container();
            root.remove(&format!("inventory/{KERNEL}"));
        }
        root.remove(&format!("fail/{failing}"));
    }
    for file in ["build.log\n", "journal.jsonl\n", "modules.deb\n"] {
        assert!(written.contains(file), "{file}");
    }
    assert!(
        written.contains("http_proxy=") && written.contains("pro attach --no-auto-enable ***"),
        "{written}"
    );
    for secret in SECRETS {
        let line = written.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "{secret}");
    }
    // The programs themselves were given them.
    let commands = root.commands();
    position(&commands, &format!("pro attach --no-auto-enable {TOKEN}"));
}

#[test]
fn sources_for_dkms_are_registered_also_when_the_packages_are_installed_already() {
    let root = ubuntu();
    let dkms = [INVENTORY, ("USE_DKMS", "true")];
    root.run(&dkms, &["install", "sources"]).succeeded();
    let commands = root.commands();
    let places = ["apt-get install -y", "dkms add -m ofed -v 1.0", "dkms build", "dkms install"];
    assert!(places.iter().map(|command| position(&commands, command)).is_sorted(), "{commands:#?}");
    assert!(root.path("usr/local/bin/systemctl").is_symlink(), "there is no systemd to call");
    root.remove("db.dkms");
    let again = root.run(&dkms, &["install", "sources", "--output", "json"]).json();
    assert_eq!((&again["from"]["is"], &again["changed"]), (&"inventory".into(), &true.into()));
    position(&root.commands(), "dkms install");
    let recorded = fs::read_to_string(root.path("run/mellanox/drivers/.nic-driver/installed.json")).unwrap();
    assert!(recorded.contains("/usr/src/ofed-1.0"), "{recorded}");
    // Done is done.
    let again = root.run(&dkms, &["install", "sources", "--output", "json"]).json();
    assert_eq!(again["changed"], false);
}

#[test]
fn what_dkms_builds_for_plain_rhel_is_not_in_the_hosts_tree_and_that_is_said() {
    let kernel = "5.14.0-570.73.1.el9_6.x86_64";
    let gcc = "gcc (GCC) 11.5.0 20240719 (Red Hat 11.5.0-5)";
    let root = Chroot::new("rhel-9.6", Some("rhel-9.6"), kernel, gcc);
    let architecture = std::env::consts::ARCH;
    let mut builder =
        rpm::PackageBuilder::new("mlnx-ofa_kernel-dkms", "25.10", "GPL-2.0-only", "noarch", "A sample");
    let conf = rpm::FileOptions::new("/usr/src/ofed-1.0/dkms.conf");
    builder.release("1").with_file_contents("PACKAGE_NAME=ofed\nPACKAGE_VERSION=1.0\n", conf).unwrap();
    let mut package = Vec::new();
    builder.build().unwrap().write(&mut package).unwrap();
    root.write(&format!("built/RPMS/redhat-release-9.6-0.1.el9/{architecture}/dkms.rpm"), package);
    root.write("installed/mlnx-ofa_kernel-dkms", "mlnx-ofa_kernel-dkms\t0\t25.10-1\tnoarch\n");
    root.write("usr/src/ofed-1.0/dkms.conf", "PACKAGE_NAME=ofed\nPACKAGE_VERSION=1.0\n");
    root.write(&format!("lib/modules/{kernel}/build/Makefile"), "");
    root.write(&format!("host/lib/modules/{kernel}/modules.dep"), "");
    // An earlier start without DKMS, by the incumbent.
    let old = format!("host/lib/modules/{kernel}/extra/mlnx-ofa_kernel/mlx5_core.ko");
    root.write(&old, "old");
    let words = "what DKMS builds stays in this container's tree";
    let dkms = ("USE_DKMS", "true");
    let plan = root.run(&[dkms], &["plan", "install", "sources"]);
    assert!(plan.succeeded().contains(words), "{}", plan.stdout);
    let ran = root.run(&[dkms], &["install", "sources"]);
    ran.succeeded();
    assert!(ran.stderr.contains(words), "{}", ran.stderr);
    position(&root.commands(), "dkms install");
    assert_eq!(fs::read(root.path(&old)).unwrap(), b"old");
    assert!(!root.path(format!("lib/modules/{kernel}/extra/mlnx-ofa_kernel")).exists());
    // Without DKMS there is nothing to be said.
    assert!(!root.run(&[], &["plan", "install", "sources"]).succeeded().contains(words));
}

#[test]
fn an_image_has_its_modules_indexed_or_is_refused() {
    let root = ubuntu();
    let ran = root.run(&[], &["--log", "off", "install", "precompiled"]);
    assert_eq!(ran.code, Exit::NoModule as i32, "{}", ran.text());
    root.write(&format!("lib/modules/{KERNEL}/updates/other.ko"), "module");
    root.commands();
    let family = ["--log", "off", "--family", "/family.toml", "install", "precompiled"];
    let mlx5 = include_str!("../../families/mlx5.toml");
    let required = mlx5.lines().find(|line| line.starts_with("required")).unwrap();
    root.write("family.toml", mlx5.replace(required, "required = [\"mlx5_core\"]"));
    let ran = root.run(&[], &family);
    assert_eq!(ran.succeeded(), format!("the modules for {KERNEL} are in the image, and indexed\n"));
    position(&root.commands(), &format!("depmod {KERNEL}"));
    root.run(&[], &family).succeeded();
    assert!(!root.commands().iter().any(|command| command.starts_with("depmod")));
    root.write(&format!("lib/modules/{KERNEL}/modules.dep"), "updates/other.ko:\n");
    let ran = root.run(&[], &family);
    assert_eq!(ran.code, Exit::NoModule as i32, "{}", ran.text());
    assert!(ran.stderr.contains("mlx5_core"), "{}", ran.stderr);
}

#[test]
fn packages_are_built_for_the_inventory_or_an_image_and_not_installed() {
    let root = ubuntu();
    let ran = root.run(&[], &["--log", "off", "build"]);
    assert_eq!(ran.code, Exit::Usage as i32, "{}", ran.text());
    assert!(ran.stderr.contains("NVIDIA_NIC_DRIVERS_INVENTORY_PATH is not set"), "{}", ran.stderr);
    let ran = root.run(&[INVENTORY], &["build"]);
    assert!(
        ran.succeeded().ends_with("modules.deb\nfrom: packages that were built here\n"),
        "{}",
        ran.stdout
    );
    assert!(root.entry().join("modules.deb").exists() && !root.path("db").exists());
    let layer = |kind: &str, archive: &str| {
        let arguments = ["build", "--layer", kind, "--archive", archive, "--output", "json"];
        root.run(&[INVENTORY], &arguments).json()["modules"].clone()
    };
    let modules = layer("image", "/a.tar");
    assert_eq!(modules, serde_json::json!([format!("lib/modules/{KERNEL}/updates/mlx5_core.ko")]));
    layer("image", "/b.tar");
    assert_eq!(fs::read(root.path("a.tar")).unwrap(), fs::read(root.path("b.tar")).unwrap());
    assert_eq!(layer("kmm", "/c.tar")[0], format!("opt/lib/modules/{KERNEL}/updates/mlx5_core.ko"));
    let into = root.run(&[INVENTORY], &["build", "--layer", "kmm", "--into", "/layer"]);
    assert!(into.succeeded().contains("laid out in /layer: 1 modules"), "{}", into.stdout);
    let again = root.run(&[INVENTORY], &["--log", "off", "build", "--layer", "kmm", "--into", "/layer"]);
    assert_eq!(again.code, Exit::Usage as i32, "{}", again.text());
    assert!(!root.path("db").exists() && !root.path("var/lib/nic-driver/layout").exists());
}

/// Starts an installation that holds while the package manager is at work.
fn in_mid_transaction() -> (Chroot, Running) {
    let root = ubuntu();
    root.write("hold-installation", "");
    let running = root.start_telling(&[INVENTORY], &["install", "sources"]);
    until("the installation begins", || root.path("log/installing").exists());
    running.terminate();
    until("the signal is heard", || root.told().0.contains("asked to stop"));
    (root, running)
}

#[test]
fn fault_5_6_a_package_manager_in_mid_transaction_is_waited_for() {
    let (root, mut running) = in_mid_transaction();
    std::thread::sleep(Duration::from_millis(300));
    assert!(!running.has_ended(), "{:?}", root.told());
    root.remove("hold-installation");
    assert_eq!(running.wait(), Some(Exit::Success as i32), "{:?}", root.told());
    assert!(root.path("db").join(PACKAGE).exists(), "it was not finished");
}

#[test]
fn fault_5_6_a_second_signal_is_obeyed_at_once_and_names_the_package_manager_that_goes_on() {
    let (root, mut running) = in_mid_transaction();
    running.terminate();
    assert_eq!(running.wait(), Some(128 + 15));
    let (said, _) = root.told();
    let named =
        said.lines().find(|line| line.contains("in mid-transaction")).unwrap_or_else(|| panic!("{said}"));
    assert!(named.contains("apt-get") && named.contains("modules.deb"), "{named}");
    assert!(!root.path("db").join(PACKAGE).exists());
    root.remove("hold-installation");
    until("it is finished without the program", || root.path("db").join(PACKAGE).exists());
}

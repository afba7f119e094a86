//! `plan install`: the golden plan of each distribution, and that no secret is in any.

use insta::{assert_json_snapshot, assert_snapshot};
use nic_driver::Exit;
use serde_json::Value;

use crate::node_tree::{NodeTree, SOURCES, VERSION, deb, debian_architecture};

const EL_KERNEL: &str = "5.14.0-570.73.1.el9_6.x86_64";
const EL_GCC: &str = "gcc (GCC) 11.5.0 20240719 (Red Hat 11.5.0-5)";
const UBUNTU_KERNEL: &str = "6.8.0-31-generic";
const UBUNTU_GCC: &str = "x86_64-linux-gnu-gcc-13 (Ubuntu 13.2.0-23ubuntu4) 13.2.0";
const INVENTORY: (&str, &str) = ("NVIDIA_NIC_DRIVERS_INVENTORY_PATH", "/mnt/drivers-inventory");

fn rhel() -> NodeTree {
    let tree = NodeTree::new("rhel-9.6", Some("rhel-9.6"), EL_KERNEL, EL_GCC);
    tree.write("run/secrets/etc-pki-entitlement/1.pem", "");
    tree.write(&format!("host/lib/modules/{EL_KERNEL}/modules.dep"), "");
    tree.program("usr/bin/update-ca-trust", "");
    tree
}

fn rhcos() -> NodeTree {
    let tree = NodeTree::new("rhel-9.6", Some("rhcos-4.19"), EL_KERNEL, EL_GCC);
    tree.program("usr/bin/update-ca-trust", "");
    // It is seen, and nothing goes there.
    tree.write(&format!("host/lib/modules/{EL_KERNEL}/modules.dep"), "");
    tree
}

fn ubuntu() -> NodeTree {
    let tree = NodeTree::new("ubuntu-24.04", Some("ubuntu-24.04"), UBUNTU_KERNEL, UBUNTU_GCC);
    tree.program("usr/sbin/update-ca-certificates", "");
    tree
}

#[test]
fn rhel_from_sources() {
    let tree = rhel();
    std::fs::create_dir_all(tree.root().join("mnt/drivers-inventory")).unwrap();
    assert_snapshot!(tree.run(&[INVENTORY], &["plan", "install", "sources"]).succeeded());
    // Nothing is written, the journal and the inventory's lock neither.
    assert!(!tree.sandbox.state().exists());
    assert_eq!(std::fs::read_dir(tree.root().join("mnt/drivers-inventory")).unwrap().count(), 0);
}

#[test]
fn rhcos_from_the_sidecar() {
    let tree = rhcos();
    let variables = [
        ("DTK_OCP_NIC_SHARED_DIR", "/mnt/shared-doca-driver-toolkit"),
        ("APPEND_DRIVER_BUILD_FLAGS", "--with 'two words'"),
        ("NIC_DRIVER_SIDECAR_PROGRAM", "/usr/bin/nic-driver-sidecar"),
    ];
    let by_mode = tree.run(&variables, &["plan", "install", "dtk"]);
    assert_snapshot!(by_mode.succeeded());
    // What the operator says is the same.
    let operator = [&variables[..], &[("DTK_OCP_DRIVER_BUILD", "true")]].concat();
    assert_eq!(tree.run(&operator, &["plan", "install", "sources"]).succeeded(), by_mode.succeeded());
    let json = tree.run(&variables, &["plan", "install", "dtk", "--output", "json"]).json();
    assert_json_snapshot!("rhcos_from_the_sidecar_json", json);
}

#[test]
fn ubuntu_from_sources_with_dkms() {
    let tree = ubuntu();
    assert_snapshot!(tree.run(&[("USE_DKMS", "T")], &["plan", "install", "sources"]).succeeded());
}

#[test]
fn sles_from_sources() {
    let gcc = "gcc (SUSE Linux) 7.5.0";
    let tree = NodeTree::new("sles-15.7", Some("sles-15.7"), "6.4.0-150700.51-default", gcc);
    tree.program("usr/sbin/update-ca-certificates", "");
    assert_snapshot!(tree.run(&[("ENABLE_NFSRDMA", "true")], &["plan", "install", "sources"]).succeeded());
}

#[test]
fn debian_from_a_folder() {
    let kernel = "6.1.0-18-cloud-amd64";
    let tree = NodeTree::new("debian-12", None, kernel, "gcc-12 (Debian 12.2.0-14) 12.2.0");
    let module = format!("/lib/modules/{kernel}/updates/dkms/mlx5_core.ko");
    let package = deb("mlnx-ofed-kernel-modules", "25.10.OFED.1", debian_architecture(), &[&module]);
    tree.write("packages/modules.deb", package);
    let by_mode = tree.run(&[], &["plan", "install", "packages", "/packages"]);
    assert_snapshot!(by_mode.succeeded());
    assert_eq!(
        tree.run(&[], &["plan", "install", "--packages", "/packages"]).succeeded(),
        by_mode.succeeded()
    );
}

#[test]
fn an_image_that_has_the_modules() {
    let tree = ubuntu();
    assert_snapshot!(tree.run(&[], &["plan", "install", "precompiled"]).succeeded());
}

#[test]
fn no_secret_is_in_a_plan() {
    let variables = [
        ("UBUNTU_PRO_TOKEN", "C1AbCdEfToken"),
        ("HTTPS_PROXY", "http://user:p%40ssw0rd@proxy.example.org:3128"),
        ("USE_DKMS", "1"),
    ];
    let tree = ubuntu();
    let text = tree.run(&variables, &["plan", "install", "sources"]);
    assert_snapshot!(text.succeeded());
    for arguments in [
        &["plan", "install", "sources", "--output", "json"][..],
        &["plan", "install", "sources", "--log", "trace"],
        &["plan", "install", "sources", "--help"],
        &["plan", "install", "sources", "--inventory", "/nowhere"],
    ] {
        let ran = tree.run(&variables, arguments).text();
        for secret in ["C1AbCdEfToken", "p%40ssw0rd", "p@ssw0rd"] {
            assert!(!ran.contains(secret), "{ran}");
            assert!(!text.text().contains(secret), "{}", text.text());
        }
    }
}

#[test]
fn what_is_missing_or_wrong_is_named_by_its_variable() {
    let tree = rhel();
    std::fs::write(tree.root().join("file"), "").unwrap();
    for (variables, arguments, named) in [
        (&[("NVIDIA_NIC_DRIVER_VER", "")][..], &["sources"][..], "NVIDIA_NIC_DRIVER_VER is not set"),
        (&[("NVIDIA_NIC_DRIVER_PATH", "")], &["dtk"], "NVIDIA_NIC_DRIVER_PATH is not set"),
        (&[("NVIDIA_NIC_DRIVER_PATH", "/nowhere")], &["sources"], "NVIDIA_NIC_DRIVER_PATH does not name"),
        (&[("NVIDIA_NIC_DRIVER_VER", "../25")], &["sources"], "for 'NVIDIA_NIC_DRIVER_VER ("),
        (
            &[("NVIDIA_NIC_DRIVERS_INVENTORY_PATH", "/file")],
            &["sources"],
            "NVIDIA_NIC_DRIVERS_INVENTORY_PATH",
        ),
        (
            &[("APPEND_DRIVER_BUILD_FLAGS", "--a 'b")],
            &["sources"],
            "APPEND_DRIVER_BUILD_FLAGS cannot be split",
        ),
        (&[("USE_DKMS", "maybe")], &["precompiled"], "for 'USE_DKMS ("),
        (&[("DTK_OCP_DRIVER_BUILD", "2")], &["sources"], "for 'DTK_OCP_DRIVER_BUILD ("),
        (&[], &["--packages", "/x", "precompiled"], "--packages is the mode"),
    ] {
        for command in [&["plan", "install"][..], &["install"]] {
            let ran = tree.run(variables, &[command, arguments].concat());
            // Who may not change anything, or has no machine to change, is told that first.
            if ran.code == Exit::NotRoot as i32 || ran.stderr.contains("is a tree") {
                assert_eq!(command, ["install"], "{}", ran.text());
                continue;
            }
            assert_eq!(ran.code, Exit::Usage as i32, "{}", ran.text());
            assert!(ran.stderr.contains(named), "{named}: {}", ran.text());
        }
    }
    assert!(!tree.sandbox.state().join("journal.jsonl").exists());
}

#[test]
fn an_entry_that_was_not_stored_to_the_end_is_built_anew() {
    let tree = rhel();
    let entry = format!("mnt/drivers-inventory/{EL_KERNEL}/{VERSION}");
    tree.write(&format!("{entry}/a.rpm"), "");
    let plan = tree.run(&[INVENTORY], &["plan", "install", "sources"]);
    let reason = format!("note: the packages are built anew: /{entry}.checksum is missing\n");
    assert!(plan.succeeded().contains(&reason), "{}", plan.stdout);
    assert!(plan.stdout.contains(&format!("{SOURCES}/install.pl")), "{}", plan.stdout);
}

/// The parts of a plan, and the programs that each runs; what they are given is in the golden plans of the crate that decides it.
fn parts_and_programs(plan: &Value) -> String {
    fn programs(steps: &[Value]) -> Vec<String> {
        let below = |step: &Value, key: &str| programs(step[key].as_array().map_or(&[], Vec::as_slice));
        let of_step = |step: &Value| match step["step"].as_str().unwrap() {
            "run" => vec![program(step)],
            "copy" => vec!["copy".to_owned()],
            _ => [vec![program(&step["test"])], below(step, "then"), below(step, "otherwise")].concat(),
        };
        let mut all: Vec<String> = steps.iter().flat_map(of_step).collect();
        all.dedup();
        all
    }
    fn program(command: &Value) -> String {
        let words = command["argv"].as_array().unwrap();
        let first = words[0].as_str().unwrap().rsplit('/').next().unwrap();
        // How packages are put in is the distribution's.
        let verb = words.get(1).and_then(Value::as_str).filter(|_| ["apt-get", "rpm"].contains(&first));
        [first].into_iter().chain(verb).collect::<Vec<_>>().join(" ")
    }
    let parts = plan["parts"].as_array().unwrap().iter().map(|part| {
        let run = programs(part["steps"].as_array().unwrap());
        let name = part["part"].as_str().unwrap();
        if run.is_empty() { format!("{name}: -") } else { format!("{name}: {}", run.join(", ")) }
    });
    parts.map(|part| format!("  {part}\n")).collect()
}

#[test]
fn what_each_distribution_runs_from_sources() {
    let mut table = String::new();
    for (own_os, host_os, kernel) in [
        ("ubuntu-22.04", Some("ubuntu-22.04"), "5.15.0-25-generic"),
        ("ubuntu-24.04", Some("ubuntu-24.04"), "6.8.1-1015-realtime"),
        ("debian-12", None, "6.1.0-18-amd64"),
        ("sles-15.7", Some("sles-15.7"), "6.4.0-150700.51-default"),
        ("sles-15.7", Some("sl-micro-6.0"), "6.4.0-24-default"),
        ("rhel-8.10", Some("rhel-8.10"), "4.18.0-553.el8_10.x86_64"),
        ("rhel-8.10", Some("rhel-8.10"), "4.18.0-553.8.1.rt7.349.el8_10.x86_64"),
        ("rhel-9.6", Some("rhel-9.6"), "5.14.0-570.73.1.el9_6.aarch64+64k"),
        ("rhel-10.0", Some("rhel-10.0"), "6.12.0-55.9.1.el10_0.x86_64"),
        ("rocky-9.6", Some("rocky-9.6"), "5.14.0-570.12.1.el9_6.x86_64"),
        ("almalinux-9.6", Some("almalinux-9.6"), "5.14.0-570.12.1.el9_6.x86_64"),
        ("oracle-9.6", Some("oracle-9.6"), "5.14.0-570.12.1.el9_6.x86_64"),
        ("centos-stream-9", Some("centos-stream-9"), "5.14.0-503.el9.x86_64"),
        ("rhel-9.4", Some("rhel-9.4-ostree"), "5.14.0-427.13.1.el9_4.x86_64"),
        ("rhel-9.4", Some("rhcos-4.18"), "5.14.0-427.73.1.el9_4.x86_64+rt"),
        ("rhel-9.6", Some("rhcos-4.19"), "5.14.0-570.19.1.el9_6.x86_64"),
        ("rhel-9.6", Some("scos-okd"), "5.14.0-600.el9.x86_64"),
    ] {
        let tree = NodeTree::new(own_os, host_os, kernel, "gcc (GCC) 11.5.0 20240719");
        for program in ["usr/bin/update-ca-trust", "usr/sbin/update-ca-certificates"] {
            tree.program(program, "");
        }
        if host_os.is_some() {
            tree.write(&format!("host/lib/modules/{kernel}/modules.dep"), "");
        }
        let plan = tree.run(&[], &["plan", "install", "sources", "--output", "json"]).json();
        table += &format!("{own_os} on {}, {kernel}\n", host_os.unwrap_or("itself"));
        table += &parts_and_programs(&plan);
    }
    assert_snapshot!(table);
}

#[test]
fn a_node_that_is_none_of_those_known_is_named() {
    let tree = NodeTree::new("alpine-3.19", Some("rhel-9.6"), EL_KERNEL, EL_GCC);
    for mode in ["sources", "precompiled", "dtk"] {
        let ran = tree.run(&[], &["plan", "install", mode]);
        assert_eq!(ran.code, Exit::BadPackage as i32, "{}", ran.text());
        assert!(ran.stderr.contains("ID=\"alpine\""), "{}", ran.stderr);
    }
    // Nothing tells its release, by which it would be built for.
    let tree = rhel();
    tree.write("host/etc/os-release", "ID=rhel\n");
    tree.write("proc/sys/kernel/osrelease", "6.1.0-custom");
    for mode in ["sources", "dtk"] {
        let ran = tree.run(&[], &["plan", "install", mode]);
        assert_eq!(ran.code, Exit::BadPackage as i32, "{}", ran.text());
        assert!(ran.stderr.contains("cannot tell the RHEL release"), "{}", ran.stderr);
    }
    // The build sidecar is Red Hat's.
    let ran = ubuntu().run(&[], &["plan", "install", "dtk"]);
    assert_eq!(ran.code, Exit::BadPackage as i32, "{}", ran.text());
    assert!(ran.stderr.contains("cannot tell the RHEL release"), "{}", ran.stderr);
    // No kernel, no node.
    let tree = rhel();
    std::fs::remove_file(tree.root().join("proc/sys/kernel/osrelease")).unwrap();
    let ran = tree.run(&[], &["plan", "install", "sources"]);
    assert_eq!(ran.code, Exit::Failed as i32, "{}", ran.text());
    assert!(ran.stderr.contains("proc/sys/kernel/osrelease"), "{}", ran.stderr);
}

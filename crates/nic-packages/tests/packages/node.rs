//! The table of nodes: what os-release here, os-release of the host and `uname -r` make of it.
//!
//! The texts in `tests/os-release` are those of the distributions, less their addresses.

use std::fs;
use std::path::Path;

use insta::assert_snapshot;
use nic_host::Host;
use nic_packages::{Architecture, Node, NodeError};

/// A node from the texts of its container and its host, its kernel, and its kernel's command line.
fn identify(own_os: &str, host_os: Option<&str>, kernel: &str, cmdline: &str) -> Result<Node, NodeError> {
    let texts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/os-release");
    let dir = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        fs::create_dir_all(dir.path().join(path).parent().unwrap()).unwrap();
        fs::write(dir.path().join(path), text).unwrap();
    };
    write("etc/os-release", &fs::read_to_string(texts.join(own_os)).unwrap());
    write("proc/sys/kernel/osrelease", &format!("{kernel}\n"));
    write("proc/cmdline", &format!("{cmdline}\n"));
    if let Some(host_os) = host_os {
        write("host/usr/lib/os-release", &fs::read_to_string(texts.join(host_os)).unwrap());
        fs::create_dir_all(dir.path().join("host/etc")).unwrap();
        std::os::unix::fs::symlink("../usr/lib/os-release", dir.path().join("host/etc/os-release")).unwrap();
    }
    Node::identify(&Host::at(dir.path()))
}

/// What was made of a node, in one line.
fn line(node: &Node) -> String {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let red_hat = node.distribution.family() == nic_packages::DistributionFamily::RedHat;
    format!(
        "{:?}, rhel {}, openshift {}, {:?} {:?} of {}",
        node.distribution,
        or_dash(red_hat.then(|| node.rhel_release().map_or_else(|_| "?".to_owned(), String::from))),
        or_dash(node.openshift.map(String::from)),
        node.variant.flavour,
        node.variant.name,
        node.variant.version,
    )
}

const PLAIN: &str = "BOOT_IMAGE=/vmlinuz root=/dev/mapper/root ro";
const IMAGE: &str = "BOOT_IMAGE=/vmlinuz ostree=/ostree/boot.1/default/3f/0 rw";

#[test]
fn the_table_of_nodes() {
    // Container, host, uname -r, command line.
    let cases: &[(&str, Option<&str>, &str, &str)] = &[
        ("ubuntu-22.04", Some("ubuntu-22.04"), "5.15.0-25-generic", PLAIN),
        ("ubuntu-24.04", Some("ubuntu-24.04"), "6.8.0-31-generic", PLAIN),
        ("ubuntu-24.04", Some("ubuntu-24.04"), "6.8.0-31-generic-64k", PLAIN),
        ("ubuntu-24.04", Some("ubuntu-24.04"), "6.8.1-1015-realtime", PLAIN),
        ("ubuntu-24.04", Some("ubuntu-24.04"), "6.8.0-1008-aws", PLAIN),
        ("ubuntu-24.04", Some("ubuntu-24.04"), "6.8.0-1012-azure", PLAIN),
        ("ubuntu-22.04", Some("ubuntu-22.04"), "6.5.0-1014-nvidia-64k", PLAIN),
        ("debian-12", None, "6.1.0-18-amd64", PLAIN),
        ("debian-12", None, "6.1.0-18-cloud-amd64", PLAIN),
        ("debian-12", None, "6.1.0-18-rt-arm64", PLAIN),
        ("debian-12", None, "6.12.94+deb12-arm64", PLAIN),
        ("sles-15.7", Some("sles-15.7"), "6.4.0-150700.51-default", PLAIN),
        ("sles-15.7", Some("sles-15.7"), "6.4.0-150700.51-1-default", PLAIN),
        ("sles-15.7", Some("sles-15.7"), "6.4.0-150700.20.3-azure", PLAIN),
        ("sles-15.7", Some("sles-15.7"), "6.4.0-150700.51-64kb", PLAIN),
        ("sles-15.7", Some("sles-15.7"), "6.4.0-150700.7.3-rt", PLAIN),
        ("sles-15.7", Some("sl-micro-6.0"), "6.4.0-24-default", PLAIN),
        ("sles-15.7", Some("sles-15.7"), "6.4.0-150700.51-my-own", PLAIN),
        ("sles-15.7", Some("sles-15.7"), "6.4.0-150700.51", PLAIN),
        ("rhel-8.10", Some("rhel-8.10"), "4.18.0-553.el8_10.x86_64", PLAIN),
        ("rhel-8.10", Some("rhel-8.10"), "4.18.0-553.8.1.rt7.349.el8_10.x86_64", PLAIN),
        ("rhel-9.4", Some("rhel-9.4"), "5.14.0-427.13.1.el9_4.x86_64", PLAIN),
        ("rhel-9.6", Some("rhel-9.6"), "5.14.0-570.73.1.el9_6.aarch64", PLAIN),
        ("rhel-9.6", Some("rhel-9.6"), "5.14.0-570.73.1.el9_6.aarch64+64k", PLAIN),
        ("rhel-9.6", Some("rhel-9.6"), "5.14.0-570.73.1.el9_6.x86_64+rt", PLAIN),
        ("rhel-9.6", Some("rhel-9.6"), "5.14.0-570.73.1.el9_6.aarch64+rt-64k", PLAIN),
        ("rhel-10.0", Some("rhel-10.0"), "6.12.0-55.9.1.el10_0.x86_64", PLAIN),
        ("rhel-10.0", Some("rhel-10.0"), "6.12.0-55.9.1.el10_0.x86_64+rt", PLAIN),
        ("rhel-10.0", Some("rhel-10.0"), "6.12.0-55.9.1.el10_0.aarch64+64k", PLAIN),
        ("rhel-9.6", None, "5.14.0-570.73.1.el9_6.x86_64", PLAIN),
        ("rhel-9.6", Some("rocky-9.6"), "5.14.0-570.12.1.el9_6.x86_64", PLAIN),
        ("rhel-9.6", Some("centos-stream-9"), "5.14.0-503.el9.x86_64", PLAIN),
        ("rocky-9.6", Some("rocky-9.6"), "5.14.0-570.12.1.el9_6.x86_64", PLAIN),
        ("almalinux-9.6", Some("almalinux-9.6"), "5.14.0-570.12.1.el9_6.x86_64", PLAIN),
        ("oracle-9.6", Some("oracle-9.6"), "5.14.0-570.12.1.el9_6.x86_64", PLAIN),
        ("oracle-9.6", Some("oracle-9.6"), "5.15.0-308.179.6.el9uek.x86_64", PLAIN),
        ("centos-stream-9", Some("centos-stream-9"), "5.14.0-503.el9.x86_64", PLAIN),
        ("rhel-9.4", Some("rhel-9.4-ostree"), "5.14.0-427.13.1.el9_4.x86_64", PLAIN),
        ("rhel-9.6", Some("rhel-9.6"), "5.14.0-570.73.1.el9_6.x86_64", IMAGE),
        ("rhel-8.10", Some("rhcos-4.12"), "4.18.0-372.82.1.el8_6.x86_64", IMAGE),
        ("rhel-9.4", Some("rhcos-4.18"), "5.14.0-427.73.1.el9_4.aarch64+64k", IMAGE),
        ("rhel-9.6", Some("rhcos-4.19"), "5.14.0-570.19.1.el9_6.x86_64+rt", IMAGE),
        ("rhel-9.6", Some("rhcos-4.19"), "5.14.0-570.19.1.el9_6.x86_64", PLAIN),
        ("rhel-9.6", Some("scos-okd"), "5.14.0-600.el9.x86_64", IMAGE),
    ];
    let table: String = cases
        .iter()
        .map(|(own_os, host_os, kernel, cmdline)| {
            let node = identify(own_os, *host_os, kernel, cmdline).unwrap();
            format!("{own_os} on {} {kernel}: {}\n", host_os.unwrap_or("itself"), line(&node))
        })
        .collect();
    assert_snapshot!(table);
}

#[test]
fn an_unknown_node_says_what_was_read_where() {
    let told = |node: Result<Node, NodeError>| {
        let architecture = format!(", {}:", Architecture::of_this_program());
        nic_host::error_chain(&node.unwrap_err()).replace(&architecture, ", ARCH:")
    };
    assert_snapshot!(told(identify("alpine-3.19", Some("rhel-9.6"), "6.6.1-0-lts", PLAIN)));
    assert_snapshot!(told(identify("alpine-3.19", None, "6.6.1-0-lts", PLAIN)));
    assert_snapshot!(told(identify("rhel-9.6", Some("rhel-9.6"), "5.14.0-570.el9_6.x86_64+debug", PLAIN)));
}

#[test]
fn what_cannot_be_read_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::at(dir.path());
    let error = nic_host::error_chain(&Node::identify(&host).unwrap_err());
    assert!(error.starts_with("cannot tell which node this is: cannot read "), "{error}");
    assert!(error.contains("usr/lib/os-release"), "{error}");
    // The host's is there and cannot be read: it is not taken for a node that has none.
    fs::create_dir_all(dir.path().join("etc")).unwrap();
    fs::write(dir.path().join("etc/os-release"), "ID=ubuntu\n").unwrap();
    fs::create_dir_all(dir.path().join("host/etc/os-release")).unwrap();
    let error = nic_host::error_chain(&Node::identify(&host).unwrap_err());
    assert!(error.contains("host/etc/os-release"), "{error}");
}

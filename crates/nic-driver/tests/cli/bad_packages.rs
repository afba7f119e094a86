//! Packages that are damaged, made to do harm, or such that the package manager will refuse them: code 16, in bounded memory, before
//! anything is changed.

use std::process::Command;

use nic_driver::Exit;

use crate::install_run::{PACKAGE, ubuntu};
use crate::node_tree::{NodeTree, ar, deb, debian_architecture, gzipped, tar};

const KERNEL: &str = "6.1.0-18-cloud-amd64";

fn module() -> String {
    format!("/lib/modules/{KERNEL}/updates/dkms/mlx5_core.ko")
}

/// What `plan install` says of a package with no more than 600 MiB of address space, which is enough for any sound one.
fn refused(package: &[u8]) -> String {
    let tree = NodeTree::new("debian-12", None, KERNEL, "gcc-12 (Debian 12.2.0-14) 12.2.0");
    tree.write("packages/modules.deb", package);
    let began = std::time::Instant::now();
    let output = Command::new("sh")
        .args(["-c", "ulimit -v 614400; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_nic-driver")])
        .args(["--log", "off", "--root", tree.root().to_str().unwrap(), "--state-dir", "/nonexistent/state"])
        .args(["plan", "install", "packages", "/packages"])
        .env_clear()
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(Exit::BadPackage as i32), "{:?}: {stderr}", output.status);
    assert!(began.elapsed().as_secs() < 60, "after {:?}: {stderr}", began.elapsed());
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.contains("/packages/modules.deb: "), "{stderr}");
    stderr
}

#[test]
fn trial_w1_a_damaged_deb_is_16_and_not_the_end_of_the_process() {
    let whole = deb(PACKAGE, "25.10", debian_architecture(), &[&module()]);
    // The header of the second member: its name at 72, its size at 120.
    for (name, size) in [("/99", "10"), ("//", "9999999999"), ("#1/9999999999", "10")] {
        let mut damaged = whole.clone();
        damaged[72..88].copy_from_slice(format!("{name:<16}").as_bytes());
        damaged[120..130].copy_from_slice(format!("{size:<10}").as_bytes());
        let error = refused(&damaged);
        assert!(error.contains("stands where control.tar is expected"), "{error}");
    }
}

/// A compressed tar member of 1 GiB of zeros.
fn gibibyte(name: &str, kind: u8) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_path(name).unwrap();
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_mode(0o644);
    header.set_size(1 << 30);
    header.set_cksum();
    // What gzip has packed may stand one behind the other.
    [gzipped(header.as_bytes()), gzipped(&vec![0; 8 << 20]).repeat(128)].concat()
}

#[test]
fn trial_w4_a_deb_that_unpacks_to_a_gibibyte_takes_no_memory() {
    let control = |text: &str| tar(&[("./control".to_owned(), text.as_bytes().to_vec())]);
    for (name, kind, message) in [
        ("./control", b'0', "the control file is longer than 1048576 bytes"),
        ("././@LongLink", b'L', "a name of 1073741824 bytes is longer than any path"),
        ("././@LongLink", b'K', "a name of 1073741824 bytes is longer than any path"),
        ("./pax", b'x', "a member of the kind 'x'"),
    ] {
        let error = refused(&ar(&[
            ("debian-binary", b"2.0\n".to_vec()),
            ("control.tar.gz", gibibyte(name, kind)),
            ("data.tar", control("")),
        ]));
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn trial_w18_packages_that_the_package_manager_refuses_are_16() {
    let architecture = debian_architecture();
    let whole = deb(PACKAGE, "25.10", architecture, &[&module()]);
    for (package, message) in [
        (
            whole[..whole.len() - 8].to_vec(),
            "the archive is cut off: 8 bytes are missing of its member \"data.tar\"",
        ),
        (deb("--force-all", "25.10", architecture, &[&module()]), "the field Package is \"--force-all\""),
        (deb("a b; rm -rf /", "25.10", architecture, &[&module()]), "the field Package is \"a b; rm -rf /\""),
        (deb(PACKAGE, "25\u{1b}[31m", architecture, &[&module()]), "the field Version is \"25\\u{1b}[31m\""),
    ] {
        let error = refused(&package);
        assert!(error.contains(message), "{error:?} does not contain {message:?}");
    }
}

#[test]
fn trial_w18_nothing_is_changed_for_a_package_that_is_cut_off() {
    let root = ubuntu();
    let module = format!("/lib/modules/{}/updates/mlx5_core.ko", crate::install_run::KERNEL);
    let whole = deb(PACKAGE, "25.10", debian_architecture(), &[&module]);
    root.write("packages/modules.deb", &whole[..whole.len() - 8]);
    let ran = root.run(&[], &["--log", "off", "install", "packages", "/packages"]);
    assert_eq!(ran.code, Exit::BadPackage as i32, "{}", ran.text());
    assert!(ran.stderr.contains("the archive is cut off"), "{}", ran.stderr);
    assert!(root.commands().iter().all(|command| !command.starts_with("apt-get")), "{:?}", root.commands());
    root.write("packages/modules.deb", &whole);
    root.run(&[], &["--log", "off", "install", "packages", "/packages"]).succeeded();
}

#[test]
fn trial_w18_a_record_of_an_option_for_a_package_is_not_gone_by() {
    let root = ubuntu();
    let record = |name: &str| {
        format!(
            r#"{{"format":"deb","packages":[{{"name":"{name}","version":"1"}}],"kernel":"6.8.0-31-generic","files":[]}}"#
        )
    };
    let module = format!("/lib/modules/{}/updates/mlx5_core.ko", crate::install_run::KERNEL);
    root.write("packages/modules.deb", deb(PACKAGE, "25.10", debian_architecture(), &[&module]));
    let run = |name: &str| {
        root.write("var/state/installed.json", record(name));
        let options = ["--log", "off", "--state-dir", "/var/state", "install", "packages", "/packages"];
        root.run(&[], &options)
    };
    let ran = run("--force-all");
    assert_eq!(ran.code, Exit::Failed as i32, "{}", ran.text());
    assert!(ran.stderr.contains("the field name is \"--force-all\""), "{}", ran.stderr);
    assert!(root.commands().iter().all(|command| !command.contains("--force-all")), "{:?}", root.commands());
    run("a").succeeded();
}

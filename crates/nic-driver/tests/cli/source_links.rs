//! The links to the driver's headers, which others follow who see them at another path.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::chroot::Chroot;
use crate::node_tree::{deb, debian_architecture};

const KERNEL: &str = "6.8.0-31-generic";
const PACKAGE: &str = "mlnx-ofed-kernel-modules";

#[test]
fn they_are_relative_after_every_installation_and_none_fails_for_them() {
    let root = Chroot::new("ubuntu-24.04", None, KERNEL, "gcc-13 (Ubuntu 13.2.0-23ubuntu4) 13.2.0");
    let module = format!("/lib/modules/{KERNEL}/updates/mlx5_core.ko");
    root.write("packages/modules.deb", deb(PACKAGE, "25.10", debian_architecture(), &[&module]));
    let installed = format!("{PACKAGE}\t25.10\t{}\tii \n", debian_architecture());
    root.write(&format!("installed/{PACKAGE}"), installed);
    let own = format!("{}/{KERNEL}", std::env::consts::ARCH);
    root.write(&format!("usr/src/ofa_kernel/{own}/Module.symvers"), "");
    let link = root.path("usr/src/ofa_kernel/default");
    // The packages' scripts make it anew; the second time they are not run.
    for changed in [true, false] {
        if link.is_symlink() {
            fs::remove_file(&link).unwrap();
        }
        symlink(format!("/usr/src/ofa_kernel/{own}"), &link).unwrap();
        let ran = root.run(&[], &["install", "packages", "/packages", "--output", "json"]);
        assert_eq!(ran.json()["changed"], changed, "{}", ran.text());
        assert_eq!(fs::read_link(&link).unwrap(), Path::new(&own));
    }
    fs::remove_file(&link).unwrap();
    symlink("/usr/src/ofa_kernel", &link).unwrap();
    root.write("usr/src/ofa_kernel/default.nic-driver-link/in-the-way", "");
    let ran = root.run(&[], &["install", "packages", "/packages"]);
    ran.succeeded();
    assert!(ran.stderr.contains("default.nic-driver-link"), "{}", ran.stderr);
}

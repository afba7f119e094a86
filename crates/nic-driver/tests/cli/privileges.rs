//! A process that is root and may not do all that a command needs is told so before anything is changed.

use nic_driver::Exit;

use crate::install_run::ubuntu;

#[test]
fn a_capability_that_is_lacking_is_named_before_anything_is_changed() {
    let node = ubuntu();
    let before = node.files();
    for (without, command, lacking) in [
        ("-sys_module", &["reload"][..], "reloading kernel modules needs CAP_SYS_MODULE (kernel modules are"),
        ("-net_admin", &["restore-sriov"], "restoring SR-IOV needs CAP_NET_ADMIN (PFs, VFs and what stands"),
        ("-net_admin", &["terminate"], "terminating needs CAP_NET_ADMIN (PFs, VFs and what stands on them"),
        ("-setuid", &["install", "sources"], "installing packages needs CAP_SETUID (package managers fetch"),
        (
            "-fowner",
            &["build", "--inventory", "/inventory"],
            "building packages needs CAP_FOWNER (files of other owners",
        ),
        (
            "-sys_admin",
            &["run", "precompiled"],
            "running the driver container needs CAP_SYS_ADMIN (headers are",
        ),
        (
            "-sys_admin,-chown,-net_admin",
            &["run", "sources"],
            "needs CAP_NET_ADMIN (PFs, VFs and what stands on them are configured), CAP_SYS_ADMIN (headers are mounted where \
             other containers find them), CAP_CHOWN (files of packages and sources are given their owners)\n",
        ),
    ] {
        let ran = node.run_without(without, command);
        assert_eq!(ran.code, Exit::NotRoot as i32, "{command:?}: {}", ran.text());
        assert!(ran.stderr.contains(lacking), "{command:?}: {}", ran.text());
        assert_eq!(node.files(), before, "{command:?} without {without} has changed something");
    }
    assert_eq!(node.commands(), [""; 0]);
}

#[test]
fn what_only_looks_needs_no_capability() {
    let node = ubuntu();
    // The one that is left is what chroot(8) needs.
    for command in [&["plan", "install", "sources"][..], &["config"], &["status"]] {
        let ran = node.run_without("-all,+sys_chroot", command);
        assert_eq!(ran.code, Exit::Success as i32, "{command:?}: {}", ran.text());
    }
}

//! The flags of install.pl: each distribution with and without DKMS and NFS over RDMA.

use std::path::Path;

use nic_build::{BuildSettings, UserFlags, install_pl};
use nic_host::Host;
use nic_packages::Node;

use crate::machine::machines;

fn flags(node: &Node, settings: &BuildSettings) -> Vec<String> {
    let command = install_pl(node, Path::new("/src"), settings).unwrap().to_string();
    command.split(' ').map(str::to_owned).collect()
}

fn node(name: &str) -> Node {
    let machine = machines().into_iter().find(|machine| machine.name == name).unwrap();
    let dir = machine.tree();
    machine.node(&Host::at(dir.path()))
}

#[test]
fn what_each_switch_adds_and_takes_away() {
    for (name, suffix, own) in [
        ("ubuntu", "-modules", ""),
        ("debian", "-modules", ""),
        ("sles", "", "--kernel-sources /lib/modules/6.4.0-150700.51-default/build"),
        ("rhel_9_6", "", "--distro rhel9.6"),
        ("rhel_image_mode", "", "--distro rhel9.4"),
        ("openshift_4_19", "", ""),
    ] {
        let node = node(name);
        for (use_dkms, enable_nfsrdma) in [(false, false), (false, true), (true, false), (true, true)] {
            let user_flags = UserFlags::parse("V", "--user 1").unwrap();
            let found = flags(&node, &BuildSettings { enable_nfsrdma, use_dkms, user_flags });
            let mut expected: Vec<String> =
                ["/src/install.pl", "--without-depcheck", "--kernel", node.kernel.as_str()]
                    .map(str::to_owned)
                    .to_vec();
            let mut add = |text: &str| expected.extend(text.split_whitespace().map(str::to_owned));
            add("--kernel-only --build-only --with-mlnx-tools");
            for part in ["knem", "iser", "isert", "srp", "kernel-mft", "mlnx-rdma-rxe"] {
                add(&format!("--without-{part}{suffix}"));
            }
            add("--disable-kmp");
            add(if use_dkms { "" } else { "--without-dkms" });
            add(own);
            add("--without-xpmem --without-xpmem-modules");
            add(if use_dkms { "--without-xpmem-dkms" } else { "" });
            if !enable_nfsrdma {
                add(&format!("--without-mlnx-nfsrdma{suffix} --without-mlnx-nvme{suffix}"));
            }
            add("--user 1");
            assert_eq!(found, expected, "{name}, DKMS {use_dkms}, NFS over RDMA {enable_nfsrdma}");
        }
    }
}

#[test]
fn a_release_that_nobody_tells_is_an_error() {
    let mut rhel = node("rhel_9_6");
    rhel.host_os.version_id.clear();
    rhel.kernel = "6.1.0-custom".parse().unwrap();
    assert!(install_pl(&rhel, Path::new("/src"), &BuildSettings::default()).is_err());
    // OpenShift needs none for its build.
    let mut openshift = node("openshift_4_19");
    openshift.host_os.version_id.clear();
    openshift.kernel = "6.1.0-custom".parse().unwrap();
    install_pl(&openshift, Path::new("/src"), &BuildSettings::default()).unwrap();
}

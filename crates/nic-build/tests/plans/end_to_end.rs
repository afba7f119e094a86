//! From a node to its packages: all plans in their order, the build, and what it has left.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use nic_build::{BuildSettings, UserFlags, build, built_packages, install_pl};
use nic_host::{Captured, Host, Replay};
use nic_packages::Architecture;

use crate::machine::{commands, machines};

#[tokio::test]
async fn each_family_builds_and_finds_its_packages() {
    for (name, package) in [
        ("ubuntu", "DEBS/ubuntu24.04/x86_64/mlnx-ofed-kernel-modules.deb"),
        ("ubuntu_dkms_nfsrdma", "DEBS/ubuntu24.04/aarch64/mlnx-ofed-kernel-dkms.deb"),
        ("sles", "RPMS/sles-release-15.7/x86_64/mlnx-ofa_kernel.rpm"),
        ("rhel_9_6", "RPMS/redhat-release-9.6-0.1.el9/x86_64/mlnx-ofa_kernel.rpm"),
        ("openshift_4_19", "RPMS/redhat-release-9.6-0.1.el9/x86_64/mlnx-ofa_kernel.rpm"),
    ] {
        let machine = machines().into_iter().find(|machine| machine.name == name).unwrap();
        let dir = machine.tree();
        let plans = machine.plans(&Host::at(dir.path()), None);
        let build_command = plans.build.as_ref().unwrap();
        let all = plans.plans().into_iter().flat_map(|(_, plan)| commands(&plan.steps));
        let lines: Vec<String> =
            all.chain([build_command]).map(|command| command.invocation().to_string()).collect();
        let replay = lines.iter().fold(Replay::default(), |replay, line| {
            replay.answer(line.clone(), Captured::success("Build mlnx-ofa_kernel 25.10\n"))
        });
        let host = Host::at(dir.path()).with_replay(replay.clone());
        for (_, plan) in plans.plans() {
            plan.apply(&host).await.unwrap();
        }
        let mut told = 0;
        build(&host, build_command, Path::new("/var/log/build.log"), |_| told += 1).await.unwrap();
        assert_eq!(told, 1);
        assert!(host.exists("/var/log/build.log"));
        // In the order of the plans; of a question's answers only the one that was given.
        let asked = replay.asked();
        let order: Vec<usize> =
            asked.iter().map(|line| lines.iter().position(|other| other == line).unwrap()).collect();
        assert!(asked.len() >= 4 && order.last() == Some(&(lines.len() - 1)), "{name}: {asked:#?}");

        let sources = Path::new("/run/mellanox/src/MLNX_OFED_SRC-25.10-1.2.8.0");
        let path = host.path(sources.join(package));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "").unwrap();
        let architecture = Architecture::from_uname(machine.architecture);
        assert_eq!(built_packages(&host, sources, &architecture).unwrap(), [sources.join(package)], "{name}");
    }
}

/// A program in place of `install.pl` that takes its flags as they come.
#[tokio::test]
async fn a_program_gets_its_flags_as_words() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("install.pl");
    let text = "#!/bin/sh\nfor flag in \"$@\"; do echo \"[$flag]\"; done\n\
        folder=\"$(dirname \"$0\")/RPMS/redhat-release-9.6/x86_64\"; mkdir -p \"$folder\"; touch \"$folder/a.rpm\"\n";
    fs::write(&program, text).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let machine = machines().into_iter().find(|machine| machine.name == "rhel_9_6").unwrap();
    let tree = machine.tree();
    let node = machine.node(&Host::at(tree.path()));
    let value = "--with 'two words' \"$(touch /nonexistent)\" '*'";
    let user_flags = UserFlags::parse("APPEND_DRIVER_BUILD_FLAGS", value).unwrap();
    let settings = BuildSettings { user_flags, ..BuildSettings::default() };
    let command = install_pl(&node, dir.path(), &settings).unwrap();
    let mut flags = Vec::new();
    let host = Host::running();
    build(&host, &command, &dir.path().join("log"), |told| flags.push(told.line.clone())).await.unwrap();
    assert_eq!(flags[..3], ["[--without-depcheck]", "[--kernel]", "[5.14.0-570.73.1.el9_6.x86_64]"]);
    assert_eq!(flags[flags.len() - 4..], ["[--with]", "[two words]", "[$(touch /nonexistent)]", "[*]"]);
    let packages = built_packages(&host, dir.path(), &Architecture::from_uname("x86_64")).unwrap();
    assert_eq!(packages, [dir.path().join("RPMS/redhat-release-9.6/x86_64/a.rpm")]);
}

//! Other ways to reload: by the vendor's init script, and with NFS over RDMA.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use nic_driver::Exit;

use crate::program::{BEFORE, Sandbox};

#[test]
fn the_init_script_must_be_there_when_it_is_asked_for() {
    let sandbox = Sandbox::new();
    let tree = sandbox.copy(BEFORE);
    let script = tree.join("etc/init.d/openibd");
    let blocked = |why: &str| {
        let ran = sandbox.on(&tree, &["preflight", "--force", "--reload-with", "openibd"]);
        assert_eq!(ran.code, Exit::Blocked as i32, "{}", ran.text());
        assert!(ran.stdout.contains(why) && ran.stdout.contains("--reload-with native"), "{}", ran.stdout);
    };
    blocked("the init script /etc/init.d/openibd is not there");
    fs::create_dir_all(script.parent().unwrap()).unwrap();
    fs::write(&script, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o644)).unwrap();
    blocked("the init script /etc/init.d/openibd cannot be executed");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    sandbox.on(&tree, &["preflight", "--force", "--reload-with", "openibd"]).succeeded();
    // By itself it needs none.
    fs::remove_file(&script).unwrap();
    sandbox.on(&tree, &["preflight", "--force"]).succeeded();
    let json = sandbox.on(&tree, &["preflight", "--force", "--reload-with", "openibd", "--output", "json"]);
    let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(json["blockers"][0]["blocker"], "init_script");
}

#[test]
fn an_init_script_at_work_is_not_interfered_with() {
    let sandbox = Sandbox::new();
    let tree = sandbox.copy(BEFORE);
    for (pid, words) in
        [("7", "vi\0/etc/init.d/openibd\0"), ("42", "/bin/bash\0/etc/init.d/openibd\0restart\0")]
    {
        fs::create_dir_all(tree.join("proc").join(pid)).unwrap();
        fs::write(tree.join("proc").join(pid).join("cmdline"), words).unwrap();
    }
    let ran = sandbox.on(&tree, &["preflight", "--force"]);
    assert_eq!(ran.code, Exit::Blocked as i32, "{}", ran.text());
    assert!(ran.stdout.contains("process 42 runs /etc/init.d/openibd"), "{}", ran.stdout);
    fs::remove_dir_all(tree.join("proc/42")).unwrap();
    sandbox.on(&tree, &["preflight", "--force"]).succeeded();
}

#[test]
fn a_family_without_an_init_script_says_so() {
    let sandbox = Sandbox::new();
    let mlx5 = include_str!("../../families/mlx5.toml");
    let (without, _) = mlx5.split_once("[scripts]").unwrap();
    fs::write(sandbox.path("mine.toml"), without.replace("name = \"mlx5\"", "name = \"mine\"")).unwrap();
    let ran =
        sandbox.on(BEFORE, &["--family", "mine.toml", "preflight", "--force", "--reload-with", "openibd"]);
    assert_eq!(ran.code, Exit::Blocked as i32, "{}", ran.text());
    assert!(ran.stdout.contains("the NIC family mine has no init script"), "{}", ran.stdout);
}

#[test]
fn nfs_over_rdma_counts_only_when_it_is_asked_for() {
    let sandbox = Sandbox::new();
    let compared = |arguments: &[&str]| {
        let ran = sandbox.on(BEFORE, &[&["status", "--output", "json"], arguments].concat());
        let status = ran.json();
        let modules = status["modules"]["compared"]["identity"].as_array().unwrap().clone();
        modules.iter().map(|module| module["module"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let without = compared(&[]);
    let with = compared(&["--enable-nfsrdma"]);
    assert_eq!(with[..without.len()], without);
    assert_eq!(with[without.len()..], ["nvme_rdma", "rpcrdma"]);
    assert_eq!(compared(&["--enable-nfsrdma=FALSE"]), without);
    let ran = sandbox.on(BEFORE, &["status", "--enable-nfsrdma=perhaps"]);
    assert_eq!(ran.code, Exit::Usage as i32);
    assert!(
        ran.stderr.contains("ENABLE_NFSRDMA") && ran.stderr.contains("neither true nor false"),
        "{}",
        ran.stderr
    );
}

//! What goes wrong, what is said then, and the exit code. None of it changes anything.

use std::fs;
use std::path::{Path, PathBuf};

use insta::assert_snapshot;
use nic_driver::Exit;
use nic_host::Host;

use crate::program::{AFTER, BEFORE, CommandResult, Sandbox};

const KERNEL: &str = "5.14.0-570.73.1.el9_6.aarch64+64k";

/// Checks the exit code and that nothing but the reason is said; returns the reason.
fn failed(ran: &CommandResult, exit: Exit) -> &str {
    assert_eq!(ran.code, exit as i32, "{}", ran.text());
    assert_eq!(ran.stdout, "", "{}", ran.text());
    assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.text());
    &ran.stderr
}

/// A sandbox with the snapshot of the node as it was before the reload.
fn with_snapshot() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.on(BEFORE, &["snapshot"]).succeeded();
    sandbox
}

#[test]
fn no_pf_of_the_family() {
    let sandbox = Sandbox::new();
    let ran = sandbox.on(BEFORE, &["--family", "igb", "snapshot"]);
    assert_snapshot!(failed(&ran, Exit::NoPf));
    assert!(!sandbox.state().exists());
}

#[test]
fn an_unknown_family() {
    let sandbox = Sandbox::new();
    assert_snapshot!(
        "unknown_family",
        failed(&sandbox.on(BEFORE, &["--family", "mlx4", "status"]), Exit::Usage)
    );
    let ran = sandbox.on(BEFORE, &["--family", "./mine.toml", "status"]);
    assert_snapshot!("missing_family_file", failed(&ran, Exit::Usage));
    fs::write(sandbox.path("mine.toml"), "name = 7").unwrap();
    let ran = sandbox.on(BEFORE, &["--family", "./mine.toml", "status"]);
    // The parser's own words follow, over several lines.
    assert_eq!(ran.code, Exit::Usage as i32, "{}", ran.text());
    assert!(
        ran.stderr.starts_with("nic-driver: ./mine.toml does not describe a NIC family: "),
        "{}",
        ran.stderr
    );
}

#[test]
fn no_snapshot() {
    let sandbox = Sandbox::new();
    let ran = sandbox.on(AFTER, &["plan", "restore-sriov"]);
    assert_snapshot!(ran.succeeded(), @"nothing to do: nothing is owed to the NICs (snapshot: none)");
    let ran = sandbox.on(AFTER, &["plan", "restore-sriov", "--from-record"]);
    assert_snapshot!(failed(&ran, Exit::NoSnapshot));
}

#[test]
fn nothing_is_owed_of_a_record_and_of_another_boot() {
    let stored = "\"stage\": \"by_hand\"";
    let record = "\"stage\": \"record\", \"at\": \"2026-01-02T03:04:05Z\"";
    let boot = "0c2f7a1e-6b5d-4f3a-9e8c-d1b2a3948576";
    for (from, to, words) in [
        (stored, record, "nothing is owed to the NICs (snapshot: record)"),
        // As an earlier version has written it.
        (stored, "\"stage\": \"verified\", \"at\": \"2026-01-02T03:04:05Z\"", "(snapshot: record)"),
        (boot, "ffffffff-6b5d-4f3a-9e8c-d1b2a3948576", "nothing is owed to the NICs (snapshot: none)"),
    ] {
        let sandbox = with_snapshot();
        sandbox.change_snapshot(from, to);
        let ran = sandbox.on(AFTER, &["plan", "restore-sriov"]);
        assert!(ran.succeeded().contains(words), "{}", ran.text());
        let told =
            if from == boot { "one of another boot was taken at" } else { "a record, verified at 2026" };
        let ran = sandbox.on(AFTER, &["status"]);
        assert!(ran.succeeded().contains(told), "{}", ran.text());
        // On demand alone is it gone back to what was.
        let ran = sandbox.on(AFTER, &["plan", "restore-sriov", "--from-record"]);
        if from == boot {
            failed(&ran, Exit::NoSnapshot);
        } else {
            assert!(ran.succeeded().contains("sriov_numvfs 50"), "{}", ran.text());
        }
    }
}

#[test]
fn an_unreadable_snapshot_is_refused_and_set_aside_by_the_next() {
    let sandbox = with_snapshot();
    let path = sandbox.snapshot();
    let whole = fs::read_to_string(&path).unwrap();
    let half = &whole[..whole.len() / 2];
    fs::write(&path, half).unwrap();
    let reason = sandbox.on(AFTER, &["plan", "restore-sriov"]);
    let reason = failed(&reason, Exit::BadSnapshot);
    assert!(
        reason.contains("[sandbox]/state/mlx5/snapshot.json is not a snapshot that can be read: EOF"),
        "{reason}"
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), half, "it was left as it was");
    let status = sandbox.on(AFTER, &["status"]);
    assert!(status.succeeded().contains("snapshot: cannot be used: "), "{}", status.stdout);

    let ran = sandbox.on(BEFORE, &["snapshot"]);
    let aside = ran.succeeded().lines().next().unwrap().rsplit(' ').next().unwrap();
    let aside = sandbox.path(aside.strip_prefix("[sandbox]/").unwrap());
    assert_eq!(fs::read_to_string(aside).unwrap(), half);
    sandbox.on(AFTER, &["plan", "restore-sriov"]).succeeded();
}

#[test]
fn a_snapshot_that_does_not_fit() {
    for (name, from, to) in [
        ("another_schema", "\"schema\": 4,", "\"schema\": 9,"),
        ("another_family", "\"family\": \"mlx5\"", "\"family\": \"mine\""),
    ] {
        let sandbox = with_snapshot();
        sandbox.change_snapshot(from, to);
        let ran = sandbox.on(AFTER, &["plan", "restore-sriov"]);
        assert_snapshot!(name, failed(&ran, Exit::BadSnapshot));
    }
}

#[test]
fn an_armed_snapshot_is_not_replaced() {
    let sandbox = with_snapshot();
    sandbox
        .change_snapshot("\"stage\": \"by_hand\"", "\"stage\": \"armed\", \"at\": \"2026-01-02T03:04:05Z\"");
    let armed = fs::read(sandbox.snapshot()).unwrap();
    let ran = sandbox.on(AFTER, &["snapshot"]);
    assert_snapshot!(failed(&ran, Exit::Blocked));
    assert_eq!(fs::read(sandbox.snapshot()).unwrap(), armed);
}

#[test]
fn a_pf_that_cannot_have_the_vfs() {
    let pf = "sys/bus/pci/devices/0000:01:00.0";
    let sandbox = with_snapshot();
    let tree = sandbox.copy(AFTER);
    let planned = || {
        let ran = sandbox.on(&tree, &["plan", "restore-sriov"]);
        assert_eq!(ran.code, Exit::PfUnsuitable as i32, "{}", ran.text());
        // Whoever keeps stderr alone has the reason, in one line.
        let is_told = ran.stderr.starts_with("nic-driver: left alone: ") && ran.stderr.lines().count() == 1;
        assert!(is_told, "{}", ran.text());
        ran.stdout
    };
    fs::write(tree.join(pf).join("sriov_totalvfs"), "16\n").unwrap();
    assert_snapshot!("too_few_vfs", planned());
    fs::remove_file(tree.join(pf).join("sriov_totalvfs")).unwrap();
    assert_snapshot!("no_sriov", planned());
    // All that is in the way is told at once.
    fs::remove_file(tree.join(pf).join("driver")).unwrap();
    assert_snapshot!("no_driver", planned());
    let json = sandbox.on(&tree, &["plan", "restore-sriov", "--output", "json"]).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let kinds: Vec<_> = json["obstacles"].as_array().unwrap().iter().map(|one| &one["kind"]).collect();
    assert_eq!(kinds, ["pf_unavailable", "no_sriov"]);
    assert_eq!(json["steps"][0]["pf"], "0000:01:00.1");
}

#[test]
fn modules_that_are_not_there() {
    let sandbox = Sandbox::new();
    let tree = sandbox.copy(BEFORE);
    let modules = tree.join("lib/modules").join(KERNEL);
    let mlx5_core =
        modules.join("extra/mlnx-ofa_kernel/drivers/net/ethernet/mellanox/mlx5/core/mlx5_core.ko");

    let whole = fs::read(&mlx5_core).unwrap();
    fs::write(&mlx5_core, &whole[..whole.len() / 2]).unwrap();
    assert_snapshot!("damaged_module", failed(&sandbox.on(&tree, &["plan", "reload"]), Exit::NoModule));
    fs::remove_file(&mlx5_core).unwrap();
    assert_snapshot!("missing_module", failed(&sandbox.on(&tree, &["plan", "reload"]), Exit::NoModule));
    fs::remove_file(modules.join("modules.dep")).unwrap();
    assert_snapshot!("no_index", failed(&sandbox.on(&tree, &["plan", "reload"]), Exit::NoModule));
    fs::remove_dir_all(modules).unwrap();
    assert_snapshot!("no_module_tree", failed(&sandbox.on(&tree, &["plan", "reload"]), Exit::NoModule));
    // Everything else is still told.
    let status = sandbox.on(&tree, &["status"]);
    assert!(
        status.succeeded().contains("modules: cannot be compared: no modules for kernel"),
        "{}",
        status.stdout
    );
}

#[test]
fn folders_that_cannot_be() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.path("file"), "").unwrap();
    let ran = sandbox.run(&["--root", BEFORE, "--state-dir", "file/state", "--log", "off", "snapshot"]);
    assert_snapshot!("bad_state_dir", failed(&ran, Exit::Failed));
    let ran = sandbox.run(&["--root", "nowhere", "--log", "off", "status"]);
    assert_snapshot!("bad_root", failed(&ran, Exit::Failed));
}

#[test]
fn trial_w10_a_tree_is_not_changed() {
    let commands: [&[&str]; 7] = [
        &["reload"],
        &["restore-sriov"],
        &["terminate"],
        &["terminate", "--restore-driver"],
        &["install", "packages", "tree/rpms"],
        &["build", "--inventory", "tree/inventory"],
        &["run", "precompiled"],
    ];
    for command in commands {
        let sandbox = with_snapshot();
        let tree = sandbox.copy(AFTER);
        let before = contents(&tree);
        let (root, state) = (tree.display().to_string(), sandbox.state().display().to_string());
        let options = ["--root", &root, "--state-dir", &state, "--log", "off"];
        let driver = [("NVIDIA_NIC_DRIVER_VER", "25.10-1.2.8.0"), ("NVIDIA_NIC_DRIVER_PATH", "/driver")];
        let ran = sandbox.run_with(&driver, &[&options, command].concat());
        assert_eq!(contents(&tree), before, "{command:?}");
        let exit = if Host::is_privileged() { Exit::Failed } else { Exit::NotRoot };
        let reason = failed(&ran, exit);
        let expected = if Host::is_privileged() { "is a tree" } else { "needs root" };
        assert!(reason.contains(expected), "{command:?}: {reason}");
    }
}

/// Every path below the folder with what a file holds.
fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let metadata = fs::symlink_metadata(&path).unwrap();
        found.push((path.clone(), if metadata.is_file() { fs::read(&path).unwrap() } else { Vec::new() }));
        if metadata.is_dir() {
            found.extend(contents(&path));
        }
    }
    found.sort();
    found
}

#[test]
fn packages_are_looked_for_where_the_shell_shows_them() {
    let sandbox = Sandbox::new();
    sandbox.copy(BEFORE);
    let ran = sandbox.run(&["--root", "tree", "--log", "off", "plan", "install", "--packages", "tree/rpms"]);
    let reason = failed(&ran, Exit::BadPackage);
    assert!(reason.contains("[sandbox]/tree/rpms"), "{reason}");
    let ran = sandbox.run(&["--root", "tree", "--log", "off", "install", "--packages", "rpms"]);
    assert_snapshot!(failed(&ran, Exit::Usage), @r#"nic-driver: a path on the command line: "[sandbox]/rpms" is not below the root "[sandbox]/tree""#);
}

#[test]
fn errors_are_results_too() {
    let ran = Sandbox::new().on(AFTER, &["plan", "restore-sriov", "--from-record", "--output", "json"]);
    let object: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(object["exit"], 15);
    assert_eq!(ran.stderr, format!("nic-driver: {}\n", object["error"].as_str().unwrap()));
}

#[test]
fn an_empty_variable_is_not_set_and_a_wrong_one_is_named() {
    let sandbox = Sandbox::new();
    let arguments = ["--root", AFTER, "--log", "off", "plan", "restore-sriov"];
    let plain = sandbox.run(&arguments);
    for variable in ["MLX_DRIVERS_MOUNT", "DRIVER_READY_PATH", "NIC_DRIVER_TIMEOUT", "UNLOAD_STORAGE_MODULES"]
    {
        let ran = sandbox.run_with(&[(variable, "")], &arguments);
        assert_eq!(ran.text(), plain.text(), "{variable}");
    }
    for variable in ["NIC_DRIVER_TIMEOUT", "UNLOAD_STORAGE_MODULES"] {
        let ran = sandbox.run_with(&[(variable, "maybe")], &arguments);
        assert_eq!(ran.code, 2, "{}", ran.text());
        let named = format!("invalid value 'maybe' for '{variable} ");
        assert!(ran.stderr.contains(&named), "{}", ran.stderr);
    }
}

#[test]
fn wrong_usage() {
    let sandbox = Sandbox::new();
    for arguments in [
        &["reboot"][..],
        &[],
        &["status", "--timeout", "0"],
        &["status", "--output", "xml"],
        &["status", "--root", ""],
        &["install"],
        &["plan", "terminate"],
        &["terminate", "--restore-driver=maybe"],
        &["status", "--log", "nic_sriov=loud"],
    ] {
        let ran = sandbox.run(arguments);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{arguments:?}: {}", ran.text());
        assert!(!ran.stderr.is_empty(), "{arguments:?}");
    }
}

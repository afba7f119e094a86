//! The documented night, as far as it can be seen without a kernel: 50 VFs, the modules swapped, the VFs gone.

use std::path::Path;

use insta::{assert_json_snapshot, assert_snapshot, with_settings};

use nic_driver::Exit;

use crate::program::{AFTER, BEFORE, Sandbox};

const TIMES: [(&str, &str); 1] = [(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "[time]")];

/// A sandbox with the snapshot of the node as it was before the reload.
fn with_snapshot() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.on(BEFORE, &["snapshot"]).succeeded();
    sandbox
}

/// Leaves VFs 1 to 45 out, which are like VF 0: one line each where they are listed, or a line and what is indented
/// below it.
fn without_like_vfs(text: &str) -> String {
    let mut left_out = false;
    let mut kept = String::new();
    for line in text.lines() {
        let vf = line.trim_start().strip_prefix("VF ").and_then(|rest| rest.split(' ').next());
        if let Some(index) = vf.and_then(|index| index.parse::<u32>().ok()) {
            left_out = (1..=45).contains(&index);
        } else if !line.starts_with("    ") {
            left_out = false;
        }
        if !left_out {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

#[test]
fn a_snapshot_holds_all_there_is() {
    let sandbox = Sandbox::new();
    let ran = sandbox.on(BEFORE, &["snapshot"]);
    assert_snapshot!(ran.succeeded(), @r"
    PF 0000:01:00.0 (enp1s0f0np0): 50 VFs
    PF 0000:01:00.1 (enp1s0f1np1): 0 VFs
    stored in [sandbox]/state/mlx5/snapshot.json
    ");
    let ran = sandbox.on(BEFORE, &["snapshot", "--output", "json"]);
    with_settings!({ filters => TIMES }, {
        assert_json_snapshot!("snapshot", ran.json());
    });
    // What is printed is what is stored, but for the checksum.
    let mut printed: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let stored = std::fs::read_to_string(sandbox.snapshot()).unwrap();
    let mut stored: serde_json::Value = serde_json::from_str(&stored).unwrap();
    assert_eq!(stored["checksum"].take().as_str().map(str::len), Some(64));
    printed["snapshot"]["checksum"].take();
    assert_eq!(printed["snapshot"].take(), stored);
}

#[test]
fn status_before_and_after() {
    let sandbox = Sandbox::new();
    with_settings!({ filters => TIMES }, {
        assert_snapshot!("status_without_snapshot", sandbox.on(BEFORE, &["status"]).succeeded());
        sandbox.on(BEFORE, &["snapshot"]).succeeded();
        let unchanged = sandbox.on(BEFORE, &["status"]);
        assert!(unchanged.succeeded().contains("taken by hand; 0 differences"), "{}", unchanged.stdout);
        assert_snapshot!("status_after_reload", without_like_vfs(sandbox.on(AFTER, &["status"]).succeeded()));
        let json = sandbox.on(AFTER, &["status", "--output", "json"]).json();
        assert_json_snapshot!("status_after_reload_json", json);
    });
}

/// A swap that was cut off, on a node whose journal tells of a night before.
#[test]
fn status_says_what_is_wrong_and_what_to_do_next() {
    let sandbox = Sandbox::new();
    sandbox.on(BEFORE, &["snapshot"]).succeeded();
    let json = |tree: &str| sandbox.on(tree, &["status", "--output", "json"]).json();
    assert_eq!(json(BEFORE)["verdict"]["level"], "reload_due");
    assert_eq!(json(AFTER)["verdict"]["level"], "not_ready");
    sandbox
        .change_snapshot("\"stage\": \"by_hand\"", "\"stage\": \"armed\", \"at\": \"2026-01-02T03:04:05Z\"");
    let night =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/documented-night/state/journal.jsonl");
    std::fs::copy(night, sandbox.state().join("journal.jsonl")).unwrap();
    with_settings!({ filters => TIMES }, {
        assert_snapshot!("status_of_a_swap_that_was_cut_off", sandbox.on(AFTER, &["status"]).succeeded());
    });
    assert_eq!(json(AFTER)["verdict"]["next"], "nic-driver restore-sriov");
    // The driver is not the installed one yet.
    assert!(json(BEFORE)["verdict"]["next"].as_str().unwrap().starts_with("nic-driver reload"));
    assert_eq!(json(AFTER)["last_night"]["level"], "ready");
    assert_eq!(sandbox.on(AFTER, &["status", "--check"]).code, Exit::Failed as i32);
    let all = sandbox.on(AFTER, &["status", "--all"]);
    assert!(all.succeeded().contains("VF 7 of 0000:01:00.0"), "{}", all.text());
}

#[test]
fn a_node_that_is_ready_passes_a_check_and_one_at_work_does_not() {
    let sandbox = Sandbox::new();
    let tree = sandbox.copy(AFTER);
    let run = tree.join("run/mellanox/drivers");
    std::fs::create_dir_all(&run).unwrap();
    let status = || sandbox.on(&tree, &["status", "--check"]);
    assert_eq!(status().code, Exit::Failed as i32);
    std::fs::write(run.join(".driver-ready"), "").unwrap();
    assert!(status().succeeded().starts_with("● READY: the installed driver runs"), "{}", status().text());
    let lock = run.join(".lock");
    std::fs::write(&lock, "pid 7\ncommand reload\nsince 2026-01-02T03:04:05Z\n").unwrap();
    assert!(status().succeeded().starts_with("● READY"), "a lock that nobody holds");
    let held = std::fs::File::open(&lock).unwrap();
    held.lock().unwrap();
    let at_work = status();
    assert_eq!(at_work.code, Exit::Failed as i32);
    assert!(
        at_work
            .stdout
            .starts_with("● AT WORK: another nic-driver is at work (pid 7, command reload, since 2026"),
        "{}",
        at_work.text()
    );
}

#[test]
fn fault_7_9_a_module_that_a_swap_has_cost_is_told() {
    let sandbox = Sandbox::new();
    sandbox.on(BEFORE, &["snapshot"]).succeeded();
    sandbox
        .change_snapshot("\"stage\": \"by_hand\"", "\"stage\": \"record\", \"at\": \"2026-01-02T03:04:05Z\"");
    sandbox
        .change_snapshot("\"modules\": [", "\"lost\": [\"nvidia_peermem\", \"mlx5_ib\"],\n  \"modules\": [");
    let ran = sandbox.on(BEFORE, &["status"]);
    let lines: Vec<&str> =
        ran.succeeded().lines().filter(|line| line.contains("not loaded any more")).collect();
    // mlx5_ib is loaded again.
    assert!(lines.len() == 1 && lines[0].contains("nvidia_peermem"), "{}", ran.stdout);
    let json = sandbox.on(BEFORE, &["status", "--output", "json"]).json();
    assert_eq!(json["lost"], serde_json::json!(["nvidia_peermem"]));
}

#[test]
fn a_reload_is_planned_once() {
    let sandbox = Sandbox::new();
    assert_snapshot!("plan_reload", sandbox.on(BEFORE, &["plan", "reload"]).succeeded());
    assert_json_snapshot!(
        "plan_reload_json",
        sandbox.on(BEFORE, &["plan", "reload", "--output", "json"]).json()
    );
    let after = sandbox.on(AFTER, &["plan", "reload"]);
    assert!(after.succeeded().ends_with("nothing to do: the loaded modules are the installed ones\n"));
}

#[test]
fn all_vfs_are_planned_to_come_back() {
    let sandbox = with_snapshot();
    let ran = sandbox.on(AFTER, &["plan", "restore-sriov"]);
    assert_eq!(ran.succeeded().matches("    bind to mlx5_core\n").count(), 49);
    assert_snapshot!("plan_restore", without_like_vfs(&ran.stdout));
    assert_json_snapshot!(
        "plan_restore_json",
        sandbox.on(AFTER, &["plan", "restore-sriov", "--output", "json"]).json()
    );
}

#[test]
fn nothing_is_planned_where_nothing_has_changed() {
    let sandbox = with_snapshot();
    let ran = sandbox.on(BEFORE, &["plan", "restore-sriov"]);
    assert_snapshot!(ran.succeeded(), @"nothing to do: the NICs are what the snapshot says");
}

#[test]
fn plan_and_status_write_nothing() {
    let sandbox = Sandbox::new();
    for command in [&["status"][..], &["plan", "reload"], &["plan", "restore-sriov"], &["report"]] {
        let _any_exit_code = sandbox.on(BEFORE, command);
        assert!(!sandbox.state().exists(), "{command:?}");
    }
}

#[test]
fn an_empty_journal_is_no_error() {
    let ran = Sandbox::new().on(BEFORE, &["report"]);
    assert_snapshot!(ran.succeeded(), @"The journal is empty: nothing has happened yet.");
}

#[test]
fn relative_paths_are_meant_from_the_current_folder() {
    let sandbox = Sandbox::new();
    std::os::unix::fs::symlink(BEFORE, sandbox.path("node")).unwrap();
    let ran = sandbox.run(&["--root", "node", "--state-dir", "./mine", "--log", "off", "snapshot"]);
    assert!(ran.succeeded().ends_with("stored in [sandbox]/mine/mlx5/snapshot.json\n"), "{}", ran.stdout);
    assert!(sandbox.path("mine/mlx5/snapshot.json").is_file());
}

#[test]
fn a_family_can_be_described_in_a_file() {
    let sandbox = Sandbox::new();
    let mlx5 = include_str!("../../families/mlx5.toml");
    std::fs::write(sandbox.path("mine.toml"), mlx5.replace("name = \"mlx5\"", "name = \"mine\"")).unwrap();
    let ran = sandbox.on(BEFORE, &["--family", "mine.toml", "status"]);
    assert!(ran.succeeded().contains("family mine, "), "{}", ran.stdout);
    assert!(ran.stdout.contains("PF 0000:01:00.0 (enp1s0f0np0, mlx5_core): 50 VFs"), "{}", ran.stdout);
}

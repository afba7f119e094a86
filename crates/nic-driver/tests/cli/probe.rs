//! What the kubelet asks: codes, one line, nothing left behind, and the same as the shell says.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use insta::assert_snapshot;
use nic_driver::Exit;

use crate::program::{BEFORE, CommandResult, Sandbox};

const READY: &str = "run/mellanox/drivers/.driver-ready";
const BOOT: &str = "0c2f7a1e-6b5d-4f3a-9e8c-d1b2a3948576";
const PROBES: [&str; 3] = ["startup", "ready", "live"];

/// A node with the driver, and what is asked of it.
struct Node {
    sandbox: Sandbox,
    tree: PathBuf,
}

impl Node {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        let tree = sandbox.copy(BEFORE);
        Self { sandbox, tree }
    }

    fn ask(&self, probe: &str) -> CommandResult {
        let ran = self.sandbox.on(&self.tree, &["probe", probe]);
        assert_eq!((ran.stdout.lines().count(), ran.stderr.as_str()), (1, ""), "{}", ran.text());
        ran
    }

    fn codes(&self) -> [i32; 3] {
        PROBES.map(|probe| self.ask(probe).code)
    }

    fn make_ready(&self) {
        let path = self.tree.join(READY);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }

    /// The record of the driver that was verified, as a reload leaves it.
    fn verified(&self, srcversion: &str) {
        let folder = self.sandbox.state().join("mlx5/previous-modules");
        fs::create_dir_all(&folder).unwrap();
        let record = serde_json::json!({
            "schema": 2,
            "kept_at": "2026-01-02T03:04:05Z",
            "boot_id": BOOT,
            "kernel": "5.14.0-570.73.1.el9_6.aarch64+64k",
            "modules": [{
                "module": "mlx5_core",
                "srcversion": srcversion,
                "build_id": null,
                "file": null,
                "found_at": null,
            }],
        });
        fs::write(folder.join("manifest.json"), record.to_string()).unwrap();
    }

    fn unload(&self, module: &str) {
        fs::remove_dir_all(self.tree.join("sys/module").join(module)).unwrap();
        let list = self.tree.join("proc/modules");
        let text = fs::read_to_string(&list).unwrap();
        let rest: Vec<&str> = text.lines().filter(|line| !line.starts_with(&format!("{module} "))).collect();
        // Nobody that used it is left either.
        fs::write(list, rest.join("\n").replace(&format!("{module},"), "")).unwrap();
    }

    /// The shell probes of driver containers, as far as they can be had on a tree: `lsmod` prints `/proc/modules`.
    fn shell_codes(&self) -> [i32; 2] {
        let ready = format!("ls {}", self.tree.join(READY).display());
        let live = format!("cut -d' ' -f1-4 {}/proc/modules | grep mlx5_core", self.tree.display());
        [ready, live].map(|line| {
            let mut shell = Command::new("sh");
            shell.args(["-c", &line]).stdout(Stdio::null()).stderr(Stdio::null());
            i32::from(!shell.status().unwrap().success())
        })
    }
}

#[test]
fn the_answers_while_a_node_becomes_ready_and_is_left() {
    let node = Node::new();
    assert_eq!(node.codes(), [1, 1, 0], "a driver that was there before");
    node.make_ready();
    assert_eq!(node.codes(), [0, 0, 0]);
    node.unload("mlx5_ib");
    assert_eq!(node.codes(), [0, 1, 0], "one of the required modules is gone");
    fs::remove_file(node.tree.join(READY)).unwrap();
    assert_eq!(node.codes(), [1, 1, 0], "after SIGTERM the readiness file goes first");
    node.unload("mlx5_core");
    assert_eq!(node.codes(), [1, 1, 1], "then the driver");
}

#[test]
fn a_foreign_driver_makes_a_node_not_ready_and_restarts_nothing() {
    let node = Node::new();
    node.make_ready();
    let runs = fs::read_to_string(node.tree.join("sys/module/mlx5_core/srcversion")).unwrap();
    node.verified(runs.trim());
    assert_eq!(node.codes(), [0, 0, 0]);
    node.verified("0123456789ABCDEF0123456");
    assert_eq!(node.codes(), [0, 1, 0]);
    assert_snapshot!(
        node.ask("ready").stdout,
        @"ready fails: another driver is loaded than the one that was verified: mlx5_core"
    );
}

#[test]
fn each_answer_says_why() {
    let node = Node::new();
    let told = |node: &Node| PROBES.map(|probe| node.ask(probe).stdout).concat();
    assert_snapshot!(told(&node), @r"
    startup fails: /run/mellanox/drivers/.driver-ready is not there: the node has not been made ready, or is being changed
    ready fails: /run/mellanox/drivers/.driver-ready is not there: the node has not been made ready, or is being changed
    live passes: mlx5_core is loaded
    ");
    node.make_ready();
    assert_snapshot!(told(&node), @r"
    startup passes: /run/mellanox/drivers/.driver-ready is there
    ready passes: /run/mellanox/drivers/.driver-ready is there, mlx5_core, mlx5_ib, ib_core loaded
    live passes: mlx5_core is loaded
    ");
    node.unload("mlx5_core");
    assert_snapshot!(told(&node), @r"
    startup passes: /run/mellanox/drivers/.driver-ready is there
    ready fails: mlx5_core is not loaded
    live fails: mlx5_core is not loaded
    ");
    let json = node.sandbox.on(&node.tree, &["probe", "live", "--output", "json"]);
    assert_eq!(json.code, Exit::Failed as i32, "{}", json.text());
    let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(
        json,
        serde_json::json!({ "probe": "live", "passes": false, "reason": "mlx5_core is not loaded" })
    );
}

#[test]
fn startup_and_live_say_what_the_shell_probes_say() {
    let node = Node::new();
    let agree = |when: &str| {
        let [startup, _, live] = node.codes();
        assert_eq!([startup, live], node.shell_codes(), "{when}");
    };
    agree("a driver, not ready");
    node.make_ready();
    agree("ready");
    node.unload("mlx5_ib");
    agree("mlx5_ib is not loaded");
    node.unload("mlx5_core");
    agree("mlx5_core is not loaded");
    fs::remove_file(node.tree.join(READY)).unwrap();
    // A link that leads nowhere.
    std::os::unix::fs::symlink("nowhere", node.tree.join(READY)).unwrap();
    agree("a dangling link");
    assert_eq!(node.codes(), [0, 1, 1]);
}

#[test]
fn nothing_is_left_behind() {
    let node = Node::new();
    node.make_ready();
    let before = files(node.tree.parent().unwrap());
    node.codes();
    assert_eq!(files(node.tree.parent().unwrap()), before);
    assert!(!node.sandbox.state().exists());
    // While another one holds the lock, and with a journal that is damaged.
    let mount = node.tree.join("run/mellanox/drivers");
    fs::create_dir_all(node.sandbox.state()).unwrap();
    fs::write(node.sandbox.state().join("journal.jsonl"), "damaged").unwrap();
    let lock = fs::File::create(mount.join(".lock")).unwrap();
    lock.lock().unwrap();
    let before = files(node.tree.parent().unwrap());
    assert_eq!(node.codes(), [0, 0, 0]);
    assert_eq!(files(node.tree.parent().unwrap()), before);
}

#[test]
fn a_setting_that_is_wrong_is_no_answer() {
    let sandbox = Sandbox::new();
    for arguments in [&["probe", "live", "--family", "mlx4"][..], &["probe"], &["probe", "lively"]] {
        let ran = sandbox.on(BEFORE, arguments);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{arguments:?}: {}", ran.text());
    }
}

/// What lies below a folder, with when it was changed.
fn files(folder: &Path) -> BTreeMap<PathBuf, (u64, i64, i64)> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let metadata = path.symlink_metadata().unwrap();
        if metadata.is_dir() {
            found.extend(files(&path));
        }
        found.insert(path, (metadata.len(), metadata.mtime(), metadata.mtime_nsec()));
    }
    found
}

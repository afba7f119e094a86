//! What is gone back to, and what is said where there is nothing.

use std::fs;
use std::path::{Path, PathBuf};

use nic_driver::Exit;

use crate::program::{BEFORE, Sandbox};

const MODULES: &str = "lib/modules/5.14.0-570.73.1.el9_6.aarch64+64k/kernel";

/// A node on which a driver runs whose files went with their container.
fn strange_driver(sandbox: &Sandbox) -> PathBuf {
    let tree = sandbox.copy(BEFORE);
    for module in ["mlx5_core", "ib_core"] {
        let srcversion = tree.join("sys/module").join(module).join("srcversion");
        fs::write(srcversion, "0123456789ABCDEF0123456\n").unwrap();
    }
    tree
}

fn way_back(sandbox: &Sandbox, tree: &Path) -> String {
    let status = sandbox.on(tree, &["status"]);
    let line = status.succeeded().lines().find_map(|line| line.strip_prefix("way back: "));
    line.unwrap().to_owned()
}

#[test]
fn the_inbox_driver_stands_in_for_one_whose_files_are_gone() {
    let sandbox = Sandbox::new();
    let tree = strange_driver(&sandbox);
    assert_eq!(
        way_back(&sandbox, &tree),
        "inbox driver of this kernel (11 modules), since no file of mlx5_core, ib_core is known to be the loaded one"
    );
    let json = sandbox.on(&tree, &["status", "--output", "json"]).json();
    assert_eq!(json["way_back"]["is"], "inbox");
    sandbox.on(&tree, &["preflight", "--force"]).succeeded();
    // A container sees the host's modules below /host, and those are the distribution's.
    let host = tree.join("host").join(MODULES);
    fs::create_dir_all(host.parent().unwrap()).unwrap();
    fs::rename(tree.join(MODULES), host).unwrap();
    assert!(way_back(&sandbox, &tree).starts_with("inbox driver of this kernel (11 modules)"));
}

#[test]
fn no_way_back_is_in_the_way_unless_it_is_allowed() {
    let sandbox = Sandbox::new();
    let tree = strange_driver(&sandbox);
    fs::remove_dir_all(tree.join(MODULES).join("drivers/net/ethernet/mellanox/mlx5")).unwrap();
    let none = "none: no file of mlx5_core, ib_core is known to be the loaded one; and the distribution's modules \
                have no mlx5_core";
    assert!(
        way_back(&sandbox, &tree).starts_with("none: no file of mlx5_core, "),
        "{}",
        way_back(&sandbox, &tree)
    );
    let json = sandbox.on(&tree, &["preflight", "--force", "--output", "json"]);
    assert_eq!(json.code, Exit::Blocked as i32, "{}", json.text());
    let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(json["blockers"][0]["blocker"], "no_way_back");
    let because = json["blockers"][0]["what"].as_str().unwrap();
    assert!(because.ends_with(none.rsplit_once("; ").unwrap().1), "{because}");
    let plan = sandbox.on(&tree, &["plan", "reload"]);
    assert!(plan.succeeded().contains("blocked: there is no way back"), "{}", plan.text());
    sandbox.on(&tree, &["preflight", "--force", "--without-way-back"]).succeeded();
    let (root, state) = (tree.display().to_string(), sandbox.state().display().to_string());
    let arguments = ["--root", &root, "--state-dir", &state, "--log", "off", "preflight", "--force"];
    sandbox.run_with(&[("NIC_DRIVER_WITHOUT_WAY_BACK", "true")], &arguments).succeeded();
}

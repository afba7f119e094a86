//! What `plan reload` says beside the modules: hooks, the init script, a swap under way, what a killed process has left.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::Value;

use crate::program::{BEFORE, Sandbox};

fn script(tree: &Path, path: &str, mode: u32) {
    let path = tree.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
}

fn plan(sandbox: &Sandbox, tree: &Path, options: &[&str]) -> Value {
    let arguments = [&["plan", "reload", "--output", "json"], options].concat();
    sandbox.on(tree, &arguments).json()
}

/// The names of the steps, each once where several follow each other.
fn names(plan: &Value) -> Vec<String> {
    let name = |step: &Value| match &step["does"] {
        Value::String(name) => name.clone(),
        does => does.as_object().unwrap().keys().next().unwrap().clone(),
    };
    let mut names: Vec<String> = plan["steps"].as_array().unwrap().iter().map(name).collect();
    names.dedup();
    names
}

fn texts(plan: &Value) -> Vec<&str> {
    plan["steps"].as_array().unwrap().iter().map(|step| step["step"].as_str().unwrap()).collect()
}

const UP_TO_ARMING: [&str; 6] = [
    "find_blockers",
    "back_up_modules",
    "ensure_space",
    "find_blockers",
    "write_blacklist",
    "take_readiness_away",
];

#[test]
fn every_step_of_a_swap_is_planned() {
    let sandbox = Sandbox::new();
    let planned = plan(&sandbox, Path::new(BEFORE), &[]);
    let swap = ["arm_snapshot", "remove_vfs", "unload", "load", "remove_blacklist", "await_pfs"];
    assert_eq!(names(&planned), [&UP_TO_ARMING[..], &swap].concat());
    assert_eq!(planned["duty"], "swap");
}

#[test]
fn hooks_are_planned_and_those_that_are_not_run_are_left_out_with_the_reason() {
    let sandbox = Sandbox::new();
    let tree = sandbox.copy(BEFORE);
    script(&tree, "etc/infiniband/pre-stop-hook.sh", 0o755);
    script(&tree, "etc/infiniband/post-stop-hook.sh", 0o644);
    script(&tree, "etc/infiniband/pre-start-hook.sh", 0o777);
    script(&tree, "etc/infiniband/post-start-hook.sh", 0o755);
    let planned = plan(&sandbox, &tree, &[]);
    let texts = texts(&planned);
    let at = |text: &str| texts.iter().position(|step| *step == text).unwrap_or_else(|| panic!("{texts:?}"));
    assert_eq!(at("run /etc/infiniband/pre-stop-hook.sh") + 1, at("unload ib_ipoib"));
    assert_eq!(at("run /etc/infiniband/post-start-hook.sh") + 1, at("remove the blacklist"));
    assert_eq!(texts.iter().filter(|step| step.starts_with("run ")).count(), 2);
    let left_out: Vec<&str> =
        planned["left_out"].as_array().unwrap().iter().map(|left_out| left_out.as_str().unwrap()).collect();
    let [post_stop, pre_start] = left_out[..] else { panic!("{left_out:?}") };
    assert_eq!(post_stop, "the hook /etc/infiniband/post-stop-hook.sh: the file is not executable");
    assert!(pre_start.contains("pre-start-hook.sh") && pre_start.contains("by others"), "{pre_start}");
    let text = sandbox.on(&tree, &["plan", "reload"]);
    assert!(text.succeeded().contains(&format!("left out: {post_stop}\n")), "{}", text.text());
}

#[test]
fn the_init_script_is_planned_and_what_is_loaded_where_it_has_not() {
    let sandbox = Sandbox::new();
    let tree = sandbox.copy(BEFORE);
    script(&tree, "etc/init.d/openibd", 0o755);
    script(&tree, "etc/infiniband/pre-stop-hook.sh", 0o755);
    let planned = plan(&sandbox, &tree, &["--reload-with", "openibd"]);
    let texts = texts(&planned);
    let runs: Vec<&&str> = texts.iter().filter(|step| step.starts_with("run ")).collect();
    assert_eq!(runs, [&"run /etc/init.d/openibd restart"], "it runs the hooks itself");
    assert_eq!(planned["unload"], serde_json::json!([]), "it unloads the driver itself");
    for step in planned["steps"].as_array().unwrap() {
        let is_load = step["does"].get("load").is_some();
        assert_eq!(step.get("unless").is_some(), is_load, "{step}");
    }
    let text = sandbox.on(&tree, &["plan", "reload", "--reload-with", "openibd"]);
    assert!(text.succeeded().contains("load mlx5_core, unless the init script has loaded it\n"));
}

#[test]
fn an_armed_snapshot_stays_and_the_driver_is_kept_where_no_swap_has_kept_it() {
    let sandbox = Sandbox::new();
    sandbox.on(BEFORE, &["snapshot"]).succeeded();
    sandbox
        .change_snapshot("\"stage\": \"by_hand\"", "\"stage\": \"armed\", \"at\": \"2026-01-02T03:04:05Z\"");
    let names = names(&plan(&sandbox, Path::new(BEFORE), &[]));
    assert_eq!(names[..4], ["find_blockers", "back_up_modules", "ensure_space", "find_blockers"]);
    assert!(!names.contains(&"arm_snapshot".to_owned()), "{names:?}");
}

#[test]
fn what_stands_in_the_way_ends_the_plan_as_it_ends_the_reload() {
    let sandbox = Sandbox::new();
    let tree = sandbox.copy(BEFORE);
    fs::create_dir_all(tree.join("sys/module/module/parameters")).unwrap();
    fs::write(tree.join("sys/module/module/parameters/sig_enforce"), "Y\n").unwrap();
    let planned = plan(&sandbox, &tree, &[]);
    assert_eq!(names(&planned), ["find_blockers"]);
    let text = sandbox.on(&tree, &["plan", "reload"]);
    assert!(text.succeeded().ends_with("in the way: nothing is changed\n"), "{}", text.text());
}

#[test]
fn a_blacklist_that_was_left_behind_goes_first() {
    let sandbox = Sandbox::new();
    let tree = sandbox.copy(BEFORE);
    let file = "etc/modprobe.d/left.conf";
    fs::create_dir_all(tree.join("etc/modprobe.d")).unwrap();
    fs::write(tree.join(file), "# Written by nic-driver while it swaps kernel modules.\n").unwrap();
    let planned = plan(&sandbox, &tree, &["--blacklist-file", &format!("/{file}")]);
    assert_eq!(names(&planned)[..2], ["remove_leftover_blacklist", "find_blockers"]);
}

#[test]
fn a_plan_of_what_is_forced_is_asked_for_as_the_reload_is() {
    let sandbox = Sandbox::new();
    let after = Path::new(crate::program::AFTER);
    assert_eq!(plan(&sandbox, after, &[])["duty"], "nothing");
    let forced = plan(&sandbox, after, &["--force"]);
    assert_eq!((forced["due"].as_bool(), forced["duty"].as_str()), (Some(true), Some("swap")));
}

//! Files and values that nobody should have made: each is named in one line, with its exit code, and nothing is changed. No file is
//! waited for, none is read without an end, and what stands in it is believed when it can be.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use nic_driver::Exit;
use serde_json::Value;

use crate::node_tree::gzipped;
use crate::program::{AFTER, BEFORE, CommandResult, Sandbox};

/// The documented node's only PF with VFs, in a tree.
const PF: &str = "sys/bus/pci/devices/0000:01:00.0";

fn fifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// Checks the exit code and that one line of at most 1,000 characters has all of `words`.
pub(crate) fn told(ran: &CommandResult, exit: Exit, words: &[&str]) {
    assert_eq!(ran.code, exit as i32, "{}", ran.text());
    let line = ran.stderr.trim_end_matches('\n');
    assert!(!line.contains('\n') && line.chars().count() < 1000, "{}", ran.stderr);
    assert!(!line.chars().any(char::is_control), "{line:?}");
    for word in words {
        assert!(line.contains(word), "{word} is not in: {line}");
    }
}

/// What is not known of one PF is told in one line, and no other PF's matter.
fn not_known(ran: &CommandResult, words: &[&str]) {
    let line = ran.succeeded().lines().find(|line| line.starts_with("not known")).expect("it is told");
    assert!(line.chars().count() < 1000 && !line.chars().any(char::is_control), "{line:?}");
    for word in words.iter().chain(&["PF 0000:01:00.0: "]) {
        assert!(line.contains(word), "{word} is not in: {line}");
    }
    assert!(ran.stdout.contains("PF 0000:01:00.1 (enp1s0f1np1)"), "{}", ran.text());
}

/// A sandbox whose snapshot of the node before the reload was edited by hand.
pub(crate) fn edited(edit: impl FnOnce(&mut Value)) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.on(BEFORE, &["snapshot"]).succeeded();
    let mut snapshot: Value = serde_json::from_str(&fs::read_to_string(sandbox.snapshot()).unwrap()).unwrap();
    snapshot.as_object_mut().unwrap().remove("checksum");
    edit(&mut snapshot);
    fs::write(sandbox.snapshot(), serde_json::to_string_pretty(&snapshot).unwrap()).unwrap();
    sandbox
}

/// A change of a snapshot.
pub(crate) type Edit = fn(&mut Value);

pub(crate) fn vfs(snapshot: &mut Value) -> &mut Vec<Value> {
    snapshot["nics"]["pfs"][0]["vfs"].as_array_mut().unwrap()
}

#[test]
fn trial_w2_a_number_of_vfs_is_no_loop_bound() {
    for (value, total) in [("4294967295", true), ("100000", true), ("65536", false)] {
        let sandbox = Sandbox::new();
        let tree = sandbox.copy(BEFORE);
        fs::write(tree.join(PF).join("sriov_numvfs"), value).unwrap();
        if !total {
            fs::remove_file(tree.join(PF).join("sriov_totalvfs")).unwrap();
        }
        not_known(&sandbox.on(&tree, &["snapshot"]), &["sriov_numvfs holds", value]);
        let stored = fs::read_to_string(sandbox.snapshot()).unwrap();
        assert!(!stored.contains("num_vfs\": 50"), "of that PF nothing is known");
    }
}

#[test]
fn trial_w3_a_fifo_and_a_device_are_no_files_to_wait_for() {
    let sandbox = Sandbox::new();
    for (name, command, exit) in
        [("snapshot.json", "restore-sriov", Exit::BadSnapshot), ("rolled-back.json", "reload", Exit::Blocked)]
    {
        fs::create_dir_all(sandbox.state().join("mlx5")).unwrap();
        let path = sandbox.state().join("mlx5").join(name);
        fifo(&path);
        let ran = sandbox.on(BEFORE, &["plan", command]);
        told(&ran, exit, &[name, "a FIFO"]);
        fs::remove_file(path).unwrap();
    }
    fifo(&sandbox.path("f.toml"));
    told(&sandbox.on(BEFORE, &["--family", "./f.toml", "status"]), Exit::Usage, &["f.toml", "a FIFO"]);
    fs::remove_file(sandbox.path("f.toml")).unwrap();
    symlink("/dev/zero", sandbox.path("f.toml")).unwrap();
    told(&sandbox.on(BEFORE, &["--family", "./f.toml", "status"]), Exit::Usage, &["f.toml", "a device"]);
    told(&sandbox.on(BEFORE, &["--config", "f.toml", "status"]), Exit::Usage, &["f.toml", "a device"]);
    fifo(&sandbox.state().join("journal.jsonl"));
    told(&sandbox.on(BEFORE, &["report"]), Exit::Failed, &["journal.jsonl", "a FIFO"]);
    let tree = sandbox.copy(BEFORE);
    fs::remove_file(tree.join(PF).join("sriov_numvfs")).unwrap();
    fifo(&tree.join(PF).join("sriov_numvfs"));
    not_known(&sandbox.on(&tree, &["snapshot"]), &["sriov_numvfs", "a FIFO"]);
}

/// Runs a command on a tree with so many KiB of address space.
fn within_memory(sandbox: &Sandbox, tree: &Path, kib: u64, command: &[&str]) -> (Option<i32>, String) {
    let output = Command::new("sh")
        .args(["-c", &format!("ulimit -v {kib}; exec \"$@\""), "sh", env!("CARGO_BIN_EXE_nic-driver")])
        .args(["--log", "off", "--root"])
        .arg(tree)
        .arg("--state-dir")
        .arg(sandbox.state())
        .args(command)
        .env_clear()
        .output()
        .unwrap();
    (
        output.status.code(),
        [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat(),
    )
}

#[test]
fn trial_w4_modules_without_measure_take_no_memory() {
    let sandbox = Sandbox::new();
    let tree = sandbox.copy(BEFORE);
    let modules = tree.join("lib/modules/5.14.0-570.73.1.el9_6.aarch64+64k");
    let found = Command::new("find").arg(&modules).args(["-name", "*.ko"]).output().unwrap();
    let files: Vec<_> =
        String::from_utf8(found.stdout).unwrap().lines().map(|line| Path::new(line).to_path_buf()).collect();
    assert!(files.len() > 10);
    let run = |command: &[&str]| within_memory(&sandbox, &tree, 500 << 10, command);
    // Large ones, most of it empty: they are what they were before.
    let before = run(&["plan", "reload"]);
    for file in files.iter().filter(|file| file.ends_with("mlx5_core.ko")) {
        fs::File::options().write(true).open(file).unwrap().set_len(400 << 20).unwrap();
    }
    assert_eq!(run(&["plan", "reload"]), before);
    assert_eq!(before.0, Some(Exit::Success as i32), "{}", before.1);
    assert_eq!(run(&["status"]).0, Some(Exit::Success as i32));
    // A small one that unpacks to 448 MiB.
    let bomb = gzipped(&vec![0; 8 << 20]).repeat(56);
    for file in files.iter().filter(|file| file.ends_with("mlx5_core.ko")) {
        fs::write(file, &bomb).unwrap();
    }
    let (code, text) = run(&["plan", "reload"]);
    assert_eq!(code, Some(Exit::NoModule as i32), "{text}");
    assert!(text.contains("its content is more than the "), "{text}");
    let (code, text) = run(&["status"]);
    assert_eq!(code, Some(Exit::Success as i32), "{text}");
}

#[test]
fn trial_w5_a_full_stdout_does_not_hide_what_a_command_has_done() {
    let run = |sandbox: &Sandbox, root: &Path, command: &str| {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_nic-driver"))
            .env_clear()
            .args(["--log", "off", "--root"])
            .arg(root)
            .arg("--state-dir")
            .arg(sandbox.state())
            .arg(command)
            .stdout(full)
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let sandbox = Sandbox::new();
    let (code, stderr) = run(&sandbox, Path::new(BEFORE), "snapshot");
    assert_eq!(code, Exit::Success as i32, "{stderr}");
    assert!(
        stderr.contains("cannot write the result to stdout") && stderr.contains("No space left"),
        "{stderr}"
    );
    assert!(sandbox.snapshot().exists());
    // What only shows something, and could not, has failed.
    assert_eq!(run(&sandbox, Path::new(BEFORE), "status").0, Exit::Failed as i32);
    let tree = sandbox.copy(BEFORE);
    let modules = tree.join("proc/modules");
    let text = fs::read_to_string(&modules).unwrap();
    let blocked = text.replace("mlx5_core 65536 1 mlx5_ib,", "mlx5_core 65536 2 mlx5_ib,vendor_x,");
    assert_ne!(text, blocked);
    fs::write(&modules, format!("vendor_x 1 0 - Live 0x0 (OE)\n{blocked}")).unwrap();
    let (code, stderr) = run(&sandbox, &tree, "preflight");
    assert_eq!(code, Exit::Blocked as i32, "{stderr}");
}

#[test]
fn trial_w11_a_field_that_is_wrong_is_named() {
    let cases: [(Edit, &str); 4] = [
        (|snapshot| vfs(snapshot)[7]["netdev"]["mtu"] = "abc".into(), "nics.pfs[0].vfs[7].netdev.mtu"),
        (|snapshot| vfs(snapshot)[7]["netdev"]["speed"] = "abc".into(), "nics.pfs[0].vfs[7].netdev"),
        (
            |snapshot| {
                snapshot["network"]["links"] = serde_json::json!([{
                    "index": 7, "name": "vlan7", "kind": "vlan", "address": "02:00:00:00:00:07", "mtu": 1500, "up": true,
                    "place": { "place": "lost_child", "lower": "abc" },
                }]);
            },
            "network.links[0].place.lower",
        ),
        (
            |snapshot| {
                snapshot["network"]["links"] = serde_json::json!([{
                    "index": 7, "name": "vlan7", "kind": "vlan", "address": "02:00:00:00:00:07", "mtu": 1500, "up": true,
                    "place": { "place": "child", "lower": 3, "child": { "kind": "vlan", "id": "abc" } },
                }]);
            },
            "network.links[0].place.child.id",
        ),
    ];
    for (edit, path) in cases {
        let ran = edited(edit).on(AFTER, &["plan", "restore-sriov"]);
        told(&ran, Exit::BadSnapshot, &["snapshot.json", &format!("{path}: ")]);
    }
}

#[test]
fn trial_w13_a_schema_that_is_no_number_is_another_versions() {
    for schema in ["\"2\"", "-2", "2.5", "null", "18446744073709551616"] {
        let sandbox = edited(|snapshot| snapshot["schema"] = serde_json::from_str(schema).unwrap());
        let ran = sandbox.on(AFTER, &["plan", "restore-sriov"]);
        told(&ran, Exit::BadSnapshot, &["snapshot.json is of another version", "reads schemas 2 to 4"]);
    }
}

#[test]
fn trial_w14_foreign_text_is_one_line_of_a_bounded_length() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.path("f.toml"), format!("#{}\n= \u{1b}[31m", "0".repeat(1 << 20))).unwrap();
    told(&sandbox.on(BEFORE, &["--family", "./f.toml", "status"]), Exit::Usage, &["./f.toml"]);
    let tree = sandbox.copy(BEFORE);
    fs::write(tree.join(PF).join("sriov_numvfs"), "9".repeat(60_000)).unwrap();
    not_known(&sandbox.on(&tree, &["snapshot"]), &["sriov_numvfs holds", "…"]);
    let tree = sandbox.path("other");
    assert!(Command::new("cp").arg("-a").arg(BEFORE).arg(&tree).status().unwrap().success());
    fs::write(tree.join("proc/modules"), format!("{}\n", "x\u{1b}".repeat(1 << 20))).unwrap();
    let ran = sandbox.on(&tree, &["snapshot"]);
    assert_ne!(ran.code, 0, "{}", ran.text());
    assert!(ran.stderr.len() < 5000 && !ran.stderr.contains('\u{1b}'), "{}", ran.stderr.len());
}

#[test]
fn trial_w20_a_boot_without_an_identity_is_no_boot() {
    for id in ["", "\n", " \n", "a b\n", "\u{1}\n", &"x".repeat(1000)] {
        let sandbox = Sandbox::new();
        let tree = sandbox.copy(BEFORE);
        fs::write(tree.join("proc/sys/kernel/random/boot_id"), id).unwrap();
        told(&sandbox.on(&tree, &["snapshot"]), Exit::Failed, &["boot_id", "no boot's identity"]);
        assert!(!sandbox.snapshot().exists());
    }
}

#[test]
fn trial_w21_a_state_directory_that_others_may_write_is_not_used() {
    use std::os::unix::fs::PermissionsExt as _;
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.state()).unwrap();
    for command in [&["snapshot"][..], &["plan", "restore-sriov"], &["status"]] {
        fs::set_permissions(sandbox.state(), fs::Permissions::from_mode(0o777)).unwrap();
        let ran = sandbox.on(BEFORE, command);
        told(
            &ran,
            Exit::Failed,
            &["the state directory is not used", "state may be written by others (mode 0777)"],
        );
    }
    assert_eq!(fs::read_dir(sandbox.state()).unwrap().count(), 0);
    fs::set_permissions(sandbox.state(), fs::Permissions::from_mode(0o755)).unwrap();
    sandbox.on(BEFORE, &["snapshot"]).succeeded();
    // Each file that is obeyed, too.
    let kept = sandbox.snapshot().with_file_name("previous-modules");
    fs::create_dir(&kept).unwrap();
    for path in [sandbox.snapshot(), kept] {
        let mode = fs::metadata(&path).unwrap().permissions();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        let told_of = format!("{name} may be written by others (mode 0777)");
        told(&sandbox.on(BEFORE, &["plan", "restore-sriov"]), Exit::Failed, &[&told_of]);
        fs::set_permissions(&path, mode).unwrap();
    }
    sandbox.on(BEFORE, &["plan", "restore-sriov"]).succeeded();
}

#[test]
fn trial_w17_a_damaged_recording_is_named() {
    let sandbox = Sandbox::new();
    let tree = sandbox.copy(BEFORE);
    for file in ["links.json", "eswitches.json"] {
        let path = tree.join("netlink").join(file);
        let whole = fs::read_to_string(&path).unwrap();
        fs::write(&path, "[{").unwrap();
        told(&sandbox.on(&tree, &["snapshot"]), Exit::Failed, &[&format!("netlink/{file} is not a list of")]);
        fs::write(&path, whole).unwrap();
    }
    sandbox.on(&tree, &["snapshot"]).succeeded();
}

#[test]
fn trial_w22_a_vf_that_the_kernel_leaves_out_is_not_one_without_settings() {
    let sandbox = Sandbox::new();
    let tree = sandbox.copy(BEFORE);
    let path = tree.join("netlink/links.json");
    let mut links: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let lists = links.as_array_mut().unwrap().iter_mut();
    let list = lists.filter_map(|link| link["vfs"].as_array_mut()).find(|vfs| vfs.len() > 7).unwrap();
    list.remove(7);
    fs::write(&path, links.to_string()).unwrap();
    let taken = sandbox.on(&tree, &["snapshot"]);
    let line = "PF 0000:01:00.0, VF 7, admin: the kernel left VF 7 out of its list of VFs";
    assert!(taken.succeeded().contains(line), "{}", taken.text());
    let stored: Value = serde_json::from_str(&fs::read_to_string(sandbox.snapshot()).unwrap()).unwrap();
    assert!(stored["nics"]["pfs"][0]["vfs"][7]["admin"]["not_known"].is_object(), "{stored}");
}

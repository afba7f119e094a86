//! What cannot be read of the NICs: told everywhere, equal to nothing, and in the way of a reload.

use std::fs;
use std::path::{Path, PathBuf};

use nic_driver::Exit;
use serde_json::{Value, json};

use crate::program::{BEFORE, Sandbox};

const ESWITCH: &str = "PF 0000:01:00.0, eswitch: Operation not permitted (os error 1)";

fn edit(tree: &Path, file: &str, change: impl FnOnce(&mut Value)) {
    let path = tree.join(file);
    let mut value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

/// A node of whose first PF devlink refuses to tell the eswitch, as that of a BlueField's host.
fn without_eswitch(sandbox: &Sandbox) -> PathBuf {
    let tree = sandbox.copy(BEFORE);
    edit(&tree, "netlink/eswitches.json", |eswitches| {
        eswitches["0000:01:00.0"] = json!({"not_known": {"why": "Operation not permitted (os error 1)"}});
    });
    tree
}

/// The kind and the text of what stands in the way of a reload.
fn blockers(sandbox: &Sandbox, tree: &Path, options: &[&str]) -> (i32, Vec<(String, String)>) {
    let arguments = [&["preflight", "--force", "--output", "json"], options].concat();
    let ran = sandbox.on(tree, &arguments);
    let found: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{}", ran.text()));
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let blockers = found["blockers"].as_array().unwrap().iter();
    (ran.code, blockers.map(|blocker| (text(&blocker["blocker"]), text(&blocker["what"]))).collect())
}

#[test]
fn fault_2_3_what_is_not_known_blocks_a_reload_by_its_place() {
    let sandbox = Sandbox::new();
    let tree = without_eswitch(&sandbox);
    let (code, found) = blockers(&sandbox, &tree, &[]);
    let [(kind, what)] = &found[..] else { panic!("{found:?}") };
    assert_eq!((code, kind.as_str()), (Exit::Blocked as i32, "not_known"));
    assert!(what.ends_with(ESWITCH), "{what}");
    let ran = sandbox.on(&tree, &["preflight", "--force"]);
    assert!(ran.stdout.contains("--assume-ok not-known"), "{}", ran.text());
    assert_eq!(blockers(&sandbox, &tree, &["--assume-ok", "not-known"]), (0, vec![]));
    let ran = sandbox.on(&tree, &["preflight", "--force", "--assume-ok", "not-known"]);
    assert!(ran.succeeded().contains(ESWITCH), "what is passed over is told: {}", ran.text());
    assert!(sandbox.on(&tree, &["status"]).succeeded().contains(&format!("not known: {ESWITCH}\n")));
}

#[test]
fn fault_2_3_what_is_not_known_is_saved_as_that_and_never_verified() {
    let sandbox = Sandbox::new();
    let tree = without_eswitch(&sandbox);
    let differences = |tree: &Path| {
        let status = sandbox.on(tree, &["status", "--output", "json"]).json();
        let differences = status["snapshot"]["present"]["differences"].as_array().unwrap().clone();
        differences.iter().map(|one| one["gravity"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let taken = sandbox.on(&tree, &["snapshot"]);
    assert!(
        taken.succeeded().contains(&format!("not known, and not given back: {ESWITCH}\n")),
        "{}",
        taken.text()
    );
    assert_eq!(differences(&tree), ["wrong"], "it is equal to nothing, and not to itself");
    assert_eq!(differences(Path::new(BEFORE)), ["wrong"]);
    // Where somebody took that into account, it is said, and no fault.
    sandbox.on(&tree, &["snapshot", "--assume-ok", "not-known"]).succeeded();
    assert_eq!(differences(Path::new(BEFORE)), ["stated"]);
}

#[test]
fn fault_2_2_a_vf_that_the_kernel_leaves_out_blocks_a_reload() {
    let sandbox = Sandbox::new();
    let tree = sandbox.copy(BEFORE);
    edit(&tree, "netlink/links.json", |links| {
        let with_vfs = links.as_array_mut().unwrap().iter_mut().find(|link| link["num_vf"] == 50).unwrap();
        with_vfs["vfs"].as_array_mut().unwrap().retain(|vf| vf["index"] != 7);
    });
    let (code, found) = blockers(&sandbox, &tree, &[]);
    let [(kind, what)] = &found[..] else { panic!("{found:?}") };
    assert_eq!((code, kind.as_str()), (Exit::Blocked as i32, "not_known"));
    assert!(what.contains("PF 0000:01:00.0, VF 7, admin: the kernel left VF 7 out"), "{what}");
}

#[test]
fn fault_2_1_rdma_devices_that_have_changed_places_are_told() {
    let sandbox = Sandbox::new();
    let tree = sandbox.copy(BEFORE);
    let folder = |device: &str| tree.join(format!("sys/bus/pci/devices/0000:01:00.{device}/infiniband"));
    for (device, name) in [("0", "mlx5_0"), ("1", "mlx5_1")] {
        fs::create_dir_all(folder(device).join(name)).unwrap();
    }
    sandbox.on(&tree, &["snapshot"]).succeeded();
    for (device, before, now) in [("0", "mlx5_0", "mlx5_1"), ("1", "mlx5_1", "mlx5_0")] {
        fs::rename(folder(device).join(before), folder(device).join(now)).unwrap();
    }
    let status = sandbox.on(&tree, &["status"]);
    for line in ["PF 0000:01:00.0: rdma is mlx5_1, was mlx5_0", "PF 0000:01:00.1: rdma is mlx5_0, was mlx5_1"]
    {
        assert!(status.succeeded().contains(line), "{}", status.text());
    }
}

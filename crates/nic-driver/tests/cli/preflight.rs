//! What a look tells beforehand, and what is not tried on the NIC therefore.

use std::fs;
use std::path::Path;

use nic_driver::Exit;
use serde_json::{Value, json};

use crate::program::{BEFORE, Sandbox};

fn write(tree: &Path, file: &str, text: &str) {
    let path = tree.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// The kinds of what stands in the way.
fn kinds(sandbox: &Sandbox, tree: &Path, options: &[&str]) -> (i32, Vec<String>) {
    let arguments = [&["preflight", "--force", "--output", "json"], options].concat();
    let ran = sandbox.on(tree, &arguments);
    let found: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{}", ran.text()));
    let mut kinds: Vec<String> = found["blockers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|blocker| blocker["blocker"].as_str().unwrap().to_owned())
        .collect();
    kinds.dedup();
    (ran.code, kinds)
}

const BLOCKED: i32 = Exit::Blocked as i32;

#[test]
fn fault_3_1_what_the_kernel_would_refuse_is_found_before_the_first_change() {
    let sandbox = Sandbox::new();
    let tree = sandbox.copy(BEFORE);
    assert_eq!(kinds(&sandbox, &tree, &[]), (0, vec![]));
    write(&tree, "sys/module/module/parameters/sig_enforce", "Y\n");
    assert_eq!(kinds(&sandbox, &tree, &[]), (BLOCKED, vec!["signature".to_owned()]));
    let ran = sandbox.on(&tree, &["preflight", "--force"]);
    assert!(
        ran.stdout
            .contains("mlx5_core.ko): the file is not signed, and module.sig_enforce asks for a signature"),
        "{}",
        ran.text()
    );
    // Whoever keeps stderr alone has the reason, in one line.
    let reason =
        ran.stderr.strip_prefix("nic-driver: in the way: ").unwrap_or_else(|| panic!("{}", ran.text()));
    assert!(reason.contains("the file is not signed") && reason.lines().count() == 1, "{reason}");
    // `plan reload` and `preflight` tell the same.
    let plan = sandbox.on(&tree, &["plan", "reload", "--output", "json"]);
    let preflight = sandbox.on(&tree, &["preflight", "--force", "--output", "json"]);
    let preflight: Value = serde_json::from_str(&preflight.stdout).unwrap();
    assert_eq!(plan.json()["blockers"], preflight["blockers"]);
    // One kind, and no other, is passed over by its name, which is told.
    assert_eq!(kinds(&sandbox, &tree, &["--assume-ok", "vermagic"]), (BLOCKED, vec!["signature".to_owned()]));
    assert_eq!(kinds(&sandbox, &tree, &["--assume-ok", "vermagic,signature"]), (0, vec![]));
    let ran = sandbox.on(&tree, &["preflight", "--force", "--assume-ok", "signature"]);
    assert!(
        ran.succeeded().contains("assumed to be in order: the kernel would refuse mlx5_core"),
        "{}",
        ran.text()
    );

    write(&tree, "sys/module/module/parameters/sig_enforce", "N\n");
    write(&tree, "sys/kernel/security/lockdown", "none integrity [confidentiality]\n");
    assert_eq!(kinds(&sandbox, &tree, &[]), (BLOCKED, vec!["signature".to_owned()]));
    write(&tree, "sys/kernel/security/lockdown", "[none] integrity confidentiality\n");
    assert_eq!(kinds(&sandbox, &tree, &[]), (0, vec![]));

    write(&tree, "sys/module/kernel/parameters/module_blacklist", "mlx5_core\n");
    assert_eq!(kinds(&sandbox, &tree, &[]), (BLOCKED, vec!["refused_name".to_owned()]));
    write(&tree, "proc/sys/kernel/modules_disabled", "1\n");
    assert_eq!(kinds(&sandbox, &tree, &[]), (BLOCKED, vec!["modules_disabled".to_owned()]));
    let all = "--assume-ok=signature,vermagic,symbols,cannot-make-again,remote-storage,state-directory";
    assert_eq!(kinds(&sandbox, &tree, &[all]).0, BLOCKED, "nobody can know better than the kernel");
}

#[test]
fn fault_3_1_a_damaged_module_is_found_before_the_first_change() {
    let sandbox = Sandbox::new();
    let tree = sandbox.copy(BEFORE);
    // No module whose identity is compared: what it needs is looked at, too.
    let psample = "lib/modules/5.14.0-570.73.1.el9_6.aarch64+64k/kernel/net/psample/psample.ko";
    write(&tree, psample, "cut short");
    assert_eq!(kinds(&sandbox, &tree, &[]), (0, vec![]), "what is loaded, and stays, is not loaded again");
    let modules = fs::read_to_string(tree.join("proc/modules")).unwrap();
    let without: String = modules
        .lines()
        .filter(|line| !line.starts_with("psample "))
        .map(|line| format!("{line}\n"))
        .collect();
    write(&tree, "proc/modules", &without);
    assert_eq!(kinds(&sandbox, &tree, &[]), (BLOCKED, vec!["module_file".to_owned()]));
}

#[test]
fn fault_3_3_sub_functions_block_until_somebody_makes_them_again() {
    let sandbox = Sandbox::new();
    let tree = sandbox.copy(BEFORE);
    let links = tree.join("netlink/links.json");
    let mut all: Value = serde_json::from_str(&fs::read_to_string(&links).unwrap()).unwrap();
    let list = all.as_array_mut().unwrap();
    let pf = list.iter_mut().find(|link| link["name"] == "enp1s0f1np1").unwrap();
    pf["phys_switch_id"] = json!("0a0b0c");
    let mut port = pf.clone();
    port["index"] = json!(950);
    port["name"] = json!("enp1s0f1pf1sf88");
    port["phys_port_name"] = json!("pf1sf88");
    list.push(port);
    fs::write(&links, all.to_string()).unwrap();
    fs::write(tree.join("netlink/eswitches.json"), r#"{"pci/0000:01:00.1": {"mode": "switchdev"}}"#).unwrap();
    assert_eq!(kinds(&sandbox, &tree, &[]), (BLOCKED, vec!["cannot_make_again".to_owned()]));
    let ran = sandbox.on(&tree, &["preflight", "--force"]);
    assert!(
        ran.stdout.contains("the PF 0000:01:00.1 has ports") && ran.stdout.contains("pf1sf88"),
        "{}",
        ran.text()
    );
    assert_eq!(kinds(&sandbox, &tree, &["--assume-ok", "cannot-make-again"]), (0, vec![]));
    // They are seen by their devices, too.
    let sandbox = Sandbox::new();
    let other = sandbox.copy(BEFORE);
    fs::create_dir_all(other.join("sys/bus/pci/devices/0000:01:00.0/mlx5_core.sf.2")).unwrap();
    assert_eq!(kinds(&sandbox, &other, &[]), (BLOCKED, vec!["cannot_make_again".to_owned()]));
}

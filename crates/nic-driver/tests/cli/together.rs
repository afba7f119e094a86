//! Two containers at once: on one node, where the lock keeps them apart, and on two nodes with one inventory.

use nic_driver::Exit;
use serde_json::Value;

use crate::chroot::{Chroot, Running, until};
use crate::dtk_run::{SHARED, openshift, sidecar};
use crate::install_run::{INVENTORY, built, ubuntu};

/// The host's folder of lock and state, which all driver containers of a node have.
const DRIVERS: &str = "run/mellanox/drivers";
const SOURCES: [&str; 4] = ["install", "sources", "--output", "json"];
const DTK: [&str; 4] = ["install", "dtk", "--output", "json"];
/// What is said of another one on the same node, and of one that has the inventory's lock.
const BY_LOCK: [&str; 3] =
    ["waiting for another nic-driver that is at work (pid ", "command install, since 2", "since=2"];
const BY_INVENTORY: [&str; 3] = ["waiting for nic-driver", ", since 2", "to store packages in the inventory"];

/// A command on a root, which has begun.
struct Begun<'a> {
    root: &'a Chroot,
    running: Running,
}

impl<'a> Begun<'a> {
    /// The first one, whose build, on the root `building`, is under way and goes on until it is let go of.
    fn first(root: &'a Chroot, building: &Chroot, variables: &[(&str, &str)], command: &[&str]) -> Self {
        building.write("hold", "");
        let running = root.start_telling(variables, command);
        until("the build begins", || building.path("log/reached").exists());
        Self { root, running }
    }

    /// The second one, which has told whom it waits for.
    fn second(root: &'a Chroot, variables: &[(&str, &str)], command: &[&str], says: &[&str]) -> Self {
        let running = root.start_telling(variables, command);
        until("the second one tells whom it waits for", || {
            let (logs, _) = root.told();
            says.iter().all(|words| logs.contains(words))
        });
        Self { root, running }
    }

    /// What it has printed at its end.
    fn result(mut self) -> Value {
        let code = self.running.wait();
        let (logs, result) = self.root.told();
        assert_eq!(code, Some(0), "{logs}");
        serde_json::from_str(&result).unwrap()
    }
}

/// Both end well, after one build, and the second one's packages come `from` there and were installed.
fn ends_after_one_build(first: Begun, second: Begun, building: &Chroot, from: &str, package: &[u8]) {
    let (one, other) = (first.root, second.root);
    building.remove("hold");
    let (first, second) = (first.result(), second.result());
    assert_ne!(first["from"]["is"], "inventory", "{first}");
    assert_eq!((&second["from"]["is"], &second["changed"]), (&from.into(), &true.into()), "{second}");
    let commands: Vec<String> = [one, other, building].iter().flat_map(|root| root.commands()).collect();
    assert_eq!(
        commands.iter().filter(|command| command.starts_with("install.pl")).count(),
        1,
        "{commands:#?}"
    );
    for root in [one, other] {
        assert_eq!(root.installed_files(), [package]);
    }
}

#[test]
fn on_one_node_the_second_waits_for_the_first_and_takes_what_it_has_built() {
    let one = ubuntu();
    let other = ubuntu().sharing(DRIVERS, &one).sharing("inventory", &one);
    let first = Begun::first(&one, &one, &[INVENTORY], &SOURCES);
    let second = Begun::second(&other, &[INVENTORY], &SOURCES, &BY_LOCK);
    // Whoever does not hold the lock touches nothing.
    assert!(other.commands().is_empty() && !other.path("db").exists());
    ends_after_one_build(first, second, &one, "inventory", &built(&one));
}

#[test]
fn on_two_nodes_with_one_inventory_the_second_waits_for_the_first() {
    let one = ubuntu();
    let other = ubuntu().sharing("inventory", &one);
    let first = Begun::first(&one, &one, &[INVENTORY], &SOURCES);
    let second = Begun::second(&other, &[INVENTORY], &SOURCES, &BY_INVENTORY);
    ends_after_one_build(first, second, &one, "inventory", &built(&one));
}

#[test]
fn the_sidecar_is_asked_once_by_two() {
    for (lock, variables, says, from) in [
        (&[DRIVERS][..], &[SHARED][..], &BY_LOCK, "sidecar"),
        (&[DRIVERS, "inventory"], &[SHARED, INVENTORY], &BY_LOCK, "inventory"),
        (&["inventory"], &[SHARED, INVENTORY], &BY_INVENTORY, "inventory"),
    ] {
        let one = openshift();
        let other =
            lock.iter().fold(openshift().sharing("shared", &one), |other, path| other.sharing(path, &one));
        // A root of its own, as the container has: the build's programs are noted there.
        let builder = openshift().sharing("shared", &one);
        let _sidecar = sidecar(&builder, &[]);
        let first = Begun::first(&one, &builder, variables, &DTK);
        let second = Begun::second(&other, variables, &DTK, says);
        let package = std::fs::read(builder.path(crate::dtk_run::built())).unwrap();
        ends_after_one_build(first, second, &builder, from, &package);
    }
}

#[test]
fn whoever_waits_ends_when_it_is_told_to_or_when_the_time_is_over() {
    let one = ubuntu();
    let other = ubuntu().sharing(DRIVERS, &one).sharing("inventory", &one);
    let first = Begun::first(&one, &one, &[INVENTORY], &SOURCES);
    for command in ["terminate", "snapshot", "reload", "restore-sriov"] {
        let ran = one.run(&[], &["--log", "off", "--timeout", "1", command]);
        assert_eq!(ran.code, Exit::Locked as i32, "{command}: {}", ran.text());
        for words in
            ["another nic-driver is at work (pid ", "command install, since 2", "within 1s", "/.lock"]
        {
            assert!(ran.stderr.contains(words), "{command}: {}", ran.stderr);
        }
    }
    let mut second = Begun::second(&other, &[INVENTORY], &SOURCES, &BY_LOCK);
    second.running.terminate();
    assert_eq!(second.running.wait(), Some(Exit::Interrupted as i32));
    assert!(other.commands().is_empty(), "a command was run without the lock");
    one.remove("hold");
    assert_eq!(first.result()["from"]["is"], "build");
}

#[test]
fn what_becomes_of_the_inventory_in_mid_installation_does_not_matter() {
    let one = ubuntu();
    let other = ubuntu().sharing("inventory", &one);
    one.run(&[INVENTORY], &["build"]).succeeded();
    one.write("hold-installation", "");
    let first = Begun { root: &one, running: one.start_telling(&[INVENTORY], &SOURCES) };
    until("the installation is under way", || one.path("log/installing").exists());
    // A container on another node builds the same version with other flags, which takes the place of what was stored, and waits for nobody.
    let rebuilt = other.run(&[INVENTORY, ("APPEND_DRIVER_BUILD_FLAGS", "--other")], &SOURCES);
    assert_eq!(rebuilt.json()["from"]["is"], "build");
    let stored = one.entry().join("modules.deb");
    assert!(stored.exists());
    std::fs::write(stored, "neither").unwrap();
    // And a clean-up of the incumbent's, which knows no lock.
    std::fs::remove_dir_all(one.entry().parent().unwrap()).unwrap();
    one.remove("hold-installation");
    let result = first.result();
    assert_eq!((&result["from"]["is"], &result["changed"]), (&"inventory".into(), &true.into()), "{result}");
    assert_eq!(one.installed_files(), [built(&one)]);
    assert!(!one.path("var/lib/nic-driver/packages").exists());
}

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Command;

use nic_host::{Captured, Replay};

use super::*;
use crate::family::NicFamily;
use crate::fixture;
use crate::state::{Entry, Journal, Phase};

const PATH: &str = "/host/etc/udev/rules.d/77-mlnx-net-names.rules";

fn mlx5() -> DeviceSelector {
    NicFamily::open("mlx5").unwrap().devices
}

/// A machine with these interfaces, each with its device's vendor, and what udevadm says of them.
fn node(interfaces: &[(&str, &str)], told: &[(&str, &str)]) -> (tempfile::TempDir, Host) {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("sys/class/net/lo")).unwrap();
    fs::create_dir_all(dir.path().join("proc/sys/kernel/random")).unwrap();
    fs::write(dir.path().join("proc/sys/kernel/osrelease"), "6.12.1\n").unwrap();
    fs::write(dir.path().join("proc/sys/kernel/random/boot_id"), "boot\n").unwrap();
    for (interface, vendor) in interfaces {
        let device = dir.path().join("sys/class/net").join(interface).join("device");
        fs::create_dir_all(&device).unwrap();
        fs::write(device.join("vendor"), format!("{vendor}\n")).unwrap();
    }
    let mut replay = Replay::default();
    for (interface, text) in told {
        let asked = format!("udevadm info '--query=property' /sys/class/net/{interface}");
        replay = replay.answer(asked, Captured::success(*text));
    }
    let host = Host::at(dir.path()).with_replay(replay);
    (dir, host)
}

async fn plan(interfaces: &[(&str, &str)], told: &[(&str, &str)]) -> NamesRulePlan {
    let (_dir, host) = node(interfaces, told);
    plan_names_rule(&host, Path::new(PATH), &mlx5()).await.unwrap()
}

fn new_names(interface: &str, path_name: &str) -> NamesRulePlan {
    NamesRulePlan::NewNames { interface: interface.into(), path_name: path_name.into() }
}

fn write(not_told: &[&str]) -> NamesRulePlan {
    NamesRulePlan::Write { not_told: not_told.iter().map(|name| (*name).to_owned()).collect() }
}

#[tokio::test]
async fn one_interface_with_its_ports_name_is_enough_against_the_rule() {
    let two = [("eth0", "0x15b3"), ("eth1", "0x15b3")];
    for port in ["np0", "np1", "np2", "np3"] {
        let new = format!("enp8s0f1{port}");
        let told = [
            ("eth0", "ID_NET_NAME_PATH=enp8s0f0\n"),
            ("eth1", &*format!("A=b\nID_NET_NAME_PATH={new}\nC=d\n")),
        ];
        assert_eq!(plan(&two, &told).await, new_names("eth1", &new));
    }
}

#[tokio::test]
async fn old_names_and_what_is_not_told_are_nothing_against_the_rule() {
    let two = [("eth0", "0x15b3"), ("eth1", "0x15b3")];
    for (name, verdict) in [
        ("enp8s0f1", write(&[])),
        ("enp8s0f1np4", write(&[])),
        ("enp8s0f1np10", write(&[])),
        // A VF's, and a representor's.
        ("enp8s0f1np0v3", write(&[])),
        ("enp8s0f1npf0vf3", write(&[])),
        ("np", write(&[])),
        ("", write(&["eth1"])),
    ] {
        let told =
            [("eth0", "ID_NET_NAME_PATH=enp8s0f0\n"), ("eth1", &*format!("ID_NET_NAME_PATH={name}\n"))];
        assert_eq!(plan(&two, &told).await, verdict, "{name}");
    }
    // Another property whose name begins alike, and udevadm's failure.
    assert_eq!(plan(&two, &[("eth0", "ID_NET_NAME_PATH_OLD=enp8s0f0np0\n")]).await, write(&["eth0", "eth1"]));
}

#[tokio::test]
async fn interfaces_of_others_decide_nothing() {
    let others = [("eth0", "0x8086")];
    let told = [("eth0", "ID_NET_NAME_PATH=enp8s0f0np0\n")];
    assert_eq!(plan(&others, &told).await, NamesRulePlan::NoInterface);
    assert_eq!(plan(&[], &[]).await, NamesRulePlan::NoInterface);
    let beside_one = [("eth0", "0x8086"), ("eth1", "0x15b3")];
    assert_eq!(plan(&beside_one, &told).await, write(&["eth1"]));
}

#[tokio::test]
async fn without_an_interface_the_rule_that_was_left_is_wanted() {
    let judged = async |interfaces: &[(&str, &str)], told: &[(&str, &str)]| {
        let (dir, host) = node(interfaces, told);
        fs::create_dir_all(dir.path().join("host/etc/udev/rules.d")).unwrap();
        // Of a container that was killed.
        fs::write(host.path(PATH), content(&mlx5())).unwrap();
        plan_names_rule(&host, Path::new(PATH), &mlx5()).await.unwrap()
    };
    assert_eq!(judged(&[("eth0", "0x8086")], &[]).await, NamesRulePlan::WantedBefore);
    assert!(NamesRulePlan::WantedBefore.is_wanted() && !NamesRulePlan::NoInterface.is_wanted());
    // Where there is one, it decides.
    let one = [("eth0", "0x15b3")];
    assert_eq!(judged(&one, &[]).await, write(&["eth0"]));
    let told = [("eth0", "ID_NET_NAME_PATH=enp8s0f0np0\n")];
    assert_eq!(judged(&one, &told).await, new_names("eth0", "enp8s0f0np0"));
}

#[tokio::test]
async fn trial_w8_somebody_elses_file_stays_and_is_named() {
    let (dir, host) = node(&[], &[]);
    let context = fixture::context(host.clone(), &dir.path().join("state"));
    let phase = context.journal.phase(Phase::Reload);
    let path = Path::new(PATH);
    fs::create_dir_all(host.path(path).parent().unwrap()).unwrap();
    let theirs = "SUBSYSTEM==\"net\", ATTR{address}==\"00:11:22:33:44:55\", NAME=\"uplink\"\n";
    let stays = || {
        let error = write_names_rule(&host, &phase, path, &mlx5()).unwrap_err();
        let told = crate::error_chain(&error);
        assert!(told.contains(PATH) && told.contains("MLX_UDEV_RULES_FILE"), "{told}");
        assert!(!remove_names_rule(&host, &phase, path).unwrap());
    };
    fs::write(host.path(path), theirs).unwrap();
    stays();
    assert_eq!(host.read(path).unwrap(), theirs);
    assert_eq!(plan_names_rule(&host, path, &mlx5()).await.unwrap(), NamesRulePlan::NoInterface);
    // Through a link, and what is no file.
    fs::rename(host.path(path), host.path("/theirs")).unwrap();
    symlink(host.path("/theirs"), host.path(path)).unwrap();
    stays();
    assert_eq!(host.read("/theirs").unwrap(), theirs);
    assert!(host.link_target(path).unwrap().is_some());
    fs::remove_file(host.path(path)).unwrap();
    fs::create_dir(host.path(path)).unwrap();
    stays();
    assert!(host.path(path).is_dir());
    let removed = Step::RemoveNamesRule { path: path.into() };
    let events = Journal::read(&context.store).unwrap();
    assert!(!events.iter().any(|event| event.entry.begins(|begun| *begun == removed)));
}

#[tokio::test]
async fn interfaces_that_cannot_be_listed_are_an_error() {
    let (dir, host) = node(&[], &[]);
    fs::remove_dir_all(dir.path().join("sys/class/net")).unwrap();
    let error = plan_names_rule(&host, Path::new(PATH), &mlx5()).await.unwrap_err();
    assert!(matches!(&error, NamesRuleError::List(_)), "{error}");
    assert!(error.to_string().contains("/sys/class/net"), "{error}");
}

#[tokio::test]
async fn a_pf_is_asked_before_its_vfs_and_nobody_after_it() {
    let dir = tempfile::tempdir().unwrap();
    for (interface, is_vf) in [("a-vf", true), ("pf", false)] {
        let device = dir.path().join("sys/class/net").join(interface).join("device");
        fs::create_dir_all(&device).unwrap();
        fs::write(device.join("vendor"), "0x15b3\n").unwrap();
        if is_vf {
            symlink("..", device.join("physfn")).unwrap();
        }
    }
    let asked = "udevadm info '--query=property' /sys/class/net/pf";
    let replay = Replay::default().answer(asked, Captured::success("ID_NET_NAME_PATH=enp8s0f0np0\n"));
    let host = Host::at(dir.path()).with_replay(replay.clone());
    assert_eq!(
        plan_names_rule(&host, Path::new(PATH), &mlx5()).await.unwrap(),
        new_names("pf", "enp8s0f0np0")
    );
    assert_eq!(replay.asked(), [asked]);
}

#[tokio::test]
async fn on_a_bus_without_vendors_the_bus_decides() {
    let (dir, host) = node(&[("eth0", "0x15b3")], &[]);
    let device = dir.path().join("sys/class/net/eth1/device");
    fs::create_dir_all(&device).unwrap();
    symlink("../../../../bus/netdevsim", device.join("subsystem")).unwrap();
    let devices = NicFamily::open("netdevsim").unwrap().devices;
    assert_eq!(plan_names_rule(&host, Path::new(PATH), &devices).await.unwrap(), write(&["eth1"]));
}

#[test]
fn the_rule_is_written_and_removed_also_twice() {
    let (dir, host) = node(&[], &[]);
    let state = dir.path().join("state");
    let context = fixture::context(host.clone(), &state);
    let phase = context.journal.phase(Phase::Reload);
    let path = Path::new(PATH);
    assert!(!remove_names_rule(&host, &phase, path).unwrap());

    let error = write_names_rule(&host, &phase, path, &mlx5()).unwrap_err();
    assert!(error.to_string().contains(PATH), "{error}");
    assert!(!host.exists("/host"), "the folder is not made");

    fs::create_dir_all(host.path(path).parent().unwrap()).unwrap();
    // One that another container has left, with permissions of its own.
    fs::write(host.path(path), "").unwrap();
    fs::set_permissions(host.path(path), fs::Permissions::from_mode(0o600)).unwrap();
    for _ in 0..2 {
        write_names_rule(&host, &phase, path, &mlx5()).unwrap();
        assert_eq!(host.read(path).unwrap(), content(&mlx5()));
        assert_eq!(fs::metadata(host.path(path)).unwrap().permissions().mode() & 0o7777, 0o644);
    }
    assert!(remove_names_rule(&host, &phase, path).unwrap());
    assert!(!remove_names_rule(&host, &phase, path).unwrap());
    assert_eq!(host.list("/host/etc/udev/rules.d").unwrap(), Vec::<String>::new());

    let events = Journal::read(&context.store).unwrap();
    let steps = |step: &Step| events.iter().filter(|event| event.entry.begins(|begun| begun == step)).count();
    assert_eq!(steps(&Step::WriteNamesRule { path: path.into() }), 3);
    assert_eq!(
        steps(&Step::RemoveNamesRule { path: path.into() }),
        1,
        "where there is none, there is no step"
    );
    assert!(events.iter().any(|event| matches!(&event.entry, Entry::StepEnded { .. })));
}

#[test]
fn the_rule_is_of_this_form() {
    insta::assert_snapshot!(content(&mlx5()), @r#"
    # Written by nic-driver, and removed when it ends. If no nic-driver is running, it was left behind, and may be deleted.
    # Interfaces keep the names that they had before their driver told its port: np0 and np1 are left out at the end of a name,
    # and before the number of a VF (enp8s0f0np0 stays enp8s0f0, enp8s0f0np1v12 stays enp8s0f0v12).
    ACTION=="add", SUBSYSTEM=="net", DRIVERS=="mlx5_core", ENV{ID_NET_NAME_PATH}=="?*", \
        PROGRAM="/bin/sh -c 'echo $env{ID_NET_NAME_PATH} | sed -e s/np[01]$$// -e s/np[01]v/v/'", ENV{ID_NET_NAME_PATH}="%c"
    ACTION=="add", SUBSYSTEM=="net", DRIVERS=="mlx5_core", ENV{ID_NET_NAME_SLOT}=="?*", \
        PROGRAM="/bin/sh -c 'echo $env{ID_NET_NAME_SLOT} | sed -e s/np[01]$$// -e s/np[01]v/v/'", ENV{ID_NET_NAME_SLOT}="%c"
    "#);
    let igb = content(&NicFamily::open("igb").unwrap().devices);
    assert!(igb.contains(r#"DRIVERS=="igb|igbvf""#), "{igb}");
}

/// What udevd does with a file of rules, as far as this one uses it (udev(7)): the properties of an interface afterwards.
struct Udev<'event> {
    action: &'event str,
    subsystem: &'event str,
    driver: &'event str,
    properties: BTreeMap<String, String>,
}

impl Udev<'_> {
    fn follow(&mut self, rules: &str) {
        let joined = rules.replace("\\\n", "");
        for line in joined.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
            self.follow_line(line);
        }
    }

    fn follow_line(&mut self, line: &str) {
        let mut printed = String::new();
        for part in tokens(line) {
            let (key, value) = part.split_once('=').unwrap();
            let (is_match, value) = match value.strip_prefix('=') {
                Some(value) => (true, value),
                None => (false, value),
            };
            let value = value.strip_prefix('"').unwrap().strip_suffix('"').unwrap();
            let property = key.strip_prefix("ENV{").and_then(|rest| rest.strip_suffix('}'));
            match (key, property, is_match) {
                ("ACTION", _, true) if value != self.action => return,
                ("SUBSYSTEM", _, true) if value != self.subsystem => return,
                ("DRIVERS", _, true) if !value.split('|').any(|driver| driver == self.driver) => return,
                ("ACTION" | "SUBSYSTEM" | "DRIVERS", _, true) => {}
                ("PROGRAM", _, false) => printed = self.run(value),
                (_, Some(name), true) => {
                    assert_eq!(value, "?*");
                    if self.properties.get(name).is_none_or(String::is_empty) {
                        return;
                    }
                }
                (_, Some(name), false) => {
                    assert_eq!(value, "%c");
                    self.properties.insert(name.into(), printed.clone());
                }
                _ => panic!("{part} is not known to this model"),
            }
        }
    }

    /// Runs the very shell command: what udev fills in first, then the words, of which one is quoted.
    fn run(&self, program: &str) -> String {
        let mut filled = String::new();
        let mut rest = program;
        while let Some((before, after)) = rest.split_once('$') {
            filled += before;
            rest = match (after.strip_prefix('$'), after.strip_prefix("env{")) {
                (Some(rest), _) => {
                    filled.push('$');
                    rest
                }
                (None, Some(named)) => {
                    let (name, rest) = named.split_once('}').unwrap();
                    filled += &self.properties[name];
                    rest
                }
                (None, None) => panic!("an unescaped $ in {program}"),
            };
        }
        filled += rest;
        let (words, quoted) = filled.split_once('\'').unwrap();
        let mut words = words.split_whitespace();
        let output = Command::new(words.next().unwrap())
            .args(words)
            .arg(quoted.strip_suffix('\'').unwrap())
            .current_dir("/")
            .output()
            .unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }
}

/// The parts of a rule: at commas outside quotation marks.
fn tokens(line: &str) -> Vec<&str> {
    let mut is_quoted = false;
    let at_comma = |character: char| {
        is_quoted ^= character == '"';
        character == ',' && !is_quoted
    };
    line.split(at_comma).map(str::trim).collect()
}

#[test]
fn names_lose_their_port_by_the_rule() {
    let rules = content(&mlx5());
    let follow = |action: &str, subsystem: &str, driver: &str, name: &str| {
        let names = ["ID_NET_NAME_PATH", "ID_NET_NAME_SLOT", "ID_NET_NAME_ONBOARD"];
        let properties = names.map(|property| (property.to_owned(), name.to_owned()));
        let mut udev = Udev { action, subsystem, driver, properties: BTreeMap::from(properties) };
        udev.follow(&rules);
        names.map(|property| udev.properties[property].clone())
    };
    // Each compared with what `udevadm test` of systemd 252 makes of the rule.
    for (before, after) in [
        ("enp8s0f0np0", "enp8s0f0"),
        ("enp8s0f0np1", "enp8s0f0"),
        ("enp8s0f0np1v12", "enp8s0f0v12"),
        ("enp8s0f0np0v0", "enp8s0f0v0"),
        ("enp8s0f0np2", "enp8s0f0np2"),
        ("enp8s0f0np3", "enp8s0f0np3"),
        ("enp8s0f0np2v1", "enp8s0f0np2v1"),
        ("enp8s0f0np10", "enp8s0f0np10"),
        ("enp8s0f0npf0vf1", "enp8s0f0npf0vf1"),
        ("enp8s0f0v3", "enp8s0f0v3"),
        ("enp8s0f0", "enp8s0f0"),
    ] {
        let [path, slot, onboard] = follow("add", "net", "mlx5_core", before);
        assert_eq!((path.as_str(), slot.as_str(), onboard.as_str()), (after, after, before));
    }
    for (action, subsystem, driver) in
        [("change", "net", "mlx5_core"), ("add", "infiniband", "mlx5_core"), ("add", "net", "igb")]
    {
        let names = follow(action, subsystem, driver, "enp8s0f0np0");
        assert_eq!(names, ["enp8s0f0np0"; 3], "{action} {subsystem} {driver}");
    }
    let mut nameless = Udev {
        action: "add",
        subsystem: "net",
        driver: "mlx5_core",
        properties: BTreeMap::from([("ID_NET_NAME_PATH".into(), String::new())]),
    };
    nameless.follow(&rules);
    assert_eq!(nameless.properties.len(), 1);
}

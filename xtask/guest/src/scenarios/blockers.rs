//! What stands in the way of a reload is found before anything is changed, and named with what to do about it. What comes
//! up later goes with the rest, or is named and everything put back.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail, ensure};
use lab_guest::wiring::BYSTANDER_MACS;
use nic_driver::Exit;
use nic_driver::default_paths::BLACKLIST_FILE;

use crate::command::run as command;
use crate::guest::Guest;
use crate::observe::{Nics, netdev_by_mac};
use crate::rdma::{LISTED, describe_family, expect_loaded, loaded, make_rxe, nic_driver};
use crate::{report, say, vfs, wait, write};

const ADDRESS: &str = "10.9.0.1";
const UNKNOWN: &str = "/lab/packages/lab_unknown.ko";
const STORAGE: &str = "--unload-storage-modules";
const THIRD_PARTY: &str = "--unload-third-party-rdma-modules";
const LATECOMER: &str = "rpcrdma";

/// The node as it is to stay.
struct Node {
    nics: Nics,
    modules: BTreeSet<String>,
}

pub(crate) fn run(_guest: &Guest) -> anyhow::Result<()> {
    describe_family()?;
    let nics = vfs::configure_all()?;
    for module in LISTED {
        command("modprobe", [module])?;
    }
    let found = nic_driver(&["preflight"]).run()?.expect(Exit::Success)?;
    ensure!(found.stdout.contains("no reload is due"), "{}", found.stdout);
    nic_driver(&["preflight", "--force"]).run()?.expect(Exit::Success)?;

    say("== a module that no family knows");
    command("insmod", [UNKNOWN])?;
    blocked(&nics, &[], &["unknown out-of-tree module lab_unknown", "modprobe -r lab_unknown"])?;
    command("rmmod", ["lab_unknown"])?;

    say("== an RDMA device of another vendor, and a process on it");
    make_rxe(&netdev_by_mac(first_bystander()?)?, ADDRESS)?;
    blocked(&nics, &[], &["module rdma_rxe is loaded", "UNLOAD_THIRD_PARTY_RDMA_MODULES"])?;
    let mut user = hold("/dev/infiniband/uverbs0")?;
    let process = format!("process {} (sleep) has /dev/infiniband/uverbs0 open", user.id());
    blocked(&nics, &[THIRD_PARTY], &[&process, "rdma_rxe", "ib_uverbs"])?;
    user.kill().context("cannot end the process")?;
    user.wait().context("cannot wait for the process")?;

    say("== storage over RDMA");
    serve_storage()?;
    let device = connect()?;
    blocked(&nics, &[THIRD_PARTY], &["storage module nvme_rdma is loaded", "UNLOAD_STORAGE_MODULES"])?;
    blocked(
        &nics,
        &[THIRD_PARTY, STORAGE],
        &["controller nvme0 is connected", "nvme disconnect", "serves NVMe over RDMA"],
    )?;
    command("mkfs.minix", [&device])?;
    command("modprobe", ["minix"])?;
    fs::create_dir_all("/mnt/data").context("cannot create a mount point")?;
    command("mount", ["-t", "minix", &device, "/mnt/data"])?;
    blocked(&nics, &[THIRD_PARTY, STORAGE], &["is mounted on /mnt/data", "umount /mnt/data"])?;
    command("umount", ["/mnt/data"])?;
    command("mkswap", [&device])?;
    command("swapon", [&device])?;
    blocked(&nics, &[THIRD_PARTY, STORAGE], &["the kernel swaps to", "swapoff"])?;
    command("swapoff", [&device])?;
    stop_storage()?;
    command("rdma", ["link", "delete", "rxe0"])?;
    for module in ["nvme_rdma", "nvmet_rdma", "rdma_rxe"] {
        command("modprobe", ["-r", module])?;
    }

    let node = Node { nics, modules: loaded()? };
    race_named(&node)?;
    race_handled(&node)?;
    taken_back_with_others(&node)?;
    report("everything in the way was named and nothing changed; what raced in was put back or reloaded");
    Ok(())
}

fn first_bystander() -> anyhow::Result<&'static str> {
    BYSTANDER_MACS.first().copied().context("there is no bystander")
}

/// Preflight and reload are blocked, say all these words, and change nothing.
fn blocked(nics: &Nics, allowed: &[&str], words: &[&str]) -> anyhow::Result<()> {
    let before = loaded()?;
    let with = |command: &[&'static str]| nic_driver(&[allowed, command].concat());
    let table = with(&["preflight", "--force"]).run()?.expect(Exit::Blocked)?;
    let json = with(&["preflight", "--force", "--output", "json"]).quietly().run()?.expect(Exit::Blocked)?;
    let reload = with(&["reload", "--force"]).run()?.expect(Exit::Blocked)?;
    serde_json::from_str::<serde_json::Value>(&json.stdout).context("the preflight's JSON does not parse")?;
    for word in words {
        for (what, text) in [("table", &table.stdout), ("JSON", &json.stdout), ("reload", &reload.stderr)] {
            ensure!(text.contains(word), "the {what} does not say {word:?}: {text}");
        }
    }
    expect_loaded(&before)?;
    let differences = nics.differences(&Nics::observe()?);
    ensure!(differences.is_empty(), "although it was blocked: {differences}");
    Ok(())
}

/// A process that has a device open and does nothing.
fn hold(device: &str) -> anyhow::Result<Child> {
    let file = fs::File::options().read(true).write(true).open(device);
    let file = file.with_context(|| format!("cannot open {device}"))?;
    let mut sleep = Command::new("sleep");
    sleep.arg("1000").stdin(Stdio::from(file)).spawn().context("cannot start sleep")
}

const TARGET: &str = "/sys/kernel/config/nvmet";
const NQN: &str = "nqn.2026-01.lab:data";

/// A loop device, served to this machine itself over RDMA.
fn serve_storage() -> anyhow::Result<()> {
    command("modprobe", ["-a", "loop", "nvmet", "nvmet_rdma", "nvme_rdma"])?;
    if !Path::new(TARGET).exists() {
        command("mount", ["-t", "configfs", "none", "/sys/kernel/config"])?;
    }
    command("truncate", ["--size", "16M", "/tmp/disk"])?;
    let disk = command("losetup", ["--find", "--show", "/tmp/disk"])?;
    let (subsystem, port) = (format!("{TARGET}/subsystems/{NQN}"), format!("{TARGET}/ports/1"));
    for folder in [&subsystem, &format!("{subsystem}/namespaces/1"), &port] {
        fs::create_dir(folder).with_context(|| format!("cannot create {folder}"))?;
    }
    write(format!("{subsystem}/attr_allow_any_host"), "1")?;
    write(format!("{subsystem}/namespaces/1/device_path"), disk.trim())?;
    write(format!("{subsystem}/namespaces/1/enable"), "1")?;
    for (attribute, value) in
        [("addr_trtype", "rdma"), ("addr_adrfam", "ipv4"), ("addr_traddr", ADDRESS), ("addr_trsvcid", "4420")]
    {
        write(format!("{port}/{attribute}"), value)?;
    }
    symlink(&subsystem, format!("{port}/subsystems/{NQN}")).context("cannot enable the port")
}

/// The block device of a connection to it.
fn connect() -> anyhow::Result<String> {
    let to = format!("transport=rdma,traddr={ADDRESS},trsvcid=4420,nqn={NQN}");
    write("/dev/nvme-fabrics", &to)?;
    wait::until("the block device", Duration::from_secs(30), || {
        let device = ["/dev/nvme0n1", "/dev/nvme0c0n1"].into_iter().find(|device| Path::new(device).exists());
        Ok(device.map(ToOwned::to_owned))
    })
}

fn stop_storage() -> anyhow::Result<()> {
    write("/sys/class/nvme/nvme0/delete_controller", "1")?;
    let (subsystem, port) = (format!("{TARGET}/subsystems/{NQN}"), format!("{TARGET}/ports/1"));
    fs::remove_file(format!("{port}/subsystems/{NQN}")).context("cannot disable the port")?;
    for folder in [&port, &format!("{subsystem}/namespaces/1"), &subsystem] {
        fs::remove_dir(folder).with_context(|| format!("cannot remove {folder}"))?;
    }
    command("losetup", ["--detach-all"]).map(drop)
}

/// Runs `program` as soon as the blacklist is there: after the last look, and before the first unload.
fn when_it_is_too_late(
    program: &'static str,
    argument: &'static str,
) -> thread::JoinHandle<anyhow::Result<()>> {
    thread::spawn(move || {
        let start = Instant::now();
        while !Path::new(BLACKLIST_FILE).exists() {
            if start.elapsed() > Duration::from_secs(60) {
                bail!("no blacklist came");
            }
            thread::sleep(Duration::from_millis(2));
        }
        command(program, [argument]).map(drop)
    })
}

fn raced(racer: thread::JoinHandle<anyhow::Result<()>>) -> anyhow::Result<()> {
    racer.join().unwrap_or_else(|_| Err(anyhow!("the racer panicked")))
}

fn race_named(node: &Node) -> anyhow::Result<()> {
    say("== a module that no family knows comes up behind the last look");
    let racer = when_it_is_too_late("insmod", UNKNOWN);
    let reload = nic_driver(&["reload", "--force"]).run()?.expect(Exit::RolledBack)?;
    raced(racer)?;
    ensure!(reload.stderr.contains("lab_unknown"), "it is not named: {}", reload.stderr);
    command("rmmod", ["lab_unknown"])?;
    as_before(node)
}

fn race_handled(node: &Node) -> anyhow::Result<()> {
    say("== a module that may be unloaded comes up behind the last look");
    command("modprobe", ["sunrpc"])?;
    let racer = when_it_is_too_late("modprobe", LATECOMER);
    // What stood in the way before was not this driver's fault: it is tried again unasked.
    nic_driver(&[STORAGE, "reload", "--force"]).run()?.expect(Exit::Success)?;
    raced(racer)?;
    nic_driver(&["restore-sriov"]).run()?.expect(Exit::Success)?;
    let now = loaded()?;
    ensure!(now.contains(LATECOMER), "{LATECOMER} was not loaded again");
    command("modprobe", ["-r", LATECOMER])?;
    let modules: BTreeSet<String> = loaded()?;
    ensure!(node.modules.is_subset(&modules), "of {:?} only {modules:?} are loaded", node.modules);
    node.nics.expect_unchanged()
}

/// A module that is not the driver's own goes with it, and comes back with the driver that is gone back to.
fn taken_back_with_others(node: &Node) -> anyhow::Result<()> {
    const RULE: &str = "/etc/modprobe.d/lab-no-mlx5-ib.conf";
    say("== the driver does not load, and a storage module was unloaded for it");
    command("modprobe", [LATECOMER])?;
    write(RULE, "install mlx5_ib /bin/false\n")?;
    nic_driver(&[STORAGE, "reload", "--force"]).run()?.expect(Exit::RolledBack)?;
    fs::remove_file(RULE).context("cannot remove the rule")?;
    let now = loaded()?;
    ensure!(now.contains(LATECOMER), "{LATECOMER} was not loaded again");
    command("modprobe", ["-r", LATECOMER])?;
    ensure!(node.modules.is_subset(&now), "of {:?} only {now:?} are loaded", node.modules);
    node.nics.expect_unchanged()
}

fn as_before(node: &Node) -> anyhow::Result<()> {
    expect_loaded(&node.modules)?;
    node.nics.expect_unchanged()
}

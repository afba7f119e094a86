//! Whoever uses the RDMA stack without being in use is unloaded with it and loaded again, with what it was given. Hook
//! scripts are run around it, and NFS over RDMA is loaded where it is asked for.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use anyhow::{Context as _, ensure};
use nic_driver::Exit;

use crate::command::run as command;
use crate::guest::Guest;
use crate::observe::{Nics, igb_pfs, netdev_of};
use crate::planned::Planned;
use crate::rdma::{LISTED, describe_family, expect_loaded, loaded, nic_driver};
use crate::{hooks, read, report, say, vfs};

/// Users of the stack, one more with each reload.
const USERS: [&str; 3] = [NOTHING_MORE, "rdma_rxe", "ib_isert"];
/// Users from the beginning: what NFS over RDMA needs.
const NFSRDMA: [&str; 2] = ["nvme_rdma", "rpcrdma"];
const NOTHING_MORE: &str = "nothing more";
/// Few, since it is the modules that matter here.
const VFS: u32 = 3;
/// A parameter that is no default, and that can be given at the load only.
const GIVEN: (&str, &str, &str) = ("ib_ipoib", "recv_queue_size", "1024");

pub(crate) fn run(_guest: &Guest) -> anyhow::Result<()> {
    describe_family()?;
    let before = vfs::configure_each(VFS)?;
    let (module, parameter, value) = GIVEN;
    command("modprobe", [module, &format!("{parameter}={value}")])?;
    for module in LISTED {
        command("modprobe", [module])?;
    }
    let file = format!("/sys/module/{module}/parameters/{parameter}");
    ensure!(read(&file)? == value, "{parameter} was not taken");
    hooks::write_all()?;
    with_nfsrdma()?;
    for user in USERS {
        say(&format!("== {user} is loaded"));
        if user != NOTHING_MORE {
            command("modprobe", [user])?;
        }
        let modules = loaded()?;
        let were = copies(user)?;
        let allowed = ["--unload-storage-modules", "--unload-third-party-rdma-modules"];
        let with = |arguments: &[&str]| nic_driver(&[&allowed, arguments].concat());
        let planned = Planned::ask(|arguments| with(&[arguments, &["--force"]].concat()))?;
        let reloaded = with(&["reload", "--force"]).run()?.expect(Exit::Success)?;
        planned.expect_done()?;
        ensure!(!reloaded.stdout.contains("not loaded any more"), "{}", reloaded.stdout);
        expect_loaded(&modules).with_context(|| format!("after a reload with {user}"))?;
        hooks::expect_each_once()?;
        hooks::expect_daemon()?;
        expect_hook_failure_told()?;
        for (before, now) in were.iter().zip(copies(user)?) {
            ensure!(*before != now, "{} was not reloaded", now.0);
        }
        ensure!(read(&file)? == value, "{module} came back with {parameter}={}", read(&file)?);
        nic_driver(&["restore-sriov"]).run()?.expect(Exit::Success)?;
        let differences = before.differences(&Nics::observe()?);
        ensure!(differences.is_empty(), "with {user}: {differences}");
    }
    expect_version_told()?;
    report(&format!("{} reloads of the whole stack: the same modules before and after", USERS.len() + 1));
    Ok(())
}

/// Of what NFS over RDMA uses, rpcrdma is loaded, without a swap; the other is left to whoever uses it.
fn with_nfsrdma() -> anyhow::Result<()> {
    say("== NFS over RDMA is asked for");
    let with =
        |value: &str, arguments: &[&str]| nic_driver(arguments).with_env("ENABLE_NFSRDMA", value.to_owned());
    with("perhaps", &["reload"]).run()?.expect(Exit::Usage)?;
    let unset = with("", &["reload"]).run()?.expect(Exit::Success)?;
    ensure!(unset.stdout.contains("not due"), "{}", unset.stdout);
    hooks::expect_none()?;
    let told = with("True", &["reload"]).run()?.expect(Exit::Success)?;
    told.expect_words(&["not due", "loaded beside the driver: rpcrdma"])?;
    let now = loaded()?;
    ensure!(now.contains("rpcrdma") && !now.contains("nvme_rdma"), "loaded are {now:?}");
    let again = with("true", &["reload"]).run()?.expect(Exit::Success)?;
    ensure!(again.stdout.contains("rpcrdma: equal") && again.stdout.contains("not due"), "{}", again.stdout);
    // They are of the driver now, and still not unloaded unasked.
    let blocked = with("1", &["reload", "--force"]).run()?.expect(Exit::Blocked)?;
    ensure!(blocked.stderr.contains("the storage module rpcrdma is loaded"), "{}", blocked.stderr);
    command("modprobe", ["nvme_rdma"])?;
    let loaded = with("true", &["reload"]).run()?.expect(Exit::Success)?;
    loaded.expect_words(&["nvme_rdma: equal", "not due"])?;
    hooks::expect_none()
}

fn expect_hook_failure_told() -> anyhow::Result<()> {
    let told = nic_driver(&["report", "--output", "json"]).quietly().run()?.expect(Exit::Success)?;
    ensure!(
        told.stdout.contains(hooks::FAILURE),
        "the report does not name the hook that failed: {}",
        told.stdout
    );
    Ok(())
}

/// The version that ethtool reports is told by `status`.
fn expect_version_told() -> anyhow::Result<()> {
    let pf = igb_pfs()?.into_iter().next().context("no PF")?;
    let ethtool = command("ethtool", ["-i", &netdev_of(&pf)?])?;
    let version = ethtool.lines().find_map(|line| line.strip_prefix("version: "));
    let line = format!("igb reports version {} on 1 netdevs", version.context("ethtool tells no version")?);
    let status = nic_driver(&["status"]).quietly().run()?.expect(Exit::Success)?;
    ensure!(status.stdout.contains(&line), "no {line:?} in {}", status.stdout);
    Ok(())
}

/// Modules that must go and come: each loaded copy has a folder in sysfs with an inode of its own.
fn copies(user: &'static str) -> anyhow::Result<Vec<(&'static str, u64)>> {
    let user = (user != NOTHING_MORE).then_some(user);
    let inode = |module: &'static str| {
        let folder = fs::metadata(format!("/sys/module/{module}"));
        Ok((module, folder.with_context(|| format!("{module} is not loaded"))?.ino()))
    };
    ["igb", "mlx5_core", "mlx5_ib", "ib_core", "ib_uverbs", "rdma_cm"]
        .into_iter()
        .chain(NFSRDMA)
        .chain(user)
        .map(inode)
        .collect()
}

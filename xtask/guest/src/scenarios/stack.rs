//! Whoever uses the RDMA stack without being in use is unloaded with it and loaded again, with what it was given.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use anyhow::{Context as _, ensure};

use crate::command::run as command;
use crate::guest::Guest;
use crate::observe::Nics;
use crate::rdma::{LISTED, describe_family, expect_loaded, loaded, nic_driver};
use crate::{read, report, say, vfs};

/// Users of the stack, one more with each reload.
const USERS: [&str; 5] = [NOTHING_MORE, "rpcrdma", "nvme_rdma", "rdma_rxe", "ib_isert"];
const NOTHING_MORE: &str = "nothing more";
/// A parameter that is no default, and that can be given at the load only.
const GIVEN: (&str, &str, &str) = ("ib_ipoib", "recv_queue_size", "1024");

pub(crate) fn run(_guest: &Guest) -> anyhow::Result<()> {
    describe_family()?;
    let before = vfs::configure_all()?;
    let (module, parameter, value) = GIVEN;
    command("modprobe", [module, &format!("{parameter}={value}")])?;
    for module in LISTED {
        command("modprobe", [module])?;
    }
    let file = format!("/sys/module/{module}/parameters/{parameter}");
    ensure!(read(&file)? == value, "{parameter} was not taken");
    for user in USERS {
        say(&format!("== {user} is loaded"));
        if user != NOTHING_MORE {
            command("modprobe", [user])?;
        }
        let modules = loaded()?;
        let were = copies(user)?;
        let reload = ["--unload-storage-modules", "--unload-third-party-rdma-modules", "reload", "--force"];
        let reloaded = nic_driver(&reload).run()?.expect_code(0)?;
        ensure!(!reloaded.stdout.contains("not loaded any more"), "{}", reloaded.stdout);
        expect_loaded(&modules).with_context(|| format!("after a reload with {user}"))?;
        for (before, now) in were.iter().zip(copies(user)?) {
            ensure!(*before != now, "{} was not reloaded", now.0);
        }
        ensure!(read(&file)? == value, "{module} came back with {parameter}={}", read(&file)?);
        nic_driver(&["restore-sriov"]).run()?.expect_code(0)?;
        let differences = before.differences(&Nics::observe()?);
        ensure!(differences.is_empty(), "with {user}: {differences}");
    }
    report(&format!("{} reloads of the whole stack: the same modules before and after", USERS.len()));
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
        .chain(user)
        .map(inode)
        .collect()
}

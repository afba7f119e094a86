//! The driver container without being privileged: with the capabilities that it names and no others it goes its whole way; without
//! one of them it says which, and does nothing. That each is needed the operation itself shows, by the distribution's own programs.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context as _, ensure};
use nic_driver::Exit;
use nic_driver::default_paths::{DRIVERS_MOUNT, STATE_DIR};

use super::entrypoint::{
    NAMES_RULE, TERMINATION_LOG, VFS, container, expect, headers_are_mounted, loaded, prepare, stop,
    until_ready,
};
use crate::command::run as command;
use crate::drivers::Flow;
use crate::guest::Guest;
use crate::readiness::{self, READY};
use crate::{image, read, report, say, vfs, write};

/// A capability, as setpriv(1) and as the program call it, with what it is needed for.
struct Needed {
    capability: &'static str,
    name: &'static str,
    purpose: &'static str,
    /// What it lets a program do, and how that is undone.
    operation: &'static [&'static str],
    undone_by: &'static [&'static str],
}

const NEEDED: [Needed; 3] = [
    Needed {
        capability: "sys_module",
        name: "CAP_SYS_MODULE",
        purpose: "kernel modules are loaded and unloaded",
        operation: &["insmod", "/lab/packages/lab_holder.ko", "driver=igb"],
        undone_by: &["rmmod", "lab_holder"],
    },
    Needed {
        capability: "net_admin",
        name: "CAP_NET_ADMIN",
        purpose: "PFs, VFs and what stands on them are configured",
        operation: &["ip", "link", "set", "dev", "lo", "mtu", "65000"],
        undone_by: &["ip", "link", "set", "dev", "lo", "mtu", "65536"],
    },
    Needed {
        capability: "sys_admin",
        name: "CAP_SYS_ADMIN",
        purpose: "headers are mounted where other containers find them",
        operation: &["mount", "--bind", "/usr/src", "/mnt"],
        undone_by: &["umount", "/mnt"],
    },
];

/// What is made anew before each attempt: a repository without packages, apt's folders, an archive of another user's files.
const SET_UP: &str = "rm -rf /tmp/of-packages && mkdir -p /tmp/of-packages/repository /tmp/of-packages/lists/partial \
    /tmp/of-packages/cache/archives/partial /tmp/of-packages/unpacked && cd /tmp/of-packages && touch repository/Packages archived && \
    chown 1000:1000 archived && tar -cf archive.tar archived && rm archived && \
    echo 'deb [trusted=yes] file:/tmp/of-packages/repository ./' > sources.list";
const APT: &[&str] = &[
    "apt-get",
    "-o",
    "Dir::State::lists=/tmp/of-packages/lists",
    "-o",
    "Dir::Cache=/tmp/of-packages/cache",
    "-o",
    "Dir::Etc::sourcelist=/tmp/of-packages/sources.list",
    "-o",
    "Dir::Etc::sourceparts=/dev/null",
    "update",
];
const TAR: &[&str] = &["tar", "-C", "/tmp/of-packages/unpacked", "-xf", "/tmp/of-packages/archive.tar"];
/// What commands need that have packages, each with what fails without it.
const OF_PACKAGES: [(&str, &[&str]); 5] =
    [("setuid", APT), ("setgid", APT), ("dac_override", APT), ("chown", TAR), ("fowner", TAR)];

pub(crate) fn run(guest: &Guest) -> anyhow::Result<()> {
    let before = vfs::configure_each(VFS)?;
    let inbox = loaded()?;
    // Debian's kernels are of none of Red Hat's variants.
    image::become_container(guest.kernel(), Flow::Deb)?;
    image::put_driver(guest.kernel(), "A")?;
    prepare()?;
    for folder in ["/mnt", DRIVERS_MOUNT] {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {folder}"))?;
    }
    let untouched = || {
        ensure!(loaded()? == inbox, "other modules are loaded");
        for left in [READY, NAMES_RULE, STATE_DIR] {
            ensure!(!Path::new(left).exists(), "{left} is there");
        }
        ensure!(
            !read("/proc/self/mountinfo")?.contains(DRIVERS_MOUNT),
            "something is mounted on {DRIVERS_MOUNT}"
        );
        before.expect_unchanged()
    };

    for needed in &NEEDED {
        say(&format!("== without {}", needed.name));
        is_needed_for_its_operation(needed)?;
        let others = NEEDED.iter().filter(|other| other.name != needed.name);
        let ended = container("true").executed_by(with_nothing_but(others)).run()?.expect(Exit::NotRoot)?;
        let message = read(TERMINATION_LOG)?;
        for said in [&ended.stderr, &message] {
            let named = format!("{} ({})", needed.name, needed.purpose);
            ensure!(said.contains(&named), "{named:?} is not said: {said}");
            ensure!(said.matches("CAP_").count() == 1, "other capabilities are named, too: {said}");
        }
        untouched()?;
        write(TERMINATION_LOG, "")?;
    }

    say("== package managers");
    each_is_needed_for_packages()?;

    say("== with a /sys and a folder that take nothing");
    for (mount, named) in [
        ("mount -o remount,bind,ro /sys".to_owned(), "a writable /sys (".to_owned()),
        (format!("mount -t tmpfs -o ro none {DRIVERS_MOUNT}"), format!("a writable {DRIVERS_MOUNT} (")),
    ] {
        let ended = container("true").executed_by(["sh", "-c", &format!("{mount} && exec \"$@\""), "sh"]);
        ended.run()?.expect(Exit::NotRoot)?.expect_words(&[&named])?;
        untouched()?;
    }

    say("== with what is needed, and nothing else");
    let watch = readiness::watch(&before)?;
    let running = container("true").executed_by(with_nothing_but(&NEEDED)).start()?;
    until_ready(&running)?;
    expect(&before, "A")?;
    headers_are_mounted(&running)?;
    let status = read(format!("/proc/{}/status", running.pid_1()?))?;
    let effective =
        status.lines().find_map(|line| line.strip_prefix("CapEff:")).context("no capabilities")?;
    let effective = u64::from_str_radix(effective.trim(), 16).context("capabilities that are no number")?;
    ensure!(effective.count_ones() == 3, "the container has other capabilities: {effective:x}");
    stop(running)?;
    ensure!(loaded()? == inbox, "the loaded modules are not the host's");
    before.expect_unchanged()?;
    let seen = watch.end()?;
    let names: Vec<_> = NEEDED.iter().map(|needed| needed.name).collect();
    report(&format!("{} VFs under {} alone: {seen}", before.vf_count(), names.join(", ")));
    seen.ensure_right()
}

/// It succeeds with this capability alone, and fails with all but this one.
fn is_needed_for_its_operation(needed: &Needed) -> anyhow::Result<()> {
    let failed = attempt(&format!("-{}", needed.capability), needed.operation)?;
    let said = String::from_utf8_lossy(&failed.stderr).to_lowercase();
    let is_refused = ["operation not permitted", "permission denied", "must be superuser"]
        .iter()
        .any(|why| said.contains(why));
    ensure!(
        !failed.status.success() && is_refused,
        "without {} {:?} ends with {}: {said}",
        needed.name,
        needed.operation,
        failed.status
    );
    let done = attempt(&format!("-all,+{}", needed.capability), needed.operation)?;
    let said = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "with {} alone {:?} fails: {said}", needed.name, needed.operation);
    let (program, arguments) = needed.undone_by.split_first().context("no program")?;
    command(program, arguments).map(drop)
}

/// The distribution's programs succeed with all five alone, and fail without one of them.
fn each_is_needed_for_packages() -> anyhow::Result<()> {
    let set_of = |without: &str| {
        let others = OF_PACKAGES.iter().filter(|(capability, _)| *capability != without);
        others.fold("-all".to_owned(), |set, (capability, _)| format!("{set},+{capability}"))
    };
    for (without, fails) in
        OF_PACKAGES.into_iter().map(|(without, fails)| (without, Some(fails))).chain([("", None)])
    {
        for operation in [APT, TAR] {
            command("sh", ["-c", SET_UP])?;
            let done = attempt(&set_of(without), operation)?;
            let said = String::from_utf8_lossy(&done.stderr);
            match fails {
                Some(fails) if fails == operation => {
                    ensure!(!done.status.success(), "{operation:?} succeeds without {without}: {said}");
                }
                None => ensure!(done.status.success(), "{operation:?} fails with all that is needed: {said}"),
                Some(_) => {}
            }
        }
    }
    Ok(())
}

/// Runs a program with a set of capabilities, as setpriv(1) writes it.
fn attempt(set: &str, operation: &[&str]) -> anyhow::Result<Output> {
    let mut command = Command::new("setpriv");
    command.arg(format!("--bounding-set={set}")).args(operation);
    command.output().with_context(|| format!("cannot start {command:?}"))
}

/// What executes a program with these capabilities alone.
fn with_nothing_but<'a>(needed: impl IntoIterator<Item = &'a Needed>) -> impl Iterator<Item = String> {
    let set: String = needed.into_iter().map(|needed| format!(",+{}", needed.capability)).collect();
    ["setpriv".to_owned(), format!("--bounding-set=-all{set}")].into_iter()
}

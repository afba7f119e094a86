//! Not loaded is not different: what is merely missing is loaded, and no NIC is touched for it. What the driver works
//! without may fail; what only the host's tree has decides nothing.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, ensure};
use nic_driver::Exit;

use crate::boot;
use crate::command::run as command;
use crate::guest::Guest;
use crate::observe::Nics;
use crate::planned::Planned;
use crate::program::Outcome;
use crate::rdma::{LISTED, auxiliary, describe_family, expect_loaded, loaded, nic_driver};
use crate::readiness::READY;
use crate::untouched::Watch;
use crate::{journal, report, say, vfs, write};

/// The driver works without this one.
const OPTIONAL: &str = "ib_umad";
/// And not without this one.
const REQUIRED: &str = "mlx5_ib";
const RULE: &str = "/etc/modprobe.d/lab-install.conf";

pub(crate) fn run(guest: &Guest) -> anyhow::Result<()> {
    describe_family()?;
    let before = vfs::configure_each(2)?;
    for module in LISTED {
        command("modprobe", [module])?;
    }
    boot::settle_udev()?;
    let all = loaded()?;
    untouched(&["reload"], Exit::Success)?.expect_words(&["not due"])?;

    say("== modules that are merely not loaded");
    // modprobe -r would take away what they depend on as well.
    for module in [OPTIONAL, REQUIRED] {
        command("rmmod", [module])?;
    }
    let asked = nic_driver(&["restore-sriov"]).run()?.expect(Exit::Success)?;
    asked.expect_words(&["not ready", &format!("not loaded: {REQUIRED}")])?;
    ensure!(!Path::new(READY).exists(), "ready without {REQUIRED}");
    nic_driver(&["preflight"]).run()?.expect(Exit::Success)?.expect_words(&[
        "no swap is due",
        REQUIRED,
        OPTIONAL,
    ])?;
    nic_driver(&["plan", "reload"])
        .run()?
        .expect(Exit::Success)?
        .expect_words(&["load mlx5_ib", "load ib_umad"])?;
    let planned = Planned::ask(nic_driver)?;
    untouched(&["reload"], Exit::Success)?.expect_words(&[
        "not due",
        &beside(REQUIRED),
        &beside(OPTIONAL),
    ])?;
    planned.expect_done()?;
    expect_loaded(&all)?;
    untouched(&["restore-sriov"], Exit::Success)?;
    ensure!(Path::new(READY).exists(), "not ready although all modules are loaded");
    report("modules that are not loaded: loaded, without a touch of the NIC");

    say("== one that the driver works without cannot be loaded");
    cannot_be_loaded(OPTIONAL)?;
    untouched(&["reload"], Exit::Success)?
        .expect_words(&["not due", &format!("works without it: {OPTIONAL}")])?;
    for module in auxiliary()? {
        command("rmmod", [module])?;
    }
    let swapped = nic_driver(&["reload", "--force"]).run()?.expect(Exit::Success)?;
    swapped.expect_words(&["module not loaded; the driver works without this one", OPTIONAL])?;
    nic_driver(&["restore-sriov"]).run()?.expect(Exit::Success)?;
    for module in auxiliary()? {
        ensure!(loaded()?.contains(module), "the swap has not loaded {module}, which comes with the driver");
    }
    let differences = before.differences(&Nics::observe()?);
    ensure!(differences.is_empty(), "{differences}");
    can_be_loaded()?;
    untouched(&["reload"], Exit::Success)?.expect_words(&[&beside(OPTIONAL)])?;
    expect_loaded(&all)?;
    report("one that the driver works without: named, exit 0, and no driver is taken back for it");

    say("== one that the driver does not work without cannot be loaded");
    cannot_be_loaded(REQUIRED)?;
    untouched(&["reload"], Exit::Failed)?
        .expect_words(&["a module without which it does not work", REQUIRED])?;
    can_be_loaded()?;
    untouched(&["reload"], Exit::Success)?.expect_words(&[&beside(REQUIRED)])?;
    expect_loaded(&all)?;
    report("one that it does not work without: named, exit 1, and the NIC is not touched");

    say("== one that only the host's tree has");
    only_on_host(guest.kernel(), OPTIONAL)?;
    untouched(&["reload"], Exit::Success)?.expect_words(&["ib_umad: only in the host's tree", "not due"])?;
    command("rmmod", [OPTIONAL])?;
    untouched(&["reload"], Exit::Success)?.expect_words(&["ib_umad: only in the host's tree", "not due"])?;
    ensure!(!loaded()?.contains(OPTIONAL), "{OPTIONAL} was loaded, which is not of the installed driver");
    guest.keep(&journal::path())?;
    report("one that only the host's tree has decides nothing, loaded or not");
    Ok(())
}

/// Runs a command, which must touch nothing: neither over netlink nor in sysfs.
fn untouched(arguments: &[&str], exit: Exit) -> anyhow::Result<Outcome> {
    let watch = Watch::begin()?;
    let outcome = nic_driver(arguments).run()?.expect(exit)?;
    let touched = watch.end()?;
    ensure!(touched.is_empty(), "{arguments:?}: touched {touched:?}");
    Ok(outcome)
}

fn beside(module: &str) -> String {
    format!("loaded beside the driver: {module}")
}

fn cannot_be_loaded(module: &str) -> anyhow::Result<()> {
    command("rmmod", [module])?;
    write(RULE, &format!("install {module} /bin/false\n"))
}

fn can_be_loaded() -> anyhow::Result<()> {
    fs::remove_file(RULE).with_context(|| format!("cannot remove {RULE}"))
}

/// Gives all modules to the host, and to the container all but one.
fn only_on_host(kernel: &str, module: &str) -> anyhow::Result<()> {
    let (own, host) = (format!("/usr/lib/modules/{kernel}"), format!("/host/lib/modules/{kernel}"));
    fs::create_dir_all("/host/lib/modules").context("cannot make the host's tree")?;
    fs::rename(&own, &host).context("cannot give the modules to the host")?;
    command("cp", ["-as", &host, &own])?;
    let found = command("find", [&own, "-name", &format!("{module}.ko*")])?;
    let file = found.lines().next().with_context(|| format!("there is no {module} in {own}"))?;
    fs::remove_file(file).with_context(|| format!("cannot remove {file}"))?;
    // A link would be written through.
    for index in fs::read_dir(&own).context("cannot list the container's tree")? {
        let path = index.context("cannot list the container's tree")?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("modules.")) {
            let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
            fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    command("depmod", [kernel]).map(drop)
}

//! A record is history: what somebody has made and set since the last verified swap is not touched by a supervisor that
//! runs `reload` and `restore-sriov` at every start. And a node with the right driver gets ready without a swap.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, ensure};
use lab_guest::wiring::pf_mac;
use nic_driver::Exit;
use nic_driver::default_paths::STATE_DIR;
use nic_driver::state::{Entry, Named, Step};

use crate::command::{ip_batch, run as command};
use crate::drivers::{self, Flow};
use crate::guest::Guest;
use crate::netdevs::{expect_bond, make_bond};
use crate::observe::{Nics, netdev_by_mac};
use crate::program::{NicDriver, snapshot_of};
use crate::readiness::READY;
use crate::untouched::Watch;
use crate::{boot, journal, read, report, say, vfs};

pub(crate) fn run(guest: &Guest) -> anyhow::Result<()> {
    say("== a swap without VFs");
    drivers::pretend_distribution(Flow::Rpm)?;
    NicDriver::install(&drivers::folder("A", Flow::Rpm)).run()?.expect(Exit::Success)?;
    for phase in ["reload", "restore-sriov"] {
        NicDriver::new([phase]).run()?.expect(Exit::Success)?;
    }
    drivers::expect_loaded(&drivers::version("A")?)?;
    ensure!(Path::new(READY).exists(), "not ready after a verified swap");

    say("== somebody makes VFs, a bond, a VLAN and addresses");
    let (plain, bonded) = (netdev_by_mac(&pf_mac(1))?, netdev_by_mac(&pf_mac(2))?);
    make_bond("bond1", &pf_mac(2))?;
    ip_batch(&format!(
        "link set dev {bonded} down\n\
         link set dev {bonded} master bond1\n\
         link set dev bond1 up\n\
         address add 10.5.0.1/24 dev bond1\n\
         link set dev {plain} up\n\
         address add 192.0.2.1/24 dev {plain}\n\
         link add link {plain} name {plain}.7 type vlan id 7\n\
         link set dev {plain}.7 up\n"
    ))?;
    let nics = vfs::configure_all()?;
    expect_bond("bond1", &pf_mac(2))?;
    settle()?;
    let before = everything(&nics)?;
    let record = read(snapshot_of("igb"))?;
    for time in ["first", "second"] {
        untouched(&format!("the {time} time"), &["reload", "restore-sriov"])?;
        ensure!(everything(&Nics::observe()?)? == before, "the {time} time changed what somebody had set");
        ensure!(read(snapshot_of("igb"))? == record, "the record has changed");
    }
    ensure!(Path::new(READY).exists(), "not ready any more");
    report(&format!("{} VFs, a bond, a VLAN and addresses made after the swap: untouched", nics.vf_count()));

    say("== another NIC family on the same node");
    let other =
        NicDriver::bare(["--family", "netdevsim", "plan", "restore-sriov"]).run()?.expect(Exit::Success)?;
    other.expect_words(&["nothing is owed", "snapshot: none"])?;

    say("== a boot with the right driver in place");
    ready_without_swap("no state, as after a boot", || {
        fs::remove_dir_all(STATE_DIR).context("cannot remove the state")
    })?;
    say("== a snapshot of another boot");
    ready_without_swap("another boot's snapshot", || {
        let folder = snapshot_of("igb");
        let folder = folder.parent().context("the snapshot has no folder")?;
        fs::create_dir_all(folder).context("cannot make the family's folder")?;
        let boot = read("/proc/sys/kernel/random/boot_id")?;
        let lines = record.lines().filter(|line| !line.contains("\"checksum\""));
        let other =
            lines.collect::<Vec<_>>().join("\n").replace(&boot, "00000000-0000-4000-8000-000000000000");
        crate::write(snapshot_of("igb"), &other)
    })?;
    ensure!(everything(&Nics::observe()?)? == before, "a start without a swap changed something");

    say("== other modules are installed than run");
    fs::remove_file(READY).context("cannot take readiness away")?;
    drivers::new_container()?;
    NicDriver::install(&drivers::folder("B", Flow::Rpm)).quietly().run()?.expect(Exit::Success)?;
    let told = NicDriver::new(["restore-sriov"]).run()?.expect(Exit::Success)?;
    told.expect_words(&["nothing is owed", "not ready", "a reload is due"])?;
    ensure!(!Path::new(READY).exists(), "ready although a reload is due");

    say("== on demand alone is it gone back to the record");
    let told = NicDriver::new(["restore-sriov", "--from-record"]).run()?;
    told.expect(Exit::NoSnapshot)?.expect_words(&["restored from"])?;
    guest.keep(&journal::path())?;
    report("ready without a swap, without a touch; not ready while a reload is due");
    Ok(())
}

/// Runs the commands, which must end well and touch nothing: neither over netlink nor in sysfs, nor by their journal.
fn untouched(what: &str, commands: &[&str]) -> anyhow::Result<()> {
    say(&format!("== {}: {what}", commands.join(" && ")));
    let watch = Watch::begin()?;
    let mut steps = Vec::new();
    for name in commands {
        let running = NicDriver::new([*name]).start()?;
        let process = running.id();
        running.wait()?.expect(Exit::Success)?;
        let lines = journal::lines_of(process)?;
        let begun = lines.iter().filter_map(|line| match &line.entry {
            Entry::StepBegan { step, .. } => Some(step.clone()),
            _ => None,
        });
        steps.extend(begun);
        ensure!(
            !lines.iter().any(|line| matches!(line.entry, Entry::Restore { .. })),
            "`{name}` has begun a restore: {lines:?}"
        );
    }
    let touched = watch.end()?;
    ensure!(touched.is_empty(), "{what}: touched {touched:?}");
    // What is kept for the next swap is copied into the state directory; no NIC is touched for it.
    steps.retain(|step| !matches!(step, Named::Known(Step::GiveReadiness | Step::BackUpVerifiedDriver)));
    ensure!(steps.is_empty(), "{what}: steps were taken: {steps:?}");
    Ok(())
}

fn ready_without_swap(what: &str, arrange: impl Fn() -> anyhow::Result<()>) -> anyhow::Result<()> {
    arrange()?;
    fs::remove_file(READY).context("cannot take readiness away")?;
    untouched(what, &["reload", "restore-sriov"])?;
    ensure!(Path::new(READY).exists(), "{what}: not ready although the installed driver runs");
    Ok(())
}

/// VFs and PFs, and what iproute2 says of all that stands on them.
fn everything(nics: &Nics) -> anyhow::Result<String> {
    let mut all = format!("{nics:?}");
    for question in [&["-o", "address"][..], &["-d", "-o", "link"], &["route", "show", "table", "all"]] {
        for line in command("ip", question)?.lines() {
            // Lifetimes run, and nothing of that was set by anybody.
            let line = line.split("valid_lft").next().unwrap_or_default();
            all.push_str(&format!("\n{}", line.trim_end()));
        }
    }
    Ok(all)
}

/// Duplicate address detection is over, so that nothing changes by itself any more.
fn settle() -> anyhow::Result<()> {
    boot::settle_udev()?;
    crate::wait::until("the end of duplicate address detection", std::time::Duration::from_secs(30), || {
        Ok((!command("ip", ["-6", "address"])?.contains("tentative")).then_some(()))
    })
}

//! What hangs is noticed, named and handled, and signals are answered meanwhile: a command that does not return, a write
//! to `sriov_numvfs` and a bind that the kernel does not answer; what is read under the lock of such a write.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use nic_driver::Exit;
use nic_driver::state::Step;
use rustix::process::Signal;

use super::faults::{fault, load_faulty_drivers};
use crate::command::run as command;
use crate::drivers::{Flow, pretend_distribution};
use crate::guest::Guest;
use crate::installed::{install, set_up};
use crate::observe::{Nics, igb_pfs, pci_device, vfs_of};
use crate::program::{NicDriver, Outcome, Running};
use crate::readiness::READY;
use crate::vfs::{self, VF_DRIVER};
use crate::{boot, drivers, journal, processes, report, say, wait, write};

/// What one operation may take, as it is given to the program, which adds 2 s for each VF of the PF where it makes them.
const TIMEOUT: [&str; 2] = ["--timeout", "4"];
/// For how many seconds the kernel hangs in `sriov_numvfs`: for longer than an operation may take.
const NUM_VFS_HANGS: &str = "16";
/// The same while all look at it, of whom each has to tell so before it is over.
const LOOKED_AT_HANGS: &str = "24";
/// For how many seconds it hangs in a probe: for longer than all of a restore may take.
const PROBE_HANGS: &str = "40";
/// Makes modprobe hang.
const RULE: &str = "/etc/modprobe.d/lab-hangs.conf";
/// What it starts, as it is seen in /proc.
const SLEEP: &str = "/bin/sleep\x001000\0";
/// How long a signal may take to be answered.
const AT_ONCE: Duration = Duration::from_secs(3);

pub(crate) fn run(guest: &Guest) -> anyhow::Result<()> {
    let before = set_up(2)?;
    command_hangs(&before)?;
    command_hangs_and_is_left(&before)?;

    let (pf, vf) = with_faults(&before)?;
    // The newest kernel takes no lock for what is read here.
    if guest.kernel().starts_with("6.1.") {
        looks_beside_a_probe(&before, &pf, &vf)?;
        looks_beside_num_vfs(&before, &pf)?;
    }
    num_vfs_hangs(&before, &pf)?;
    num_vfs_hangs_and_is_left(&before, &pf)?;
    if guest.parameter("bind")? {
        bind_hangs(&before, &pf, &vf)?;
    }
    Ok(())
}

/// The part that is quick.
pub(crate) fn run_looks(guest: &Guest) -> anyhow::Result<()> {
    ensure!(guest.kernel().starts_with("6.1."), "this kernel takes no lock to read `sriov_numvfs`");
    pretend_distribution(Flow::Rpm)?;
    let before = vfs::configure_each(2)?;
    let (pf, _) = with_faults(&before)?;
    looks_beside_num_vfs(&before, &pf)
}

/// The PF and one of its VFs, under drivers with faults that can be switched on.
fn with_faults(before: &Nics) -> anyhow::Result<(String, String)> {
    let pf = igb_pfs()?.into_iter().next().context("there is no PF")?;
    let (_, vf) = vfs_of(&pf)?.into_iter().nth(1).context("there is no VF 1")?;
    NicDriver::new(["snapshot"]).quietly().run()?.expect(Exit::Success)?;
    command("rmmod", [VF_DRIVER])?;
    load_faulty_drivers()?;
    recovers(before)?;
    Ok((pf, vf))
}

/// modprobe does not return: it is ended with all it has started, and the driver taken back.
fn command_hangs(before: &Nics) -> anyhow::Result<()> {
    say("== a command that does not return");
    write(RULE, "install igb /bin/sleep 1000\n")?;
    let reload = start(&["reload", "--force"])?;
    journal::wait_for_step(&reload, journal::loads("igb"))?;
    wait::until("modprobe's child", AT_ONCE, || Ok((!sleepers()?.is_empty()).then_some(())))?;
    reload.signal("TERM")?;
    reload.wait_until_it_says("asked to stop")?;
    ensure!(!sleepers()?.is_empty(), "the signal was answered only when the command was over");
    let taken_back = reload.wait()?.expect(Exit::RolledBack)?;
    taken_back.expect_words(&["modprobe", "igb", "has not ended after 8s"])?;
    ensure!(sleepers()?.is_empty(), "what modprobe has started was left behind");
    before.expect_unchanged()?;
    report(&format!("a command that hangs: {}", taken_back.last_words()));
    Ok(())
}

/// The second signal ends the program while modprobe hangs. The next command goes on.
fn command_hangs_and_is_left(before: &Nics) -> anyhow::Result<()> {
    say("== a command that does not return, and two signals");
    let reload = start(&["reload", "--force", "--retry-rolled-back"])?;
    journal::wait_for_step(&reload, journal::loads("igb"))?;
    let took = told_twice(&reload)?;
    reload.wait()?.expect_ended_by(Signal::TERM)?;
    report(&format!("two signals while a command hangs: ended after {:.1} s", took.as_secs_f64()));
    fs::remove_file(RULE).context("cannot remove the rule")?;
    for process in sleepers()? {
        command("kill", ["-KILL", &process])?;
    }
    for phase in ["reload", "restore-sriov"] {
        NicDriver::new([phase]).quietly().run()?.expect(Exit::Success)?;
    }
    before.expect_unchanged()?;
    drivers::expect_loaded(&drivers::version("A")?)
}

/// A VF's lock is its probe's: whoever looks tells what cannot be read, and tells the rest.
fn looks_beside_a_probe(before: &Nics, pf: &str, vf: &str) -> anyhow::Result<()> {
    NicDriver::new(["snapshot"]).quietly().run()?.expect(Exit::Success)?;
    fault(VF_DRIVER, "slow_probe_s", LOOKED_AT_HANGS)?;
    fault(VF_DRIVER, "slow_probe", vf)?;
    write(pci_device(vf).join("driver/unbind"), vf)?;
    let bind = format!("/sys/bus/pci/drivers/{VF_DRIVER}/bind");
    looks_end(pf, &pci_device(vf).join("driver_override"), Path::new(&bind), vf)?;
    recovers(before)
}

/// The PF's lock is taken to read how many VFs it has, until 6.8.
fn looks_beside_num_vfs(before: &Nics, pf: &str) -> anyhow::Result<()> {
    NicDriver::new(["snapshot"]).quietly().run()?.expect(Exit::Success)?;
    fault("igb", "hang_numvfs", LOOKED_AT_HANGS)?;
    let num_vfs = pci_device(pf).join("sriov_numvfs");
    looks_end(pf, &num_vfs, &num_vfs, "0")?;
    recovers(before)
}

/// `read` hangs while `value` is written to `written`: all who look at the PF say so in time.
fn looks_end(pf: &str, read: &Path, written: &Path, value: &str) -> anyhow::Result<()> {
    say(&format!("== {} hangs when it is read", read.display()));
    let mut writer = Command::new("sh")
        .args(["-c", "echo \"$0\" > \"$1\"", value])
        .arg(written)
        .spawn()
        .context("cannot start a shell")?;
    let writer_hangs = format!("/proc/{}/stack", writer.id());
    wait::until("the write hangs", AT_ONCE, || {
        Ok(fs::read_to_string(&writer_hangs).unwrap_or_default().contains("msleep").then_some(()))
    })?;
    let named = format!("looking at {pf} has not ended after 4 s: reading {} hangs", read.display());
    // The snapshot that the NICs are given back from stays what it is.
    let elsewhere = ["--state-dir", "/var/lib/looks"];
    let looks = [
        (vec!["status"], Exit::Success),
        (vec!["preflight", "--force"], Exit::Blocked),
        (vec!["plan", "reload"], Exit::Success),
        (elsewhere.into_iter().chain(["snapshot"]).collect(), Exit::Success),
    ];
    let mut running = Vec::new();
    for (look, exit) in looks {
        running.push((start(&look)?, exit));
    }
    let mut longest = Duration::ZERO;
    for (look, _) in &running {
        longest = longest.max(look.wait_until_it_tells(&named)?);
    }
    ensure!(
        writer.try_wait().context("cannot look at the shell")?.is_none(),
        "the write did not hang any more: nothing was shown"
    );
    // A thread in the kernel keeps its process until the kernel lets go of it.
    for (look, exit) in running {
        look.wait()?.expect(exit)?;
    }
    writer.wait().context("cannot wait for the shell")?;
    fs::remove_dir_all("/var/lib/looks").context("cannot remove a state directory")?;
    let file = read.file_name().unwrap_or_default().display();
    report(&format!(
        "{file} hangs when it is read: status, preflight, plan reload and snapshot told so after {:.1} s",
        longest.as_secs_f64()
    ));
    Ok(())
}

/// The kernel does not answer the write that makes VFs.
fn num_vfs_hangs(before: &Nics, pf: &str) -> anyhow::Result<()> {
    say("== sriov_numvfs hangs");
    lose_vfs(pf)?;
    fault("igb", "hang_numvfs", NUM_VFS_HANGS)?;
    let restore = start(&["restore-sriov"])?;
    journal::wait_for_step(&restore, |step| matches!(step, Step::RestoreNics { .. }))?;
    restore.signal("TERM")?;
    let told = Instant::now();
    restore.wait_until_it_says("asked to stop")?;
    ensure!(told.elapsed() < AT_ONCE, "the signal was answered after {:.1} s", told.elapsed().as_secs_f64());
    let failed = restore.wait()?.expect(Exit::Degraded)?;
    failed.expect_words(&["sriov_numvfs", "has not returned after 8s"])?;
    ensure!(!Path::new(READY).exists(), "ready although the VFs were not verified");
    report(&format!("sriov_numvfs hangs: {}", overdue(&failed)));
    recovers(before)
}

/// The second signal ends the program while the kernel hangs. Its thread stays in the kernel, and the process with it;
/// its lock does not.
fn num_vfs_hangs_and_is_left(before: &Nics, pf: &str) -> anyhow::Result<()> {
    say("== sriov_numvfs hangs, and two signals");
    lose_vfs(pf)?;
    fault("igb", "hang_numvfs", NUM_VFS_HANGS)?;
    let restore = start(&["restore-sriov"])?;
    wait::until("the write hangs", Duration::from_secs(20), || in_the_kernel(&restore))?;
    let took = told_twice(&restore)?;
    // It takes the lock, and does not look at the PF.
    install("A")?;
    ensure!(in_the_kernel(&restore)?.is_some(), "the write did not hang any more: nothing was shown");
    restore.wait()?.expect_ended_by(Signal::TERM)?;
    report(&format!(
        "two signals while sriov_numvfs hangs: the lock was free after {:.1} s",
        took.as_secs_f64()
    ));
    recovers(before)
}

/// A probe that does not return: the VF is named, and comes back when the kernel is done with it.
fn bind_hangs(before: &Nics, pf: &str, vf: &str) -> anyhow::Result<()> {
    say("== a bind hangs");
    lose_vfs(pf)?;
    fault(VF_DRIVER, "slow_probe_s", PROBE_HANGS)?;
    fault(VF_DRIVER, "slow_probe", vf)?;
    let failed = start(&["restore-sriov"])?.wait()?.expect(Exit::Degraded)?;
    failed.expect_words(&[vf, "bind", "has not returned after 4s"])?;
    ensure!(!Path::new(READY).exists(), "ready although a VF was not verified");
    report(&format!("a bind hangs: {}", overdue(&failed)));
    recovers(before)
}

/// What it says of the write that has not returned.
fn overdue(outcome: &Outcome) -> &str {
    outcome.stdout.lines().find(|line| line.contains("has not returned")).unwrap_or_default()
}

/// The fault is gone: the same command puts all right.
fn recovers(before: &Nics) -> anyhow::Result<()> {
    fault("igb", "hang_numvfs", "0")?;
    fault(VF_DRIVER, "slow_probe", "")?;
    boot::settle_udev()?;
    NicDriver::new(["restore-sriov"]).quietly().run()?.expect(Exit::Success)?;
    before.expect_unchanged()
}

fn start(arguments: &[&str]) -> anyhow::Result<Running> {
    NicDriver::new(arguments.iter().chain(&TIMEOUT)).start()
}

/// Tells it to stop and, when it has answered, once more. Returns how long the second answer took.
fn told_twice(running: &Running) -> anyhow::Result<Duration> {
    running.signal("TERM")?;
    running.wait_until_it_says("asked to stop")?;
    running.signal("TERM")?;
    let told = Instant::now();
    running.wait_until_it_says("ending at once")?;
    ensure!(told.elapsed() < AT_ONCE, "it took {:.1} s", told.elapsed().as_secs_f64());
    Ok(told.elapsed())
}

/// Whether a thread of it is where the kernel lets nobody end it.
fn in_the_kernel(running: &Running) -> anyhow::Result<Option<()>> {
    let tasks = format!("/proc/{}/task", running.id());
    for task in fs::read_dir(&tasks).with_context(|| format!("cannot list {tasks}"))? {
        // A thread may end meanwhile.
        let path = task.context("cannot list threads")?.path();
        if fs::read_to_string(path.join("stack")).unwrap_or_default().contains("igb_pci_sriov_configure") {
            return Ok(Some(()));
        }
    }
    Ok(None)
}

/// The processes that modprobe has started.
fn sleepers() -> anyhow::Result<Vec<String>> {
    processes::find(|process| processes::read(process, "cmdline") == SLEEP)
}

fn lose_vfs(pf: &str) -> anyhow::Result<()> {
    // What was verified is owed no more: a restore after this one goes by a snapshot by hand.
    NicDriver::new(["snapshot"]).quietly().run()?.expect(Exit::Success)?;
    write(pci_device(pf).join("sriov_numvfs"), "0")?;
    boot::settle_udev()
}

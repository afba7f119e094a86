//! What can go wrong while VFs come back, on the real kernel: each time the result is right, or the VF that it is not right
//! for is named with the cause, the others are what they were, and it ends in time. When the fault is gone, a further
//! restore puts the rest right.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use nic_driver::Exit;

use crate::command::run as command;
use crate::guest::Guest;
use crate::observe::{Nics, igb_pfs, pci_device, vfs_of};
use crate::program::NicDriver;
use crate::restored::{ByHand, Restored};
use crate::vfio::{Opened, bind_to_vfio, open_group};
use crate::vfs::{self, VF_DRIVER};
use crate::{boot, journal, processes, report, say, wait, write};

/// What one operation may take, as it is given to the program. It adds 2 s for each VF.
const TIMEOUT: &str = "20";
/// Every restore must have ended by then: some 10 s are the VFs', the rest is for the faults and for a slow machine.
const BOUND: Duration = Duration::from_secs(30);
const RULES: &str = "/run/udev/rules.d/10-lab-slow.rules";

/// The VFs' PCI addresses, by index.
struct Vfs(Vec<String>);

/// One fault: how it is brought about, and what must come of it.
struct Case {
    name: &'static str,
    /// Whether all VFs are taken away first. Otherwise they are there, and `arrange` does something to one.
    from_nothing: bool,
    arrange: fn(&Vfs) -> anyhow::Result<Users>,
    /// The VFs that cannot become what they were, by index, and a part of the cause that must be told.
    failed: &'static [(usize, &'static str)],
    /// What else must be so.
    judge: fn(&Vfs, &Restored) -> anyhow::Result<()>,
    /// Attributes of VFs that the driver lacks.
    lacks: &'static [&'static str],
    undo: fn(Users) -> anyhow::Result<()>,
}

/// Processes that have a VF's device open.
type Users = Vec<Opened>;

const PLAIN: Case = Case {
    name: "",
    from_nothing: true,
    arrange: |_| Ok(Users::new()),
    failed: &[],
    judge: |_, _| Ok(()),
    lacks: &[],
    undo: |_| Ok(()),
};

const CASES: &[Case] = &[
    Case {
        name: "udev takes 4 s, a probe takes 4 s",
        arrange: |vfs| {
            let rule = |vf: &str| {
                format!("ACTION==\"add\", SUBSYSTEM==\"net\", KERNELS==\"{vf}\", PROGRAM=\"/bin/sleep 4\"\n")
            };
            fs::create_dir_all("/run/udev/rules.d").context("cannot create a folder for rules")?;
            write(RULES, &format!("{}{}", rule(vfs.at(1)?), rule(vfs.at(4)?)))?;
            command("udevadm", ["control", "--reload"])?;
            nobody(fault("igbvf", "slow_probe", vfs.at(2)?))
        },
        undo: |_| {
            fs::remove_file(RULES).context("cannot remove the rules")?;
            command("udevadm", ["control", "--reload"])?;
            fault("igbvf", "slow_probe", "")
        },
        ..PLAIN
    },
    Case {
        name: "a probe fails once, one always",
        arrange: |vfs| {
            fault("igbvf", "fail_probe_once", vfs.at(5)?)?;
            nobody(fault("igbvf", "fail_probe", vfs.at(3)?))
        },
        failed: &[(3, "os error 5")],
        judge: |vfs, told| {
            for vf in 0..vfs.0.len() {
                let expected = [3, 5].contains(&vf);
                ensure!(
                    told.retried(vfs.at(vf)?) == expected,
                    "VF {vf} is told to have been retried: {}",
                    !expected
                );
            }
            Ok(())
        },
        undo: |_| fault("igbvf", "fail_probe", ""),
        ..PLAIN
    },
    Case {
        name: "a name that is taken",
        arrange: |_| nobody(command("ip", ["link", "add", TAKEN, "type", "dummy"])),
        failed: &[(1, TAKEN)],
        undo: |_| command("ip", ["link", "delete", TAKEN]).map(drop),
        ..PLAIN
    },
    Case {
        name: "a driver without two attributes",
        arrange: |_| nobody(fault("igb", "lacks", "spoofchk,trust")),
        lacks: &["spoof_check", "trust"],
        undo: |_| fault("igb", "lacks", ""),
        ..PLAIN
    },
    Case {
        name: "no udevd",
        arrange: |_| {
            command("udevadm", ["control", "--exit"])?;
            wait::until("udevd ends", Duration::from_secs(20), || {
                Ok(udev_processes()?.is_empty().then_some(()))
            })?;
            // It leaves its socket behind. A container that was not given the host's /run/udev sees none.
            nobody(fs::remove_file("/run/udev/control").context("cannot remove udevd's socket"))
        },
        undo: |_| boot::start_udev_daemon(),
        ..PLAIN
    },
    Case {
        name: "a udevd that has crashed",
        arrange: |_| nobody(kill_udev()),
        undo: |_| boot::start_udev_daemon(),
        ..PLAIN
    },
    Case {
        name: "a VF in somebody's hands",
        from_nothing: false,
        arrange: |vfs| {
            bind_to_vfio(vfs.at(6)?)?;
            Ok(vec![open_group(vfs.at(6)?)?])
        },
        failed: &[(6, "/dev/vfio/")],
        judge: |vfs, _| {
            let driver =
                fs::read_link(pci_device(vfs.at(6)?).join("driver")).context("the VF has no driver")?;
            ensure!(driver.ends_with("vfio-pci"), "the VF was taken from its user");
            Ok(())
        },
        undo: |users| users.into_iter().try_for_each(Opened::let_go),
        ..PLAIN
    },
];

/// The name of VF 1.
const TAKEN: &str = "enp1s0v1";

pub(crate) fn run(guest: &Guest) -> anyhow::Result<()> {
    load_faulty_drivers()?;
    let before = vfs::configure_all()?;
    let pfs = igb_pfs()?;
    let pf = pfs.first().context("there is no PF")?;
    let vfs = Vfs(vfs_of(pf)?.into_iter().map(|(_, vf)| vf).collect());
    let name = before.attribute(vfs.at(1)?, "name").unwrap_or("not there");
    ensure!(name == TAKEN, "VF 1 is called {name}, not {TAKEN}");
    NicDriver::new(["snapshot"]).run()?.expect(Exit::Success)?;
    let by_hand = ByHand::keep("igb")?;

    let mut faults = Vec::new();
    for case in CASES {
        say(&format!("== {}", case.name));
        let users = arrange(case, pf, &vfs).with_context(|| format!("cannot arrange: {}", case.name))?;
        by_hand.owe_again()?;
        let text = match undergo(case, &vfs, &before) {
            Ok(time) => format!("{:.1} s", time.as_secs_f64()),
            Err(error) => {
                faults.push(format!("{}: {error:#}", case.name));
                format!("WRONG: {error:#}")
            }
        };
        report(&format!("{:<34} {text}", case.name));
        guest.keep(&journal::path())?;
        (case.undo)(users).with_context(|| format!("cannot undo: {}", case.name))?;
        by_hand.owe_again()?;
        if let Err(error) = recover(&before) {
            faults.push(format!("after {}: {error:#}", case.name));
            report(&format!("{:<34} WRONG: {error:#}", "  when the fault is gone"));
            // The next case starts from what this one should have left.
            start_over(pf, &vfs)?;
            by_hand.owe_again()?;
            Restored::run("igb", &[], Exit::Success)?;
        }
    }
    ensure!(faults.is_empty(), "{}", faults.join("; "));
    by_hand.owe_again()?;
    fewer_vfs_and_one_in_use(pf, &vfs, &before)?;
    open_behind_a_missing_file(&vfs)
}

/// A container has no device file of a group that is younger than itself.
fn open_behind_a_missing_file(vfs: &Vfs) -> anyhow::Result<()> {
    say("== a VF in somebody's hands, whose device file is missing");
    let vf = vfs.at(2)?;
    bind_to_vfio(vf)?;
    let user = open_group(vf)?;
    // Other modules than the installed ones run here: a reload is due.
    let blocked = user.without_file(|| NicDriver::new(["preflight"]).run()?.expect(Exit::Blocked))?;
    ensure!(
        blocked.stdout.contains(&format!("the VF {vf} is in use")),
        "without its group's file the VF counts as unused: {}",
        blocked.stdout
    );
    user.let_go()?;
    report("a VF in somebody's hands, whose device file is missing: a reload is blocked");
    Ok(())
}

/// More VFs are due, for which those that are there would have to go; one of them is somebody's. Nothing is done.
fn fewer_vfs_and_one_in_use(pf: &str, vfs: &Vfs, before: &Nics) -> anyhow::Result<()> {
    say("== fewer VFs, one in somebody's hands");
    let num_vfs = pci_device(pf).join("sriov_numvfs");
    write(&num_vfs, "0")?;
    write(&num_vfs, "3")?;
    boot::settle_udev()?;
    bind_to_vfio(vfs.at(2)?)?;
    let user = open_group(vfs.at(2)?)?;
    boot::settle_udev()?;
    let (indices, was) = (Nics::interface_indices()?, Nics::observe()?);
    let refused = NicDriver::new(["restore-sriov"]).run()?.expect(Exit::Degraded)?;
    ensure!(
        refused.says_any(&["is in use"]) && refused.stderr.contains(vfs.at(2)?),
        "the VF in use is not named: {}",
        refused.last_words()
    );
    ensure!(Nics::interface_indices()? == indices, "netdevs were taken away");
    let differences = was.differences(&Nics::observe()?);
    ensure!(differences.is_empty(), "it changed something: {differences}");
    user.let_go()?;
    recover(before)?;
    report("fewer VFs, one in somebody's hands: refused, nothing changed; then restored");
    Ok(())
}

fn arrange(case: &Case, pf: &str, vfs: &Vfs) -> anyhow::Result<Users> {
    if case.from_nothing {
        write(pci_device(pf).join("sriov_numvfs"), "0")?;
        boot::settle_udev()?;
    }
    (case.arrange)(vfs)
}

fn undergo(case: &Case, vfs: &Vfs, before: &Nics) -> anyhow::Result<Duration> {
    let (told, outcome) = Restored::run(
        "igb",
        &["--timeout", TIMEOUT],
        if case.failed.is_empty() { Exit::Success } else { Exit::Degraded },
    )?;
    let time = outcome.time;
    ensure!(time < BOUND, "it took {:.1} s", time.as_secs_f64());
    let mut failed = Vec::new();
    for (vf, words) in case.failed {
        failed.push((vfs.at(*vf)?, *words));
    }
    told.expect_failed(&failed)?;
    lacking_is_told(case, vfs, before, &told)?;
    (case.judge)(vfs, &told)?;

    let (mut was, mut is) = (before.clone(), Nics::observe()?);
    for vf in &vfs.0 {
        let is_failed = failed.iter().any(|(failed, _)| failed == vf);
        let excused = |attribute: &str| {
            is_failed || (!case.lacks.is_empty() && ["admin.spoofchk", "admin.trust"].contains(&attribute))
        };
        was = was.without(vf, excused);
        is = is.without(vf, excused);
    }
    let differences = was.differences(&is);
    ensure!(differences.is_empty(), "{differences}; {told}");
    Ok(time)
}

/// What the driver lacks is told as that, for the VFs that had it, and nothing else is different.
fn lacking_is_told(case: &Case, vfs: &Vfs, before: &Nics, told: &Restored) -> anyhow::Result<()> {
    if case.lacks.is_empty() {
        return Ok(());
    }
    for vf in &vfs.0 {
        let mut expected = vec!["admin.spoof_check"];
        if before.attribute(vf, "admin.trust") == Some("true") {
            expected.push("admin.trust");
        }
        let of_vf = told.differences().iter().filter(|told| told.address() == *vf);
        let mut unsupported: Vec<_> =
            of_vf.filter(|told| told.gravity == "unsupported").map(|told| told.attribute.as_str()).collect();
        unsupported.sort_unstable();
        ensure!(unsupported == expected, "VF {vf} is told to lack {unsupported:?}, not {expected:?}");
    }
    ensure!(told.differences().iter().all(|told| told.gravity == "unsupported"), "{told}");
    Ok(())
}

/// The fault is gone: the same command finishes the work.
fn recover(before: &Nics) -> anyhow::Result<()> {
    boot::settle_udev()?;
    let (told, _) = Restored::run("igb", &[], Exit::Success)?;
    let differences = before.differences(&Nics::observe()?);
    ensure!(differences.is_empty(), "{differences}; {told}");
    Ok(())
}

fn start_over(pf: &str, vfs: &Vfs) -> anyhow::Result<()> {
    for vf in &vfs.0 {
        if pci_device(vf).exists() {
            write(pci_device(vf).join("driver_override"), "\n")?;
        }
    }
    write(pci_device(pf).join("sriov_drivers_autoprobe"), "1")?;
    write(pci_device(pf).join("sriov_numvfs"), "0")?;
    boot::settle_udev()
}

impl Vfs {
    fn at(&self, index: usize) -> anyhow::Result<&str> {
        self.0.get(index).map(String::as_str).with_context(|| format!("there is no VF {index}"))
    }
}

/// The drivers whose faults can be switched on, in place of the inbox ones.
pub(super) fn load_faulty_drivers() -> anyhow::Result<()> {
    // What they depend on stays, for those that follow.
    command("rmmod", ["igb"])?;
    for module in ["igb", VF_DRIVER] {
        command("insmod", [format!("/lab/packages/faulty/{module}.ko")])?;
    }
    boot::settle_udev()
}

/// Switches a fault on, or with an empty value off.
pub(super) fn fault(module: &str, parameter: &str, value: &str) -> anyhow::Result<()> {
    write(format!("/sys/module/{module}/parameters/{parameter}"), &format!("{value}\n"))
}

/// Leaves its socket behind, as a crash does.
fn kill_udev() -> anyhow::Result<()> {
    for process in udev_processes()? {
        command("kill", ["-KILL", &process])?;
    }
    ensure!(Path::new("/run/udev/control").exists(), "udevd took its socket with it");
    Ok(())
}

/// The daemon's process number, and those of its workers.
fn udev_processes() -> anyhow::Result<Vec<String>> {
    processes::find(|process| {
        let name = processes::read(process, "comm");
        ["systemd-udevd", "(udev-worker)"].contains(&name.trim_end()) && !processes::has_ended(process)
    })
}

fn nobody<T>(arranged: anyhow::Result<T>) -> anyhow::Result<Users> {
    arranged.map(|_| Users::new())
}

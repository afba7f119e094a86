//! PID 1 of the lab's guest: brings the machine up, runs the scenario named on the kernel command line, prints one
//! verdict and powers off.
//!
//! A scenario judges the machine by what the kernel and iproute2 say ([`observe`]), never through this project's own crates.
//! What the program itself says (exit codes, journal, stored snapshot, where its files are) is read by the program's types.

mod boot;
mod command;
mod drivers;
mod guest;
mod heartbeat;
mod hooks;
mod hung;
mod image;
mod installed;
mod journal;
mod kubelet;
mod memory;
mod netdevs;
mod netdevsim;
mod observe;
mod openvswitch;
mod pinger;
mod planned;
mod pods;
mod processes;
mod program;
mod rdma;
mod readiness;
mod restored;
mod scenarios;
mod untouched;
mod vfio;
mod vfs;
mod wait;
mod xdp;

use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use lab_guest::lines::{PROGRESS, REPORT, Verdict};

use crate::guest::Guest;

fn main() {
    let outcome =
        std::thread::Builder::new().name("scenario".into()).spawn(live).map(std::thread::JoinHandle::join);
    let verdict = match outcome {
        Ok(Ok(verdict)) => verdict,
        // The panic's message is already on the console.
        Ok(Err(_)) => Verdict::Fail("the guest's program panicked".to_owned()),
        Err(source) => Verdict::NotBegun(format!("cannot start a thread: {source}")),
    };
    let name = guest::scenario_name();
    // The kernel may have left an unfinished line on the console: start on a new one.
    console(&format!("\n{}\n", verdict.line(&name)));
    boot::power_off();
}

/// Everything between the first mount and the verdict.
fn live() -> Verdict {
    let mounted = boot::make_root_a_mount().and_then(|()| boot::mount_all());
    let up = mounted.and_then(|()| heartbeat::start()).and_then(|()| Guest::bring_up());
    let guest = match up {
        Ok(guest) => guest,
        Err(error) => return Verdict::NotBegun(format!("{error:#}")),
    };
    match carry_out(&guest) {
        Ok(()) => Verdict::Pass,
        Err(error) => Verdict::Fail(format!("{error:#}")),
    }
}

fn carry_out(guest: &Guest) -> anyhow::Result<()> {
    let name = guest::scenario_name();
    let run = scenarios::find(&name).with_context(|| format!("no scenario is called {name:?}"))?;
    let result = run(guest);
    guest.save_dmesg()?;
    result.and_then(|()| guest.kernel_is_well())
}

/// One write, so that the kernel's messages cannot fall into the middle of a line.
pub(crate) fn console(text: &str) {
    let mut stdout = std::io::stdout().lock();
    if stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).is_err() {
        // Without a console there is nobody to tell; the host notices the missing verdict.
    }
}

/// Prints progress, each line with the prefix by which the host recognises it.
pub(crate) fn say(text: &str) {
    text.lines().for_each(|line| console(&format!("{PROGRESS}{line}\n")));
}

/// Prints a part of the scenario's closing report.
pub(crate) fn report(text: &str) {
    text.lines().for_each(|line| console(&format!("{REPORT}{line}\n")));
}

/// Reads a small text file, with its path in the error.
pub(crate) fn read(path: impl AsRef<Path>) -> anyhow::Result<String> {
    let path = path.as_ref();
    std::fs::read_to_string(path)
        .map(|text| text.trim_end().to_owned())
        .with_context(|| format!("cannot read {}", path.display()))
}

/// Writes a small text file or a sysfs attribute, with its path and the value in the error.
pub(crate) fn write(path: impl AsRef<Path>, value: &str) -> anyhow::Result<()> {
    let path = path.as_ref();
    std::fs::write(path, value).with_context(|| format!("cannot write {value:?} to {}", path.display()))
}

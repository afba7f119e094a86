//! Each foreseeable error is told apart by its exit code, is explained, and leaves the machine as it was.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, ensure};

use crate::drivers::{self, Flow};
use crate::guest::Guest;
use crate::nic_driver::{NicDriver, STATE};
use crate::observe::Nics;
use crate::{report, vfs, write};

/// A user that is not root.
const NOBODY: u32 = 65534;

/// One error: how it is brought about, what is run, and how the machine is put right again.
struct Case {
    name: &'static str,
    arrange: fn(&Guest) -> anyhow::Result<()>,
    call: fn() -> NicDriver,
    undo: fn(&Guest) -> anyhow::Result<()>,
}

const CASES: &[Case] = &[
    Case {
        name: "no PF of the family",
        arrange: |_| Ok(()),
        call: || NicDriver::bare(["--family", "mlx5", "reload"]),
        undo: |_| Ok(()),
    },
    Case {
        name: "missing module file",
        arrange: |guest| hide_modules(guest.kernel()),
        call: || NicDriver::new(["reload"]),
        undo: |guest| unhide_modules(guest.kernel()),
    },
    Case {
        name: "unreadable snapshot",
        arrange: |_| {
            fs::create_dir_all(STATE).with_context(|| format!("cannot create {STATE}"))?;
            write(Path::new(STATE).join("snapshot.json"), "{ \"schema\": ")
        },
        call: || NicDriver::new(["restore-sriov"]),
        undo: |_| fs::remove_dir_all(STATE).with_context(|| format!("cannot remove {STATE}")),
    },
    Case {
        name: "package for another kernel",
        arrange: |_| drivers::pretend_distribution(Flow::Rpm),
        call: || {
            let packages = drivers::folder_for_another_kernel(Flow::Rpm);
            NicDriver::new(["install".as_ref(), "--packages".as_ref(), packages.as_os_str()])
        },
        undo: |_| Ok(()),
    },
    Case {
        name: "not root",
        arrange: |_| Ok(()),
        call: || NicDriver::new(["reload"]).with_uid(NOBODY),
        undo: |_| Ok(()),
    },
];

pub(crate) fn run(guest: &Guest) -> anyhow::Result<()> {
    let before = vfs::configure_all()?;
    let indices = Nics::interface_indices()?;
    let modules = fs::read_to_string("/proc/modules").context("cannot read /proc/modules")?;
    let modules = loaded_names(&modules);
    let mut codes = BTreeMap::new();
    let mut faults = Vec::new();
    for case in CASES {
        (case.arrange)(guest).with_context(|| format!("cannot arrange: {}", case.name))?;
        let outcome = (case.call)().run()?;
        (case.undo)(guest).with_context(|| format!("cannot undo: {}", case.name))?;
        let differences = before.differences(&Nics::observe()?);
        ensure!(differences.is_empty(), "{}: changed the machine: {differences}", case.name);
        ensure!(
            Nics::interface_indices()? == indices,
            "{}: netdevs were taken away and made anew",
            case.name
        );
        let now = fs::read_to_string("/proc/modules").context("cannot read /proc/modules")?;
        ensure!(loaded_names(&now) == modules, "{}: other modules are loaded than before", case.name);
        match outcome.code {
            None => faults.push(format!("{}: ended by a signal", case.name)),
            Some(0) => faults.push(format!("{}: ended as a success", case.name)),
            Some(101) => faults.push(format!("{}: panicked", case.name)),
            Some(code) => {
                report(&format!("{:<28} exit code {code:>3}: {}", case.name, outcome.last_words()));
                if let Some(other) = codes.insert(code, case.name) {
                    faults.push(format!("{} and {other} both end with {code}", case.name));
                }
                if outcome.stderr.trim().is_empty() {
                    faults.push(format!("{}: nothing on standard error says why", case.name));
                }
            }
        }
    }
    ensure!(faults.is_empty(), "{}", faults.join("; "));
    Ok(())
}

fn loaded_names(modules: &str) -> Vec<&str> {
    let mut names: Vec<_> = modules.lines().filter_map(|line| line.split(' ').next()).collect();
    names.sort_unstable();
    names
}

fn hide_modules(kernel: &str) -> anyhow::Result<()> {
    fs::rename(format!("/lib/modules/{kernel}"), "/lib/modules/hidden").context("cannot hide the modules")
}

fn unhide_modules(kernel: &str) -> anyhow::Result<()> {
    let folder = format!("/lib/modules/{kernel}");
    if Path::new(&folder).exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {folder}"))?;
    }
    fs::rename("/lib/modules/hidden", folder).context("cannot bring the modules back")
}

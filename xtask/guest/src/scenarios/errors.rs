//! Each foreseeable error is told apart by its exit code, is explained, and leaves the machine as it was.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use lab_guest::wiring::PEER_MAC;
use nic_driver::Exit;
use nic_driver::default_paths::STATE_DIR;
use serde_json::{Value, json};

use crate::command::run as run_program;
use crate::drivers::{self, Flow};
use crate::guest::Guest;
use crate::observe::{Nics, igb_pfs, netdev_by_mac};
use crate::program::{FAMILY, NicDriver, Outcome, snapshot_of, store};
use crate::{read, report, say, vfs, write};

/// A user that is not root.
const NOBODY: u32 = 65534;

/// One error: how it is brought about, what is run, how that must end, and how the machine is put right again.
struct Case {
    name: &'static str,
    arrange: fn() -> anyhow::Result<()>,
    call: fn() -> NicDriver,
    exit: Exit,
    undo: fn() -> anyhow::Result<()>,
}

const CASES: &[Case] = &[
    Case {
        name: "no such command",
        arrange: || Ok(()),
        call: || NicDriver::new(["no-such-command"]),
        exit: Exit::Usage,
        undo: || Ok(()),
    },
    Case {
        name: "no such family",
        arrange: || Ok(()),
        call: || NicDriver::bare(["--family", "no-such-family", "reload"]),
        exit: Exit::Usage,
        undo: || Ok(()),
    },
    Case {
        name: "not root",
        arrange: || Ok(()),
        call: || NicDriver::new(["reload"]).with_uid(NOBODY),
        exit: Exit::NotRoot,
        undo: || Ok(()),
    },
    Case {
        name: "no PF of the family",
        arrange: || Ok(()),
        call: || NicDriver::bare(["--family", "mlx5", "snapshot"]),
        exit: Exit::NoPf,
        undo: || Ok(()),
    },
    Case {
        name: "PF offers fewer VFs",
        arrange: ask_for_too_many_vfs,
        call: || NicDriver::new(["restore-sriov"]),
        exit: Exit::Degraded,
        undo: remove_state,
    },
    Case {
        name: "PF without SR-IOV",
        arrange: ask_a_nic_without_sriov,
        call: || NicDriver::new(["restore-sriov"]),
        exit: Exit::Degraded,
        undo: remove_state,
    },
    Case {
        name: "missing module file",
        arrange: hide_module,
        call: || NicDriver::new(["reload"]),
        exit: Exit::NoModule,
        undo: || {
            remove_state()?;
            unhide_module()
        },
    },
    Case {
        name: "unreadable snapshot",
        arrange: || {
            let folder = store(FAMILY).family_folder().to_path_buf();
            fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
            write(snapshot(), "{ \"schema\": ")
        },
        call: || NicDriver::new(["restore-sriov"]),
        exit: Exit::BadSnapshot,
        undo: remove_state,
    },
    Case {
        name: "no record",
        arrange: remove_state,
        call: || NicDriver::new(["restore-sriov", "--from-record"]),
        exit: Exit::NoSnapshot,
        undo: remove_state,
    },
    Case {
        name: "package for another kernel",
        arrange: || drivers::pretend_distribution(Flow::Rpm),
        call: || {
            let packages = drivers::folder_for_another_kernel(Flow::Rpm);
            NicDriver::install(&packages)
        },
        exit: Exit::BadPackage,
        undo: remove_state,
    },
];

pub(crate) fn run(_: &Guest) -> anyhow::Result<()> {
    let before = vfs::configure_all()?;
    let indices = Nics::interface_indices()?;
    let modules = loaded_modules()?;
    let mut faults = Vec::new();
    for case in CASES {
        say(case.name);
        (case.arrange)().with_context(|| format!("cannot arrange: {}", case.name))?;
        let outcome = (case.call)().run()?;
        (case.undo)().with_context(|| format!("cannot undo: {}", case.name))?;
        let differences = before.differences(&Nics::observe()?);
        ensure!(differences.is_empty(), "{}: changed the machine: {differences}", case.name);
        ensure!(
            Nics::interface_indices()? == indices,
            "{}: netdevs were taken away and made anew",
            case.name
        );
        ensure!(loaded_modules()? == modules, "{}: other modules are loaded than before", case.name);
        report(&format!("{:<28} {:>3}: {}", case.name, code(&outcome), outcome.last_words()));
        if !outcome.is(case.exit) {
            faults.push(format!("{}: ended with {}, not {:?}", case.name, outcome.ended_with(), case.exit));
        }
        if outcome.stderr.trim().is_empty() {
            faults.push(format!("{}: nothing on standard error says why", case.name));
        }
    }
    ensure!(faults.is_empty(), "{}", faults.join("; "));
    Ok(())
}

fn code(outcome: &Outcome) -> String {
    outcome.code.map_or_else(|| "signal".to_owned(), |code| code.to_string())
}

fn loaded_modules() -> anyhow::Result<Vec<String>> {
    let text = read("/proc/modules")?;
    let mut names: Vec<_> =
        text.lines().filter_map(|line| line.split(' ').next().map(ToOwned::to_owned)).collect();
    names.sort_unstable();
    Ok(names)
}

fn snapshot() -> PathBuf {
    snapshot_of("igb")
}

fn remove_state() -> anyhow::Result<()> {
    match fs::remove_dir_all(STATE_DIR) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {STATE_DIR}"))
        }
        _ => Ok(()),
    }
}

/// A snapshot as if the PFs had had more VFs than they offer: another card sits in the slot now.
fn ask_for_too_many_vfs() -> anyhow::Result<()> {
    /// More than any igb PF can have.
    const VFS: u64 = 60;

    NicDriver::new(["snapshot"]).run()?.expect(Exit::Success)?;
    let mut snapshot: Value = serde_json::from_str(&read(snapshot())?).context("the snapshot is no JSON")?;
    let pfs = snapshot.pointer_mut("/nics/pfs").and_then(Value::as_array_mut);
    for pf in pfs.context("the snapshot has no PFs")? {
        let vfs = pf.get_mut("vfs").and_then(Value::as_array_mut).context("a PF has no list of VFs")?;
        let known = u64::try_from(vfs.len())?;
        vfs.extend((known..VFS).map(|index| {
            json!({
                "index": index, "address": null, "driver": null, "driver_override": null, "admin": "not_there", "rdma": "not_there",
                "netdev": { "presence": "unbound" },
            })
        }));
        for count in ["num_vfs", "total_vfs"] {
            *pf.get_mut(count).with_context(|| format!("a PF has no {count}"))? = VFS.into();
        }
    }
    write_edited(&serde_json::to_string_pretty(&snapshot)?)
}

/// Stores an edited snapshot, without what the program would know the edit by.
fn write_edited(text: &str) -> anyhow::Result<()> {
    let kept = |line: &&str| !line.contains("\"checksum\":") && !line.contains("\"pci_id\":");
    let lines: Vec<&str> = text.lines().filter(kept).collect();
    write(snapshot(), &lines.join("\n"))
}

/// A snapshot whose PF is now a NIC without SR-IOV: the e1000e at the far end of the data path.
fn ask_a_nic_without_sriov() -> anyhow::Result<()> {
    NicDriver::new(["snapshot"]).run()?.expect(Exit::Success)?;
    let text = read(snapshot())?;
    let pf = igb_pfs()?.into_iter().next().context("there is no igb PF")?;
    let far_end = netdev_by_mac(PEER_MAC)?;
    let device =
        fs::read_link(format!("/sys/class/net/{far_end}/device")).context("the far end is no device")?;
    let device =
        device.file_name().context("the far end's device has no name")?.to_string_lossy().into_owned();
    let moved = text.replace(&format!("\"{pf}\""), &format!("\"{device}\"")).replace("\"igb\"", "\"e1000e\"");
    // The family and the modules keep their names; only the PFs' driver is another.
    let moved = moved.replace("\"family\": \"e1000e\"", "\"family\": \"igb\"");
    ensure!(moved != text, "the snapshot does not name {pf}");
    write_edited(&moved)
}

const HIDDEN: &str = "/lab/hidden-module";

fn hide_module() -> anyhow::Result<()> {
    let file = run_program("modinfo", ["-F", "filename", "igb"])?;
    let file = file.trim();
    write(format!("{HIDDEN}.path"), file)?;
    fs::rename(file, HIDDEN).with_context(|| format!("cannot hide {file}"))
}

fn unhide_module() -> anyhow::Result<()> {
    let file = read(format!("{HIDDEN}.path"))?;
    fs::rename(HIDDEN, &file).with_context(|| format!("cannot bring {file} back"))
}

//! How long a restore takes, against what the kernel takes for the VFs alone, in the same machine and in turns.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use lab_guest::bench::{MEASUREMENTS_FILE, Measurement, Measurements, journal_file};
use lab_guest::wiring::VFS_PER_PF;
use nic_driver::Exit;
use nic_driver::state::StateStore;

use crate::command::{ip_batch, run as command};
use crate::guest::Guest;
use crate::observe::{Nics, igb_pfs, netdev_of, pci_device, vfs_of};
use crate::program::NicDriver;
use crate::vfs::{self, VF_DRIVER, concurrently};
use crate::{boot, report, say, wait, write};

/// How many of the PFs have VFs.
const SIZES: [usize; 2] = [2, 7];
/// Snapshots that are measured are not used.
const SCRATCH: &str = "/run/bench-scratch";

/// A number of VFs, and what is to be restored.
struct Size<'a> {
    pfs: &'a [String],
    vfs: usize,
    state: String,
    before: Nics,
}

pub(crate) fn run(guest: &Guest) -> anyhow::Result<()> {
    let rounds: u32 = guest.parameter("rounds")?;
    let pfs = igb_pfs()?;
    command("modprobe", [VF_DRIVER])?;
    // A VF that probes while its PF is down would wait for it, and not only for the kernel.
    concurrently(&pfs, |pf| command("ip", ["link", "set", "dev", &netdev_of(pf)?, "up"]).map(drop))?;
    let mut sizes = Vec::new();
    for count in SIZES {
        let pfs = pfs.get(..count).with_context(|| format!("there are fewer than {count} PFs"))?;
        sizes.push(prepare(pfs)?);
    }
    let mut runs = Vec::new();
    for round in 1..=rounds {
        for size in &sizes {
            let run = measure(size, round)?;
            report(&format!(
                "run {round}, {:>2} VFs: the kernel alone {:.2} s, restore {:.2} s, snapshot {:.2} s",
                run.vfs, run.floor, run.restore, run.snapshot
            ));
            runs.push(run);
            let journal = guest.share().join(journal_file(size.vfs));
            std::fs::copy(StateStore::new(&size.state).journal_path(), &journal)
                .with_context(|| format!("cannot write {}", journal.display()))?;
        }
    }
    let measurements = Measurements { kernel: guest.kernel().to_owned(), runs };
    let text =
        serde_json::to_string_pretty(&measurements).context("cannot write the measurements as JSON")?;
    write(guest.share().join(MEASUREMENTS_FILE), &text)
}

/// Configures the VFs of these PFs, takes the snapshot to restore from, and removes them.
fn prepare(pfs: &[String]) -> anyhow::Result<Size<'_>> {
    concurrently(pfs, |pf| {
        let device = pci_device(pf);
        write(device.join("sriov_drivers_autoprobe"), "0")?;
        write(device.join("sriov_numvfs"), &VFS_PER_PF.to_string())
    })?;
    let mut batch = String::new();
    for (index, pf) in pfs.iter().enumerate() {
        let netdev = netdev_of(pf)?;
        for vf in 0..VFS_PER_PF {
            batch.push_str(&format!("link set dev {netdev} vf {vf} mac {}\n", vfs::vf_mac(index, vf)));
        }
    }
    ip_batch(&batch)?;
    let mut all = Vec::new();
    for pf in pfs {
        write(pci_device(pf).join("sriov_drivers_autoprobe"), "1")?;
        all.extend(vfs_of(pf)?.into_iter().map(|(_, vf)| vf));
    }
    concurrently(&all, |vf| vfs::bind(vf, VF_DRIVER))?;
    named(pfs)?;
    let mut batch = String::new();
    for vf in &all {
        batch.push_str(&format!("link set dev {} mtu 1400 up\n", netdev_of(vf)?));
    }
    ip_batch(&batch)?;
    boot::settle_udev()?;
    let before = Nics::observe()?;
    let state = format!("/run/bench-{}", all.len());
    NicDriver::new(["--state-dir", &state, "snapshot"]).quietly().run()?.expect(Exit::Success)?;
    remove(pfs)?;
    Ok(Size { pfs, vfs: all.len(), state, before })
}

fn measure(size: &Size<'_>, round: u32) -> anyhow::Result<Measurement> {
    say(&format!("== run {round}, {} VFs", size.vfs));
    let start = Instant::now();
    concurrently(size.pfs, |pf| write(pci_device(pf).join("sriov_numvfs"), &VFS_PER_PF.to_string()))?;
    named(size.pfs)?;
    let floor = start.elapsed();
    remove(size.pfs)?;

    // Logs would be written to the serial console while the clock runs.
    let call = |words: [&str; 3]| NicDriver::new(["--log", "warn"].into_iter().chain(words)).quietly().run();
    let restore = call(["--state-dir", &size.state, "restore-sriov"])?.expect(Exit::Success)?.time;
    let differences = size.before.differences(&Nics::observe()?);
    ensure!(differences.is_empty(), "a fast restore that is not right: {differences}");
    let snapshot = call(["--state-dir", SCRATCH, "snapshot"])?.expect(Exit::Success)?.time;
    remove(size.pfs)?;
    let [floor, restore, snapshot] = [floor, restore, snapshot].map(|time| time.as_secs_f64());
    Ok(Measurement { vfs: size.vfs, round, floor, restore, snapshot })
}

/// Waits until udev has nothing to do and every VF has the name it gives.
fn named(pfs: &[String]) -> anyhow::Result<()> {
    all_named("every VF", || {
        let vfs = pfs.iter().map(|pf| vfs_of(pf)).collect::<anyhow::Result<Vec<_>>>()?;
        Ok(vfs.into_iter().flatten().map(|(_, vf)| vf).collect())
    })
}

/// Waits until udev has nothing to do and each of these functions has the name it gives.
pub(super) fn all_named(
    who: &str,
    functions: impl Fn() -> anyhow::Result<Vec<String>>,
) -> anyhow::Result<()> {
    wait::until(&format!("{who} has its final name"), Duration::from_secs(180), || {
        boot::settle_udev()?;
        let is_named = |function: &String| netdev_of(function).is_ok_and(|name| name.starts_with("enp"));
        Ok(functions()?.iter().all(is_named).then_some(()))
    })
}

fn remove(pfs: &[String]) -> anyhow::Result<()> {
    concurrently(pfs, |pf| write(pci_device(pf).join("sriov_numvfs"), "0"))?;
    boot::settle_udev()
}

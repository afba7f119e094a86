//! A driver that does not come up is taken back: the one before it runs again with all its VFs, and the NIC is not taken
//! down for the same driver twice. Likewise when the going back fails. `kill-rollback` kills it.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, ensure};
use nic_driver::Exit;
use nic_driver::default_paths::BLACKLIST_FILE;

use crate::drivers::{self, DriverVersion};
use crate::guest::Guest;
use crate::installed::{finish, install, is_armed, set_up};
use crate::observe::{Nics, igb_pfs, pci_device};
use crate::program::NicDriver;
use crate::readiness::{self, READY};
use crate::{boot, report, say, write};

const RETRY: &str = "--retry-rolled-back";
/// Loses a PF, as a NIC is lost whose firmware has died, in the moment in which its driver is to be loaded.
const LOSING_RULE: &str = "/etc/modprobe.d/lab-lost.conf";

/// A driver that does not come up, and what must be told of why.
struct Broken {
    name: &'static str,
    words: &'static [&'static str],
    /// Where a look tells it beforehand: what is to be assumed so that it is tried, and what is told.
    foreseen: Option<(&'static str, &'static str)>,
}

const BROKEN: [Broken; 3] = [
    Broken {
        name: "unresolved-symbol",
        words: &["cannot load igb", "Unknown symbol"],
        foreseen: Some(("symbols", "has the symbols lab_no_such_symbol")),
    },
    Broken { name: "failing-probe", words: &["the PF 0000:", "no driver has taken"], foreseen: None },
    Broken {
        name: "wrong-vermagic",
        words: &["cannot load igb", "Exec format error"],
        foreseen: Some(("vermagic", "the kernel would refuse igb (")),
    },
];

/// The node as it is to stay.
struct Node {
    nics: Nics,
    runs: DriverVersion,
}

pub(crate) fn run(guest: &Guest) -> anyhow::Result<()> {
    let nics = set_up(guest.parameter("vfs")?)?;
    let watch = readiness::watch(&nics)?;
    let mut node = Node { nics, runs: drivers::version("A")? };
    for broken in &BROKEN {
        taken_back(&node, broken).with_context(|| broken.name)?;
    }
    say("== another driver");
    install("B")?;
    finish("B", &node.nics)?;
    node.runs = drivers::version("B")?;
    report("a driver with another identity: tried, and it runs");
    going_back_fails(&node)?;

    let seen = watch.end()?;
    report(&format!("{} VFs: {} drivers taken back; {seen}", node.nics.vf_count(), BROKEN.len()));
    seen.ensure_right()
}

/// Tried once, taken back, and not tried again.
fn taken_back(node: &Node, broken: &Broken) -> anyhow::Result<()> {
    say(&format!("== {}", broken.name));
    install(broken.name)?;
    let mut command = vec!["reload"];
    if let Some((assumption, words)) = broken.foreseen {
        let indices = Nics::interface_indices()?;
        let blocked = NicDriver::new(["reload"]).run()?.expect(Exit::Blocked)?;
        blocked.expect_words(&[words, "--assume-ok", assumption])?;
        ensure!(
            Nics::interface_indices()? == indices,
            "the NIC was taken down for a driver that cannot be loaded"
        );
        node.is_what_it_was()?;
        report(&format!("{:<18} found before the first change: {}", broken.name, blocked.last_words()));
        command.extend(["--assume-ok", assumption]);
    }
    let reload = NicDriver::new(command).run()?.expect(Exit::RolledBack)?;
    reload.expect_words(broken.words)?;
    node.is_back()?;
    not_tried_again(node)?;
    let time = reload.time.as_secs_f64();
    report(&format!("{:<18} put back in {time:.1} s, then refused: {}", broken.name, reload.last_words()));
    Ok(())
}

fn not_tried_again(node: &Node) -> anyhow::Result<()> {
    let indices = Nics::interface_indices()?;
    let refused = NicDriver::new(["reload"]).run()?.expect(Exit::Blocked)?;
    refused.expect_words(&[RETRY, "taken back"])?;
    ensure!(Nics::interface_indices()? == indices, "the NIC was taken down for the same driver");
    // Nothing is owed, and yet the driver that was wanted does not run.
    let restored = NicDriver::new(["restore-sriov"]).quietly().run()?.expect(Exit::Success)?;
    restored.expect_words(&["nothing is owed", "not ready", "a reload is due"])?;
    ensure!(!Path::new(READY).exists(), "ready although the driver was rolled back");
    // Whoever is content with what runs says so.
    let restored =
        NicDriver::new(["restore-sriov", "--from-record"]).quietly().run()?.expect(Exit::Success)?;
    restored.expect_words(&["nothing to do"])?;
    ensure!(Nics::interface_indices()? == indices, "netdevs were made anew although nothing was missing");
    ensure!(Path::new(READY).exists(), "not ready although asked for");
    node.is_what_it_was()
}

/// A PF is lost while its driver is exchanged, so that the going back fails, too; and then it is there again.
fn going_back_fails(node: &Node) -> anyhow::Result<()> {
    say("== the going back fails");
    let pf = igb_pfs()?.into_iter().next().context("there is no PF")?;
    install("A")?;
    let lose = pci_device(&pf).join("remove");
    write(LOSING_RULE, &format!("install igb /bin/sh -c 'echo 1 > {}; exit 1'\n", lose.display()))?;
    let failed = NicDriver::new(["reload"]).run()?.expect(Exit::Degraded)?;
    failed.expect_words(&[&pf, "the rollback did not put everything back", "cannot load igb"])?;
    ensure!(!pci_device(&pf).exists(), "{pf} was not lost");
    ensure!(!Path::new(READY).exists(), "ready although degraded");
    ensure!(is_armed()?, "the snapshot is not armed any more");
    drivers::expect_loaded(&node.runs)?;
    let again = NicDriver::new(["reload"]).quietly().run()?.expect(Exit::Degraded)?;
    again.expect_words(&[&pf])?;

    say("== the PF is there again");
    fs::remove_file(LOSING_RULE).context("cannot remove the rule")?;
    write("/sys/bus/pci/rescan", "1")?;
    boot::settle_udev()?;
    NicDriver::new(["reload"]).run()?.expect(Exit::RolledBack)?;
    node.is_back()?;
    report(&format!("the going back fails: {}; put right when the cause was gone", failed.last_words()));
    Ok(())
}

impl Node {
    fn is_back(&self) -> anyhow::Result<()> {
        self.is_what_it_was()?;
        ensure!(!is_armed()?, "the snapshot is still armed");
        // A driver was wanted that does not run.
        ensure!(!Path::new(READY).exists(), "ready although the driver was taken back");
        Ok(())
    }

    fn is_what_it_was(&self) -> anyhow::Result<()> {
        drivers::expect_loaded(&self.runs)?;
        ensure!(!Path::new(BLACKLIST_FILE).exists(), "the blacklist was left behind");
        self.nics.expect_unchanged()
    }
}

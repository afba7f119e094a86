//! One of two PFs is lost in a swap: the other gets back all it had, the lost one is named, and a later run goes on from there;
//! or an administrator lets it go. Likewise when it is lost while a driver is rolled back.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use nic_driver::Exit;
use nic_driver::state::Step;

use crate::command::{ip_batch, run as command};
use crate::drivers;
use crate::guest::Guest;
use crate::installed::{install, set_up};
use crate::observe::{Nics, igb_pfs, netdev_of, pci_device, vfs_of};
use crate::program::{FAMILY, NicDriver, store};
use crate::readiness::{self, READY};
use crate::{boot, journal, report, say, write};

/// Loses the PF in the moment in which its driver is to be loaded.
const LOSING_RULE: &str = "/etc/modprobe.d/lab-lost.conf";

/// Two PFs, of which the second is lost.
struct Node {
    before: Nics,
    stays: String,
    lost: String,
    /// The PF that stays, and its VFs.
    staying: BTreeSet<String>,
}

pub(crate) fn run(guest: &Guest) -> anyhow::Result<()> {
    let before = set_up(guest.parameter("vfs")?)?;
    let pfs = igb_pfs()?;
    let [stays, lost] = pfs.as_slice() else { bail!("there are {} PFs, not two", pfs.len()) };
    ip_batch(&format!(
        "address add 192.0.2.1/24 dev {}\naddress add 198.51.100.1/24 dev {}\n",
        netdev_of(stays)?,
        netdev_of(lost)?
    ))?;
    let vfs = vfs_of(stays)?.into_iter().map(|(_, vf)| vf);
    let staying = vfs.chain([stays.clone()]).collect();
    let node = Node { before, stays: stays.clone(), lost: lost.clone(), staying };
    let watch = readiness::watch(&node.before)?;
    node.lost_and_there_again()?;
    node.lost_while_rolled_back()?;
    let seen = watch.end()?;
    seen.ensure_right()?;
    node.let_go()?;
    guest.keep(&journal::path())?;
    report(&format!("{} VFs on two PFs, one of them lost three times; {seen}", node.before.vf_count()));
    Ok(())
}

impl Node {
    fn lost_and_there_again(&self) -> anyhow::Result<()> {
        say("== a PF is lost between the reload and the restore");
        install("B")?;
        NicDriver::new(["reload"]).run()?.expect(Exit::Success)?;
        self.lose()?;
        let restored = NicDriver::new(["restore-sriov"]).run()?.expect(Exit::Degraded)?;
        restored.expect_words(&["left alone", &self.lost, "the device is gone"])?;
        self.other_is_what_it_was()?;
        report(&format!("a lost PF: {}", restored.last_words()));

        say("== what cannot be let go");
        let there = NicDriver::new(["restore-sriov", "--forget-pf", &self.stays]).run()?;
        there.expect(Exit::Blocked)?.expect_words(&[&self.stays, "it is there"])?;
        let unknown = NicDriver::new(["restore-sriov", "--forget-pf", "0000:7f:00.0"]).run()?;
        unknown.expect(Exit::Usage)?.expect_words(&["0000:7f:00.0", "not in the snapshot", &self.lost])?;

        say("== it is there again");
        self.find()?;
        NicDriver::new(["restore-sriov"]).run()?.expect(Exit::Success)?;
        self.before.expect_unchanged()?;
        expect_addresses(&["192.0.2.1/24", "198.51.100.1/24"])?;
        ensure!(Path::new(READY).exists(), "not ready although all is back");
        report("the lost PF is there again: the next restore went on from there");
        Ok(())
    }

    fn lost_while_rolled_back(&self) -> anyhow::Result<()> {
        say("== a PF is lost while the driver is rolled back");
        install("A")?;
        let lose = pci_device(&self.lost).join("remove");
        write(LOSING_RULE, &format!("install igb /bin/sh -c 'echo 1 > {}; exit 1'\n", lose.display()))?;
        let failed = NicDriver::new(["reload"]).run()?.expect(Exit::Degraded)?;
        failed.expect_words(&[&self.lost, "left alone", "cannot load igb"])?;
        ensure!(!pci_device(&self.lost).exists(), "{} was not lost", self.lost);
        drivers::expect_loaded(&drivers::version("B")?)?;
        self.other_is_what_it_was()?;
        report(&format!("lost in a rollback: {}", failed.last_words()));

        fs::remove_file(LOSING_RULE).context("cannot remove the rule")?;
        self.find()?;
        NicDriver::new(["reload"]).run()?.expect(Exit::RolledBack)?;
        self.before.expect_unchanged()?;
        expect_addresses(&["192.0.2.1/24", "198.51.100.1/24"])
    }

    fn let_go(&self) -> anyhow::Result<()> {
        say("== a lost PF is let go");
        NicDriver::new(["reload", "--retry-rolled-back"]).run()?.expect(Exit::Success)?;
        self.lose()?;
        let again = NicDriver::new(["restore-sriov"]).quietly().run()?.expect(Exit::Degraded)?;
        again.expect_words(&[&self.lost])?;
        NicDriver::new(["restore-sriov", "--forget-pf", &self.lost]).run()?.expect(Exit::Success)?;
        self.other_is_what_it_was_and_ready(true)?;
        drivers::expect_loaded(&drivers::version("A")?)?;
        let forgotten = store(FAMILY).snapshot()?.context("there is no snapshot")?.forgotten;
        let [pf] = forgotten.as_slice() else { bail!("recorded as forgotten: {forgotten:?}") };
        ensure!(pf.to_string() == self.lost, "recorded as forgotten: {pf}");
        let step = Step::ForgetPf { pf: pf.clone() };
        let told = journal::lines()?.iter().any(|line| line.entry.begins(|begun| *begun == step));
        ensure!(told, "the journal does not tell of it");

        say("== and comes back");
        self.find()?;
        let nothing = NicDriver::new(["restore-sriov"]).run()?.expect(Exit::Success)?;
        nothing.expect_words(&["nothing is owed"])?;
        ensure!(vfs_of(&self.lost)?.is_empty(), "a PF that was let go has VFs again");
        report("a lost PF is let go: recorded, ready, and nothing is owed to it");
        Ok(())
    }

    fn lose(&self) -> anyhow::Result<()> {
        write(pci_device(&self.lost).join("remove"), "1")?;
        boot::settle_udev()
    }

    fn find(&self) -> anyhow::Result<()> {
        write("/sys/bus/pci/rescan", "1")?;
        boot::settle_udev()?;
        netdev_of(&self.lost).map(drop)
    }

    fn other_is_what_it_was(&self) -> anyhow::Result<()> {
        self.other_is_what_it_was_and_ready(false)
    }

    fn other_is_what_it_was_and_ready(&self, ready: bool) -> anyhow::Result<()> {
        let of = |nics: &Nics| nics.clone().only(&self.staying);
        let differences = of(&self.before).differences(&of(&Nics::observe()?));
        ensure!(differences.is_empty(), "the other PF: {differences}");
        expect_addresses(&["192.0.2.1/24"])?;
        ensure!(Path::new(READY).exists() == ready, "the node is ready: {}", !ready);
        Ok(())
    }
}

fn expect_addresses(addresses: &[&str]) -> anyhow::Result<()> {
    let found = command("ip", ["-o", "address"])?;
    for address in addresses {
        ensure!(found.contains(&format!("inet {address} ")), "{address} is not there: {found}");
    }
    Ok(())
}

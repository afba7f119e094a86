//! A kernel that asks for signatures: a driver without one is found before the NIC is touched, and the kernel agrees where it is tried all the
//! same. At the end a kernel that loads nothing any more.

use anyhow::ensure;
use nic_driver::Exit;

use crate::drivers::{self, Flow};
use crate::guest::Guest;
use crate::installed::install;
use crate::observe::Nics;
use crate::program::NicDriver;
use crate::{report, say, vfs, write};

const ENFORCED: &str = "/sys/module/module/parameters/sig_enforce";
const DISABLED: &str = "/proc/sys/kernel/modules_disabled";

pub(crate) fn run(guest: &Guest) -> anyhow::Result<()> {
    ensure!(crate::read(ENFORCED)?.trim() == "Y", "the kernel does not ask for signatures");
    drivers::pretend_distribution(Flow::Rpm)?;
    vfs::configure_each(guest.parameter("vfs")?)?;
    let nics = Nics::observe()?;
    say("== what runs is signed");
    NicDriver::new(["preflight", "--force"]).run()?.expect(Exit::Success)?;

    say("== a driver without a signature");
    install("A")?;
    let indices = Nics::interface_indices()?;
    let words =
        ["the kernel would refuse igb (", "not signed", "module.sig_enforce", "--assume-ok signature"];
    NicDriver::new(["preflight"]).run()?.expect(Exit::Blocked)?.expect_words(&words)?;
    let blocked = NicDriver::new(["reload"]).run()?.expect(Exit::Blocked)?;
    blocked.expect_words(&words)?;
    ensure!(
        Nics::interface_indices()? == indices,
        "the NIC was taken down for a driver that cannot be loaded"
    );
    nics.expect_unchanged()?;
    report(&format!("no signature: {}", blocked.last_words()));

    say("== the same, assumed to be in order");
    let tried = NicDriver::new(["reload", "--assume-ok", "signature"]).run()?.expect(Exit::RolledBack)?;
    tried.expect_words(&["cannot load igb", "rejected"])?;
    nics.expect_unchanged()?;
    report(&format!("assumed to be in order: {}", tried.last_words()));

    say("== a kernel that loads nothing any more");
    write(DISABLED, "1")?;
    let blocked = NicDriver::new(["reload", "--retry-rolled-back"]).run()?.expect(Exit::Blocked)?;
    blocked.expect_words(&["kernel.modules_disabled is 1"])?;
    nics.expect_unchanged()?;
    report("kernel.modules_disabled: a reload is blocked");
    Ok(())
}

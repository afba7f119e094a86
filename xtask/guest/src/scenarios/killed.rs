//! What is killed, by which commands it is gone on from, and what must run then.

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, ensure};
use nic_driver::Exit;
use nic_driver::state::Phase;

use crate::command::run as command;
use crate::drivers;
use crate::installed::{finish, install, is_armed, is_loaded};
use crate::observe::{Nics, igb_pfs, netdev_of, pci_device};
use crate::program::{FAMILY, NicDriver, snapshot_of, store};
use crate::readiness::READY;
use crate::{boot, journal, write};

/// Where the armed snapshot is kept.
pub(super) const ARMED: &str = "/tmp/armed.json";
/// A driver that is rolled back at once: nothing is waited for.
pub(super) const BROKEN: &str = "failing-init";
pub(super) const TERMINATE: &[&str] = &["terminate", "--restore-driver"];

/// The command that is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Killed {
    Reload,
    Restore,
    /// A reload, from where it goes back to the driver before.
    Rollback,
    /// The return to the inbox driver.
    Terminate,
    /// The same in a container whose image has the driver, and goes on having it: what is gone back to is the host's.
    TerminateInImage,
}

impl Killed {
    pub(super) const ALL: [Self; 5] =
        [Self::Reload, Self::Restore, Self::Rollback, Self::Terminate, Self::TerminateInImage];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Reload => Phase::Reload.as_str(),
            Self::Restore => Phase::RestoreSriov.as_str(),
            // No phase: a part of a reload.
            Self::Rollback => "rollback",
            Self::Terminate => Phase::Terminate.as_str(),
            Self::TerminateInImage => "terminate-in-image",
        }
    }

    pub(super) fn call(self) -> &'static [&'static str] {
        match self {
            Self::Reload => &["reload"],
            Self::Restore => &["restore-sriov"],
            Self::Rollback => &["reload", "--retry-rolled-back"],
            Self::Terminate | Self::TerminateInImage => TERMINATE,
        }
    }

    /// How it ends when it is not killed.
    pub(super) fn exit(self) -> Exit {
        match self {
            Self::Reload | Self::Restore | Self::Terminate | Self::TerminateInImage => Exit::Success,
            Self::Rollback => Exit::RolledBack,
        }
    }

    /// Which commands go on after the kill. Each of them must know how.
    fn resumed_by(self) -> &'static [&'static [&'static [&'static str]]] {
        match self {
            Self::Reload | Self::Restore | Self::Rollback => {
                &[&[&["reload"], &["restore-sriov"]], &[&["restore-sriov"]], &[&["terminate"]]]
            }
            Self::Terminate | Self::TerminateInImage => {
                &[&[TERMINATE], &[&["reload"], &["restore-sriov"]], &[&["terminate"]]]
            }
        }
    }

    /// By which of them it is gone on from a kill at this line: by each in turn or, where there are few lines, by all.
    pub(super) fn ways_from(self, line: usize) -> &'static [&'static [&'static [&'static str]]] {
        let ways = self.resumed_by();
        match self {
            Self::TerminateInImage => ways,
            _ => ways.chunks(1).nth(line % ways.len()).unwrap_or_default(),
        }
    }

    /// How a command ends that goes on.
    pub(super) fn exit_of_resuming(self, call: &[&str]) -> anyhow::Result<Exit> {
        Ok(match (self, call) {
            (Self::Rollback, ["reload"]) if is_armed()? => Exit::RolledBack,
            // At its last lines nothing is left to be ended.
            (Self::Rollback, ["reload"]) => Exit::Blocked,
            _ => Exit::Success,
        })
    }

    /// The driver that must run where that is known.
    pub(super) fn expect_driver(self, resumed_by: &[&[&str]]) -> anyhow::Result<()> {
        match self {
            Self::Rollback => drivers::expect_loaded(&drivers::version("A")?),
            Self::Terminate | Self::TerminateInImage => {
                // Half of the one and half of the other would be neither.
                let is_inbox = drivers::runs_inbox()?;
                ensure!(is_inbox || is_loaded("A")?, "neither A nor the inbox driver runs");
                ensure!(is_inbox || !resumed_by.contains(&TERMINATE), "the inbox driver does not run");
                Ok(())
            }
            Self::Reload | Self::Restore => Ok(()),
        }
    }

    /// Makes something of it due. The journal begins anew: each command reads all of it.
    pub(super) fn prepare(self, before: &Nics) -> anyhow::Result<()> {
        match self {
            Self::Reload => drivers::put_files(if is_loaded("A")? { "B" } else { "A" })?,
            Self::Restore => lose_vfs()?,
            Self::Rollback => {
                // Not B: the broken driver is a copy of that.
                if !is_loaded("A")? {
                    drivers::put_files("A")?;
                    finish("A", before)?;
                }
                drivers::put_files(BROKEN)?;
            }
            Self::TerminateInImage => {
                if !Path::new(READY).exists() || !is_loaded("A")? {
                    finish("A", before)?;
                }
            }
            Self::Terminate => {
                let is_due = Path::new(READY).exists() && store(FAMILY).installed_path().exists();
                if !is_due || !is_loaded("A")? {
                    install("A")?;
                    finish("A", before)?;
                }
            }
        }
        fs::remove_file(journal::path()).context("cannot remove the journal")
    }

    /// Ends what it has left when it was not killed.
    pub(super) fn settle(self) -> anyhow::Result<()> {
        if self == Self::Reload || self == Self::Restore {
            NicDriver::new(["restore-sriov"]).quietly().run()?.expect(Exit::Success)?;
        }
        Ok(())
    }
}

impl fmt::Display for Killed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a reload leaves: no VFs, PFs as their driver makes them, nobody ready, the snapshot armed.
fn lose_vfs() -> anyhow::Result<()> {
    if Path::new(READY).exists() {
        fs::remove_file(READY).context("cannot take readiness away")?;
    }
    fs::copy(ARMED, snapshot_of("igb")).context("cannot put the armed snapshot in place")?;
    for pf in igb_pfs()? {
        write(pci_device(&pf).join("sriov_numvfs"), "0")?;
        command("ip", ["link", "set", "dev", &netdev_of(&pf)?, "down", "mtu", "1500"])?;
    }
    boot::settle_udev()
}

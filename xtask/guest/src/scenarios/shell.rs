//! A shell on the console, for looking around and for trying things by hand.

use std::process::Command;

use anyhow::Context as _;

use crate::guest::Guest;
use crate::{say, vfs};

pub(crate) fn run(_: &Guest) -> anyhow::Result<()> {
    vfs::configure_all()?;
    say(
        "All VFs are configured. The driver packages are in /lab/packages; what you put into /share stays after the run.",
    );
    say("`exit` ends the machine.");
    // `setsid --ctty` gives the shell a controlling terminal, so that Ctrl-C interrupts its programs and not PID 1.
    Command::new("setsid")
        .args(["--ctty", "--wait", "bash", "--login"])
        .current_dir("/root")
        .env("HOME", "/root")
        .status()
        .context("cannot start a shell")?;
    Ok(())
}

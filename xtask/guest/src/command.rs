//! Running programs of the guest.

use std::ffi::{OsStr, OsString};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

/// Runs a program to its end and returns what it wrote to standard output. A status other than 0 is an error that
/// carries the command line and what the program wrote to standard error.
pub(crate) fn run<A: AsRef<OsStr>>(
    program: &str,
    arguments: impl IntoIterator<Item = A>,
) -> anyhow::Result<String> {
    let arguments: Vec<OsString> =
        arguments.into_iter().map(|argument| argument.as_ref().to_owned()).collect();
    let line = || {
        let arguments: Vec<_> = arguments.iter().map(|argument| argument.to_string_lossy()).collect();
        format!("`{program} {}`", arguments.join(" "))
    };
    let output = Command::new(program)
        .args(&arguments)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {}", line()))?;
    if !output.status.success() {
        bail!(
            "{} ended with {}: {}",
            line(),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
    }
    String::from_utf8(output.stdout).with_context(|| format!("{} wrote no UTF-8", line()))
}

/// Runs lines of `ip`, one process for all.
pub(crate) fn ip_batch(lines: &str) -> anyhow::Result<()> {
    let file = "/tmp/ip-batch";
    crate::write(file, lines)?;
    run("ip", ["-batch", file]).map(drop)
}

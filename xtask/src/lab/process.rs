//! Running other programs on the host.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, bail};

/// Lines of a failed program's output that an error carries.
const TAIL: usize = 25;

/// A command line as one would type it, for messages.
pub(crate) fn line(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|argument| argument.to_string_lossy().into_owned()));
    words.join(" ")
}

/// Runs a program quietly. What it wrote appears only in the error, when it fails.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    output(command).map(drop)
}

/// Runs a program and returns its standard output.
pub(crate) fn output(command: &mut Command) -> anyhow::Result<String> {
    let Output { status, stdout, stderr } =
        command.stdin(Stdio::null()).output().with_context(|| format!("cannot start `{}`", line(command)))?;
    let stdout = String::from_utf8_lossy(&stdout).into_owned();
    if !status.success() {
        let all = format!("{stdout}\n{}", String::from_utf8_lossy(&stderr));
        let lines: Vec<_> = all.lines().filter(|line| !line.trim().is_empty()).collect();
        let tail = lines.get(lines.len().saturating_sub(TAIL)..).unwrap_or_default().join("\n  ");
        bail!("`{}` ended with {status}:\n  {tail}", line(command));
    }
    Ok(stdout)
}

/// Runs a program that writes to the terminal itself.
pub(crate) fn stream(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("cannot start `{}`", line(command)))?;
    if !status.success() {
        bail!("`{}` ended with {status}", line(command));
    }
    Ok(())
}

/// Runs a pipeline of programs, the first one reading `input`. Every one of them must succeed.
pub(crate) fn pipeline(input: &Path, commands: Vec<Command>) -> anyhow::Result<()> {
    let mut source =
        Stdio::from(std::fs::File::open(input).with_context(|| format!("cannot open {}", input.display()))?);
    let last = commands.len().saturating_sub(1);
    let mut children = Vec::new();
    for (position, mut command) in commands.into_iter().enumerate() {
        command.stdin(source).stdout(if position == last { Stdio::null() } else { Stdio::piped() });
        let mut child = command.spawn().with_context(|| format!("cannot start `{}`", line(&command)))?;
        source = child.stdout.take().map_or_else(Stdio::null, Stdio::from);
        children.push((line(&command), child));
    }
    // A program before one that failed dies of a closed pipe, so the last failure names the cause.
    for (line, mut child) in children.into_iter().rev() {
        let status = child.wait().with_context(|| format!("cannot wait for `{line}`"))?;
        if !status.success() {
            bail!("`{line}` ended with {status}");
        }
    }
    Ok(())
}

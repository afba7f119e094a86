//! Calls of the runtime, crun.

use std::fs;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, kill_process, pidfd_open, waitpid};

use crate::wait;

/// How long crun may take to execute a process that is to be killed for its timeout already.
const PATIENCE: Duration = Duration::from_secs(120);

/// How crun is called.
#[derive(Debug, Clone)]
pub(super) struct Runtime {
    /// Where it keeps its state.
    pub(super) root: PathBuf,
}

/// What a process that was executed in a container did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Output {
    /// Its exit code; with 128 for a signal's number.
    pub(crate) code: i32,
    /// What it wrote to standard output and standard error, in the order in which it did.
    pub(crate) text: String,
}

/// How the execution of a process went.
#[derive(Debug)]
pub(super) enum Executed {
    /// It ended by itself.
    Ended(Output),
    /// It was killed for its timeout.
    TimedOut,
    /// crun could not execute it, and said this.
    Failed(String),
}

/// The streams of a container's PID 1.
pub(super) struct Streams {
    pub(super) stdout: ChildStdout,
    pub(super) stderr: ChildStderr,
}

impl Runtime {
    /// Creates a container from a bundle. Its PID 1 becomes a child of this process.
    pub(super) fn create(&self, id: &str, bundle: &Path) -> anyhow::Result<(Pid, Streams)> {
        let (log, pid_file) = (bundle.join("create.log"), bundle.join("pid"));
        let mut command = self.command(&log);
        command.arg("create").arg("--bundle").arg(bundle).arg("--pid-file").arg(&pid_file).arg(id);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start crun")?;
        let stdout = child.stdout.take().context("no pipe for standard output")?;
        let stderr = child.stderr.take().context("no pipe for standard error")?;
        let status = child.wait().context("cannot wait for crun create")?;
        ensure!(status.success(), "crun create: {}", words(&log, &status.to_string()));
        Ok((pid_in(&pid_file)?.context("crun wrote no process id")?, Streams { stdout, stderr }))
    }

    /// Lets a created container's PID 1 go.
    pub(super) fn start(&self, id: &str, bundle: &Path) -> anyhow::Result<()> {
        self.run(&bundle.join("start.log"), &["start", id])
    }

    /// Sends PID 1 a signal.
    pub(super) fn kill(&self, id: &str, bundle: &Path, signal: &str) -> anyhow::Result<()> {
        self.run(&bundle.join("kill.log"), &["kill", id, signal])
    }

    /// Kills all processes of a container.
    pub(super) fn kill_all(&self, id: &str, bundle: &Path) -> anyhow::Result<()> {
        self.run(&bundle.join("kill-all.log"), &["kill", "--all", id, "KILL"])
    }

    /// Removes what crun knows of a container, with whatever still runs of it.
    pub(super) fn delete(&self, id: &str, bundle: &Path) -> anyhow::Result<()> {
        self.run(&bundle.join("delete.log"), &["delete", "--force", id])
    }

    /// Executes a process in a container, and kills it after `timeout`. The files of the call begin with `files`.
    pub(super) fn execute(
        &self,
        id: &str,
        process: &serde_json::Value,
        files: &Path,
        timeout: Duration,
    ) -> anyhow::Result<Executed> {
        let [description, log, pid_file, output] =
            ["json", "log", "pid", "out"].map(|extension| files.with_extension(extension));
        fs::write(&description, process.to_string()).context("cannot describe the process")?;
        for file in [&log, &pid_file] {
            fs::write(file, "").with_context(|| format!("cannot create {}", file.display()))?;
        }
        // A file and no pipe: what the process leaves behind in the container may hold a pipe open.
        let written = fs::File::create(&output).context("cannot create the file for its output")?;
        let mut command = self.command(&log);
        command.arg("exec").arg("--process").arg(&description).arg("--pid-file").arg(&pid_file).arg(id);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(written.try_clone().context("cannot share the file for its output")?)
            .stderr(written)
            .spawn()
            .context("cannot start crun")?;
        let is_timed_out = !ends_within(&child, timeout)?;
        if is_timed_out {
            kill_executed(&mut child, &pid_file)?;
        }
        let status = child.wait().context("cannot wait for crun exec")?;
        let text =
            String::from_utf8_lossy(&fs::read(&output).context("cannot read its output")?).into_owned();
        let said = words(&log, "");
        Ok(match status.code() {
            _ if is_timed_out => Executed::TimedOut,
            Some(code) if code == 0 || said.is_empty() => Executed::Ended(Output { code, text }),
            _ => Executed::Failed(if said.is_empty() { status.to_string() } else { said }),
        })
    }

    fn run(&self, log: &Path, words_of_call: &[&str]) -> anyhow::Result<()> {
        let status = self
            .command(log)
            .args(words_of_call)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .context("cannot start crun")?;
        let call = words_of_call.join(" ");
        ensure!(status.success(), "crun {call}: {}", words(log, &status.to_string()));
        Ok(())
    }

    fn command(&self, log: &Path) -> Command {
        let mut command = Command::new("crun");
        command.arg("--root").arg(&self.root).args(["--cgroup-manager=cgroupfs", "--log"]).arg(log);
        command
    }
}

/// Kills the process that crun has executed. crun itself has to live on: it is the process' parent, and a container cannot end
/// as long as one of its dead has not been waited for.
fn kill_executed(child: &mut Child, pid_file: &Path) -> anyhow::Result<()> {
    wait::until("crun exec has a process", PATIENCE, || {
        if child.try_wait().context("cannot look after crun exec")?.is_some() {
            return Ok(Some(()));
        }
        let Some(pid) = pid_in(pid_file)? else { return Ok(None) };
        match kill_process(pid, Signal::KILL) {
            // The process has just ended by itself.
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(Some(())),
            Err(errno) => bail!("cannot kill process {pid}: {errno}"),
        }
    })
}

/// Waits for what crun has left unwaited for: where it cannot execute a program, it ends before its child in the container
/// does. The container could not end before that has been waited for.
pub(super) fn reap_orphans() -> anyhow::Result<()> {
    let tasks = fs::read_dir("/proc/self/task").context("cannot list the threads")?;
    for task in tasks {
        let children = task.context("cannot list the threads")?.path().join("children");
        // A thread may end meanwhile, and so may a child, waited for by whom it belongs to.
        let children = fs::read_to_string(children).unwrap_or_default();
        for child in children.split_whitespace() {
            let status = fs::read_to_string(format!("/proc/{child}/status")).unwrap_or_default();
            let Some(pid) = child.parse().ok().and_then(Pid::from_raw).filter(|_| is_orphan(&status)) else {
                continue;
            };
            match waitpid(Some(pid), WaitOptions::NOHANG) {
                Ok(_) | Err(rustix::io::Errno::CHILD | rustix::io::Errno::INTR) => {}
                Err(errno) => bail!("cannot wait for process {pid}: {errno}"),
            }
        }
    }
    Ok(())
}

/// Whether a child of this process, by its status, is one of crun's: in a PID namespace below, and not its first.
fn is_orphan(status: &str) -> bool {
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
    numbers.split_whitespace().skip(1).last().is_some_and(|last| last != "1")
}

/// The number in a file of crun's, if it has been written.
fn pid_in(file: &Path) -> anyhow::Result<Option<Pid>> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    if text.trim().is_empty() {
        return Ok(None);
    }
    let number = text.trim().parse().ok().and_then(Pid::from_raw);
    Ok(Some(number.with_context(|| format!("{} holds {text:?}", file.display()))?))
}

/// What crun said, or something else where it said nothing.
fn words(log: &Path, otherwise: &str) -> String {
    let said = fs::read(log).unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    if said.trim().is_empty() { otherwise.to_owned() } else { said.trim().to_owned() }
}

/// Whether a child ends before a time is over. It is not waited for.
fn ends_within(child: &Child, limit: Duration) -> anyhow::Result<bool> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("a child without a number")?;
    let process = handle(pid)?;
    ended_within(process.as_fd(), limit)
}

/// A handle of a child.
pub(super) fn handle(pid: Pid) -> anyhow::Result<OwnedFd> {
    pidfd_open(pid, PidfdFlags::empty()).with_context(|| format!("cannot open process {pid}"))
}

/// Whether a process has ended before a time is over.
pub(super) fn ended_within(process: BorrowedFd<'_>, limit: Duration) -> anyhow::Result<bool> {
    let end = Instant::now() + limit;
    loop {
        let rest = end.saturating_duration_since(Instant::now());
        let rest = Timespec::try_from(rest).context("a time beyond all clocks")?;
        match poll(&mut [PollFd::from_borrowed_fd(process, PollFlags::IN)], Some(&rest)) {
            Ok(ready) => return Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => bail!("cannot wait for a process: {errno}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_process_within_a_container_that_is_not_its_first_is_an_orphan() {
        for (numbers, expected) in [("712", false), ("712\t1", false), ("712\t5", true), ("712\t5\t1", false)]
        {
            let status = format!("Name:\tcrun\nPid:\t712\nNSpid:\t{numbers}\nNSpgid:\t712\n");
            assert_eq!(is_orphan(&status), expected, "{numbers:?}");
        }
        assert!(!is_orphan(""));
    }
}

//! A program that runs, and what becomes of it when nobody waits for it any more.
//!
//! Most are killed then, with everything they have started. A package manager in mid-transaction leaves a database and a tree that nobody can
//! use: it goes on to its end, and whoever ends this process waits for it. At its deadline it is asked to end before it is killed.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncRead;
use tokio::net::unix::pipe::Receiver;
use tokio::process::Child;
use tokio::sync::watch;

use crate::Invocation;

/// Programs that change a database of packages or the kernel's module tree.
const TRANSACTIONS: &[&str] =
    &["rpm", "dnf", "yum", "microdnf", "zypper", "dpkg", "apt-get", "dkms", "depmod", "weak-modules"];

/// How long an overdue transaction has to end when it is asked to.
const TO_END: Duration = Duration::from_secs(30);

/// The command lines of the transactions of this process that run, by number.
static RUNNING: LazyLock<watch::Sender<BTreeMap<u64, String>>> = LazyLock::new(watch::Sender::default);
static NEXT: AtomicU64 = AtomicU64::new(0);

/// The transactions that this process has begun, package managers for one, and that have not ended: their command lines.
#[must_use]
pub fn running_transactions() -> Vec<String> {
    RUNNING.borrow().values().cloned().collect()
}

/// Waits until no transaction of this process runs. They end, or are ended at their deadlines.
pub async fn transactions_ended() {
    let mut running = RUNNING.subscribe();
    // The sender is never dropped, so that an error cannot come.
    let _ended = running.wait_for(BTreeMap::is_empty).await;
}

/// A transaction among those that run, for as long as this lives.
#[derive(Debug)]
struct Transaction(u64);

impl Transaction {
    /// Where the program is one of those.
    fn of(invocation: &Invocation) -> Option<Self> {
        let name = Path::new(&invocation.program).file_name().and_then(OsStr::to_str)?;
        if !TRANSACTIONS.contains(&name) {
            return None;
        }
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        RUNNING.send_modify(|running| {
            running.insert(number, invocation.to_string());
        });
        Some(Self(number))
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        RUNNING.send_modify(|running| {
            running.remove(&self.0);
        });
    }
}

/// A program that runs, with what it prints.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    /// Standard output; with `err` missing standard error as well.
    pub(crate) out: Receiver,
    pub(crate) err: Option<Receiver>,
}

impl Running {
    /// Waits for the program itself. What it has started and left, a daemon with its output open, is nobody's to wait for.
    pub(crate) async fn wait(&mut self) -> std::io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// The program, and its outputs, each by itself.
    pub(crate) fn parts(&mut self) -> (&mut Child, &mut Receiver, Option<&mut Receiver>) {
        (&mut self.child, &mut self.out, self.err.as_mut())
    }

    /// Takes what it prints, to no purpose but that it is not stopped by a full pipe, and waits for its end.
    async fn let_run(&mut self) {
        let (child, out, err) = self.parts();
        let printed = async {
            tokio::join!(discard(Some(out)), discard(err));
            std::future::pending::<()>().await;
        };
        tokio::select! {
            ended = child.wait() => {
                if let Err(error) = ended {
                    tracing::warn!(%error, "cannot wait for the end of a program");
                }
            }
            () = printed => {}
        }
    }
}

async fn discard(output: Option<&mut (impl AsyncRead + Unpin)>) {
    let Some(output) = output else { return };
    // Nobody reads it: that it cannot be read is no one's loss.
    let _length = tokio::io::copy(output, &mut tokio::io::sink()).await;
}

/// A program that somebody waits for. When that is no longer so, it is killed with everything it has started, unless it is a transaction.
#[derive(Debug)]
pub(crate) struct Attended {
    running: Option<Running>,
    group: Option<Pid>,
    command: String,
    deadline: Duration,
    transaction: Option<Transaction>,
}

impl Attended {
    /// Of a program that was started in a process group of its own.
    pub(crate) fn new(invocation: &Invocation, child: Child, out: Receiver, err: Option<Receiver>) -> Self {
        let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        Self {
            running: Some(Running { child, out, err }),
            group,
            command: invocation.to_string(),
            deadline: invocation.deadline,
            transaction: Transaction::of(invocation),
        }
    }

    /// `None` once it is over.
    pub(crate) fn running(&mut self) -> Option<&mut Running> {
        self.running.as_mut()
    }

    /// It has ended. Where something that it has started still holds its output, that is read for as long as it is held: whoever printed into a
    /// pipe that nobody reads would be ended by it (SIGPIPE).
    pub(crate) fn has_ended(mut self, output_is_held: bool) {
        let Some(running) = self.running.take() else { return };
        if output_is_held {
            tracing::debug!(
                command = self.command,
                "something that the command started still holds its output"
            );
            [Some(running.out), running.err]
                .into_iter()
                .flatten()
                .for_each(|output| read_on(output, &self.command));
        }
    }

    /// It is overdue: it is ended. A transaction is asked to before.
    pub(crate) async fn end(mut self) {
        if self.transaction.is_some()
            && let Some(running) = self.running.as_mut()
        {
            end_transaction(&self.command, self.group, running).await;
        }
        self.running = None;
        kill(&self.command, self.group, Signal::KILL);
    }
}

/// Asks a transaction that is overdue to end, and waits a while.
async fn end_transaction(command: &str, group: Option<Pid>, running: &mut Running) {
    tracing::warn!(command, "the command is overdue, and asked to end");
    kill(command, group, Signal::TERM);
    if tokio::time::timeout(TO_END, running.let_run()).await.is_err() {
        tracing::warn!(command, "the command has not ended as asked, and is killed");
    }
}

impl Drop for Attended {
    fn drop(&mut self) {
        let Some(mut running) = self.running.take() else { return };
        let Some(transaction) = self.transaction.take() else {
            kill(&self.command, self.group, Signal::KILL);
            return;
        };
        tracing::warn!(
            command = self.command,
            "nobody waits for the command any more, and it goes on to its end"
        );
        let (command, group, deadline) = (std::mem::take(&mut self.command), self.group, self.deadline);
        let go_on = async move {
            if tokio::time::timeout(deadline, running.let_run()).await.is_err() {
                end_transaction(&command, group, &mut running).await;
                kill(&command, group, Signal::KILL);
            }
            drop(transaction);
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(go_on)),
            Err(error) => tracing::warn!(%error, "nobody waits for the command's end"),
        }
    }
}

fn kill(command: &str, group: Option<Pid>, signal: Signal) {
    let Some(group) = group else { return };
    match kill_process_group(group, signal) {
        // All of it has ended.
        Ok(()) | Err(rustix::io::Errno::SRCH) => {}
        Err(error) => {
            tracing::warn!(command, ?signal, %error, "cannot send the command's process group a signal");
        }
    }
}

/// Reads a pipe to its end, in a process of its own, since whoever writes may outlive this one.
fn read_on(output: Receiver, command: &str) {
    let begin = || -> std::io::Result<Child> {
        let output = output.into_nonblocking_fd()?;
        fcntl_setfl(&output, fcntl_getfl(&output)? - OFlags::NONBLOCK)?;
        tokio::process::Command::new("cat")
            .stdin(Stdio::from(output))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
    };
    // Dropped, it goes on, and the runtime takes its end.
    if let Err(error) = begin() {
        tracing::warn!(command, %error, "nobody reads what the command has left running: it ends when it prints");
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::PathBuf;
    use std::time::Instant;

    use super::*;
    use crate::{CommandError, Host};

    /// A package manager with this text, and a file beside it.
    fn package_manager(text: &str) -> (tempfile::TempDir, PathBuf, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let (program, file) = (folder.path().join("rpm"), folder.path().join("finished"));
        fs::write(
            &program,
            format!("#!/bin/sh\n{}\n", text.replace("FINISHED", &file.display().to_string())),
        )
        .unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        (folder, program, file)
    }

    #[tokio::test]
    async fn fault_5_6_a_transaction_that_nobody_waits_for_goes_on_to_its_end() {
        // It prints after it was left: nobody may end it by that.
        let (_folder, program, finished) =
            package_manager("sleep 1; echo one; echo two >&2; sleep 1; echo > FINISHED");
        let (host, invocation) = (Host::running(), Invocation::new(&program));
        let soon = Duration::from_millis(200);
        tokio::time::timeout(soon, host.run(&invocation)).await.unwrap_err();
        tokio::time::timeout(soon, host.run_lines(&invocation, |_| {})).await.unwrap_err();
        let running = running_transactions();
        assert_eq!(running.iter().filter(|line| **line == invocation.to_string()).count(), 2, "{running:?}");
        assert!(!finished.exists());
        transactions_ended().await;
        assert!(finished.exists(), "it was ended in mid-transaction");
    }

    #[tokio::test]
    async fn fault_5_6_a_transaction_that_is_overdue_is_asked_to_end_before_it_is_killed() {
        let (_folder, program, finished) =
            package_manager("trap 'sleep 1; echo > FINISHED; exit 1' TERM; while :; do sleep 0.1; done");
        let late = Invocation::new(&program).deadline(Duration::from_millis(300));
        let error = Host::running().run(&late).await.unwrap_err();
        assert!(matches!(error, CommandError::Deadline { .. }), "{error}");
        assert!(finished.exists(), "it was killed in mid-transaction");
        fs::remove_file(&finished).unwrap();
        Host::running().run_lines(&late, |_| {}).await.unwrap_err();
        assert!(finished.exists(), "it was killed in mid-transaction");
    }

    #[tokio::test]
    async fn what_is_no_transaction_is_killed_with_what_it_has_started() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("survivor");
        let script = format!("(sleep 1; touch {}) & wait", file.display());
        let invocation = Invocation::new("sh").args(["-c", &script]);
        tokio::time::timeout(Duration::from_millis(200), Host::running().run(&invocation)).await.unwrap_err();
        tokio::time::sleep(Duration::from_millis(1300)).await;
        assert!(!file.exists(), "the child outlived whoever waited");
    }

    #[tokio::test]
    async fn fault_5_1_a_daemon_that_prints_after_its_command_has_ended_lives() {
        for merged in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("lives");
            let script =
                format!("(sleep 1; echo late; echo late >&2; echo > {}) & echo begun", file.display());
            let hook = Invocation::new("sh").args(["-c", &script]);
            let mut said = String::new();
            if merged {
                Host::running().run_lines(&hook, |line| said.push_str(line)).await.unwrap();
            } else {
                said = Host::running().run(&hook).await.unwrap().stdout.trim().to_owned();
            }
            assert_eq!(said, "begun", "what it printed before its end is told");
            let since = Instant::now();
            while !file.exists() {
                assert!(since.elapsed() < Duration::from_secs(20), "the daemon died as it printed");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

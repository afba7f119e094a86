//! The first process of a container: it starts the program once more, hands it every signal, and takes what has no parent any more.
//!
//! The kernel gives orphans to the first process, and what nobody waits for stays as a zombie. Doing both in one process would take
//! the ends of the program's own children away from it, so there are two. This one ends as the other has ended.
//!
//! It stays as long as the container, and takes the less of the memory for that it does nothing else: the command line is the other's to
//! read, and to refuse.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, wait};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::run::is_entrypoint;

/// What is handed on.
const HANDED_ON: [SignalKind; 6] = [
    SignalKind::terminate(),
    SignalKind::interrupt(),
    SignalKind::hangup(),
    SignalKind::quit(),
    SignalKind::user_defined1(),
    SignalKind::user_defined2(),
];

/// Whether this process is the first one, and of a container that stays. Of a word that merely looks like the command nothing depends.
pub(super) fn is_this(command_line: &[OsString]) -> bool {
    let is_container = |(at, word): (usize, &OsString)| match at {
        0 => is_entrypoint(word),
        _ => word == "run",
    };
    std::process::id() == 1 && command_line.iter().enumerate().any(is_container)
}

/// Runs the program once more with the same arguments, and returns its exit code.
pub(super) fn supervise() -> io::Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // Listened to before there is a child that could end.
        let mut ended = signal(SignalKind::child())?;
        let (sender, mut signals) = mpsc::unbounded_channel();
        for kind in HANDED_ON {
            let (mut listener, sender) = (signal(kind)?, sender.clone());
            tokio::spawn(async move {
                while listener.recv().await.is_some() {
                    if sender.send(kind).is_err() {
                        return;
                    }
                }
            });
        }
        let child = start()?;
        let program = Pid::from_child(&child);
        loop {
            tokio::select! {
                _ = ended.recv() => {
                    if let Some(code) = reap(program)? {
                        return Ok(code);
                    }
                }
                Some(kind) = signals.recv() => hand_on(program, kind),
            }
        }
    })
}

fn start() -> io::Result<Child> {
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_else(|| OsString::from("nic-driver"));
    Command::new("/proc/self/exe").arg0(name).args(arguments).spawn()
}

fn hand_on(program: Pid, kind: SignalKind) {
    let Some(signal) = Signal::from_named_raw(kind.as_raw_value()) else { return };
    if let Err(error) = kill_process(program, signal) {
        tracing::debug!(%error, ?signal, "the signal could not be handed on");
    }
}

/// Takes all that have ended; the exit code, once the program is among them.
fn reap(program: Pid) -> io::Result<Option<u8>> {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid == program => return Ok(Some(code_of(status))),
            // An orphan.
            Ok(Some(_)) => {}
            Ok(None) => return Ok(None),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// As a shell reports it.
fn code_of(status: WaitStatus) -> u8 {
    let code = status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}

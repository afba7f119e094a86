//! SIGTERM and SIGINT: the first asks the phase to stop, the second is obeyed at once. SIGHUP is the first of them before the
//! first change, and no reason for anything after it.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;

use crate::{InstanceLock, StopRequest};

/// Signals are listened to while this lives.
#[derive(Debug)]
pub(super) struct Listening {
    task: JoinHandle<()>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Begins to listen. A PID 1 needs it also to be ended by a signal at all.
pub(super) fn listen(stop: StopRequest, lock: InstanceLock) -> io::Result<Listening> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let task = tokio::spawn(async move {
        loop {
            let kind = next(&mut terminate, &mut interrupt, &mut hangup).await;
            if kind == SignalKind::hangup() {
                if stop.hang_up() {
                    tracing::warn!("SIGHUP before the first change: stopping");
                } else {
                    tracing::warn!("SIGHUP after the first change: ignored, what was begun is finished");
                }
                continue;
            }
            if !stop.request() {
                tracing::error!(
                    signal = kind.as_raw_value(),
                    "the second signal: ending at once; the state is on disk"
                );
                for command in nic_host::running_transactions() {
                    tracing::error!(
                        command,
                        "the command is in mid-transaction, and goes on without this process; as the first process of a container its end is \
                         that of all others"
                    );
                }
                // A thread that hangs in the kernel outlives this process's end, and with it its open files.
                if let Err(error) = lock.release() {
                    tracing::warn!(%error, "the lock stays until the last thread has ended");
                }
                // As the shell reports a process that a signal has ended. Nothing is waited for, in particular no
                // thread that hangs in the kernel.
                std::process::exit(128 + kind.as_raw_value());
            }
            tracing::warn!(
                signal = kind.as_raw_value(),
                "asked to stop: what must not be left half done is finished first; a second signal ends it at once"
            );
        }
    });
    Ok(Listening { task })
}

async fn next(terminate: &mut Signal, interrupt: &mut Signal, hangup: &mut Signal) -> SignalKind {
    tokio::select! {
        _ = hangup.recv() => SignalKind::hangup(),
        _ = terminate.recv() => SignalKind::terminate(),
        _ = interrupt.recv() => SignalKind::interrupt(),
    }
}

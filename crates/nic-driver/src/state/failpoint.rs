//! Dying on purpose, at a chosen line of the journal. Only in debug builds; in a release build nothing is left of it.
//!
//! `NIC_DRIVER_KILL_AT_LINE=N` ends this process with SIGKILL when the N-th journal line that it writes is durable:
//! nothing is cleaned up, as after an out-of-memory kill. Journal lines stand before and after every step, so that
//! N = 1, 2, 3… goes through all moments a crash can fall into.

/// The variable that says at which line. A release build does not look at it.
pub const KILL_AT_LINE: &str = "NIC_DRIVER_KILL_AT_LINE";

#[cfg(debug_assertions)]
mod armed {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::KILL_AT_LINE as VARIABLE;

    static KILL_AT: LazyLock<Option<usize>> = LazyLock::new(|| {
        let text = std::env::var(VARIABLE).ok().filter(|text| !text.is_empty())?;
        let line = text.parse().ok().filter(|line| *line > 0);
        if line.is_none() {
            tracing::error!(
                VARIABLE,
                text,
                "the variable names no line of the journal: this process is not going to kill itself"
            );
        }
        line
    });

    static WRITTEN: AtomicUsize = AtomicUsize::new(0);

    pub(super) fn count() {
        let written = WRITTEN.fetch_add(1, Ordering::SeqCst) + 1;
        if *KILL_AT == Some(written) {
            let killed =
                rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
            tracing::error!(?killed, "this process is still here after SIGKILL");
        }
    }
}

/// To be called when a journal line is durable.
pub(super) fn line_is_durable() {
    #[cfg(debug_assertions)]
    armed::count();
    #[cfg(test)]
    model::count();
}

#[cfg(test)]
pub(crate) use model::kill_after_lines;

/// The same in the tests' model of a node, where a process is a call in the test's thread.
#[cfg(test)]
mod model {
    use std::cell::Cell;

    /// How many lines are left, and how the process ends then.
    type Kill = (usize, fn());

    thread_local! {
        static AT: Cell<Option<Kill>> = const { Cell::new(None) };
    }

    /// From now on `kill` is called in this thread when so many lines are durable; never without a number.
    pub(crate) fn kill_after_lines(lines: Option<usize>, kill: fn()) {
        AT.set(lines.map(|lines| (lines, kill)));
    }

    pub(super) fn count() {
        let Some((left, kill)) = AT.take() else { return };
        if left <= 1 { kill() } else { AT.set(Some((left - 1, kill))) }
    }
}

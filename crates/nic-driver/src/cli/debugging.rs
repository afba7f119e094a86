//! A driver container that is looked into by a person: a second place for the log, all of it, and a pause before a failed end, in which a
//! shell can be had in it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nic_host::open_own;

use super::modules::parse_bool;
use crate::stop::time_left;
use crate::{Exit, StopRequest};

/// Debugging.
#[derive(Debug, Clone, clap::Args)]
pub struct DebuggingArguments {
    /// Log everything, also into a file, and pause before a failed end.
    #[arg(long, global = true, env = "ENTRYPOINT_DEBUG", default_value_t = false, value_parser = parse_bool, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub debug: bool,
    /// The second place of the log, with --debug.
    #[arg(
        long,
        value_name = "FILE",
        global = true,
        env = "DEBUG_LOG_FILE",
        default_value = "/tmp/entrypoint_debug_cmds.log"
    )]
    pub debug_log: PathBuf,
    /// How long the pause is, with --debug, in seconds. A signal ends it, and so does the grace period after one.
    #[arg(
        long,
        value_name = "SECONDS",
        global = true,
        env = "DEBUG_SLEEP_SEC_ON_EXIT",
        default_value_t = 300
    )]
    pub debug_pause: u64,
}

/// What is logged when nobody says otherwise.
pub(super) const DEFAULT_FILTER: &str = "info";
/// The same when a person looks.
const FILTER: &str = "debug";

impl DebuggingArguments {
    /// The filter of the log, where `given` is the one of the command line.
    pub(super) fn filter<'text>(&self, given: &'text str) -> &'text str {
        // Only what somebody has chosen is left as it is.
        if self.debug && given == DEFAULT_FILTER { FILTER } else { given }
    }

    /// The second place of the log, appended to: a container that is started again goes on with it.
    ///
    /// # Errors
    /// Among others, that something else than a log is there.
    pub(super) fn log_file(&self) -> io::Result<Option<File>> {
        self.debug.then(|| open_log(&self.debug_log)).transpose()
    }

    /// Pauses before a failed end. The NICs are restored by now, readiness is off, and the lock is free.
    pub(super) async fn pause(&self, exit: Exit, stop: &StopRequest, grace: Option<Duration>) {
        if !self.debug || exit == Exit::Success {
            return;
        }
        let asked_for = Duration::from_secs(self.debug_pause);
        let pause = match stop.since() {
            Some(since) => time_left(grace, since.elapsed()).map_or(asked_for, |left| left.min(asked_for)),
            None => asked_for,
        };
        tracing::warn!(
            seconds = pause.as_secs(),
            "the container has failed, and pauses for a person to look; a signal ends the pause"
        );
        let told = stop.since().is_some();
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            // One that has been told already ends at once when it is told again.
            () = stop.requested(), if !told => {}
        }
    }
}

/// Opens a log to be gone on with: nothing is written into what is no log.
fn open_log(path: &Path) -> io::Result<File> {
    let mut file = open_own(path, OpenOptions::new().read(true).append(true).create(true))?;
    let mut beginning = [0; 32];
    let read = file.read(&mut beginning)?;
    if is_log(beginning.get(..read).unwrap_or_default()) {
        return Ok(file);
    }
    Err(io::Error::other("what is there is no log of a driver container: it is not written to"))
}

/// Whether a file begins as one of this program's logs, in text (with a terminal's colours, or without) or JSON, or as the one of the driver
/// container that this program replaces, whose name it has: `[09-May-25_…` or a line of the shell's trace.
fn is_log(beginning: &[u8]) -> bool {
    const COLOUR: &[u8] = b"\x1b[2m";
    let text = beginning.strip_prefix(COLOUR).unwrap_or(beginning);
    match text {
        [] => true,
        [b'[', date @ ..] => matches!(date, [a, b, b'-', ..] if a.is_ascii_digit() && b.is_ascii_digit()),
        [a, b, c, d, b'-', ..] if [a, b, c, d].iter().all(|digit| digit.is_ascii_digit()) => true,
        text => text.starts_with(b"{\"timestamp\":") || text.starts_with(b"+ ") || text.starts_with(b"++"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;

    use super::*;

    #[test]
    fn trial_w8_only_a_log_is_gone_on_with() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        for beginning in [
            "",
            "2026-11-28T07:00:00.000000Z  INFO nic_driver: ready\n",
            "\x1b[2m2026-11-28T07:00:00.000000Z\x1b[0m",
            "{\"timestamp\":\"2026-11-28T07:00:00.000000Z\",\"level\":\"INFO\"}\n",
            "[09-May-25_18:13:48] NVIDIA driver container exec start\n",
            "+ true\n",
        ] {
            fs::write(&log, beginning).unwrap();
            open_log(&log).unwrap().write_all(b"more\n").unwrap();
            assert_eq!(fs::read_to_string(&log).unwrap(), format!("{beginning}more\n"));
        }
        for theirs in ["root:x:0:0:root:/root:/bin/sh\n", "[Unit]\n", "{\"a\":1}", "# mine\n", "\u{7f}ELF"] {
            fs::write(&log, theirs).unwrap();
            open_log(&log).unwrap_err();
            assert_eq!(fs::read_to_string(&log).unwrap(), theirs);
        }
        std::os::unix::fs::symlink(&log, folder.path().join("link")).unwrap();
        fs::write(&log, "").unwrap();
        open_log(&folder.path().join("link")).unwrap_err();
        open_log(&folder.path().join("new")).unwrap();
    }
}

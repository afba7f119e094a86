//! A driver container that is looked into by a person: a second place for the log, all of it, and a pause before a failed end, in which a
//! shell can be had in it.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

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
    pub(super) fn log_file(&self) -> io::Result<Option<File>> {
        let open = |path| OpenOptions::new().append(true).create(true).open(path);
        self.debug.then(|| open(&self.debug_log)).transpose()
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

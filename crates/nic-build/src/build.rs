//! Running a build, with its output followed and kept.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nic_host::{CommandError, Host};

use crate::build_log::{BuildLog, LOG_LIMIT};
use crate::command::PlannedCommand;
use crate::progress::{Follower, Progress};

/// How much of a log that a build names is told with its error.
const NAMED_LOG_LINES: usize = 20;
/// How much of its end is read for that.
const NAMED_LOG_BYTES: u64 = 64 * 1024;

/// A build that ended well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// How long it took.
    pub took: Duration,
    /// Its output.
    pub log: PathBuf,
}

/// A build failed.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// It could not be started, or did not end in time.
    #[error("cannot {purpose}; its output is in {}, and ends:\n{last_lines}", log.display())]
    Command {
        /// What it was for.
        purpose: String,
        /// Where its output is.
        log: PathBuf,
        /// The end of its output.
        last_lines: String,
        /// How it failed.
        #[source]
        source: CommandError,
    },
    /// It said that it failed.
    #[error(
        "cannot {purpose}: `{command}` failed ({}); its output is in {}, and ends:\n{last_lines}{}",
        code.map_or("by a signal".to_owned(), |code| format!("exit code {code}")),
        log.display(),
        named_log.as_ref().map(|named| format!("\n{named}")).unwrap_or_default()
    )]
    Failed {
        /// What it was for.
        purpose: String,
        /// The command line.
        command: String,
        /// Its exit code; `None` when a signal ended it.
        code: Option<i32>,
        /// Where its output is.
        log: PathBuf,
        /// The end of its output.
        last_lines: String,
        /// The end of the log that its output names.
        named_log: Option<NamedLog>,
    },
}

/// The end of a log that a build wrote itself and named in its output: the compiler's words are there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} ends:\n{end}", path.display())]
pub struct NamedLog {
    /// Where it is.
    pub path: PathBuf,
    /// Its last lines.
    pub end: String,
}

/// Runs a build, tells how far it is with each line it prints, and keeps its output at `log`, a path of the host.
///
/// Dropping the future gives it up: it is killed with everything it has started. Its deadline is the command's.
///
/// # Errors
/// It could not be started, was overdue, or failed; with the end of its output.
pub async fn build(
    host: &Host,
    command: &PlannedCommand,
    log: &Path,
    mut on_progress: impl FnMut(&Progress),
) -> Result<Built, BuildError> {
    let started = Instant::now();
    tracing::info!(command = %command, log = %log.display(), "{}", command.purpose);
    let mut kept = BuildLog::create(host.path(log), LOG_LIMIT);
    let mut follower = Follower::default();
    let mut named = None;
    let ended = host
        .run_lines(&command.invocation(), |line| {
            kept.add(line);
            named = named_log(line).or(named.take());
            on_progress(&follower.follow(line, started.elapsed()));
        })
        .await;
    let (purpose, last_lines, log) = (command.purpose.clone(), kept.last_lines(), kept.path().to_path_buf());
    match ended {
        Ok(end) if end.is_success() => Ok(Built { took: started.elapsed(), log }),
        Ok(end) => Err(BuildError::Failed {
            purpose,
            command: command.to_string(),
            code: end.code,
            log,
            last_lines,
            named_log: named.and_then(|path| read_end(host, path, command)),
        }),
        Err(source) => Err(BuildError::Command { purpose, log, last_lines, source }),
    }
}

/// The log that a line sends its reader to: `See /tmp/….log`.
fn named_log(line: &str) -> Option<PathBuf> {
    let (_, behind) = line.split_once("See ").or_else(|| line.split_once("see "))?;
    let word = behind.split_whitespace().find(|word| word.starts_with('/'))?;
    let path = Path::new(word.trim_end_matches(['.', ',', ')', '"', '\'']));
    let is_plain = !path.components().any(|part| part == std::path::Component::ParentDir);
    (is_plain && path.extension().is_some_and(|extension| extension == "log")).then(|| path.to_path_buf())
}

fn read_end(host: &Host, path: PathBuf, command: &PlannedCommand) -> Option<NamedLog> {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let read = || -> std::io::Result<Vec<u8>> {
        // Opening a FIFO would wait for a writer.
        let metadata = std::fs::metadata(host.path(&path))?;
        if !metadata.is_file() {
            return Err(std::io::Error::other("it is no regular file"));
        }
        let mut file = std::fs::File::open(host.path(&path))?;
        file.seek(SeekFrom::Start(metadata.len().saturating_sub(NAMED_LOG_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(NAMED_LOG_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    match read() {
        Ok(bytes) => {
            let text = host.hide_secrets(&command.invocation(), &String::from_utf8_lossy(&bytes));
            let lines: Vec<&str> = text.trim_end().lines().collect();
            let end = lines.iter().skip(lines.len().saturating_sub(NAMED_LOG_LINES)).copied();
            Some(NamedLog { path, end: end.collect::<Vec<_>>().join("\n") })
        }
        Err(error) => {
            tracing::info!(%error, log = %path.display(), "the log that the build names cannot be read");
            None
        }
    }
}

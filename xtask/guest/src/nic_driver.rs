//! Running the program under test.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead as _, BufReader, Read};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::command::run;
use crate::say;

/// Where the host puts the binary.
pub(crate) const BINARY: &str = "/usr/bin/nic-driver";
/// No call may take longer. The longest wait of the program's own, for 50 VFs, is below it.
const PATIENCE: Duration = Duration::from_secs(240);
/// The default state directory.
pub(crate) const STATE: &str = "/run/mellanox/drivers/.nic-driver";

/// One call of `nic-driver --family igb …`, each in its own process.
#[derive(Debug)]
pub(crate) struct NicDriver {
    arguments: Vec<OsString>,
    uid: Option<u32>,
    environment: Vec<(&'static str, String)>,
    killed_after: Option<Duration>,
    /// Whether its standard output is shown, too.
    shown: bool,
}

/// What a call did, seen from outside.
#[derive(Debug)]
pub(crate) struct Outcome {
    line: String,
    /// The exit code; `None` when a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) time: Duration,
}

impl NicDriver {
    /// A call with the family `igb`.
    pub(crate) fn new<A: Into<OsString>>(arguments: impl IntoIterator<Item = A>) -> Self {
        let mut all: Vec<OsString> = vec!["--family".into(), "igb".into()];
        all.extend(arguments.into_iter().map(Into::into));
        Self::bare(all)
    }

    /// A call with nothing but these arguments.
    pub(crate) fn bare<A: Into<OsString>>(arguments: impl IntoIterator<Item = A>) -> Self {
        Self {
            arguments: arguments.into_iter().map(Into::into).collect(),
            uid: None,
            environment: Vec::new(),
            killed_after: None,
            shown: true,
        }
    }

    /// Installs the packages of a folder.
    pub(crate) fn install(packages: &Path) -> Self {
        Self::new(["install".as_ref(), "--packages".as_ref(), packages.as_os_str()])
    }

    /// Runs it as another user.
    pub(crate) fn with_uid(mut self, uid: u32) -> Self {
        self.uid = Some(uid);
        self
    }

    /// Sets a variable in its environment.
    pub(crate) fn with_env(mut self, name: &'static str, value: String) -> Self {
        self.environment.push((name, value));
        self
    }

    /// Kills it (SIGKILL) if it still runs after this time.
    pub(crate) fn killed_after(mut self, time: Duration) -> Self {
        self.killed_after = Some(time);
        self
    }

    /// Does not show its standard output, because the scenario does something else with it.
    pub(crate) fn quietly(mut self) -> Self {
        self.shown = false;
        self
    }

    /// Runs it to its end and shows what it writes while it does.
    pub(crate) fn run(self) -> anyhow::Result<Outcome> {
        let words: Vec<_> = self.arguments.iter().map(|argument| argument.to_string_lossy()).collect();
        let variables = self.environment.iter().map(|(name, value)| format!("{name}={value} "));
        let line = format!("{}nic-driver {}", variables.collect::<String>(), words.join(" "));
        say(&format!("$ {line}"));
        let start = Instant::now();
        let mut command = Command::new(BINARY);
        command.args(&self.arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(uid) = self.uid {
            command.uid(uid).gid(uid);
        }
        let mut child = command.spawn().with_context(|| format!("cannot start {BINARY}"))?;
        let stdout = child.stdout.take().context("no pipe for standard output")?;
        let stderr = child.stderr.take().context("no pipe for standard error")?;
        let (ended, end) = mpsc::channel();
        let process = child.id();
        let killed_after = self.killed_after;
        let watch = thread::spawn(move || watch(process, &end, killed_after));
        let stderr = thread::spawn(move || relay(stderr, true));
        let stdout = relay(stdout, self.shown)?;
        let stderr = stderr.join().unwrap_or_else(|_| bail!("the reader of standard error panicked"))?;
        let status = child.wait().with_context(|| format!("cannot wait for `{line}`"))?;
        let time = start.elapsed();
        drop(ended);
        watch.join().unwrap_or_else(|_| bail!("the watch panicked")).with_context(|| format!("`{line}`"))?;
        say(&format!("  {status}, {:.2} s", time.as_secs_f64()));
        Ok(Outcome { line, code: status.code(), stdout, stderr, time })
    }
}

impl Outcome {
    /// An error unless it ended with this exit code.
    pub(crate) fn expect_code(self, expected: i32) -> anyhow::Result<Self> {
        if self.code == Some(expected) {
            return Ok(self);
        }
        bail!(
            "`{}` ended with {}, not {expected}: {}",
            self.line,
            self.code.map_or_else(|| "a signal".to_owned(), |code| code.to_string()),
            self.last_words()
        )
    }

    /// What it said last: its own error, or else the end of what it wrote.
    pub(crate) fn last_words(&self) -> String {
        let from = if self.stderr.trim().is_empty() { &self.stdout } else { &self.stderr };
        if let Some(error) = from.lines().rev().find_map(|line| line.strip_prefix("nic-driver: ")) {
            return error.to_owned();
        }
        let lines: Vec<_> = from.lines().rev().filter(|line| !line.trim().is_empty()).take(3).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
    }

    /// Whether a signal ended it.
    pub(crate) fn was_killed(&self) -> bool {
        self.code.is_none()
    }

    /// Whether it said one of `words`, in any case, on either stream.
    pub(crate) fn says_any(&self, words: &[&str]) -> bool {
        let text = format!("{}\n{}", self.stdout, self.stderr).to_lowercase();
        words.iter().any(|word| text.contains(word))
    }
}

/// Ends a process when it is meant to be killed, or when it hangs; then it says what it and the kernel were about.
fn watch(process: u32, end: &Receiver<()>, killed_after: Option<Duration>) -> anyhow::Result<()> {
    if let Some(time) = killed_after {
        if !matches!(end.recv_timeout(time), Err(RecvTimeoutError::Timeout)) {
            return Ok(());
        }
        // It may have ended by itself just now. It is not waited for yet, so that the number is still its own.
        return run("kill", ["-KILL", &process.to_string()]).map(drop);
    }
    if !matches!(end.recv_timeout(PATIENCE), Err(RecvTimeoutError::Timeout)) {
        return Ok(());
    }
    for task in fs::read_dir(format!("/proc/{process}/task")).context("cannot list its threads")? {
        let task = task.context("cannot list its threads")?.path();
        for file in ["comm", "syscall", "stack"] {
            // A thread may end meanwhile.
            say(&fs::read_to_string(task.join(file)).unwrap_or_default());
        }
    }
    run("kill", ["-KILL", &process.to_string()])?;
    bail!("hung, and was ended after {} s", PATIENCE.as_secs())
}

fn relay(stream: impl Read, shown: bool) -> anyhow::Result<String> {
    let mut text = String::new();
    for line in BufReader::new(stream).lines() {
        let line = line.context("cannot read what the program writes")?;
        if shown {
            say(&format!("  | {line}"));
        }
        text.push_str(&line);
        text.push('\n');
    }
    Ok(text)
}

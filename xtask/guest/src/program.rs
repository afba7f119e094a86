//! Running the program under test.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead as _, BufReader, Read};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use nic_driver::Exit;
use nic_driver::default_paths::STATE_DIR;
use nic_driver::state::StateStore;
use rustix::process::Signal;

use crate::command::run;
use crate::{read, say, wait};

/// Where the host puts the binary.
pub(crate) const BINARY: &str = "/usr/bin/nic-driver";
/// No call may take longer. The longest wait of the program's own, for 50 VFs, is below it.
const PATIENCE: Duration = Duration::from_secs(600);
/// What `--family` is where a scenario says nothing else.
pub(crate) const FAMILY: &str = "igb";

/// What is stored of a family, in the default state directory.
pub(crate) fn store(family: &str) -> StateStore {
    StateStore::new(STATE_DIR).of_family(family)
}

/// The stored snapshot of a family, in the default state directory.
pub(crate) fn snapshot_of(family: &str) -> PathBuf {
    store(family).snapshot_path()
}

/// One call of `nic-driver --family igb …`, each in its own process.
#[derive(Debug)]
pub(crate) struct NicDriver {
    arguments: Vec<OsString>,
    uid: Option<u32>,
    environment: Vec<(&'static str, String)>,
    killed_after: Option<Duration>,
    /// Whether its standard output is shown, too.
    shown: bool,
    /// Whether it is the first process of a namespace.
    is_pid_1: bool,
    /// A program that executes it, with what comes before its own words.
    executed_by: Vec<String>,
}

/// What makes a program the first process of a namespace, as a container's is. `unshare` waits for it outside, and takes it along.
const AS_PID_1: [&str; 5] = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"];

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
    /// A call with the family [`FAMILY`].
    pub(crate) fn new<A: Into<OsString>>(arguments: impl IntoIterator<Item = A>) -> Self {
        let mut all: Vec<OsString> = vec!["--family".into(), FAMILY.into()];
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
            is_pid_1: false,
            executed_by: Vec::new(),
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

    /// Runs it as the first process of a namespace.
    pub(crate) fn being_pid_1(mut self) -> Self {
        self.is_pid_1 = true;
        self
    }

    /// Has it executed by another program, in the namespace of its own where it has one.
    pub(crate) fn executed_by<W: Into<String>>(mut self, words: impl IntoIterator<Item = W>) -> Self {
        self.executed_by = words.into_iter().map(Into::into).collect();
        self
    }

    /// Does not show its standard output, because the scenario does something else with it.
    pub(crate) fn quietly(mut self) -> Self {
        self.shown = false;
        self
    }

    /// Runs it to its end and shows what it writes while it does.
    pub(crate) fn run(self) -> anyhow::Result<Outcome> {
        self.start()?.wait()
    }

    /// Starts it, in a process group of its own, and shows what it writes.
    pub(crate) fn start(self) -> anyhow::Result<Running> {
        let words: Vec<_> = self.arguments.iter().map(|argument| argument.to_string_lossy()).collect();
        let variables = self.environment.iter().map(|(name, value)| format!("{name}={value} "));
        let by: String = self.executed_by.iter().map(|word| format!("{word} ")).collect();
        let line = format!("{}{by}nic-driver {}", variables.collect::<String>(), words.join(" "));
        say(&format!("$ {line}"));
        let start = Instant::now();
        let before: &[&str] = if self.is_pid_1 { &AS_PID_1 } else { &[] };
        let by = self.executed_by.iter().map(String::as_str);
        let mut words = before.iter().copied().chain(by).chain([BINARY]);
        let mut command = Command::new(words.next().unwrap_or(BINARY));
        command.args(words);
        command.args(&self.arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.envs(self.environment.iter().map(|(name, value)| (name, value))).process_group(0);
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
        let said = Arc::default();
        let so_far = Arc::clone(&said);
        let stderr = thread::spawn(move || relay(stderr, true, &so_far));
        let told = Arc::default();
        let so_far = Arc::clone(&told);
        let stdout = thread::spawn(move || relay(stdout, self.shown, &so_far));
        Ok(Running { line, start, child, stdout, stderr, said, told, ended, watch })
    }
}

/// A call that has not been waited for.
#[derive(Debug)]
pub(crate) struct Running {
    line: String,
    start: Instant,
    child: Child,
    stdout: JoinHandle<anyhow::Result<String>>,
    stderr: JoinHandle<anyhow::Result<String>>,
    /// What it has said so far on standard error.
    said: Arc<Mutex<String>>,
    /// What it has told so far on standard output.
    told: Arc<Mutex<String>>,
    /// Dropped when it has ended, which ends the watch.
    ended: Sender<()>,
    watch: JoinHandle<anyhow::Result<()>>,
}

impl Running {
    /// The process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal, by name. It is not waited for yet, so that the number is still its own.
    pub(crate) fn signal(&self, name: &str) -> anyhow::Result<()> {
        say(&format!("  SIG{name}, after {:.2} s", self.start.elapsed().as_secs_f64()));
        run("kill", [format!("-{name}"), self.id().to_string()]).map(drop)
    }

    /// The first process of its namespace, as this machine numbers it.
    pub(crate) fn pid_1(&self) -> anyhow::Result<u32> {
        let children = format!("/proc/{0}/task/{0}/children", self.id());
        let text = read(&children)?;
        let first = text.split_whitespace().next().with_context(|| format!("{children} is empty"))?;
        first.parse().with_context(|| format!("{children} holds {text:?}"))
    }

    /// Sends the first process of its namespace a signal, by name.
    pub(crate) fn signal_pid_1(&self, name: &str) -> anyhow::Result<()> {
        say(&format!("  SIG{name} to PID 1, after {:.2} s", self.start.elapsed().as_secs_f64()));
        run("kill", [format!("-{name}"), self.pid_1()?.to_string()]).map(drop)
    }

    /// What it has said so far on standard error.
    pub(crate) fn said(&self) -> String {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until it has said this on standard error.
    pub(crate) fn wait_until_it_says(&self, words: &str) -> anyhow::Result<()> {
        wait_for_words(&self.said, words)
    }

    /// Waits until it has told this on standard output. Returns how long that took from its start on.
    pub(crate) fn wait_until_it_tells(&self, words: &str) -> anyhow::Result<Duration> {
        wait_for_words(&self.told, words)?;
        Ok(self.start.elapsed())
    }

    /// Waits until it has ended.
    pub(crate) fn wait(mut self) -> anyhow::Result<Outcome> {
        let stdout =
            self.stdout.join().unwrap_or_else(|_| bail!("the reader of standard output panicked"))?;
        let stderr = self.stderr.join().unwrap_or_else(|_| bail!("the reader of standard error panicked"))?;
        let line = self.line;
        let status = self.child.wait().with_context(|| format!("cannot wait for `{line}`"))?;
        let time = self.start.elapsed();
        drop(self.ended);
        let watch = self.watch.join().unwrap_or_else(|_| bail!("the watch panicked"));
        watch.with_context(|| format!("`{line}`"))?;
        say(&format!("  {status}, {:.2} s", time.as_secs_f64()));
        Ok(Outcome { line, code: status.code(), stdout, stderr, time })
    }
}

impl Outcome {
    /// An error unless it ended so.
    pub(crate) fn expect(self, expected: Exit) -> anyhow::Result<Self> {
        if self.is(expected) {
            return Ok(self);
        }
        let (is, line, words) = (self.ended_with(), &self.line, self.last_words());
        bail!("`{line}` ended with {is}, not {expected:?} ({}): {words}", expected as u8)
    }

    /// An error unless it ended at once because it was told a second time by this signal: then it says so as a shell does.
    pub(crate) fn expect_ended_by(self, signal: Signal) -> anyhow::Result<Self> {
        let expected = 128 + signal.as_raw();
        if self.code == Some(expected) {
            return Ok(self);
        }
        let (is, line, words) = (self.ended_with(), &self.line, self.last_words());
        bail!("`{line}` ended with {is}, not {expected}: {words}")
    }

    /// Whether it ended so.
    pub(crate) fn is(&self, exit: Exit) -> bool {
        self.code == Some(i32::from(exit as u8))
    }

    /// Its exit code, with the name that it has.
    pub(crate) fn ended_with(&self) -> String {
        let Some(code) = self.code else { return "a signal".to_owned() };
        let name = Exit::ALL.into_iter().find(|exit| self.is(*exit));
        name.map_or_else(|| code.to_string(), |name| format!("{name:?} ({code})"))
    }

    /// An error unless it said all of this, on either stream.
    pub(crate) fn expect_words(&self, words: &[&str]) -> anyhow::Result<()> {
        for word in words {
            let said = self.stdout.contains(word) || self.stderr.contains(word);
            ensure!(said, "`{}` does not say {word:?}: {}", self.line, self.last_words());
        }
        Ok(())
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

fn wait_for_words(so_far: &Mutex<String>, words: &str) -> anyhow::Result<()> {
    wait::until(&format!("it says {words:?}"), Duration::from_secs(20), || {
        Ok(so_far.lock().unwrap_or_else(PoisonError::into_inner).contains(words).then_some(()))
    })
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

fn relay(stream: impl Read, shown: bool, so_far: &Mutex<String>) -> anyhow::Result<String> {
    for line in BufReader::new(stream).lines() {
        let line = line.context("cannot read what the program writes")?;
        if shown {
            say(&format!("  | {line}"));
        }
        let mut so_far = so_far.lock().unwrap_or_else(PoisonError::into_inner);
        so_far.push_str(&line);
        so_far.push('\n');
    }
    Ok(so_far.lock().unwrap_or_else(PoisonError::into_inner).clone())
}

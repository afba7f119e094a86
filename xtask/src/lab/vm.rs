//! Running one guest to its end and judging what it said.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use lab_guest::lines::{ALIVE, PROGRESS, REPORT, VERDICT, Verdict};

use super::monitor::Examination;
use super::process;

/// How long a guest may take until its PID 1 speaks.
const BOOT: Duration = Duration::from_secs(150);
/// How long a guest may take from its verdict to power-off.
const FAREWELL: Duration = Duration::from_secs(60);

/// How long a processor of a guest that has shown signs of life, one every few seconds, may show none.
const STILL: Duration = Duration::from_secs(90);

/// What a run came to.
#[derive(Debug)]
pub(crate) struct Judgement {
    /// `None` when the scenario passed.
    pub(crate) failure: Option<Failure>,
    /// What was found out about a processor that stood still.
    pub(crate) stall: Option<String>,
    /// From the start of the machine to its end.
    pub(crate) time: Duration,
}

/// Why a run shows that something is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The machine itself: the emulator broke down, the guest never got as far as PID 1, or one of its processors stood
    /// still. It says nothing of what the scenario is about.
    Machine(String),
    /// What the scenario saw, or that it came to no end.
    Scenario(String),
}

/// A line that a guest means for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Said<'a> {
    Progress(&'a str),
    Report(&'a str),
}

/// Evidence gathered from the console.
#[derive(Debug, Default)]
struct Console {
    /// Whether PID 1 has said anything; a sign of life counts.
    speaks: bool,
    /// When each processor last showed a sign of life.
    alive: BTreeMap<String, Instant>,
    verdicts: Vec<Verdict>,
    kernel: Vec<String>,
}

/// Runs `command`, which is a guest with the scenario `name`, with its console in the file `log`.
///
/// No verdict, more than one, a kernel that panicked or complained, and a run longer than `limit` are failures.
pub(crate) fn run(
    command: Command,
    name: &str,
    limit: Duration,
    log: &Path,
    examine: impl FnOnce() -> anyhow::Result<Examination>,
    listener: impl FnMut(Said<'_>),
) -> anyhow::Result<Judgement> {
    run_with(command, name, limit, STILL, log, examine, listener)
}

fn run_with(
    mut command: Command,
    name: &str,
    limit: Duration,
    still: Duration,
    log: &Path,
    examine: impl FnOnce() -> anyhow::Result<Examination>,
    mut listener: impl FnMut(Said<'_>),
) -> anyhow::Result<Judgement> {
    let mut file = fs::File::create(log).with_context(|| format!("cannot create {}", log.display()))?;
    writeln!(file, "# {}", process::line(&command)).context("cannot write the log")?;
    let errors = file.try_clone().context("cannot share the log")?;
    let start = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(errors)
        .spawn()
        .with_context(|| format!("cannot start `{}`", process::line(&command)))?;
    let lines = read_lines(&mut child)?;

    let mut console = Console::default();
    let mut deadline = start + limit.min(BOOT);
    let mut timed_out = false;
    let (mut stall, mut silence) = (None, None);
    loop {
        let until = console.stands_still_at(still).map_or(deadline, |at| at.min(deadline));
        match lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(line) if line.contains(ALIVE) => {
                // The first one comes behind what the firmware has left on its line.
                let processor = line.split_once(ALIVE).map_or("", |(_, processor)| processor);
                console.alive.insert(processor.to_owned(), Instant::now());
                if !console.speaks {
                    console.speaks = true;
                    deadline = start + limit;
                }
            }
            Ok(line) => {
                writeln!(file, "{:8.3} {line}", start.elapsed().as_secs_f64())
                    .context("cannot write the log")?;
                if let Some(said) = console.take(&line, name) {
                    listener(said);
                }
                deadline = match (console.speaks, console.verdicts.is_empty()) {
                    (false, _) => deadline,
                    (true, true) => start + limit,
                    (true, false) => deadline.min(Instant::now() + FAREWELL),
                };
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                timed_out = true;
                if console.stands_still_at(still).is_some_and(|at| at <= Instant::now()) {
                    stall = Some(examined("a processor stands still", examine, &mut file)?);
                } else if !console.speaks {
                    silence = Some(examined("PID 1 says nothing", examine, &mut file)?);
                }
                // The machine is the child itself; when it is gone, its console ends and so does the reader.
                child.kill().context("cannot end the machine")?;
                break;
            }
        }
    }
    let status = child.wait().context("cannot wait for the machine")?;
    let time = start.elapsed();
    let failure = if let Some(finding) = silence {
        let seconds = limit.min(BOOT).as_secs();
        Some(Failure::Machine(format!("PID 1 said nothing for {seconds} s: {finding}")))
    } else if let Some(finding) = stall.as_ref().filter(|_| console.verdicts.is_empty()) {
        let seconds = still.as_secs();
        Some(Failure::Machine(format!("a processor of the guest stood still for {seconds} s: {finding}")))
    } else if timed_out && console.verdicts.is_empty() {
        Some(Failure::Scenario(format!("no verdict after {} s", limit.as_secs())))
    } else if timed_out {
        Some(Failure::Scenario("the machine did not power off after its verdict".to_owned()))
    } else if !status.success() {
        Some(Failure::Machine(format!("QEMU ended with {status}")))
    } else {
        console.judge()
    };
    Ok(Judgement { failure, stall, time })
}

/// Looks at a machine of which a processor stands still or that never spoke, and keeps what is seen with the console.
fn examined(
    what: &str,
    examine: impl FnOnce() -> anyhow::Result<Examination>,
    log: &mut fs::File,
) -> anyhow::Result<String> {
    let (text, finding) = match examine() {
        Ok(Examination { text, finding }) => (text, finding),
        Err(error) => (String::new(), format!("its monitor does not tell why: {error:#}")),
    };
    writeln!(log, "# {what}: {finding}\n{text}").context("cannot write the log")?;
    Ok(finding)
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Machine(reason) | Self::Scenario(reason)) = self;
        formatter.write_str(reason)
    }
}

/// Runs a guest on the terminal, for a person.
pub(crate) fn interact(command: &mut Command) -> anyhow::Result<()> {
    process::stream(command)
}

fn read_lines(child: &mut Child) -> anyhow::Result<Receiver<String>> {
    let console = child.stdout.take().ok_or_else(|| anyhow!("the machine has no console"))?;
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(console).split(b'\n') {
            // An end of the console that is an error is an end all the same: the machine is gone.
            let Ok(line) = line else { break };
            if sender.send(String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned()).is_err() {
                break;
            }
        }
    });
    Ok(receiver)
}

impl Console {
    /// When the processor that was heard of least recently will have been still for too long.
    fn stands_still_at(&self, still: Duration) -> Option<Instant> {
        self.alive.values().min().map(|seen| *seen + still)
    }

    fn take<'a>(&mut self, line: &'a str, name: &str) -> Option<Said<'a>> {
        self.speaks |= line.contains(PROGRESS) || line.contains(VERDICT);
        if let Some(verdict) = Verdict::parse(line, name) {
            self.verdicts.push(verdict);
        } else if let Some((_, text)) = line.split_once(PROGRESS) {
            return Some(Said::Progress(text));
        } else if let Some((_, text)) = line.split_once(REPORT) {
            return Some(Said::Report(text));
        } else if ["Kernel panic", "BUG: ", "Oops: ", "WARNING: CPU"].iter().any(|sign| line.contains(sign)) {
            self.kernel.push(line.trim().to_owned());
        }
        None
    }

    /// Why the run failed, as far as the console tells.
    fn judge(&self) -> Option<Failure> {
        let verdict = match self.verdicts.as_slice() {
            [Verdict::Pass] => None,
            [Verdict::Fail(reason)] => Some(reason.clone()),
            // No line of the program under test has run.
            [Verdict::NotBegun(reason)] => {
                return Some(Failure::Machine(format!("the machine did not come up: {reason}")));
            }
            [] => Some("no verdict".to_owned()),
            several => Some(format!("{} verdicts", several.len())),
        };
        let reason = match (verdict, self.kernel.first()) {
            (None, None) => return None,
            (Some(reason), None) => reason,
            (None, Some(complaint)) => format!("the kernel complained: {complaint}"),
            (Some(reason), Some(complaint)) => format!("{reason}; the kernel complained: {complaint}"),
        };
        Some(Failure::Scenario(reason))
    }
}

/// A folder for what a guest hands out; empty.
pub(crate) fn empty_folder(path: PathBuf) -> anyhow::Result<PathBuf> {
    match fs::remove_dir_all(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot remove {}", path.display()));
        }
        _ => {}
    }
    fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stand-in for a guest that writes `script`'s output to its console.
    fn judge(script: &str, limit: Duration) -> Option<Failure> {
        judge_with(script, limit, SHORT)
    }

    /// The same with how long a processor may stand still.
    fn judge_with(script: &str, limit: Duration, still: Duration) -> Option<Failure> {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let examine = || Ok(Examination { text: "registers".to_owned(), finding: "halted".to_owned() });
        let log = folder.path().join("log");
        let judgement = run_with(command, "x", limit, still, &log, examine, |_| {}).unwrap();
        let is_kept = fs::read_to_string(log).unwrap().contains("stands still: halted\nregisters");
        assert_eq!(judgement.stall.is_some(), is_kept);
        judgement.failure
    }

    fn scenario(reason: &str) -> Option<Failure> {
        Some(Failure::Scenario(reason.to_owned()))
    }

    const LONG: Duration = Duration::from_secs(20);
    const SHORT: Duration = Duration::from_millis(300);

    #[test]
    fn one_verdict_decides() {
        assert_eq!(judge("echo 'LAB-VERDICT: PASS x'", LONG), None);
        assert_eq!(judge("echo 'LAB-VERDICT: FAIL x: broken'", LONG), scenario("broken"));
    }

    #[test]
    fn everything_else_is_a_failure() {
        assert_eq!(judge("true", LONG), scenario("no verdict"));
        assert_eq!(judge("echo 'LAB-VERDICT: PASS y'", LONG), scenario("no verdict"));
        assert_eq!(
            judge("echo 'LAB-VERDICT: PASS x'; echo 'LAB-VERDICT: PASS x'", LONG),
            scenario("2 verdicts")
        );
        let panicked = judge("echo 'LAB-VERDICT: PASS x'; echo 'Kernel panic - not syncing'", LONG);
        assert_eq!(panicked, scenario("the kernel complained: Kernel panic - not syncing"));
    }

    #[test]
    fn a_guest_that_hangs_is_ended() {
        // A shell needs its time to start on a busy host, too.
        let hangs = "echo 'LAB: hello'; exec sleep 60";
        assert_eq!(judge_with(hangs, Duration::from_secs(3), LONG), scenario("no verdict after 3 s"));
    }

    #[test]
    fn a_processor_that_stands_still_is_the_machines_fault() {
        let one_stops =
            "echo 'LAB: hello'; echo 'LAB-ALIVE: 0'; while sleep 0.05; do echo 'LAB-ALIVE: 1'; done";
        let Some(Failure::Machine(reason)) = judge(one_stops, LONG) else { panic!("it was not noticed") };
        assert!(reason.ends_with("stood still for 0 s: halted"), "{reason}");
        let hangs = "echo 'LAB: hello'; while echo 'LAB-ALIVE: 0'; do sleep 0.05; done";
        // On a busy host the signs of life come late.
        let (limit, still) = (Duration::from_secs(3), Duration::from_secs(2));
        assert_eq!(judge_with(hangs, limit, still), scenario("no verdict after 3 s"));
    }

    #[test]
    fn a_machine_that_never_speaks_is_looked_at() {
        let Some(Failure::Machine(reason)) = judge("exec sleep 60", SHORT) else {
            panic!("it was not noticed")
        };
        assert_eq!(reason, "PID 1 said nothing for 0 s: halted");
    }

    #[test]
    fn a_sign_of_life_is_a_word_of_pid_1() {
        // As the first one looks, behind what the firmware has written.
        let slow = "printf '\\033c\\033[2JLAB-ALIVE: 0\\n'; exec sleep 60";
        assert_eq!(judge_with(slow, Duration::from_secs(3), LONG), scenario("no verdict after 3 s"));
    }

    #[test]
    fn a_broken_machine_is_told_from_a_failed_scenario() {
        for script in [
            "echo 'LAB-VERDICT: PASS x'; exit 1",
            "echo 'LAB-VERDICT: NOT-BEGUN x: no udev'",
            "exec sleep 60",
        ] {
            assert!(matches!(judge(script, SHORT), Some(Failure::Machine(_))), "{script}");
        }
    }
}

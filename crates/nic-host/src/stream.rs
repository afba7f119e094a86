//! Commands that run for long, whose output is followed line by line.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;

use crate::attended::Attended;
use crate::host::Commands;
use crate::{CommandError, Host, Invocation, Secret};

/// A longer line is handed over in pieces of this length.
const LONGEST_LINE: usize = 16 * 1024;
/// How long output is waited for once the command has ended: what it left running may hold the pipe for ever.
pub(crate) const LAST_OUTPUT: Duration = Duration::from_millis(500);

/// How a command ended whose output was handed over while it ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommandEnd {
    /// The exit code; `None` when a signal ended it.
    pub code: Option<i32>,
}

impl CommandEnd {
    /// Whether the exit code is 0.
    #[must_use]
    pub fn is_success(self) -> bool {
        self.code == Some(0)
    }
}

impl Host {
    /// Executes a command and hands over each line of what it prints, standard output and standard error in the order they
    /// were written, without the line's end, and with the invocation's secrets hidden.
    ///
    /// The command is over when it ends, whoever still holds its output. When the future is dropped or the deadline has
    /// passed, it is killed with everything it has started; see [`transactions_ended`](crate::transactions_ended) for those that are not.
    ///
    /// # Errors
    /// It could not be started, or did not end in time. An exit code other than 0 is no error here.
    pub async fn run_lines(
        &self,
        invocation: &Invocation,
        mut on_line: impl FnMut(&str),
    ) -> Result<CommandEnd, CommandError> {
        let invocation = &self.programs().dress(invocation);
        match self.commands() {
            Commands::Replay(replay) => {
                let captured = replay.ask(invocation.to_string())?.hiding(&invocation.secrets);
                captured.stdout.lines().chain(captured.stderr.lines()).for_each(on_line);
                Ok(CommandEnd { code: captured.code })
            }
            Commands::Execute => {
                let status = follow(invocation, &mut on_line).await?;
                Ok(CommandEnd { code: status.code() })
            }
        }
    }
}

async fn follow(invocation: &Invocation, on_line: &mut impl FnMut(&str)) -> Result<ExitStatus, CommandError> {
    let started = Instant::now();
    let start_error = |source| CommandError::Start { command: invocation.to_string(), source };
    let overdue = || CommandError::Deadline { command: invocation.to_string(), after: invocation.deadline };
    let mut attended = spawn(invocation).map_err(start_error)?;
    let mut lines = Lines::new(&invocation.secrets);
    let followed =
        tokio::time::timeout(invocation.deadline, to_end(&mut attended, &mut lines, on_line)).await;
    let Ok(followed) = followed else {
        attended.end().await;
        return Err(overdue());
    };
    let Some((status, output_is_held)) = followed.map_err(start_error)? else { return Err(overdue()) };
    attended.has_ended(output_is_held);
    lines.end(on_line);
    tracing::debug!(command = %invocation, code = status.code(), took = ?started.elapsed(), "command ended");
    Ok(status)
}

/// How it has ended, and whether something that it started still holds its output.
async fn to_end(
    attended: &mut Attended,
    lines: &mut Lines<'_>,
    on_line: &mut impl FnMut(&str),
) -> io::Result<Option<(ExitStatus, bool)>> {
    let Some(running) = attended.running() else { return Ok(None) };
    let mut buffer = [0; 8192];
    loop {
        let (child, output, _) = running.parts();
        tokio::select! {
            read = output.read(&mut buffer) => match read? {
                // All who could print have closed their output.
                0 => return Ok(Some((running.wait().await?, false))),
                length => lines.feed(buffer.get(..length).unwrap_or_default(), on_line),
            },
            ended = child.wait() => {
                let drained = drain(output, &mut buffer, lines, on_line);
                let output_is_held = tokio::time::timeout(LAST_OUTPUT, drained).await.is_err();
                return Ok(Some((ended?, output_is_held)));
            }
        }
    }
}

/// Starts the command with both outputs in one pipe, so that their order is kept.
fn spawn(invocation: &Invocation) -> io::Result<Attended> {
    let (reader, writer) = io::pipe()?;
    let mut command = invocation.command();
    command.stdout(Stdio::from(writer.try_clone()?)).stderr(Stdio::from(writer));
    let child = command.spawn()?;
    Ok(Attended::new(invocation, child, Receiver::from_owned_fd(reader.into())?, None))
}

async fn drain(
    output: &mut Receiver,
    buffer: &mut [u8],
    lines: &mut Lines<'_>,
    on_line: &mut impl FnMut(&str),
) {
    while let Ok(length @ 1..) = output.read(buffer).await {
        lines.feed(buffer.get(..length).unwrap_or_default(), on_line);
    }
}

/// Puts lines together from what is read.
struct Lines<'a> {
    secrets: &'a [Secret],
    begun: Vec<u8>,
}

impl<'a> Lines<'a> {
    fn new(secrets: &'a [Secret]) -> Self {
        Self { secrets, begun: Vec::new() }
    }

    fn feed(&mut self, bytes: &[u8], on_line: &mut impl FnMut(&str)) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.begun.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.begun.len() >= LONGEST_LINE {
                self.hand_over(on_line);
            }
        }
    }

    fn end(&mut self, on_line: &mut impl FnMut(&str)) {
        if !self.begun.is_empty() {
            self.hand_over(on_line);
        }
    }

    fn hand_over(&mut self, on_line: &mut impl FnMut(&str)) {
        let mut line = String::from_utf8_lossy(&self.begun).trim_end_matches(['\n', '\r']).to_owned();
        for secret in self.secrets {
            line = secret.hide_in(&line);
        }
        on_line(&line);
        self.begun.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Captured, Replay};

    fn shell(script: &str) -> Invocation {
        Invocation::new("sh").args(["-c", script])
    }

    async fn lines_of(invocation: &Invocation) -> (Vec<String>, Result<CommandEnd, CommandError>) {
        let mut lines = Vec::new();
        let end = Host::running().run_lines(invocation, |line| lines.push(line.to_owned())).await;
        (lines, end)
    }

    #[tokio::test]
    async fn both_outputs_come_in_order_and_the_last_line_needs_no_end() {
        let (lines, end) = lines_of(&shell("echo 1; echo 2 >&2; printf '3\\r\\n\\n\\3774'; exit 7")).await;
        assert_eq!(lines, ["1", "2", "3", "", "\u{fffd}4"]);
        assert_eq!(end.unwrap(), CommandEnd { code: Some(7) });
    }

    #[tokio::test]
    async fn a_line_without_an_end_fills_no_memory() {
        let (lines, end) = lines_of(&shell("head -c 1000000 /dev/zero")).await;
        assert!(end.unwrap().is_success());
        assert_eq!(lines.iter().map(String::len).sum::<usize>(), 1_000_000);
        assert!(lines.iter().all(|line| line.len() < 2 * LONGEST_LINE));
    }

    #[tokio::test]
    async fn secrets_are_hidden_in_lines() {
        let token = Secret::new("t0ken");
        let (lines, _) =
            lines_of(&shell("echo \"attach $1\"; echo $1 >&2").arg("sh").secret_arg(&token)).await;
        assert_eq!(lines, ["attach ***", "***"]);
    }

    #[tokio::test]
    async fn a_command_is_over_when_it_ends_and_not_when_its_output_does() {
        let started = Instant::now();
        let (lines, end) = lines_of(&shell("sleep 20 & echo done")).await;
        assert_eq!(lines, ["done"]);
        assert!(end.unwrap().is_success());
        assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
        // One that closes its output goes on all the same.
        let (_, end) = lines_of(&shell("exec >&- 2>&-; sleep 0.2; exit 4")).await;
        assert_eq!(end.unwrap().code, Some(4));
    }

    #[tokio::test]
    async fn it_is_killed_with_its_children_when_overdue_or_no_longer_wanted() {
        let folder = tempfile::tempdir().unwrap();
        let survivor = folder.path().join("survivor");
        let script = format!("(sleep 1; touch {}) & echo begun; wait", survivor.display());
        let (lines, end) = lines_of(&shell(&script).deadline(Duration::from_millis(200))).await;
        assert_eq!(lines, ["begun"]);
        assert!(matches!(end, Err(CommandError::Deadline { .. })), "{end:?}");
        let host = Host::running();
        let unwanted = shell(&script);
        let dropped =
            tokio::time::timeout(Duration::from_millis(200), host.run_lines(&unwanted, |_| ())).await;
        assert!(dropped.is_err());
        tokio::time::sleep(Duration::from_millis(1300)).await;
        assert!(!survivor.exists(), "the child outlived its parent");
    }

    #[tokio::test]
    async fn a_program_that_is_missing_is_named_and_a_replay_has_lines_too() {
        let error = lines_of(&Invocation::new("no-such-program")).await.1.unwrap_err();
        assert_eq!(error.to_string(), "cannot start `no-such-program`");
        let answer = Captured { code: Some(2), stdout: "a\nb\n".into(), stderr: "c\n".into() };
        let host = Host::at("/nonexistent").with_replay(Replay::default().answer("make", answer));
        let mut lines = Vec::new();
        let end = host.run_lines(&Invocation::new("make"), |line| lines.push(line.to_owned())).await;
        assert_eq!((lines, end.unwrap().code), (vec!["a".into(), "b".into(), "c".into()], Some(2)));
    }
}

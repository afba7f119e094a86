//! Executing commands, on the machine or from a replay.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::net::unix::pipe::Receiver;

use crate::attended::Attended;
use crate::host::Commands;
use crate::stream::LAST_OUTPUT;
use crate::{Captured, CommandError, Host, Invocation};

/// How many bytes of each output are kept.
const LONGEST_OUTPUT: u64 = 64 << 20;

impl Host {
    /// Executes a command and expects exit code 0.
    pub async fn run(&self, invocation: &Invocation) -> Result<Captured, CommandError> {
        let captured = self.run_to_end(invocation).await?;
        if captured.is_success() {
            return Ok(captured);
        }
        Err(CommandError::Failed {
            command: invocation.to_string(),
            code: captured.code,
            last_words: captured.last_words(),
        })
    }

    /// Executes a command and returns however it ended.
    pub async fn run_to_end(&self, invocation: &Invocation) -> Result<Captured, CommandError> {
        let invocation = self.programs().dress(invocation);
        let captured = match self.commands() {
            Commands::Replay(replay) => replay.ask(invocation.to_string()),
            Commands::Execute => execute(&invocation).await,
        };
        Ok(captured?.hiding(&invocation.secrets))
    }

    /// `text` with the secrets hidden of this command, and of every program of this host: for what it has written elsewhere than
    /// to its output.
    #[must_use]
    pub fn hide_secrets(&self, invocation: &Invocation, text: &str) -> String {
        self.programs().dress(invocation).hide_secrets(text)
    }

    /// Where `program` is found in this process's `PATH`, or in the folders a minimal `PATH` lacks.
    #[must_use]
    pub fn find_program(&self, program: &str) -> Option<PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path)
            .chain(["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from))
            .filter(|folder| folder.is_absolute())
            .map(|folder| folder.join(program))
            .find(|candidate| self.is_executable(candidate))
    }

    /// Whether `path` is a file that somebody may execute.
    #[must_use]
    pub fn is_executable(&self, path: impl AsRef<Path>) -> bool {
        use std::os::unix::fs::PermissionsExt as _;
        let metadata = self.path(path).metadata();
        metadata.is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
    }
}

impl Invocation {
    /// The command to be spawned; where its output goes is for the caller to say.
    pub(crate) fn command(&self) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(&self.program);
        command
            .args(&self.args)
            .envs(self.env.iter().map(|(name, value)| (name.as_os_str(), value.as_os_str())))
            .env("LC_ALL", OsStr::new("C"))
            .stdin(Stdio::null())
            // A group of its own: a deadline must end the command's children too, and a terminal's Ctrl-C or a
            // `kill -- -PGID` meant for us must not end a package manager half way.
            .process_group(0);
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        command
    }
}

async fn execute(invocation: &Invocation) -> Result<Captured, CommandError> {
    let started = std::time::Instant::now();
    let start_error = |source| CommandError::Start { command: invocation.to_string(), source };
    let mut attended = spawn(invocation).map_err(start_error)?;
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let Some(End { status, output_is_held }) =
        ended(&mut attended, invocation.deadline, &mut stdout, &mut stderr).await.map_err(start_error)?
    else {
        attended.end().await;
        return Err(CommandError::Deadline { command: invocation.to_string(), after: invocation.deadline });
    };
    attended.has_ended(output_is_held);
    tracing::debug!(command = %invocation, code = status.code(), took = ?started.elapsed(), "command ended");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(Captured { code: status.code(), stdout: text(stdout), stderr: text(stderr) })
}

fn spawn(invocation: &Invocation) -> io::Result<Attended> {
    let ((out, stdout), (err, stderr)) = (io::pipe()?, io::pipe()?);
    let child = invocation.command().stdout(Stdio::from(stdout)).stderr(Stdio::from(stderr)).spawn()?;
    let (out, err) = (Receiver::from_owned_fd(out.into())?, Receiver::from_owned_fd(err.into())?);
    Ok(Attended::new(invocation, child, out, Some(err)))
}

/// How a command has ended.
struct End {
    status: ExitStatus,
    /// Whether something that it has started still holds its output.
    output_is_held: bool,
}

/// Waits for the command itself; `None` when it has not ended at its deadline. What it has started and left, a daemon with its output
/// open, is nobody's to wait for or to kill.
async fn ended(
    attended: &mut Attended,
    deadline: Duration,
    stdout: &mut Vec<u8>,
    stderr: &mut Vec<u8>,
) -> io::Result<Option<End>> {
    let Some(running) = attended.running() else { return Ok(None) };
    let (child, out, err) = running.parts();
    let mut reading = pin!(async { tokio::try_join!(read_all(Some(out), stdout), read_all(err, stderr)) });
    let mut overdue = pin!(tokio::time::sleep(deadline));
    let end = tokio::select! {
        read = &mut reading => {
            read?;
            // One that has closed its output goes on all the same.
            tokio::select! {
                status = child.wait() => End { status: status?, output_is_held: false },
                () = &mut overdue => return Ok(None),
            }
        }
        status = child.wait() => {
            let status = status?;
            let output_is_held = match tokio::time::timeout(LAST_OUTPUT, reading).await {
                Ok(read) => read.map(|_| false)?,
                Err(_) => true,
            };
            End { status, output_is_held }
        }
        () = &mut overdue => return Ok(None),
    };
    Ok(Some(end))
}

/// Reads to the end and keeps [`LONGEST_OUTPUT`] of it.
async fn read_all(from: Option<&mut (impl AsyncRead + Unpin)>, into: &mut Vec<u8>) -> io::Result<()> {
    let Some(from) = from else { return Ok(()) };
    from.take(LONGEST_OUTPUT).read_to_end(into).await?;
    // A pipe that nobody empties would stop the command.
    tokio::io::copy(from, &mut tokio::io::sink()).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Replay;

    #[test]
    fn a_command_line_is_shown_as_a_shell_would_take_it() {
        let invocation =
            Invocation::new("modprobe").arg("-d").arg("/host tree").args(["igb", "async_probe=1"]);
        assert_eq!(invocation.to_string(), "modprobe -d '/host tree' igb 'async_probe=1'");
    }

    #[tokio::test]
    async fn output_and_exit_code_are_captured() {
        let host = Host::running();
        let script = Invocation::new("sh").args(["-c", "echo out; echo err >&2; exit 3"]);
        let captured = host.run_to_end(&script).await.unwrap();
        assert_eq!(
            (captured.code, captured.stdout.as_str(), captured.stderr.as_str()),
            (Some(3), "out\n", "err\n")
        );
        let error = host.run(&script).await.unwrap_err();
        assert!(error.to_string().contains("exit code 3): err"), "{error}");
    }

    #[tokio::test]
    async fn a_secret_reaches_the_program_and_nobody_else() {
        use crate::Secret;
        let (token, password) = (Secret::new("t0ken"), Secret::new("pa ss"));
        let script = "echo \"$1\" | wc -c; echo \"$1 $PASSWORD\"; echo \"$1\" >&2; exit 1";
        let invocation = Invocation::new("sh")
            .args(["-c", script, "sh"])
            .secret_arg(&token)
            .secret_env("PASSWORD", &password);
        let captured = Host::running().run_to_end(&invocation).await.unwrap();
        assert_eq!((captured.stdout.as_str(), captured.stderr.as_str()), ("6\n*** ***\n", "***\n"));
        let error = Host::running().run(&invocation).await.unwrap_err();
        let missing = Invocation::new("no-such-program").secret_arg(&token);
        let not_started = Host::running().run(&missing).await.unwrap_err();
        assert_eq!(not_started.to_string(), "cannot start `no-such-program ***`");
        let written = format!("{error} {error:?} {not_started:?} {invocation} {invocation:?} {missing:?}");
        assert!(!written.contains("t0ken") && !written.contains("pa ss"), "{written}");
        assert!(written.contains("PASSWORD"), "{written}");
    }

    #[tokio::test]
    async fn a_missing_program_is_named() {
        let error = Host::running().run(&Invocation::new("no-such-program")).await.unwrap_err();
        assert_eq!(error.to_string(), "cannot start `no-such-program`");
    }

    #[tokio::test]
    async fn fault_5_1_a_command_is_over_when_it_ends_and_what_it_left_goes_on() {
        let marker = tempfile::tempdir().unwrap();
        let file = marker.path().join("daemon");
        // The daemon keeps both outputs open, and outlives the command's deadline.
        let script = format!("(sleep 1; touch {}) & echo begun; exit 3", file.display());
        let hook = Invocation::new("sh").args(["-c", &script]).deadline(Duration::from_millis(900));
        let captured = Host::running().run_to_end(&hook).await.unwrap();
        assert_eq!((captured.code, captured.stdout.as_str()), (Some(3), "begun\n"));
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert!(file.exists(), "what the command left was killed");
    }

    #[tokio::test]
    async fn all_output_is_read_before_the_end() {
        let script =
            Invocation::new("sh").args(["-c", "head -c 1000000 /dev/zero; head -c 1000000 /dev/zero >&2"]);
        let captured = Host::running().run(&script).await.unwrap();
        assert_eq!((captured.stdout.len(), captured.stderr.len()), (1_000_000, 1_000_000));
    }

    #[tokio::test]
    async fn an_overdue_command_is_killed_with_its_children() {
        let marker = tempfile::tempdir().unwrap();
        let file = marker.path().join("survivor");
        let script = format!("(sleep 1; touch {}) & wait", file.display());
        let late = Invocation::new("sh").args(["-c", &script]).deadline(Duration::from_millis(100));
        let error = Host::running().run(&late).await.unwrap_err();
        assert!(matches!(error, CommandError::Deadline { .. }), "{error}");
        tokio::time::sleep(Duration::from_millis(1300)).await;
        assert!(!file.exists(), "the child outlived its deadline");
    }

    #[tokio::test]
    async fn a_tree_executes_nothing() {
        let replay = Replay::default().answer("depmod 6.12", Captured::success(""));
        let host = Host::at("/nonexistent").with_replay(replay.clone());
        host.run(&Invocation::new("depmod").arg("6.12")).await.unwrap();
        let error = host.run(&Invocation::new("rpm").arg("-q")).await.unwrap_err();
        assert!(matches!(error, CommandError::NotRecorded { .. }));
        assert_eq!(replay.asked(), ["depmod 6.12", "rpm -q"]);
    }
}

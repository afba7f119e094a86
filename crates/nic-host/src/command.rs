use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// A command line: argv, never a shell's text, with what it may take of time.
#[derive(Debug, Clone)]
pub struct Invocation {
    pub(crate) program: OsString,
    pub(crate) args: Vec<OsString>,
    pub(crate) env: Vec<(OsString, OsString)>,
    pub(crate) folder: Option<PathBuf>,
    pub(crate) deadline: Duration,
}

impl Invocation {
    /// `program`, looked up in `PATH`, with a deadline of 60 s.
    #[must_use]
    pub fn new(program: impl Into<OsString>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            folder: None,
            deadline: Duration::from_secs(60),
        }
    }

    /// With one more argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// With more arguments.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// With a variable in its environment, beside this process's own.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Started in `folder`.
    #[must_use]
    pub fn in_folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// Killed, with everything it started, when it has not ended after `deadline`.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }
}

/// As it would be typed in a shell.
impl fmt::Display for Invocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = std::iter::once(&self.program).chain(&self.args).map(|word| word.to_string_lossy());
        f.write_str(&shell_words::join(words))
    }
}

/// What a command printed and how it ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Captured {
    /// The exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Standard output, with invalid UTF-8 replaced.
    pub stdout: String,
    /// Standard error, with invalid UTF-8 replaced.
    pub stderr: String,
}

impl Captured {
    /// A successful end with this output.
    #[must_use]
    pub fn success(stdout: impl Into<String>) -> Self {
        Self { code: Some(0), stdout: stdout.into(), stderr: String::new() }
    }

    /// Whether the exit code is 0.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.code == Some(0)
    }

    /// The end of what it said about its failure: the last lines of standard error, or else of standard output.
    #[must_use]
    pub fn last_words(&self) -> String {
        let text = if self.stderr.trim().is_empty() { &self.stdout } else { &self.stderr };
        let lines: Vec<&str> = text.trim().lines().collect();
        lines.iter().skip(lines.len().saturating_sub(8)).copied().collect::<Vec<_>>().join("\n")
    }
}

/// A command that could not be started, failed, or did not end in time.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It could not be started.
    #[error("cannot start `{command}`")]
    Start {
        /// The command line.
        command: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// It ended with a code other than 0, or by a signal (`code` is `None`).
    #[error("`{command}` failed ({}): {last_words}", code.map_or("by a signal".to_owned(), |code| format!("exit code {code}")))]
    Failed {
        /// The command line.
        command: String,
        /// Its exit code.
        code: Option<i32>,
        /// The end of what it printed.
        last_words: String,
    },
    /// It had not ended at its deadline, and was killed.
    #[error("`{command}` has not ended after {after:?}")]
    Deadline {
        /// The command line.
        command: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// The host is a tree or a replay, and holds no answer for this command.
    #[error("no recorded answer for `{command}`: this is not the running machine")]
    NotRecorded {
        /// The command line.
        command: String,
    },
}

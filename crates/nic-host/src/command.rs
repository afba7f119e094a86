use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::Secret;
use crate::secret::HIDDEN;

/// A command line: argv, never a shell's text, with what it may take of time.
#[derive(Clone)]
pub struct Invocation {
    pub(crate) program: OsString,
    pub(crate) args: Vec<Argument>,
    pub(crate) env: Vec<(OsString, OsString)>,
    /// What is hidden in everything the command prints.
    pub(crate) secrets: Vec<Secret>,
    pub(crate) folder: Option<PathBuf>,
    pub(crate) deadline: Duration,
}

/// A word of a command line.
#[derive(Clone)]
pub(crate) enum Argument {
    Plain(OsString),
    Secret(Secret),
}

impl AsRef<OsStr> for Argument {
    fn as_ref(&self) -> &OsStr {
        match self {
            Self::Plain(word) => word,
            Self::Secret(secret) => secret.reveal().as_ref(),
        }
    }
}

impl Invocation {
    /// `program`, looked up in `PATH`, with a deadline of 60 s.
    #[must_use]
    pub fn new(program: impl Into<OsString>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            secrets: Vec::new(),
            folder: None,
            deadline: Duration::from_secs(60),
        }
    }

    /// With one more argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(Argument::Plain(arg.into()));
        self
    }

    /// With more arguments.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(|arg| Argument::Plain(arg.into())));
        self
    }

    /// With a variable in its environment, beside this process's own.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// With one more argument that is shown nowhere, and hidden in what the command prints.
    #[must_use]
    pub fn secret_arg(mut self, secret: &Secret) -> Self {
        self.args.push(Argument::Secret(secret.clone()));
        self.hiding(secret)
    }

    /// With a variable in its environment whose value is hidden in what the command prints.
    #[must_use]
    pub fn secret_env(self, name: impl Into<OsString>, value: &Secret) -> Self {
        self.env(name, value.reveal()).hiding(value)
    }

    /// With a text that is hidden in what the command prints: it may know it from elsewhere.
    #[must_use]
    pub fn hiding(mut self, secret: &Secret) -> Self {
        if !self.secrets.contains(secret) {
            self.secrets.push(secret.clone());
        }
        self
    }

    /// `text` with this command's own secrets hidden.
    pub(crate) fn hide_secrets(&self, text: &str) -> String {
        self.secrets.iter().fold(text.to_owned(), |text, secret| secret.hide_in(&text))
    }

    /// Started in `folder`.
    #[must_use]
    pub fn in_folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// The words of the command line as they may be shown.
    #[must_use]
    pub fn shown_words(&self) -> Vec<String> {
        let word = |arg: &Argument| match arg {
            Argument::Plain(word) => word.to_string_lossy().into_owned(),
            Argument::Secret(secret) => secret.to_string(),
        };
        std::iter::once(self.program.to_string_lossy().into_owned())
            .chain(self.args.iter().map(word))
            .collect()
    }

    /// The variables of its environment, beside this process's own, as they may be shown.
    #[must_use]
    pub fn shown_environment(&self) -> Vec<(String, String)> {
        let text = |text: &OsStr| self.hide_secrets(&text.to_string_lossy());
        self.env.iter().map(|(name, value)| (name.to_string_lossy().into_owned(), text(value))).collect()
    }

    /// When it is killed.
    #[must_use]
    pub fn time_limit(&self) -> Duration {
        self.deadline
    }

    /// Killed, with everything it started, when it has not ended after `deadline`. A package manager is asked to end before.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }
}

/// As it would be typed in a shell, with secrets hidden.
impl fmt::Display for Invocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shell_words::quote(&self.program.to_string_lossy()))?;
        self.args.iter().try_for_each(|arg| match arg {
            Argument::Plain(word) => write!(f, " {}", shell_words::quote(&word.to_string_lossy())),
            Argument::Secret(_) => write!(f, " {HIDDEN}"),
        })
    }
}

/// The command line, and the names in its environment: values may be secrets.
impl fmt::Debug for Invocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invocation")
            .field("command", &self.to_string())
            .field("env", &self.env.iter().map(|(name, _)| name).collect::<Vec<_>>())
            .field("folder", &self.folder)
            .field("deadline", &self.deadline)
            .finish()
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
    /// The same, with these texts hidden.
    pub(crate) fn hiding(mut self, secrets: &[Secret]) -> Self {
        for secret in secrets {
            self.stdout = secret.hide_in(&self.stdout);
            self.stderr = secret.hide_in(&self.stderr);
        }
        self
    }

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

    /// The end of what it said about its failure, in one line: the last lines of standard error, or else of standard output.
    #[must_use]
    pub fn last_words(&self) -> String {
        let text = if self.stderr.trim().is_empty() { &self.stdout } else { &self.stderr };
        let lines: Vec<&str> = text.trim().lines().collect();
        lines
            .iter()
            .skip(lines.len().saturating_sub(8))
            .map(|line| line.trim())
            .collect::<Vec<_>>()
            .join(" | ")
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

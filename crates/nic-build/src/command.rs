//! Commands as data: with their environment, what they are for, and what their failure means.

use std::fmt;
use std::time::Duration;

use nic_host::{Invocation, Secret};
use serde::{Serialize, Serializer};

/// How long a package manager may take for what is to be installed. dpkg and rpm in mid-transaction are not cut off for less.
pub(crate) const INSTALL_DEADLINE: Duration = Duration::from_secs(15 * 60);
/// How long repositories may take to be asked for what can be done without. On an air-gapped node nothing that may fail
/// waits longer than this.
pub(crate) const OPTIONAL_DEADLINE: Duration = Duration::from_secs(3 * 60);

/// A word of a command line, or a value in its environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Word {
    /// As it is.
    Plain(String),
    /// One that is shown differently from what the program gets.
    Hidden {
        /// What the program gets.
        value: Secret,
        /// What is shown.
        shown: String,
        /// Parts of it that are hidden in what the program prints, too.
        parts: Vec<Secret>,
    },
}

impl Word {
    /// A word of which nothing is shown.
    #[must_use]
    pub fn secret(value: &Secret) -> Self {
        Self::Hidden { value: value.clone(), shown: value.to_string(), parts: Vec::new() }
    }
}

impl From<&str> for Word {
    fn from(text: &str) -> Self {
        Self::Plain(text.to_owned())
    }
}

impl From<String> for Word {
    fn from(text: String) -> Self {
        Self::Plain(text)
    }
}

/// As a shell would take it, secrets hidden.
impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(text) => f.write_str(&shell_words::quote(text)),
            Self::Hidden { shown, .. } => f.write_str(shown),
        }
    }
}

/// The text, secrets hidden.
impl Serialize for Word {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match self {
            Self::Plain(text) => text,
            Self::Hidden { shown, .. } => shown,
        })
    }
}

/// What a failing step means for those behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    /// They are not done.
    Fatal,
    /// They are done all the same, and somebody should know.
    Warning,
    /// They are done all the same: it was an attempt.
    Ignored,
}

/// A variable in a command's environment, beside those of this process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: Word,
}

impl Variable {
    /// A variable with this value.
    pub fn new(name: impl Into<String>, value: impl Into<Word>) -> Self {
        Self { name: name.into(), value: value.into() }
    }
}

/// A command that is to be run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedCommand {
    /// What it is for, to stand behind "cannot".
    pub purpose: String,
    /// The program and its arguments.
    pub argv: Vec<Word>,
    /// Its environment, beside this process's own.
    pub environment: Vec<Variable>,
    /// What is hidden in what it prints, beside the secrets that it is given.
    #[serde(skip)]
    pub hidden: Vec<Secret>,
    /// What its failure means.
    pub on_failure: OnFailure,
    /// When it is killed. In JSON, in seconds.
    #[serde(rename = "deadline_s", serialize_with = "as_seconds")]
    pub deadline: Duration,
}

fn as_seconds<S: Serializer>(deadline: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(deadline.as_secs())
}

impl PlannedCommand {
    /// A command whose failure is fatal, with the time that a package manager gets.
    pub fn new<W: Into<Word>>(purpose: impl Into<String>, argv: impl IntoIterator<Item = W>) -> Self {
        Self {
            purpose: purpose.into(),
            argv: argv.into_iter().map(Into::into).collect(),
            environment: Vec::new(),
            hidden: Vec::new(),
            on_failure: OnFailure::Fatal,
            deadline: INSTALL_DEADLINE,
        }
    }

    /// With more arguments.
    #[must_use]
    pub fn args<W: Into<Word>>(mut self, args: impl IntoIterator<Item = W>) -> Self {
        self.argv.extend(args.into_iter().map(Into::into));
        self
    }

    /// With another meaning of its failure.
    #[must_use]
    pub fn on_failure(self, on_failure: OnFailure) -> Self {
        Self { on_failure, ..self }
    }

    /// With another deadline.
    #[must_use]
    pub fn deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// With a text that is hidden in what it prints.
    #[must_use]
    pub fn hiding(mut self, secret: &Secret) -> Self {
        self.hidden.push(secret.clone());
        self
    }

    /// With a variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<Word>) -> Self {
        self.environment.push(Variable::new(name, value));
        self
    }

    /// With these variables, in front of its own.
    #[must_use]
    pub fn with_environment(mut self, variables: &[Variable]) -> Self {
        self.environment = variables.iter().cloned().chain(self.environment).collect();
        self
    }

    /// As it is executed.
    #[must_use]
    pub fn invocation(&self) -> Invocation {
        let mut words = self.argv.iter();
        let program = match words.next() {
            Some(Word::Plain(program)) => program.as_str(),
            // No plan has a secret for a program; an empty name cannot be started, and says so.
            Some(Word::Hidden { .. }) | None => "",
        };
        let mut invocation = Invocation::new(program).deadline(self.deadline);
        for word in words {
            invocation = match word {
                Word::Plain(text) => invocation.arg(text),
                Word::Hidden { value, .. } => invocation.secret_arg(value),
            };
        }
        for variable in &self.environment {
            invocation = match &variable.value {
                Word::Plain(text) => invocation.env(&variable.name, text),
                Word::Hidden { value, .. } => invocation.secret_env(&variable.name, value),
            };
        }
        invocation = self.hidden.iter().fold(invocation, Invocation::hiding);
        let all = self.argv.iter().chain(self.environment.iter().map(|variable| &variable.value));
        for word in all {
            if let Word::Hidden { parts, .. } = word {
                invocation = parts.iter().fold(invocation, Invocation::hiding);
            }
        }
        invocation
    }
}

/// The environment and the command line, as a shell would take them, secrets hidden.
impl fmt::Display for PlannedCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for variable in &self.environment {
            write!(f, "{}={} ", variable.name, variable.value)?;
        }
        for (place, word) in self.argv.iter().enumerate() {
            write!(f, "{}{word}", if place == 0 { "" } else { " " })?;
        }
        Ok(())
    }
}

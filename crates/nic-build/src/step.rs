//! Plans as data: steps in order, and what is to be said about them.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use crate::command::{OPTIONAL_DEADLINE, OnFailure, PlannedCommand, Variable};

/// What of a file or folder of the host is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CopyExtent {
    /// A file.
    File,
    /// All in a folder, over what is there.
    Folder,
    /// What of a folder is not there yet.
    MissingFiles,
}

/// A step of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "step")]
pub enum Step {
    /// Run a command.
    Run(PlannedCommand),
    /// Copy files of the host, which this container sees.
    Copy {
        /// What it is for, to stand behind "cannot".
        purpose: String,
        /// From where.
        from: PathBuf,
        /// To where.
        to: PathBuf,
        /// What of it.
        extent: CopyExtent,
        /// What its failure means.
        on_failure: OnFailure,
    },
    /// Ask a question with a command, and go on by its answer. Its failure is an answer.
    If {
        /// The question.
        test: PlannedCommand,
        /// The steps when it succeeds.
        then: Vec<Step>,
        /// The steps when it fails.
        otherwise: Vec<Step>,
    },
}

impl From<PlannedCommand> for Step {
    fn from(command: PlannedCommand) -> Self {
        Self::Run(command)
    }
}

impl Step {
    /// A question. That it fails is an answer.
    pub(crate) fn ask(test: PlannedCommand, then: Vec<Self>, otherwise: Vec<Self>) -> Self {
        Self::If { test: test.on_failure(OnFailure::Ignored).deadline(OPTIONAL_DEADLINE), then, otherwise }
    }

    fn add_environment(&mut self, variables: &[Variable]) {
        let add = |command: &mut PlannedCommand| *command = command.clone().with_environment(variables);
        match self {
            Self::Run(command) => add(command),
            Self::Copy { .. } => {}
            Self::If { test, then, otherwise } => {
                add(test);
                then.iter_mut().chain(otherwise).for_each(|step| step.add_environment(variables));
            }
        }
    }

    fn show(&self, f: &mut fmt::Formatter<'_>, indent: usize) -> fmt::Result {
        let margin = "  ".repeat(indent);
        let ending = |on_failure: &OnFailure| match on_failure {
            OnFailure::Fatal => "",
            OnFailure::Warning => " (failing: a warning)",
            OnFailure::Ignored => " (may fail)",
        };
        match self {
            Self::Run(command) => {
                let ending = ending(&command.on_failure);
                writeln!(f, "{margin}{}{ending}: {command}", command.purpose)
            }
            Self::Copy { purpose, from, to, extent, on_failure } => {
                let what = match extent {
                    CopyExtent::File | CopyExtent::Folder => "copy",
                    CopyExtent::MissingFiles => "copy what is missing of",
                };
                let ending = ending(on_failure);
                writeln!(f, "{margin}{purpose}{ending}: {what} {} to {}", from.display(), to.display())
            }
            Self::If { test, then, otherwise } => {
                writeln!(f, "{margin}{}: {test}", test.purpose)?;
                for (answer, steps) in [("if so", then), ("if not", otherwise)] {
                    if !steps.is_empty() {
                        writeln!(f, "{margin}  {answer}:")?;
                    }
                    steps.iter().try_for_each(|step| step.show(f, indent + 2))?;
                }
                Ok(())
            }
        }
    }
}

/// Steps in order, and what is to be said about them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// What was left out and why, and what may be the cause should a step fail.
    pub notes: Vec<String>,
    /// The steps.
    pub steps: Vec<Step>,
}

impl Plan {
    /// A plan without steps, and why.
    pub(crate) fn nothing(note: impl Into<String>) -> Self {
        Self { notes: vec![note.into()], steps: Vec::new() }
    }

    /// A plan of these steps.
    pub(crate) fn of(steps: impl IntoIterator<Item = Step>) -> Self {
        Self { notes: Vec::new(), steps: steps.into_iter().collect() }
    }

    /// With variables in the environment of every command, in front of the command's own.
    #[must_use]
    pub fn with_environment(mut self, variables: &[Variable]) -> Self {
        self.steps.iter_mut().for_each(|step| step.add_environment(variables));
        self
    }
}

/// A line a note, and a line a step: what it is for, and the command with its environment.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.notes.iter().try_for_each(|note| writeln!(f, "note: {note}"))?;
        self.steps.iter().try_for_each(|step| step.show(f, 0))
    }
}

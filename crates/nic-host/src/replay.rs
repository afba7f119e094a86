use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::{Captured, CommandError};

/// Recorded answers, by command line; remembers what was asked.
#[derive(Debug, Clone, Default)]
pub struct Replay {
    answers: BTreeMap<String, Captured>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Replay {
    /// Answers `command` (as [`Invocation`](crate::Invocation) displays it) with `captured`.
    #[must_use]
    pub fn answer(mut self, command: impl Into<String>, captured: Captured) -> Self {
        self.answers.insert(command.into(), captured);
        self
    }

    /// The command lines asked for so far, in order. Clones share the record.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn ask(&self, command: String) -> Result<Captured, CommandError> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(command.clone());
        self.answers.get(&command).cloned().ok_or(CommandError::NotRecorded { command })
    }
}

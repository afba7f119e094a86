use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::{Captured, CommandError};

/// Recorded answers, by command line; remembers what was asked.
#[derive(Debug, Clone, Default)]
pub struct Replay {
    answers: BTreeMap<String, Captured>,
    asked: Arc<Mutex<Vec<String>>>,
    hanging: BTreeSet<PathBuf>,
}

impl Replay {
    /// Answers `command` (as [`Invocation`](crate::Invocation) displays it) with `captured`.
    #[must_use]
    pub fn answer(mut self, command: impl Into<String>, captured: Captured) -> Self {
        self.answers.insert(command.into(), captured);
        self
    }

    /// Lets a read of the machine's absolute path `path` come to no end, as on a machine that holds its device's lock. Only a look that
    /// somebody waits for hangs: see [`Host::look_within`](crate::Host::look_within).
    #[must_use]
    pub fn hanging_at(mut self, path: impl AsRef<Path>) -> Self {
        let path = path.as_ref();
        self.hanging.insert(path.strip_prefix("/").unwrap_or(path).to_path_buf());
        self
    }

    /// Whether any file hangs.
    pub(crate) fn hangs(&self) -> bool {
        !self.hanging.is_empty()
    }

    /// `path` is relative to the root.
    pub(crate) fn hangs_at(&self, path: &Path) -> bool {
        self.hanging.contains(path)
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

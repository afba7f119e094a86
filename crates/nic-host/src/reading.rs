//! What is being read, told to another thread.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// What a look reads just now, for whoever waits for it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reading(Arc<Mutex<Option<PathBuf>>>);

impl Reading {
    pub(crate) fn set(&self, path: Option<PathBuf>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = path;
    }

    pub(crate) fn get(&self) -> Option<PathBuf> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

//! What a journal names, which another version of this program may have written.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Something that a journal names. A name that this version does not know is no damage: its text is kept, and told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Named<T> {
    /// What this version knows.
    Known(T),
    /// The text of what another version has written, and this one does not know.
    Told(String),
}

impl<T> Named<T> {
    /// What it is, where this version knows it.
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known(known) => Some(known),
            Self::Told(_) => None,
        }
    }
}

impl<T: PartialEq> Named<T> {
    /// Whether it is this one.
    pub fn is(&self, known: &T) -> bool {
        self.known() == Some(known)
    }
}

impl<T> From<T> for Named<T> {
    fn from(known: T) -> Self {
        Self::Known(known)
    }
}

impl<T: fmt::Display> fmt::Display for Named<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(known) => known.fmt(f),
            Self::Told(text) => f.write_str(text),
        }
    }
}

//! The note in each folder that this program has put into the host's tree.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub(super) const MANIFEST: &str = ".nic-driver.json";

/// What was put into one folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    /// Who is to be asked.
    pub(super) made_by: String,
    /// SHA-256 of each file, by its path in the folder.
    pub(super) files: BTreeMap<PathBuf, String>,
    /// The files that the incumbent had left here, before this program took the folder over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) taken_over: Vec<PathBuf>,
}

impl Manifest {
    pub(super) fn new() -> Self {
        Self { made_by: "nic-driver".to_owned(), files: BTreeMap::new(), taken_over: Vec::new() }
    }
}

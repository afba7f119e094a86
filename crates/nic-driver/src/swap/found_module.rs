//! A module's file with its bytes: those that are compared are those that are kept.

use std::path::Path;

use nic_kmod::{ModuleFile, ParameterDefaults, read_unpacked};

use crate::context::Context;
use crate::state::{ModuleBackup, sha256};

/// A module's file, read.
pub(super) struct FoundModule {
    pub(super) file: ModuleFile,
    /// Unpacked.
    pub(super) content: Vec<u8>,
}

impl FoundModule {
    /// Reads a module's file; what is none is passed over with a log line.
    pub(super) fn read(context: &Context, path: &Path) -> Option<Self> {
        let read = || -> Result<Self, String> {
            let content = read_unpacked(&context.host, path).map_err(|error| crate::error_chain(&error))?;
            let file = ModuleFile::parse(path, &content).map_err(|error| crate::error_chain(&error))?;
            Ok(Self { file, content })
        };
        read()
            .inspect_err(|error| {
                tracing::info!(path = %path.display(), error, "the file is no module that can be read, and no backup candidate");
            })
            .ok()
    }
}

/// A kept module with what its content tells.
pub(super) fn described(kept: ModuleBackup, content: &[u8]) -> ModuleBackup {
    // A default that is not known is not guessed.
    let defaults = ParameterDefaults::parse(content).unwrap_or_default();
    ModuleBackup { sha256: Some(sha256(content)), defaults, ..kept }
}

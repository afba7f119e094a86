//! A module's file that is to be kept: what it says of itself, and its bytes when they are wanted.

use std::path::Path;

use nic_kmod::{ModuleFile, ModuleFileError, ParameterDefaults, ParseModuleError, read_unpacked};

use crate::context::Context;
use crate::state::{ModuleBackup, sha256};

/// A module's file, read. Its bytes are not held: the files of a driver together are large, and mostly nothing is to be kept.
pub(super) struct FoundModule {
    pub(super) file: ModuleFile,
    /// How many bytes it has unpacked.
    pub(super) size: u64,
}

/// The bytes of a module's file could not be had again.
#[derive(Debug, thiserror::Error)]
pub(super) enum ContentError {
    #[error(transparent)]
    Read(#[from] ModuleFileError),
    #[error(transparent)]
    Parse(#[from] ParseModuleError),
    #[error("the file is another one by now")]
    Changed,
}

impl FoundModule {
    /// Reads a module's file; what is none is passed over with a log line.
    pub(super) fn read(context: &Context, path: &Path) -> Option<Self> {
        match ModuleFile::read_with_size(&context.host, path) {
            Ok((file, size)) => Some(Self { file, size }),
            Err(error) => {
                tracing::info!(
                    path = %path.display(),
                    error = crate::error_chain(&error),
                    "the file is not a readable module, and no backup candidate"
                );
                None
            }
        }
    }

    /// Its bytes, unpacked: those of the file that was compared, or none.
    pub(super) fn content(&self, context: &Context) -> Result<Vec<u8>, ContentError> {
        let content = read_unpacked(&context.host, &self.file.path)?;
        if ModuleFile::parse(&self.file.path, &content)? == self.file {
            return Ok(content);
        }
        Err(ContentError::Changed)
    }
}

/// A kept module with what its content tells.
pub(super) fn described(kept: ModuleBackup, content: &[u8]) -> ModuleBackup {
    // A default that is not known is not guessed.
    let defaults = ParameterDefaults::parse(content).unwrap_or_default();
    ModuleBackup { sha256: Some(sha256(content)), defaults, ..kept }
}

#[cfg(test)]
mod tests {
    use nic_host::Host;

    use super::*;
    use crate::fixture;

    #[test]
    fn trial_w4_the_bytes_that_are_kept_are_those_of_the_file_that_was_compared() {
        let tree = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../fixtures/documented-node/before/lib/modules/5.14.0-570.73.1.el9_6.aarch64+64k/extra/mlnx-ofa_kernel"
        );
        let (core, compat) = (
            std::fs::read(format!("{tree}/drivers/net/ethernet/mellanox/mlx5/core/mlx5_core.ko")).unwrap(),
            std::fs::read(format!("{tree}/compat/mlx_compat.ko")).unwrap(),
        );
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("proc/sys/kernel/random")).unwrap();
        let write = |path: &str, bytes: &[u8]| std::fs::write(dir.path().join(path), bytes).unwrap();
        write("proc/sys/kernel/osrelease", b"6.12.1");
        write("proc/sys/kernel/random/boot_id", b"0c2f7a1e-6b5d-4f3a-9e8c-d1b2a3948576\n");
        write("a.ko", &core);
        let context = fixture::context(Host::at(dir.path()), &dir.path().join("state"));
        let found = FoundModule::read(&context, Path::new("/a.ko")).unwrap();
        assert_eq!(found.size, core.len() as u64);
        assert_eq!(found.content(&context).unwrap(), core);
        write("a.ko", &compat);
        assert!(matches!(found.content(&context), Err(ContentError::Changed)));
        write("a.ko", b"");
        assert!(matches!(found.content(&context), Err(ContentError::Parse(_))));
        std::fs::remove_file(dir.path().join("a.ko")).unwrap();
        assert!(matches!(found.content(&context), Err(ContentError::Read(_))));
    }
}

//! The readiness file, by which other containers and the kubelet know that the node's NICs are what they should be.
//!
//! It never exists while the machine differs from the snapshot: it goes before the first change, and comes when the
//! machine was read back and found equal.

use nic_host::WriteError;

use crate::context::Context;
use crate::state::{PhaseRecord, Step};

/// Removes the file: from here on the node is not ready.
pub(crate) fn take_readiness_away(context: &Context, phase: &PhaseRecord) -> Result<(), WriteError> {
    let step = phase.step(Step::TakeReadinessAway);
    step.record(context.host.remove_file(&context.settings.readiness_file)).map(|_| ())
}

/// Creates the file. Only its existence has a meaning.
pub(crate) fn give_readiness(context: &Context, phase: &PhaseRecord) -> Result<(), WriteError> {
    let step = phase.step(Step::GiveReadiness);
    step.record(context.host.write_durably(&context.settings.readiness_file, b""))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use nic_host::Host;

    use super::*;
    use crate::fixture;
    use crate::state::Phase;

    /// A tree whose readiness file is `path`.
    fn context(path: &str) -> (tempfile::TempDir, Context) {
        let dir = tempfile::tempdir().unwrap();
        for (file, text) in
            [("proc/sys/kernel/osrelease", "6.12.1\n"), ("proc/sys/kernel/random/boot_id", "boot\n")]
        {
            fs::create_dir_all(dir.path().join(file).parent().unwrap()).unwrap();
            fs::write(dir.path().join(file), text).unwrap();
        }
        let mut context = fixture::context(Host::at(dir.path()), &dir.path().join("state"));
        context.settings.readiness_file = path.into();
        (dir, context)
    }

    #[test]
    fn the_file_comes_with_its_folders_and_goes_alone_each_also_twice() {
        for path in ["/.driver-ready", "/run/mellanox/drivers/.driver-ready", "/a/b/c/d/ready"] {
            let (dir, context) = context(path);
            let phase = context.journal.phase(Phase::Run);
            let file = dir.path().join(path.trim_start_matches('/'));
            take_readiness_away(&context, &phase).unwrap();
            for _ in 0..2 {
                give_readiness(&context, &phase).unwrap();
                assert_eq!(fs::read(&file).unwrap(), b"", "{path}");
            }
            for _ in 0..2 {
                take_readiness_away(&context, &phase).unwrap();
                assert!(!file.exists() && file.parent().is_some_and(Path::exists), "{path}");
            }
            give_readiness(&context, &phase).unwrap();
            assert!(file.exists(), "{path}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_made_or_removed_is_an_error() {
        let (dir, context) = context("/run/ready");
        let phase = context.journal.phase(Phase::Run);
        // A file where its folder would be, and then a folder in its place.
        fs::write(dir.path().join("run"), "").unwrap();
        let error = give_readiness(&context, &phase).unwrap_err();
        assert!(error.to_string().contains("/run"), "{error}");
        fs::remove_file(dir.path().join("run")).unwrap();
        fs::create_dir_all(dir.path().join("run/ready/full")).unwrap();
        give_readiness(&context, &phase).unwrap_err();
        let error = take_readiness_away(&context, &phase).unwrap_err();
        assert!(error.to_string().contains("/run/ready"), "{error}");
    }
}

//! The readiness file, by which other containers and the kubelet know that the node's NICs are what they should be.
//!
//! It never exists while the machine differs from the snapshot: it goes before the first change, and comes when the
//! machine was read back and found equal.

use std::io;

use nic_host::WriteError;

use crate::context::Context;
use crate::state::{PhaseRecord, Step};

/// Removes the file: from here on the node is not ready.
///
/// # Errors
/// The file cannot be removed, or holds something: then it is somebody else's, and stays.
pub(crate) fn take_readiness_away(context: &Context, phase: &PhaseRecord) -> Result<(), WriteError> {
    let step = phase.step(Step::TakeReadinessAway);
    let remove = || {
        ensure_nobody_elses(context, "remove")?;
        context.host.remove_file(&context.settings.readiness_file).map(drop)
    };
    step.record(remove())
}

/// Creates the file. Only its existence has a meaning.
///
/// # Errors
/// The file cannot be written, or something is there that is somebody else's.
pub(crate) fn give_readiness(context: &Context, phase: &PhaseRecord) -> Result<(), WriteError> {
    let step = phase.step(Step::GiveReadiness);
    let write = || {
        ensure_nobody_elses(context, "write")?;
        context.host.write_durably(&context.settings.readiness_file, b"")
    };
    step.record(write())
}

/// A readiness file is empty, whoever has made it. What else is in its place was put there by mistake, and is not ours to lose.
fn ensure_nobody_elses(context: &Context, action: &str) -> Result<(), WriteError> {
    let path = context.host.path(&context.settings.readiness_file);
    match path.symlink_metadata() {
        Ok(found) if !found.is_file() || found.len() > 0 => Err(WriteError {
            path,
            action: action.to_owned(),
            source: io::Error::other(
                "what is there is no readiness file, which is a file and empty: DRIVER_READY_PATH names somebody else's",
            ),
        }),
        Ok(_) | Err(_) => Ok(()),
    }
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
    fn trial_w8_what_is_no_readiness_file_stays_and_is_an_error() {
        let (dir, context) = context("/ready");
        let phase = context.journal.phase(Phase::Run);
        let file = dir.path().join("ready");
        fs::write(&file, "notes").unwrap();
        take_readiness_away(&context, &phase).unwrap_err();
        let error = give_readiness(&context, &phase).unwrap_err();
        assert!(crate::error_chain(&error).contains("DRIVER_READY_PATH"), "{error}");
        assert_eq!(fs::read_to_string(&file).unwrap(), "notes");
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        take_readiness_away(&context, &phase).unwrap_err();
        assert!(file.is_dir());
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

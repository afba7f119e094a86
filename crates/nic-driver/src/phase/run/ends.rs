//! What is wrong with the container itself: a setting, the image, its packages, a build. It ends, for a restart may bring another image
//! or another answer; but not for ever: each restart counts against the node, and more than ten make its upgrade a failed one.

use std::path::PathBuf;

use nic_dtk::{DriverSideError, WaitError};
use nic_host::WriteError;

use super::super::error::PhaseError;
use super::super::obtain_error::ObtainError;
use super::obstacle::Obstacle;
use crate::Exit;
use crate::context::Context;

/// How many times in a row a container ends for one reason. After that it stays, and tries again by itself.
const MOST: u32 = 3;
/// The longest count with its reason that is read, in bytes.
const LONGEST: u64 = 64 << 10;

/// Whether this is wrong with the container, and not with the node.
pub(super) fn is_of_container(error: &PhaseError) -> bool {
    match error {
        PhaseError::Obtain(error) => match error.as_ref() {
            ObtainError::Build(_) | ObtainError::Built(_) | ObtainError::SidecarBuild { .. } => true,
            ObtainError::Sidecar(error) => {
                matches!(error.as_ref(), DriverSideError::Wait(WaitError::Failed(_)))
            }
            error => matches!(error.exit(), Exit::Usage | Exit::BadPackage),
        },
        PhaseError::Headers(_) => true,
        error => matches!(error.exit(), Exit::NoModule | Exit::BadPackage),
    }
}

/// Counts this end. It may be one too many.
pub(super) fn decide(context: &Context, error: &PhaseError) -> Obstacle {
    let reason = crate::error_chain(error);
    let earlier = read(context).filter(|(_, known)| *known == reason).map_or(0, |(count, _)| count);
    if earlier >= MOST {
        return Obstacle::Passes;
    }
    match write(context, earlier + 1, &reason) {
        Ok(()) => Obstacle::Ends,
        Err(error) => {
            tracing::warn!(
                error = crate::error_chain(&error),
                "this end cannot be counted: the container stays"
            );
            Obstacle::Passes
        }
    }
}

/// The node is ready: what has ended earlier containers is over.
pub(super) fn forget(context: &Context) {
    if let Err(error) = context.host.remove_file(file(context)) {
        tracing::debug!(error = crate::error_chain(&error), "the count of earlier ends stays");
    }
}

fn file(context: &Context) -> PathBuf {
    context.store.folder().join("ends")
}

/// The count in the first line, the reason in the others.
fn read(context: &Context) -> Option<(u32, String)> {
    // What cannot be read is counted anew, and replaced.
    let text = context.host.read_up_to_if_exists(file(context), LONGEST).ok()??;
    let (count, reason) = text.split_once('\n')?;
    Some((count.parse().ok()?, reason.to_owned()))
}

fn write(context: &Context, count: u32, reason: &str) -> Result<(), WriteError> {
    context.host.write_durably(file(context), format!("{count}\n{reason}").as_bytes())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use nic_host::Host;

    use super::*;
    use crate::fixture;

    /// Who waits for a FIFO waits for ever.
    #[test]
    fn trial_w3_a_count_that_is_no_file_or_has_no_end_is_counted_anew() {
        let tree = tempfile::tempdir().unwrap();
        let context = fixture::context(Host::running(), tree.path());
        write(&context, 2, "why").unwrap();
        assert_eq!(read(&context), Some((2, "why".to_owned())));
        let path = context.host.path(file(&context));
        std::fs::File::options().append(true).open(&path).unwrap().write_all(&vec![b'x'; 1 << 20]).unwrap();
        assert_eq!(read(&context), None);
        std::fs::remove_file(&path).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        assert_eq!(read(&context), None);
        write(&context, 1, "why").unwrap();
        assert_eq!(read(&context), Some((1, "why".to_owned())));
    }
}

//! What follows from one look at the shared folder. Pure.

use crate::digest::Digest;
use crate::request::AttemptId;
use crate::result::{BuildFailed, BuildResult, Outcome};

/// What the shared folder says about the attempt.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The packages are built.
    Built,
    /// The sidecar says that it failed.
    Failed(BuildFailed),
    /// A done flag of a build of something else.
    Stale,
    /// Neither yet.
    Pending,
}

pub(super) fn judge(
    attempt: &AttemptId,
    digest: Digest,
    done_flag: bool,
    result: Option<&BuildResult>,
) -> Verdict {
    let Some(result) = result else {
        // The incumbent's sidecar leaves no result.
        return if done_flag { Verdict::Built } else { Verdict::Pending };
    };
    match &result.outcome {
        Outcome::Failed(failed) if result.attempt.as_ref() == Some(attempt) => {
            Verdict::Failed(failed.printable())
        }
        Outcome::Built { .. } if done_flag && result.digest == Some(digest) => Verdict::Built,
        _ if done_flag => Verdict::Stale,
        _ => Verdict::Pending,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::SCHEMA;

    #[test]
    fn what_the_folder_says() {
        let (ours, other) = (AttemptId::new().unwrap(), AttemptId::new().unwrap());
        let digest = Digest::of(b"ours");
        let failed = || BuildFailed { reason: "no perl".to_owned(), log_tail: vec!["line".to_owned()] };
        let built = |of: &str| BuildResult {
            schema: SCHEMA,
            attempt: Some(other.clone()),
            digest: Some(Digest::of(of.as_bytes())),
            outcome: Outcome::Built { packages: Vec::new() },
        };
        let broken = |attempt: Option<&AttemptId>| BuildResult {
            schema: SCHEMA,
            attempt: attempt.cloned(),
            digest: Some(digest),
            outcome: Outcome::Failed(failed()),
        };
        for (done_flag, result, expected) in [
            (false, None, Verdict::Pending),
            (true, None, Verdict::Built),
            (true, Some(built("ours")), Verdict::Built),
            // The result is there before the flag is.
            (false, Some(built("ours")), Verdict::Pending),
            (true, Some(built("other")), Verdict::Stale),
            (false, Some(built("other")), Verdict::Pending),
            (false, Some(broken(Some(&ours))), Verdict::Failed(failed())),
            (true, Some(broken(Some(&ours))), Verdict::Failed(failed())),
            // Another attempt's failure is not this one's.
            (false, Some(broken(Some(&other))), Verdict::Pending),
            (true, Some(broken(Some(&other))), Verdict::Stale),
            (false, Some(broken(None)), Verdict::Pending),
        ] {
            let found = judge(&ours, digest, done_flag, result.as_ref());
            assert_eq!(found, expected, "{done_flag} {result:?}");
        }
    }
}

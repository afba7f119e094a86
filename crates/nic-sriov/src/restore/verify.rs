//! The verification: what counts as equal, what a driver's refusal excuses, and what is said of each VF.

use super::ledger::Ledger;
use super::outcome::{RestoreOutcome, StepFailure, VfOutcome};
use crate::plan::SkippedPf;
use crate::{Attribute, Component, Difference, Gravity, NicState};

/// A difference whose step the driver refused with "not supported" is what the driver lacks, not what went wrong.
pub(super) fn excuse_unsupported(differences: &mut [Difference], failures: &[StepFailure]) {
    for difference in differences.iter_mut().filter(|difference| difference.is_wrong()) {
        let refused = failures.iter().any(|failure| {
            failure.unsupported
                && failure.component == difference.component
                && failure.attributes.contains(&difference.attribute)
        });
        if refused {
            difference.gravity = Gravity::Unsupported;
        }
    }
}

/// Puts together what is told of a restore.
pub(super) fn outcome(
    saved: &NicState,
    skipped: Vec<SkippedPf>,
    differences: Vec<Difference>,
    ledger: Ledger,
) -> RestoreOutcome {
    let vfs = saved.pfs.iter().flat_map(|pf| pf.vfs.iter().map(move |vf| (pf, vf)));
    let vfs = vfs.map(|(pf, vf)| {
        let component = Component::of_vf(pf, vf);
        let whole_pf_wrong = |d: &Difference| {
            d.component == Component::Pf(pf.address.clone())
                && matches!(d.attribute, Attribute::Presence | Attribute::Observation)
        };
        let wrong =
            differences.iter().any(|d| d.is_wrong() && (d.component == component || whole_pf_wrong(d)));
        let progress = ledger.vfs.iter().find(|progress| progress.component == component);
        VfOutcome {
            name: vf.netdev.here().map(|netdev| netdev.name.clone()),
            first_seen_as: progress.and_then(|progress| progress.first_seen_as.clone()),
            waited_ms: progress
                .and_then(|progress| progress.waited)
                .map(|waited| u64::try_from(waited.as_millis()).unwrap_or(u64::MAX)),
            steps: progress.map_or(0, |progress| progress.steps),
            retried: progress.is_some_and(|progress| progress.retried),
            verified: !wrong,
            component,
        }
    });
    RestoreOutcome {
        skipped,
        vfs: vfs.collect(),
        steps: ledger.steps,
        failures: ledger.failures,
        differences,
    }
}

//! The verification: what counts as equal, what a driver's refusal excuses, and what is said of each VF.

use std::collections::{HashMap, HashSet};

use super::ledger::{Ledger, VfProgress};
use super::outcome::{RestoreOutcome, StepFailure, VfOutcome};
use crate::plan::SkippedPf;
use crate::{Attribute, Component, DeviceAddress, Difference, Gravity, NicState};

/// A difference whose step the driver refused with "not supported" is what the driver lacks, not what went wrong.
pub(super) fn excuse_unsupported(differences: &mut [Difference], failures: &[StepFailure]) {
    let mut refused: HashMap<&Component, Vec<Attribute>> = HashMap::new();
    for failure in failures.iter().filter(|failure| failure.unsupported) {
        refused.entry(&failure.component).or_default().extend(&failure.attributes);
    }
    for difference in differences.iter_mut().filter(|difference| difference.is_wrong()) {
        let of_component = refused.get(&difference.component);
        if of_component.is_some_and(|attributes| attributes.contains(&difference.attribute)) {
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
    let mut wrong: HashSet<&Component> = HashSet::new();
    let mut wrong_pfs: HashSet<&DeviceAddress> = HashSet::new();
    for difference in differences.iter().filter(|difference| difference.is_wrong()) {
        wrong.insert(&difference.component);
        // Then nothing is right of the VFs either.
        if let (Component::Pf(pf), Attribute::Presence | Attribute::Observation) =
            (&difference.component, difference.attribute)
        {
            wrong_pfs.insert(pf);
        }
    }
    let mut progresses: HashMap<&Component, &VfProgress> = HashMap::new();
    for progress in &ledger.vfs {
        progresses.entry(&progress.component).or_insert(progress);
    }
    let vfs = saved.pfs.iter().flat_map(|pf| pf.vfs.iter().map(move |vf| (pf, vf)));
    let vfs = vfs.map(|(pf, vf)| {
        let component = Component::of_vf(pf, vf);
        let wrong = wrong.contains(&component) || wrong_pfs.contains(&pf.address);
        let progress = progresses.get(&component);
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
    let vfs = vfs.collect();
    RestoreOutcome { skipped, vfs, steps: ledger.steps, failures: ledger.failures, differences }
}

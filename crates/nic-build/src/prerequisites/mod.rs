//! What a build of kernel modules needs on a node: headers, programs, and the repositories that have them.

mod debian;
mod red_hat;
mod suse;

use nic_packages::{DistributionFamily, Node, RhelReleaseError};

use crate::facts::BuildFacts;
use crate::step::Plan;
use crate::work::Work;

/// What this node needs to build, and how it gets it.
///
/// # Errors
/// A node of Red Hat's family does not tell its release, by which its repositories go.
pub fn prerequisites(node: &Node, facts: &BuildFacts, work: Work) -> Result<Plan, RhelReleaseError> {
    if let Work::Nothing(reason) = work {
        return Ok(Plan::nothing(format!("nothing is built here: {reason}")));
    }
    let mut plan = match node.distribution.family() {
        DistributionFamily::Debian => debian::prerequisites(node, facts),
        DistributionFamily::RedHat => red_hat::prerequisites(node, facts)?,
        DistributionFamily::Suse => suse::prerequisites(node),
    };
    if let Some(places) = &facts.missing_registration {
        let places: Vec<String> = places.iter().map(|place| place.display().to_string()).collect();
        plan.notes.push(format!("no registration of this system is visible in {}", places.join(" or ")));
    }
    Ok(plan)
}

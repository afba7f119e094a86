//! Certificates of authorities that the cluster has mounted.

use nic_packages::{DistributionFamily, Node};

use crate::command::{OnFailure, PlannedCommand};
use crate::facts::StartFacts;
use crate::step::Plan;

/// Takes over the certificates that are mounted where the distribution looks for an administrator's. It never fails an
/// installation: on OpenShift what it would write to is itself mounted, read-only.
#[must_use]
pub fn certificates(node: &Node, facts: &StartFacts) -> Plan {
    let Some(program) = facts.certificate_program else {
        return Plan::nothing("no program takes certificates over: those of the image are used");
    };
    let extract = (node.distribution.family() == DistributionFamily::RedHat).then_some("extract");
    let command = PlannedCommand::new("take over the cluster's certificates", [program]).args(extract);
    Plan::of([command.on_failure(OnFailure::Warning).into()])
}

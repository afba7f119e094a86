use nic_packages::Node;

use crate::command::PlannedCommand;
use crate::step::Plan;

/// SUSE: the devel package of the kernel's variant, in the kernel's version.
pub(super) fn prerequisites(node: &Node) -> Plan {
    let package = format!("kernel-{}-devel={}", node.variant.name, node.variant.version);
    let argv = ["zypper", "--non-interactive", "install", "--no-recommends", &package];
    Plan::of([PlannedCommand::new("install the kernel's headers", argv).into()])
}

use nic_packages::{Distribution, KernelFlavour, Node};

use crate::command::{OnFailure, PlannedCommand};
use crate::facts::BuildFacts;
use crate::step::{CopyExtent, Plan, Step};

/// Ubuntu and Debian: the headers of exactly this kernel. Those of Ubuntu's realtime kernel are in repositories of Ubuntu
/// Pro, which the host is attached to and the container is not: the host's configuration is taken over.
pub(super) fn prerequisites(node: &Node, facts: &BuildFacts) -> Plan {
    let is_realtime = matches!(node.variant.flavour, KernelFlavour::Realtime | KernelFlavour::Realtime64K);
    let mut plan = Plan::default();
    if is_realtime && node.distribution == Distribution::Ubuntu {
        if facts.sees_host {
            plan.steps = configuration_of_host();
        } else {
            plan.notes.push("this is no container: apt is configured as the host is".to_owned());
        }
    }
    let apt = |purpose: &str, verb: &str| {
        PlannedCommand::new(purpose, ["apt-get", "-yq", verb]).env("DEBIAN_FRONTEND", "noninteractive")
    };
    let headers = format!("linux-headers-{}", node.kernel);
    plan.steps.push(apt("get package lists", "update").into());
    plan.steps
        .push(apt("install the kernel's headers", "install").args(["pkg-config".to_owned(), headers]).into());
    plan
}

fn configuration_of_host() -> Vec<Step> {
    vec![
        Step::Copy {
            purpose: "take over the host's configuration of apt, whose repositories have the realtime kernel"
                .to_owned(),
            from: "/host/etc/apt".into(),
            to: "/etc/apt".into(),
            extent: CopyExtent::Folder,
            on_failure: OnFailure::Fatal,
        },
        // Sources name the keys that sign them, and those of Ubuntu Pro lie here.
        Step::Copy {
            purpose: "take over the keys that sign those repositories".to_owned(),
            from: "/host/usr/share/keyrings".into(),
            to: "/usr/share/keyrings".into(),
            extent: CopyExtent::MissingFiles,
            on_failure: OnFailure::Warning,
        },
    ]
}

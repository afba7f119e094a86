//! Ubuntu's user space for FIPS, from Ubuntu Pro.

use nic_host::Secret;
use nic_packages::{Distribution, Node};

use crate::command::{PlannedCommand, Word};
use crate::facts::StartFacts;
use crate::step::{Plan, Step};

/// Attaches this Ubuntu to Ubuntu Pro and installs its user space for FIPS. Each step is fatal: who gives a token relies on
/// it. Meanwhile OpenSSL is told not to insist on FIPS, since what it would need for that is what is being installed.
#[must_use]
pub fn fips(node: &Node, facts: &StartFacts, token: Option<&Secret>) -> Plan {
    let Some(token) = token else { return Plan::default() };
    if node.distribution != Distribution::Ubuntu {
        return Plan::nothing(format!(
            "UBUNTU_PRO_TOKEN is given, and this is {}: it has no effect",
            node.distribution
        ));
    }
    let attach = PlannedCommand::new("attach to Ubuntu Pro", ["pro", "attach", "--no-auto-enable"])
        .args([Word::secret(token)]);
    let commands = [
        Some(PlannedCommand::new("update certificates for Ubuntu Pro", ["update-ca-certificates"])),
        // A container that is started anew is attached still, and pro refuses to attach twice.
        (!facts.is_attached_to_pro).then_some(attach),
        Some(PlannedCommand::new(
            "get access to FIPS updates",
            ["pro", "enable", "--access-only", "--assume-yes", "fips-updates"],
        )),
        Some(PlannedCommand::new(
            "install the user space for FIPS",
            ["apt-get", "-yqq", "install", "--no-install-recommends", "ubuntu-fips-userspace"],
        )),
    ];
    let steps = commands.into_iter().flatten().map(|command| {
        let is_apt = command.argv.first() == Some(&Word::from("apt-get"));
        let command = command.env("OPENSSL_FORCE_FIPS_MODE", "0").hiding(token);
        Step::Run(if is_apt { command.env("DEBIAN_FRONTEND", "noninteractive") } else { command })
    });
    Plan::of(steps)
}

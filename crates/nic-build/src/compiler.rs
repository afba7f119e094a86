//! The compiler that built the kernel.

use nic_packages::{Distribution, Node};

use crate::command::PlannedCommand;
use crate::facts::BuildFacts;
use crate::gcc::{GccVersion, toolset_program, versioned_program};
use crate::step::{Plan, Step};

/// Installs the compiler that built the kernel, and makes it the one that `gcc` is: modules that another one built may not
/// load, or not behave. All of it is fatal. On OpenShift nothing is done: the image has the compiler of its release.
#[must_use]
pub fn compiler(node: &Node, facts: &BuildFacts) -> Plan {
    if node.distribution == Distribution::OpenShift {
        return Plan::nothing("on OpenShift the image's compiler is used");
    }
    let Some(version) = facts.gcc else {
        return Plan::nothing(
            "/proc/version tells no version of GCC: modules are built with the compiler that is there",
        );
    };
    let major = version.major;
    let install = |argv: &[&str], package: &str| {
        PlannedCommand::new(format!("install GCC {major}, which built the kernel"), argv.iter().copied())
            .args([package])
    };
    let steps: Vec<Step> = match node.distribution {
        Distribution::RedHat | Distribution::RedHatImage => {
            let select = Step::from(alternative(version, &toolset_program(version)));
            if facts.has_compiler {
                return Plan::of([select]);
            }
            let toolset = format!("gcc-toolset-{major}");
            let dnf = ["dnf", "-q", "-y", "install"];
            let question = PlannedCommand::new(
                format!("ask whether there is {toolset}"),
                ["dnf", "list", "available", &toolset],
            );
            // The other one is /usr/bin/gcc itself: an alternative would be a link to itself.
            let other = PlannedCommand::new("install the distribution's GCC", dnf).args(["gcc"]);
            vec![Step::ask(question, vec![install(&dnf, &toolset).into(), select], vec![other.into()])]
        }
        Distribution::Ubuntu | Distribution::Debian => {
            let lists = PlannedCommand::new("get package lists", ["apt-get", "-yq", "update"]);
            let install = install(&["apt-get", "-yq", "install"], &format!("gcc-{major}"));
            let commands = [lists, install].map(|command| command.env("DEBIAN_FRONTEND", "noninteractive"));
            installed_unless_there(facts, commands, version)
        }
        Distribution::Suse => {
            let install = install(
                &["zypper", "--non-interactive", "install", "--no-recommends"],
                &format!("gcc{major}"),
            );
            installed_unless_there(facts, [install], version)
        }
        Distribution::OpenShift => Vec::new(),
    };
    Plan::of(steps)
}

fn installed_unless_there(
    facts: &BuildFacts,
    commands: impl IntoIterator<Item = PlannedCommand>,
    version: GccVersion,
) -> Vec<Step> {
    let commands = commands.into_iter().filter(|_| !facts.has_compiler);
    commands.chain([alternative(version, &versioned_program(version))]).map(Step::from).collect()
}

fn alternative(version: GccVersion, program: &str) -> PlannedCommand {
    let argv = ["update-alternatives", "--install", "/usr/bin/gcc", "gcc", program, "200"];
    PlannedCommand::new(format!("make GCC {} the one that gcc is", version.major), argv)
}

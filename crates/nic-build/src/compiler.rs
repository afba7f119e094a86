//! The compiler that built the kernel.

use std::fmt;

use nic_packages::{Distribution, Node};
use serde::Serialize;

use crate::command::PlannedCommand;
use crate::facts::BuildFacts;
use crate::step::{Plan, Step};

/// A version of GCC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub struct GccVersion {
    /// By which packages and programs go.
    pub major: u32,
    /// The second number.
    pub minor: u32,
    /// The third.
    pub patch: u32,
}

impl GccVersion {
    /// The compiler in the text of `/proc/version`: the first `x.y.z` behind the first "gcc". A kernel that clang built has
    /// none, and one that is built by hand may have anything.
    #[must_use]
    pub fn of_kernel(proc_version: &str) -> Option<Self> {
        let (_, behind) = proc_version.split_once("gcc")?;
        behind.split(|c: char| !(c.is_ascii_digit() || c == '.')).find_map(|word| {
            let mut numbers = word.split('.').map(str::parse);
            let mut next = || numbers.next()?.ok();
            Some(Self { major: next()?, minor: next()?, patch: next()? })
        })
    }
}

impl fmt::Display for GccVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl From<GccVersion> for String {
    fn from(version: GccVersion) -> Self {
        version.to_string()
    }
}

/// What Ubuntu, Debian and SUSE call the compiler of a major version.
pub(crate) fn versioned_program(version: GccVersion) -> String {
    format!("/usr/bin/gcc-{}", version.major)
}

/// Where Red Hat's toolsets have it.
pub(crate) fn toolset_program(version: GccVersion) -> String {
    format!("/opt/rh/gcc-toolset-{}/root/usr/bin/gcc", version.major)
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_in_the_texts_of_distributions() {
        for (text, version) in [
            (
                "Linux version 6.8.0-31-generic (buildd@lcy02-amd64-080) (x86_64-linux-gnu-gcc-13 (Ubuntu \
                 13.2.0-23ubuntu4) 13.2.0, GNU ld (GNU Binutils for Ubuntu) 2.42) #31-Ubuntu SMP PREEMPT_DYNAMIC\n",
                Some("13.2.0"),
            ),
            (
                "Linux version 5.15.0-25-generic (buildd@bos03-arm64-048) (gcc (Ubuntu 11.2.0-19ubuntu1) 11.2.0, \
                 GNU ld (GNU Binutils for Ubuntu) 2.38) #25-Ubuntu SMP\n",
                Some("11.2.0"),
            ),
            (
                "Linux version 6.4.0-150700.51-default (geeko@buildhost) (gcc (SUSE Linux) 7.5.0, GNU ld (GNU \
                 Binutils; SUSE Linux Enterprise 15) 2.43.1.20241209-150100.7.52) #1 SMP PREEMPT_DYNAMIC\n",
                Some("7.5.0"),
            ),
            (
                "Linux version 5.14.0-570.12.1.el9_6.x86_64 (mockbuild@x86-64-01.example.com) (gcc (GCC) 11.5.0 \
                 20240719 (Red Hat 11.5.0-5), GNU ld version 2.35.2-63.el9) #1 SMP PREEMPT_DYNAMIC\n",
                Some("11.5.0"),
            ),
            (
                "Linux version 6.1.0-18-arm64 (debian-kernel@example.org) (aarch64-linux-gnu-gcc-12 (Debian \
                 12.2.0-14) 12.2.0, GNU ld (GNU Binutils for Debian) 2.40)\n",
                Some("12.2.0"),
            ),
            ("Linux version 6.6.1 (me@here) (gcc version 14.1.1 20240522) #1 SMP\n", Some("14.1.1")),
            // Two numbers are no version, nor are numbers too big to be one.
            ("Linux version 6.6.1 (me@here) (gcc 14.1, GNU ld 2.42) #1 SMP\n", None),
            ("gcc 99999999999.1.1\n", None),
            ("Linux version 6.6.1-0-lts (Alpine clang version 17.0.6, LLD 17.0.6) #1-Alpine SMP\n", None),
            ("Linux version 6.6.1 5.4.3\n", None),
            ("", None),
        ] {
            let found = GccVersion::of_kernel(text).map(String::from);
            assert_eq!(found.as_deref(), version, "{text}");
        }
    }
}

//! The table of scenarios: what each is for, which machine it needs, and how long it may take.
//!
//! The host reads this table to list scenarios and to build the machine; the guest's binary has for each name the
//! function that carries it out (`scenarios/`), and a test there keeps the two in step.

mod parts;
mod table;

use std::time::Duration;

pub use table::SCENARIOS;

/// One scenario, as data.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// Its name on the command line and in the verdict.
    pub name: &'static str,
    /// What it shows, in one line.
    pub summary: &'static str,
    /// The machine it runs on.
    pub topology: Topology,
    /// The longest run that still counts. Exceeding it is a failure. Under software emulation on an idle host with two
    /// processors a run takes a fraction of this.
    pub timeout: Duration,
    /// What the guest needs of the program.
    pub needs: Needs,
    /// When it runs.
    pub suite: Suite,
    /// What can be set with `--param NAME=VALUE`.
    pub parameters: &'static [Parameter],
}

/// The devices and the memory of a guest.
#[derive(Debug, Clone, Copy)]
pub struct Topology {
    /// Number of igb PFs, each with its own PCIe root port.
    pub igb_pfs: u8,
    /// The other NICs.
    pub wires: Wires,
    /// An emulated IOMMU, for vfio-pci.
    pub iommu: bool,
    /// What of the kernel's security modules is on.
    pub security: Security,
    /// Memory in MiB.
    pub memory_mib: u32,
}

/// Which security module the kernel runs with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// The distribution's choice.
    AsShipped,
    /// SELinux, without a policy: labels are kept, and nothing is forbidden.
    Selinux,
    /// No module is loaded without a signature that the kernel trusts.
    SignedModules,
}

/// The NICs beside the SR-IOV ones. See [`crate::wiring`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wires {
    /// None.
    None,
    /// The peer on the data path, and the pair of bystanders.
    PeerAndBystanders,
}

/// What a guest needs of the program under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Nothing: the scenario is about the lab.
    Nothing,
    /// Its binary.
    NicDriver,
    /// Its binary, and packages that it has built.
    BuiltPackages,
    /// The same, dkms, and what it has built.
    DkmsBuilt,
    /// Its binary, and pods that it runs in.
    Pods,
}

impl Needs {
    /// Whether pods are to be made before.
    #[must_use]
    pub fn pods(self) -> bool {
        self == Self::Pods
    }

    /// Whether something is to be built by the program before.
    #[must_use]
    pub fn is_built(self) -> bool {
        matches!(self, Self::BuiltPackages | Self::DkmsBuilt)
    }
}

/// When a scenario runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suite {
    /// With `cargo xtask test`, on every kernel.
    Test,
    /// With `cargo xtask test`, on the newest kernel; on the others when asked for by name.
    TestOnNewest,
    /// With `cargo xtask test`, on the oldest kernel, and on no other.
    TestOnOldest,
    /// When asked for by name, and with `cargo xtask test --all`.
    OnDemand,
    /// Only when asked for by name: it is for a person, measures, or goes on for as long as it is told to.
    ByHand,
}

/// A parameter of a scenario.
#[derive(Debug, Clone, Copy)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// Its value when none is given.
    pub default: &'static str,
    /// What it sets, with its unit.
    pub meaning: &'static str,
}

/// The scenario called `name`.
#[must_use]
pub fn find(name: &str) -> Option<&'static Scenario> {
    SCENARIOS.iter().find(|scenario| scenario.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn find_knows_every_scenario_and_no_other() {
        for scenario in SCENARIOS {
            assert_eq!(find(scenario.name).map(|found| found.name), Some(scenario.name));
        }
        assert!(find("no-such-scenario").is_none());
    }
}

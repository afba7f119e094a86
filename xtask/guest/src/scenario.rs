//! The table of scenarios: what each is for, which machine it needs, and how long it may take.
//!
//! The host reads this table to list scenarios and to build the machine; the guest's binary has for each name the
//! function that carries it out (`scenarios/`), and a test there keeps the two in step.

use std::time::Duration;

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

const NO_NICS: Topology = Topology {
    igb_pfs: 0,
    wires: Wires::None,
    iommu: false,
    security: Security::AsShipped,
    memory_mib: 1536,
};
const TWO_PFS: Topology = Topology {
    igb_pfs: 2,
    wires: Wires::None,
    iommu: false,
    security: Security::AsShipped,
    memory_mib: 2048,
};
const ONE_PF: Topology = Topology { igb_pfs: 1, ..TWO_PFS };
const ONE_PF_SIGNED: Topology = Topology { igb_pfs: 1, security: Security::SignedModules, ..TWO_PFS };
const ONE_PF_SELINUX: Topology = Topology { igb_pfs: 1, security: Security::Selinux, ..TWO_PFS };
const ONE_PF_IOMMU: Topology = Topology { igb_pfs: 1, iommu: true, ..TWO_PFS };
const TWO_PFS_IOMMU: Topology = Topology { igb_pfs: 2, iommu: true, ..TWO_PFS };
const THREE_PFS_IOMMU: Topology = Topology { igb_pfs: 3, iommu: true, ..TWO_PFS };
const SEVEN_PFS: Topology = Topology { igb_pfs: 7, memory_mib: 3072, ..TWO_PFS };
const ONE_PF_WIRED: Topology = Topology { igb_pfs: 1, wires: Wires::PeerAndBystanders, ..TWO_PFS };
const TWO_PFS_WIRED: Topology = Topology { wires: Wires::PeerAndBystanders, ..TWO_PFS };
const TWO_PFS_OF_PODS: Topology = Topology { memory_mib: 3072, ..TWO_PFS_WIRED };
const FOUR_PFS_WIRED: Topology = Topology { igb_pfs: 4, ..TWO_PFS_WIRED };

const FROM_LINE: Parameter =
    Parameter { name: "from", default: "1", meaning: "the first journal line to be killed at" };

const ROUNDS: Parameter = Parameter { name: "rounds", default: "5", meaning: "how many runs of each" };

const SET_UP_ONLY: Parameter =
    Parameter { name: "set-up-only", default: "false", meaning: "true: ends when the set-up stands" };

const fn every_line(default: &'static str) -> Parameter {
    Parameter {
        name: "every-line",
        default,
        meaning: "true: also at lines right before one that begins a step; false: without those",
    }
}

const fn vfs_per_pf(default: &'static str) -> Parameter {
    Parameter { name: "vfs", default, meaning: "how many VFs each PF has, 2 to 7" }
}

const fn kills(default: &'static str) -> Parameter {
    Parameter {
        name: "kills",
        default,
        meaning: "at how many of the lines, spread over all; 0 for all of them",
    }
}

const fn killed(default: &'static str) -> Parameter {
    Parameter {
        name: "killed",
        default,
        meaning: "what is killed: reload, restore-sriov, rollback, terminate, terminate-in-image, or all but the last",
    }
}

const KILL_MATRIX: Scenario = Scenario {
    name: "kill-matrix",
    summary: "All of them in one machine, at every line",
    topology: ONE_PF,
    timeout: Duration::from_secs(3 * 3600),
    needs: Needs::NicDriver,
    suite: Suite::OnDemand,
    parameters: &[vfs_per_pf("2"), FROM_LINE, every_line("true"), kills("0"), killed("all")],
};

/// One of them alone, at fewer lines.
const ONE_KILL_MATRIX: Scenario = Scenario { timeout: Duration::from_secs(1800), ..KILL_MATRIX };

/// All scenarios, in the order in which they run.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "alive",
        summary: "The machine boots; used to find out whether hardware virtualisation works",
        topology: NO_NICS,
        timeout: Duration::from_secs(30),
        needs: Needs::Nothing,
        suite: Suite::ByHand,
        parameters: &[],
    },
    Scenario {
        name: "shell",
        summary: "A shell in a guest with two igb PFs and all wires",
        topology: TWO_PFS_WIRED,
        timeout: Duration::from_secs(24 * 3600),
        needs: Needs::NicDriver,
        suite: Suite::ByHand,
        parameters: &[],
    },
    Scenario {
        name: "boot",
        summary: "The lab itself: PFs appear under the inbox igb, VFs are created, udev renames them, the wires carry",
        topology: TWO_PFS_WIRED,
        timeout: Duration::from_secs(300),
        needs: Needs::Nothing,
        suite: Suite::TestOnNewest,
        parameters: &[],
    },
    Scenario {
        name: "packages",
        summary: "The lab's driver packages: rpm and apt install them, depmod prefers them, modprobe loads them",
        topology: TWO_PFS,
        timeout: Duration::from_secs(600),
        needs: Needs::Nothing,
        suite: Suite::TestOnNewest,
        parameters: &[],
    },
    Scenario {
        name: "night",
        summary: "Inbox driver, version A, upgrade to B, back to the inbox driver; every VF compared after each step",
        topology: TWO_PFS_WIRED,
        timeout: Duration::from_secs(900),
        needs: Needs::NicDriver,
        suite: Suite::TestOnNewest,
        parameters: &[],
    },
    Scenario {
        name: "built-night",
        summary: "The same night with packages that the program built: by our sidecar, by the incumbent's, and for the incumbent",
        topology: TWO_PFS_WIRED,
        timeout: Duration::from_secs(1200),
        needs: Needs::BuiltPackages,
        suite: Suite::TestOnOldest,
        parameters: &[],
    },
    Scenario {
        name: "entrypoint",
        summary: "The driver container from start to end as PID 1: ready, told to stop, killed, blocked, back to the inbox driver",
        topology: ONE_PF,
        timeout: Duration::from_secs(1200),
        needs: Needs::NicDriver,
        suite: Suite::TestOnNewest,
        parameters: &[],
    },
    Scenario {
        name: "pod",
        summary: "The night in pods from the manifests, with the incumbent's inventory, and back to the inbox driver",
        topology: TWO_PFS_OF_PODS,
        timeout: Duration::from_secs(1500),
        needs: Needs::Pods,
        suite: Suite::TestOnOldest,
        parameters: &[],
    },
    Scenario {
        name: "pod-images",
        summary: "The night in pods from the manifests, with images that have the modules, and back to the inbox driver",
        topology: TWO_PFS_OF_PODS,
        timeout: Duration::from_secs(1500),
        needs: Needs::Pods,
        suite: Suite::OnDemand,
        parameters: &[],
    },
    Scenario {
        name: "pod-openshift",
        summary: "The night in pods on OpenShift: built by the sidecar on the node, from the inventory, and back to the inbox driver",
        topology: TWO_PFS_OF_PODS,
        timeout: Duration::from_secs(2700),
        needs: Needs::Pods,
        suite: Suite::TestOnOldest,
        parameters: &[Parameter {
            name: "builds",
            default: "1",
            meaning: "how many of the two versions the sidecar builds, which takes minutes each",
        }],
    },
    Scenario {
        name: "pod-least-privilege",
        summary: "Pods that are not privileged, from A back to the inbox driver: the manifest's capabilities and the runtime's seccomp profile, or a refusal by name",
        topology: TWO_PFS_OF_PODS,
        timeout: Duration::from_secs(1200),
        needs: Needs::Pods,
        suite: Suite::TestOnNewest,
        parameters: &[],
    },
    Scenario {
        name: "pod-incumbent",
        summary: "From the replaced container's pod to ours and back, on what it leaves when it has ended or was killed",
        topology: Topology { memory_mib: 3072, ..ONE_PF },
        timeout: Duration::from_secs(2700),
        needs: Needs::Pods,
        suite: Suite::TestOnOldest,
        parameters: &[],
    },
    Scenario {
        name: "pod-life",
        summary: "A driver's pod blocked for a minute, told to stop in each state within its grace period, killed, back to the inbox driver",
        topology: Topology { memory_mib: 3072, ..ONE_PF },
        timeout: Duration::from_secs(1800),
        needs: Needs::Pods,
        suite: Suite::TestOnNewest,
        parameters: &[],
    },
    Scenario {
        name: "privileges",
        summary: "The driver container with three capabilities alone: the whole way; without one of them it says which, and does nothing",
        topology: ONE_PF,
        timeout: Duration::from_secs(900),
        needs: Needs::NicDriver,
        suite: Suite::TestOnNewest,
        parameters: &[],
    },
    Scenario {
        name: "pod-upgrade",
        summary: "The documented upgrade in pods, 49 VFs: from the first container's SIGTERM to ready under the second, and what took how long",
        topology: Topology { memory_mib: 4096, ..SEVEN_PFS },
        timeout: Duration::from_secs(3600),
        needs: Needs::Pods,
        suite: Suite::OnDemand,
        parameters: &[Parameter {
            name: "pod",
            default: "openshift",
            meaning: "where packages come from: openshift, sources, sources-debian or precompiled",
        }],
    },
    Scenario {
        name: "pod-kills",
        summary: "A driver's pod is killed at the lines of a whole run's journal, from its start to its end, and started again",
        topology: Topology { memory_mib: 3072, ..ONE_PF },
        timeout: Duration::from_secs(3600),
        needs: Needs::Pods,
        suite: Suite::TestOnNewest,
        parameters: &[FROM_LINE, kills("3")],
    },
    Scenario {
        name: "dkms",
        summary: "A driver that dkms built: installed, swapped to, and removed by dkms on the way back to the inbox driver",
        topology: ONE_PF,
        timeout: Duration::from_secs(900),
        needs: Needs::DkmsBuilt,
        suite: Suite::TestOnOldest,
        parameters: &[],
    },
    Scenario {
        name: "restore-loop",
        summary: "The driver is swapped by somebody else, then `restore-sriov` gives every VF back, N times",
        topology: TWO_PFS_WIRED,
        timeout: Duration::from_secs(1200),
        needs: Needs::NicDriver,
        suite: Suite::Test,
        parameters: &[Parameter { name: "rounds", default: "2", meaning: "how many times" }],
    },
    Scenario {
        name: "idempotent",
        summary: "A second restore changes nothing, a reload with equal identities unloads nothing, and both say so",
        topology: TWO_PFS,
        timeout: Duration::from_secs(900),
        needs: Needs::NicDriver,
        suite: Suite::TestOnNewest,
        parameters: &[],
    },
    Scenario {
        name: "network",
        summary: "Addresses, routes, rules, neighbours, a bond with a VLAN, a VLAN in a bridge, a port that Open vSwitch takes back late: back after a reload; pings resume",
        topology: FOUR_PFS_WIRED,
        timeout: Duration::from_secs(900),
        needs: Needs::NicDriver,
        suite: Suite::Test,
        parameters: &[SET_UP_ONLY],
    },
    Scenario {
        name: "remote-storage",
        summary: "A disk over NVMe/TCP through a PF is named, and blocks where the machine needs it; mounted, it outlives a reload",
        topology: ONE_PF_WIRED,
        timeout: Duration::from_secs(600),
        needs: Needs::NicDriver,
        suite: Suite::TestOnNewest,
        parameters: &[],
    },
    Scenario {
        name: "nothing-owed",
        summary: "What was set after a verified swap is not touched by another start; ready without a swap",
        topology: TWO_PFS_WIRED,
        timeout: Duration::from_secs(900),
        needs: Needs::NicDriver,
        suite: Suite::TestOnNewest,
        parameters: &[],
    },
    Scenario {
        name: "no-driver",
        summary: "A reset in mid-swap, devices without a driver and with another one: the installed driver comes up",
        topology: TWO_PFS_IOMMU,
        timeout: Duration::from_secs(900),
        needs: Needs::NicDriver,
        suite: Suite::TestOnNewest,
        parameters: &[],
    },
    Scenario {
        name: "lost-pf",
        summary: "One of two PFs is lost in a swap, or in a rollback: the other is restored, the lost one named, or let go",
        topology: TWO_PFS,
        timeout: Duration::from_secs(900),
        needs: Needs::NicDriver,
        suite: Suite::TestOnNewest,
        parameters: &[vfs_per_pf("2")],
    },
    Scenario {
        name: "blacklist",
        summary: "What a swap that is cut off leaves on the disk keeps no module from coming up; somebody else's file stays",
        topology: ONE_PF,
        timeout: Duration::from_secs(900),
        needs: Needs::NicDriver,
        suite: Suite::TestOnNewest,
        parameters: &[],
    },
    Scenario {
        name: "everything",
        summary: "Every VF and PF has another mix of all that can be lost; the driver is swapped by hand, then by the program",
        topology: THREE_PFS_IOMMU,
        timeout: Duration::from_secs(900),
        needs: Needs::NicDriver,
        suite: Suite::Test,
        parameters: &[],
    },
    Scenario {
        name: "switchdev",
        summary: "50 VFs with every attribute, then 50 renamed representors, through the removal of the device and back",
        topology: NO_NICS,
        timeout: Duration::from_secs(900),
        needs: Needs::NicDriver,
        suite: Suite::Test,
        parameters: &[],
    },
    Scenario {
        name: "faults",
        summary: "Slow and failing probes, a taken name, no udevd, a VF in use: right, or named with its cause, in time",
        topology: ONE_PF_IOMMU,
        timeout: Duration::from_secs(900),
        needs: Needs::NicDriver,
        suite: Suite::TestOnNewest,
        parameters: &[],
    },
    Scenario {
        name: "in-use",
        summary: "A VF in use through UIO, VFIO or by a pod stays its user's, whenever he has come; looks hinder nobody",
        topology: ONE_PF_IOMMU,
        timeout: Duration::from_secs(900),
        needs: Needs::NicDriver,
        suite: Suite::TestOnNewest,
        parameters: &[],
    },
    Scenario {
        name: "settings",
        summary: "What is set of PF and VFs with ethtool comes back: offloads, rings, coalescing, pause frames, private flags",
        topology: ONE_PF_WIRED,
        timeout: Duration::from_secs(600),
        needs: Needs::NicDriver,
        suite: Suite::TestOnNewest,
        parameters: &[],
    },
    Scenario {
        name: "missing-modules",
        summary: "What is merely not loaded is loaded, and no NIC is touched; what the driver works without may fail",
        topology: ONE_PF_WIRED,
        timeout: Duration::from_secs(900),
        needs: Needs::NicDriver,
        suite: Suite::TestOnNewest,
        parameters: &[],
    },
    Scenario {
        name: "stack",
        summary: "The real RDMA stack is loaded with each of its users in turn; a reload leaves the modules as they were",
        topology: ONE_PF_WIRED,
        timeout: Duration::from_secs(900),
        needs: Needs::NicDriver,
        suite: Suite::TestOnNewest,
        parameters: &[],
    },
    Scenario {
        name: "blockers",
        summary: "Each thing that can stand in the way of a reload is named before the first change, or when it races in",
        topology: ONE_PF_WIRED,
        timeout: Duration::from_secs(900),
        needs: Needs::NicDriver,
        suite: Suite::TestOnNewest,
        parameters: &[],
    },
    Scenario {
        name: "init-script",
        summary: "The stack reloaded by an init script and with hooks, or not; NFS over RDMA; back to the inbox driver with all of it",
        topology: ONE_PF,
        timeout: Duration::from_secs(900),
        needs: Needs::NicDriver,
        suite: Suite::TestOnNewest,
        parameters: &[],
    },
    Scenario {
        name: "container",
        summary: "A container on a RHEL host with SELinux: modules go into the host's tree, labelled, and come out of it again",
        topology: ONE_PF_SELINUX,
        timeout: Duration::from_secs(600),
        needs: Needs::NicDriver,
        suite: Suite::TestOnNewest,
        parameters: &[],
    },
    Scenario {
        name: "kill-reload",
        summary: "Killed at journal lines of a reload, started again; the machine is compared every time",
        suite: Suite::TestOnNewest,
        parameters: &[vfs_per_pf("2"), FROM_LINE, every_line("false"), kills("8"), killed("reload")],
        ..ONE_KILL_MATRIX
    },
    Scenario {
        name: "kill-restore",
        summary: "Killed at journal lines of a restore, started again; the machine is compared every time",
        suite: Suite::TestOnNewest,
        parameters: &[vfs_per_pf("2"), FROM_LINE, every_line("false"), kills("8"), killed("restore-sriov")],
        ..ONE_KILL_MATRIX
    },
    Scenario {
        name: "kill-rollback",
        summary: "Killed at journal lines of a rollback, started again; the machine is compared every time",
        suite: Suite::TestOnNewest,
        parameters: &[vfs_per_pf("2"), FROM_LINE, every_line("false"), kills("4"), killed("rollback")],
        ..ONE_KILL_MATRIX
    },
    Scenario {
        name: "kill-terminate",
        summary: "Killed at journal lines of the return to the inbox driver, started again; the machine is compared every time",
        suite: Suite::TestOnNewest,
        parameters: &[vfs_per_pf("2"), FROM_LINE, every_line("false"), kills("3"), killed("terminate")],
        ..ONE_KILL_MATRIX
    },
    Scenario {
        name: "kill-terminate-in-image",
        summary: "The same while modules are exchanged, in a container whose image has the driver: the host's comes, and never half of each",
        suite: Suite::OnDemand,
        parameters: &[
            vfs_per_pf("2"),
            FROM_LINE,
            every_line("false"),
            kills("2"),
            killed("terminate-in-image"),
        ],
        ..ONE_KILL_MATRIX
    },
    KILL_MATRIX,
    Scenario {
        name: "kill-matrix-14",
        summary: "The same with 14 VFs on two PFs",
        topology: TWO_PFS,
        timeout: Duration::from_secs(4 * 3600),
        needs: Needs::NicDriver,
        suite: Suite::OnDemand,
        parameters: &[vfs_per_pf("7"), FROM_LINE, every_line("true"), kills("0"), killed("all")],
    },
    Scenario {
        name: "rollback",
        summary: "Drivers that do not come up are taken back, and not tried again; also when that fails",
        topology: ONE_PF,
        timeout: Duration::from_secs(900),
        needs: Needs::NicDriver,
        suite: Suite::TestOnNewest,
        parameters: &[vfs_per_pf("3")],
    },
    Scenario {
        name: "rollback-14",
        summary: "The same with 14 VFs",
        topology: TWO_PFS,
        timeout: Duration::from_secs(3 * 3600),
        needs: Needs::NicDriver,
        suite: Suite::OnDemand,
        parameters: &[vfs_per_pf("7")],
    },
    Scenario {
        name: "way-back",
        summary: "The old driver's files went with their container, or are damaged, or nothing is left; who is blamed; patience",
        topology: ONE_PF,
        timeout: Duration::from_secs(900),
        needs: Needs::NicDriver,
        suite: Suite::TestOnNewest,
        parameters: &[
            vfs_per_pf("2"),
            Parameter { name: "part", default: "all", meaning: "kept, damaged, none, busy, held, or all" },
        ],
    },
    Scenario {
        name: "signals",
        summary: "Told to stop once and twice, killed with all it started, a second instance, too little time",
        topology: ONE_PF,
        timeout: Duration::from_secs(900),
        needs: Needs::NicDriver,
        suite: Suite::TestOnNewest,
        parameters: &[vfs_per_pf("2")],
    },
    Scenario {
        name: "disk",
        summary: "The state directory is full or read-only, before and after the first change; damaged and foreign files in it",
        topology: ONE_PF,
        timeout: Duration::from_secs(900),
        needs: Needs::NicDriver,
        suite: Suite::TestOnNewest,
        parameters: &[vfs_per_pf("2")],
    },
    Scenario {
        name: "deadlines",
        summary: "A command, sriov_numvfs and a bind that hang: named and handled in time, and signals are answered",
        topology: ONE_PF,
        timeout: Duration::from_secs(900),
        needs: Needs::NicDriver,
        suite: Suite::OnDemand,
        parameters: &[Parameter {
            name: "bind",
            default: "true",
            meaning: "whether also a bind hangs; takes 80 s",
        }],
    },
    Scenario {
        name: "hanging-numvfs",
        summary: "A PF's sriov_numvfs hangs: status, preflight, plan reload and snapshot name it in time, and tell the rest",
        topology: ONE_PF,
        timeout: Duration::from_secs(600),
        needs: Needs::NicDriver,
        suite: Suite::TestOnOldest,
        parameters: &[],
    },
    Scenario {
        name: "soak",
        summary: "Killed at random moments for some minutes; see `cargo xtask soak`",
        topology: TWO_PFS,
        timeout: Duration::from_secs(25 * 3600),
        needs: Needs::NicDriver,
        suite: Suite::ByHand,
        parameters: &[
            vfs_per_pf("7"),
            Parameter { name: "minutes", default: "10", meaning: "how long" },
            Parameter { name: "seed", default: "1", meaning: "which random moments" },
        ],
    },
    Scenario {
        name: "bench",
        summary: "Restore and snapshot of 14 and 49 VFs, against what the kernel takes alone; see `cargo xtask bench`",
        topology: SEVEN_PFS,
        timeout: Duration::from_secs(3600),
        needs: Needs::NicDriver,
        suite: Suite::ByHand,
        parameters: &[ROUNDS],
    },
    Scenario {
        name: "bench-reload",
        summary: "The modules' part of a reload, against bare modprobe; see `cargo xtask bench`",
        topology: SEVEN_PFS,
        timeout: Duration::from_secs(1800),
        needs: Needs::NicDriver,
        suite: Suite::ByHand,
        parameters: &[ROUNDS],
    },
    Scenario {
        name: "signed-modules",
        summary: "What a kernel that asks for signatures would refuse is found before the NIC is touched",
        topology: ONE_PF_SIGNED,
        timeout: Duration::from_secs(600),
        needs: Needs::NicDriver,
        suite: Suite::TestOnNewest,
        parameters: &[vfs_per_pf("2")],
    },
    Scenario {
        name: "errors",
        summary: "Each foreseeable error has its exit code and changes nothing",
        topology: TWO_PFS_WIRED,
        timeout: Duration::from_secs(900),
        needs: Needs::NicDriver,
        suite: Suite::TestOnNewest,
        parameters: &[],
    },
];

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

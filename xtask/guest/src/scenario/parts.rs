//! What entries of the table share: machines and parameters.

use super::{Parameter, Security, Topology, Wires};

pub(super) const NO_NICS: Topology = Topology {
    igb_pfs: 0,
    wires: Wires::None,
    iommu: false,
    security: Security::AsShipped,
    memory_mib: 1536,
};
pub(super) const TWO_PFS: Topology = Topology {
    igb_pfs: 2,
    wires: Wires::None,
    iommu: false,
    security: Security::AsShipped,
    memory_mib: 2048,
};
pub(super) const ONE_PF: Topology = Topology { igb_pfs: 1, ..TWO_PFS };
pub(super) const ONE_PF_SIGNED: Topology =
    Topology { igb_pfs: 1, security: Security::SignedModules, ..TWO_PFS };
pub(super) const ONE_PF_SELINUX: Topology = Topology { igb_pfs: 1, security: Security::Selinux, ..TWO_PFS };
pub(super) const ONE_PF_IOMMU: Topology = Topology { igb_pfs: 1, iommu: true, ..TWO_PFS };
pub(super) const TWO_PFS_IOMMU: Topology = Topology { igb_pfs: 2, iommu: true, ..TWO_PFS };
pub(super) const THREE_PFS_IOMMU: Topology = Topology { igb_pfs: 3, iommu: true, ..TWO_PFS };
pub(super) const SEVEN_PFS: Topology = Topology { igb_pfs: 7, memory_mib: 3072, ..TWO_PFS };
pub(super) const ONE_PF_WIRED: Topology = Topology { igb_pfs: 1, wires: Wires::PeerAndBystanders, ..TWO_PFS };
pub(super) const TWO_PFS_WIRED: Topology = Topology { wires: Wires::PeerAndBystanders, ..TWO_PFS };
pub(super) const TWO_PFS_OF_PODS: Topology = Topology { memory_mib: 3072, ..TWO_PFS_WIRED };
pub(super) const FOUR_PFS_WIRED: Topology = Topology { igb_pfs: 4, ..TWO_PFS_WIRED };

pub(super) const FROM_LINE: Parameter =
    Parameter { name: "from", default: "1", meaning: "the first journal line to be killed at" };

pub(super) const ROUNDS: Parameter =
    Parameter { name: "rounds", default: "5", meaning: "how many runs of each" };

pub(super) const SET_UP_ONLY: Parameter =
    Parameter { name: "set-up-only", default: "false", meaning: "true: ends when the set-up stands" };

pub(super) const fn every_line(default: &'static str) -> Parameter {
    Parameter {
        name: "every-line",
        default,
        meaning: "true: also at lines right before one that begins a step; false: without those",
    }
}

pub(super) const fn vfs_per_pf(default: &'static str) -> Parameter {
    Parameter { name: "vfs", default, meaning: "how many VFs each PF has, 2 to 7" }
}

pub(super) const fn kills(default: &'static str) -> Parameter {
    Parameter {
        name: "kills",
        default,
        meaning: "at how many of the lines, spread over all; 0 for all of them",
    }
}

pub(super) const fn killed(default: &'static str) -> Parameter {
    Parameter {
        name: "killed",
        default,
        meaning: "what is killed: reload, restore-sriov, rollback, terminate, terminate-in-image, or all but the last",
    }
}

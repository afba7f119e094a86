//! The stages of a restore, in the order in which they are carried out: the plan walks them, and the executor.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The stages of a restore. What one leaves is observed before the next is planned, since VFs do not exist before their PF made them, and a
/// netdev not before its driver probed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The PF's own properties, and its VFs created without drivers.
    Prepare,
    /// What the PF holds for its VFs.
    Admin,
    /// The eswitch's mode, and its representors.
    Eswitch,
    /// PFs in switchdev mode join the bonds that their NICs offload: with their eswitches in that mode, and before any VF of the bond's
    /// PFs is bound.
    Bonds,
    /// Binding, waiting for netdevs, and the netdevs' own properties.
    Vfs,
    /// What can be set of VFs only when they run, autoprobe, and the PF's netdev as saved.
    Finish,
    /// Names that interfaces and RDMA devices hold of one another. It is one stage of all PFs, when they are back; the others are each
    /// PF's own, beside the other PFs'.
    Names,
}

impl Stage {
    /// The stages that each PF goes through, in their order.
    pub const OF_A_PF: [Self; 6] =
        [Self::Prepare, Self::Admin, Self::Eswitch, Self::Bonds, Self::Vfs, Self::Finish];
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Prepare => "prepare the PFs and create their VFs",
            Self::Admin => "set what the PFs hold for their VFs",
            Self::Eswitch => "set the eswitches and their representors",
            Self::Bonds => "join the bonds over eswitches",
            Self::Vfs => "bind the VFs and set up their netdevs",
            Self::Finish => "finish the PFs, with their VFs running",
            Self::Names => "give the names back that wait for all PFs",
        })
    }
}

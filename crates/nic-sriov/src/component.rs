//! What a difference, a step or a failure is of.

use std::fmt;

use nic_netlink::PhysPortName;
use serde::{Deserialize, Serialize};

use crate::{DeviceAddress, PciAddress, PfState, VfState};

/// The thing that differs: a PF, one of its VFs, or one of its representors.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Component {
    /// A PF.
    Pf(DeviceAddress),
    /// A VF.
    Vf {
        /// The VF's PF.
        pf: DeviceAddress,
        /// The VF's index on its PF, from 0.
        index: u32,
        /// Its own address, where it has one.
        address: Option<PciAddress>,
    },
    /// A representor.
    Representor {
        /// The PF on whose eswitch it is.
        pf: DeviceAddress,
        /// The port it stands for.
        port: PhysPortName,
    },
}

impl Component {
    /// The PF that it is, or that it is of.
    #[must_use]
    pub fn pf(&self) -> &DeviceAddress {
        match self {
            Self::Pf(pf) | Self::Vf { pf, .. } | Self::Representor { pf, .. } => pf,
        }
    }

    pub(crate) fn of_vf(pf: &PfState, vf: &VfState) -> Self {
        Self::Vf { pf: pf.address.clone(), index: vf.index, address: vf.address }
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pf(address) => write!(f, "PF {address}"),
            Self::Vf { pf, index, address: None } => write!(f, "VF {index} of {pf}"),
            Self::Vf { pf, index, address: Some(address) } => write!(f, "VF {index} of {pf} ({address})"),
            Self::Representor { pf, port } => write!(f, "representor {port} of {pf}"),
        }
    }
}

//! What a step of a plan sets, as far as its failure is concerned.

use std::fmt;

use nic_netlink::{EswitchChange, LinkChange, VfChange};

use crate::Attribute;
use crate::ofed::OfedStep;
use crate::plan::{BindStep, NetdevStep, PfStep, RdmaRename};

/// A step of a plan, as far as its failure is concerned.
pub(crate) trait Step: fmt::Display {
    /// What the step sets.
    fn attributes(&self) -> &'static [Attribute];

    /// Whether "not supported" can mean that the PF's driver keeps no such attribute of a VF. Of all else, and of a master or an eswitch in
    /// particular, it means that what was there is lost.
    fn may_be_lacking(&self) -> bool {
        false
    }
}

impl Step for VfChange {
    fn attributes(&self) -> &'static [Attribute] {
        match self {
            Self::Mac(_) => &[Attribute::AdminMac],
            Self::Vlan(_) => &[Attribute::AdminVlan],
            Self::SpoofCheck(_) => &[Attribute::AdminSpoofCheck],
            Self::Trust(_) => &[Attribute::AdminTrust],
            Self::LinkState(_) => &[Attribute::AdminLinkState],
            Self::Rate { .. } => &[Attribute::AdminMinTxRate, Attribute::AdminMaxTxRate],
            Self::QueryRss(_) => &[Attribute::AdminQueryRss],
            Self::NodeGuid(_) => &[Attribute::AdminNodeGuid],
            Self::PortGuid(_) => &[Attribute::AdminPortGuid],
        }
    }

    fn may_be_lacking(&self) -> bool {
        true
    }
}

impl Step for NetdevStep {
    fn attributes(&self) -> &'static [Attribute] {
        match self {
            Self::Link(LinkChange::Name(_)) => &[Attribute::Name],
            Self::Link(LinkChange::Mtu(_)) => &[Attribute::Mtu],
            Self::Link(LinkChange::IpoibMode(_)) => &[Attribute::IpoibMode],
            Self::Link(LinkChange::UserMulticast(_)) => &[Attribute::UserMulticast],
            Self::Link(LinkChange::Up(_)) => &[Attribute::Up],
            Self::Link(LinkChange::Address(_)) => &[Attribute::Address],
            Self::Link(LinkChange::TxQueueLength(_)) => &[Attribute::TxQueueLength],
            Self::Link(LinkChange::Alias(_)) => &[Attribute::Alias],
            Self::Link(LinkChange::Group(_)) => &[Attribute::Group],
            Self::Link(LinkChange::Promiscuous(_)) => &[Attribute::Promiscuous],
            Self::Link(LinkChange::AllMulticast(_)) => &[Attribute::AllMulticast],
            Self::Link(LinkChange::AddAltName(_) | LinkChange::RemoveAltName(_)) => &[Attribute::Altnames],
            Self::Link(LinkChange::Master(_)) | Self::Master(_) => &[Attribute::Master],
            Self::Link(LinkChange::NamespaceOfPid(_)) => &[Attribute::Netdev],
        }
    }
}

impl Step for PfStep {
    fn attributes(&self) -> &'static [Attribute] {
        match self {
            Self::Eswitch(EswitchChange::Mode(_)) => &[Attribute::EswitchMode],
            Self::Eswitch(EswitchChange::InlineMode(_)) => &[Attribute::EswitchInlineMode],
            Self::Eswitch(EswitchChange::EncapMode(_)) => &[Attribute::EswitchEncapMode],
            Self::Netdev(step) => step.attributes(),
            Self::Autoprobe(_) => &[Attribute::DriversAutoprobe],
            Self::NumVfs(_) => &[Attribute::NumVfs],
        }
    }
}

impl Step for BindStep {
    fn attributes(&self) -> &'static [Attribute] {
        match self {
            Self::Unbind(_) | Self::Bind(_) => &[Attribute::Driver],
            Self::Override(_) => &[Attribute::DriverOverride],
        }
    }
}

impl Step for RdmaRename {
    fn attributes(&self) -> &'static [Attribute] {
        &[Attribute::Rdma]
    }
}

impl Step for OfedStep {
    fn attributes(&self) -> &'static [Attribute] {
        match self {
            Self::TrunkAdd(..) | Self::TrunkRemove(..) => &[Attribute::OfedTrunk],
            Self::RateGroup(_) => &[Attribute::OfedRateGroup],
            Self::NodeGuid(_) => &[Attribute::AdminNodeGuid],
            Self::PortGuid(_) => &[Attribute::AdminPortGuid],
            Self::Policy(_) => &[Attribute::AdminLinkState],
        }
    }

    fn may_be_lacking(&self) -> bool {
        true
    }
}

/// Something that is done beside the plans' steps, such as waiting. No attribute fails with it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Activity<'a>(pub(crate) &'a str);

impl fmt::Display for Activity<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Step for Activity<'_> {
    fn attributes(&self) -> &'static [Attribute] {
        &[]
    }
}

#[cfg(test)]
mod tests {
    use nic_netlink::EswitchMode;

    use super::*;

    #[test]
    fn fault_2_7_only_what_a_driver_keeps_of_a_vf_may_be_lacking() {
        let lacking: [&dyn Step; 3] =
            [&VfChange::Trust(true), &VfChange::QueryRss(true), &OfedStep::RateGroup(1)];
        assert!(lacking.iter().all(|step| step.may_be_lacking()));
        let lost: [&dyn Step; 5] = [
            &NetdevStep::Link(LinkChange::Master(None)),
            &NetdevStep::Link(LinkChange::Up(true)),
            &PfStep::Eswitch(EswitchChange::Mode(EswitchMode::Switchdev)),
            &PfStep::NumVfs(7),
            &BindStep::Unbind("igbvf".to_owned()),
        ];
        assert!(!lost.iter().any(|step| step.may_be_lacking()));
    }
}

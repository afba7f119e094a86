use serde::{Deserialize, Serialize};

use super::DevlinkHandle;
use crate::IfIndex;
use crate::attributes::{Attributes, MalformedError};

// include/uapi/linux/devlink.h
pub(super) const CMD_PORT_GET: u8 = 5;
const ATTR_PORT_INDEX: u16 = 3;
const ATTR_PORT_TYPE: u16 = 4;
const ATTR_PORT_NETDEV_IFINDEX: u16 = 6;
const ATTR_PORT_NETDEV_NAME: u16 = 7;
const ATTR_PORT_IBDEV_NAME: u16 = 8;
const ATTR_PORT_FLAVOUR: u16 = 77;
const ATTR_PORT_NUMBER: u16 = 78;
const ATTR_PORT_SPLIT_SUBPORT_NUMBER: u16 = 79;
const ATTR_PORT_PCI_PF_NUMBER: u16 = 127;
const ATTR_PORT_PCI_VF_NUMBER: u16 = 128;
const ATTR_PORT_EXTERNAL: u16 = 149;
const ATTR_PORT_CONTROLLER_NUMBER: u16 = 150;
const ATTR_PORT_PCI_SF_NUMBER: u16 = 164;

/// A port of a device, as devlink lists it. A port of flavour `PciVf` is the *representor's* end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DevlinkPort {
    /// The device.
    pub handle: DevlinkHandle,
    /// The port's number on the device.
    pub index: u32,
    /// What it carries.
    pub port_type: PortType,
    /// The network interface on it.
    pub netdev: Option<IfIndex>,
    /// That interface's name.
    pub netdev_name: Option<String>,
    /// The RDMA device on it.
    pub ibdev_name: Option<String>,
    /// What it is; `None` where the driver does not say.
    pub flavour: Option<PortFlavour>,
    /// The number of the plug on the card.
    pub number: Option<u32>,
    /// The part of a split port.
    pub split_subport: Option<u32>,
    /// The host controller it belongs to; 0 is the NIC's own.
    pub controller: Option<u32>,
    /// The PF's number.
    pub pf: Option<u16>,
    /// The VF's number.
    pub vf: Option<u16>,
    /// The sub-function's number.
    pub sf: Option<u32>,
    /// Whether the function is on another host.
    pub external: Option<bool>,
}

/// What a port carries (`enum devlink_port_type`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PortType {
    /// Nothing yet.
    #[default]
    NotSet,
    /// Found out by the device.
    Auto,
    /// Ethernet.
    Ethernet,
    /// InfiniBand.
    #[serde(rename = "infiniband")]
    InfiniBand,
}

/// What a port is (`enum devlink_port_flavour`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PortFlavour {
    /// A plug on the card.
    Physical,
    /// The CPU's port of a switch chip.
    Cpu,
    /// Between switch chips.
    Dsa,
    /// The representor of a PF.
    PciPf,
    /// The representor of a VF.
    PciVf,
    /// A function without an eswitch, such as a VF's own port.
    Virtual,
    /// Not in use.
    Unused,
    /// The representor of a sub-function.
    PciSf,
    /// One this version does not know.
    Other(u16),
}

pub(super) fn decode(attributes: &[u8]) -> Result<DevlinkPort, MalformedError> {
    let handle = super::handle(attributes)?;
    let find = |kind| Attributes::new(attributes).find(kind);
    let u32_of = |kind| find(kind)?.map(|value| value.u32()).transpose();
    let u16_of = |kind| find(kind)?.map(|value| value.u16()).transpose();
    let text_of = |kind| Ok::<_, MalformedError>(find(kind)?.map(|value| value.text()));
    Ok(DevlinkPort {
        index: u32_of(ATTR_PORT_INDEX)?
            .ok_or_else(|| MalformedError(format!("a port of {handle} without a number")))?,
        handle,
        port_type: match u16_of(ATTR_PORT_TYPE)? {
            Some(1) => PortType::Auto,
            Some(2) => PortType::Ethernet,
            Some(3) => PortType::InfiniBand,
            _ => PortType::NotSet,
        },
        netdev: u32_of(ATTR_PORT_NETDEV_IFINDEX)?.filter(|&index| index != 0).map(IfIndex),
        netdev_name: text_of(ATTR_PORT_NETDEV_NAME)?,
        ibdev_name: text_of(ATTR_PORT_IBDEV_NAME)?,
        flavour: u16_of(ATTR_PORT_FLAVOUR)?.map(|flavour| match flavour {
            0 => PortFlavour::Physical,
            1 => PortFlavour::Cpu,
            2 => PortFlavour::Dsa,
            3 => PortFlavour::PciPf,
            4 => PortFlavour::PciVf,
            5 => PortFlavour::Virtual,
            6 => PortFlavour::Unused,
            7 => PortFlavour::PciSf,
            other => PortFlavour::Other(other),
        }),
        number: u32_of(ATTR_PORT_NUMBER)?,
        split_subport: u32_of(ATTR_PORT_SPLIT_SUBPORT_NUMBER)?,
        controller: u32_of(ATTR_PORT_CONTROLLER_NUMBER)?,
        pf: u16_of(ATTR_PORT_PCI_PF_NUMBER)?,
        vf: u16_of(ATTR_PORT_PCI_VF_NUMBER)?,
        sf: u32_of(ATTR_PORT_PCI_SF_NUMBER)?,
        external: find(ATTR_PORT_EXTERNAL)?.map(|value| value.u8()).transpose()?.map(|value| value != 0),
    })
}

// The capture is of a little-endian machine.
#[cfg(test)]
#[cfg(target_endian = "little")]
mod tests {
    use super::*;
    use crate::connection::messages;

    #[test]
    fn an_uplink_and_the_representors_of_four_vfs() {
        let capture = messages(include_str!("../../tests/captures/devlink-ports.hex"));
        let (end, ports) = capture.split_last().unwrap();
        assert_eq!(end.kind, 3, "the end message");
        let ports: Vec<_> = ports.iter().map(|message| decode(&message.body[4..]).unwrap()).collect();
        let uplink = DevlinkPort {
            handle: "netdevsim/netdevsim10".parse().unwrap(),
            index: 0,
            port_type: PortType::Ethernet,
            netdev: Some(IfIndex(6)),
            netdev_name: Some("eni10np1".to_owned()),
            ibdev_name: None,
            flavour: Some(PortFlavour::Physical),
            number: Some(1),
            split_subport: None,
            controller: None,
            pf: None,
            vf: None,
            sf: None,
            external: None,
        };
        assert_eq!(ports[0], uplink);
        let of_vf = |vf: u16| DevlinkPort {
            index: 128 + u32::from(vf),
            netdev: Some(IfIndex(7 + u32::from(vf))),
            netdev_name: Some(format!("eni10npf0vf{vf}")),
            flavour: Some(PortFlavour::PciVf),
            number: None,
            controller: Some(0),
            pf: Some(0),
            vf: Some(vf),
            external: Some(false),
            ..uplink.clone()
        };
        assert_eq!(ports[1..], [of_vf(0), of_vf(1), of_vf(2), of_vf(3)]);
    }

    #[test]
    fn a_port_without_a_number_or_a_handle_is_malformed() {
        assert!(decode(&[]).is_err());
        assert!(decode(&[8, 0, 3, 0, 1, 0, 0, 0]).is_err());
    }
}

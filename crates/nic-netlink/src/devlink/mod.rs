mod eswitch;
mod port;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::attributes::{Attribute, Attributes, MalformedError};
use crate::connection::{ConnectError, RequestError};
use crate::generic::{Command, Generic};
use crate::identity::{ParseIdentityError, serde_as_text};

pub use eswitch::{EncapMode, Eswitch, EswitchChange, EswitchError, EswitchMode, InlineMode};
pub use port::{DevlinkPort, PortFlavour, PortType};

// include/uapi/linux/devlink.h
const CMD_GET: u8 = 1;
const ATTR_BUS_NAME: u16 = 1;
const ATTR_DEV_NAME: u16 = 2;

/// A connection to the kernel's devlink, in the network namespace of the thread that opened it.
///
/// Cloning is cheap, and the clones share the connection.
#[derive(Debug, Clone)]
pub struct Devlink {
    generic: Generic,
}

/// What devlink calls a device by: its bus and its name there, `pci/0000:01:00.0`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DevlinkHandle {
    /// `pci`, `auxiliary`, `netdevsim`…
    pub bus: String,
    /// `0000:01:00.0`.
    pub device: String,
}

impl DevlinkHandle {
    /// The handle of the PCI device with this address (`0000:01:00.0`).
    #[must_use]
    pub fn pci(address: &str) -> Self {
        Self { bus: "pci".to_owned(), device: address.to_owned() }
    }
}

impl FromStr for DevlinkHandle {
    type Err = ParseIdentityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('/') {
            Some((bus, device)) if !bus.is_empty() && !device.is_empty() && !device.contains('/') => {
                Ok(Self { bus: bus.to_owned(), device: device.to_owned() })
            }
            _ => Err(ParseIdentityError::new(text, "a devlink handle, such as pci/0000:01:00.0")),
        }
    }
}

impl fmt::Display for DevlinkHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.bus, self.device)
    }
}

serde_as_text!(DevlinkHandle);

/// A list could not be had of devlink.
#[derive(Debug, thiserror::Error)]
#[error("cannot list the {what} of devlink")]
pub struct DevlinkError {
    /// `devices` or `ports`.
    pub what: &'static str,
    /// What went wrong with the request.
    #[source]
    pub source: RequestError,
}

impl Devlink {
    /// Opens a connection whose requests have a deadline of 10 s each, except changes, which state their own.
    pub fn connect() -> Result<Self, ConnectError> {
        Ok(Self { generic: Generic::connect("devlink")? })
    }

    /// The same connection, with another deadline for each request.
    #[must_use]
    pub fn with_deadline(&self, deadline: Duration) -> Self {
        Self { generic: self.generic.with_deadline(deadline) }
    }

    /// The devices that speak devlink; none where the kernel has no devlink.
    pub async fn devices(&self) -> Result<Vec<DevlinkHandle>, DevlinkError> {
        let error = |source| DevlinkError { what: "devices", source };
        let messages = self.list(CMD_GET).await.map_err(error)?;
        messages.iter().map(|message| handle(message)).collect::<Result<_, _>>().map_err(|e| error(e.into()))
    }

    /// The ports of one device, or of all.
    pub async fn ports(&self, of: Option<&DevlinkHandle>) -> Result<Vec<DevlinkPort>, DevlinkError> {
        let error = |source| DevlinkError { what: "ports", source };
        let messages = self.list(port::CMD_PORT_GET).await.map_err(error)?;
        let ports: Vec<_> = messages
            .iter()
            .map(|message| port::decode(message))
            .collect::<Result<_, _>>()
            .map_err(|malformed| error(malformed.into()))?;
        // Older kernels do not filter a listing by device.
        Ok(ports.into_iter().filter(|port| of.is_none_or(|of| port.handle == *of)).collect())
    }

    async fn list(&self, command: u8) -> Result<Vec<Vec<u8>>, RequestError> {
        match self.generic.list(Command::new(command, VERSION)).await {
            Err(RequestError::NoFamily { .. }) => Ok(Vec::new()),
            list => list,
        }
    }
}

/// Devlink looks at no version.
const VERSION: u8 = 0;

/// A command that is about one device.
fn of_device(handle: &DevlinkHandle, command: u8) -> Command {
    let mut command = Command::new(command, VERSION);
    command.attributes().text(ATTR_BUS_NAME, &handle.bus).text(ATTR_DEV_NAME, &handle.device);
    command
}

fn handle(attributes: &[u8]) -> Result<DevlinkHandle, MalformedError> {
    let text = |kind| Ok(Attributes::new(attributes).find(kind)?.as_ref().map(Attribute::text));
    match (text(ATTR_BUS_NAME)?, text(ATTR_DEV_NAME)?) {
        (Some(bus), Some(device)) => Ok(DevlinkHandle { bus, device }),
        _ => Err(MalformedError("a devlink message without a handle".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The capture is of a little-endian machine.
    #[cfg(target_endian = "little")]
    #[test]
    fn the_messages_are_those_of_iproute2() {
        use crate::connection::{RawMessage, captured, wire};
        use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP};

        const CAPTURE: &str = include_str!("../../tests/iproute2/devlink.txt");
        const FAMILY: u16 = 0x16;
        let handle = DevlinkHandle::pci("0000:01:00.0");
        let changes = [
            ("mode switchdev", EswitchChange::Mode(EswitchMode::Switchdev)),
            ("mode legacy", EswitchChange::Mode(EswitchMode::Legacy)),
            ("inline-mode transport", EswitchChange::InlineMode(InlineMode::Transport)),
            ("inline-mode link", EswitchChange::InlineMode(InlineMode::Link)),
            ("encap-mode none", EswitchChange::EncapMode(EncapMode::None)),
            ("encap-mode basic", EswitchChange::EncapMode(EncapMode::Basic)),
        ];
        let mut cases: Vec<(String, RawMessage, u16)> = changes
            .iter()
            .map(|(words, change)| {
                let message = eswitch::set(&handle, *change).to(FAMILY);
                (format!("devlink dev eswitch set pci/0000:01:00.0 {words}"), message, NLM_F_ACK)
            })
            .collect();
        let show = of_device(&handle, eswitch::CMD_ESWITCH_GET).to(FAMILY);
        cases.push(("devlink dev eswitch show pci/0000:01:00.0".to_owned(), show, NLM_F_ACK));
        let list = Command::new(port::CMD_PORT_GET, VERSION).to(FAMILY);
        cases.push(("devlink port show".to_owned(), list, NLM_F_ACK | NLM_F_DUMP));
        assert_eq!(cases.len(), CAPTURE.lines().filter(|line| line.contains(" => ")).count());
        for (command, message, flags) in cases {
            assert_eq!(
                hex::encode(wire(message, flags)),
                hex::encode(captured(CAPTURE, &command)),
                "{command}"
            );
        }
    }

    #[test]
    fn a_handle_is_a_bus_and_a_device() {
        let handle: DevlinkHandle = "pci/0000:01:00.0".parse().unwrap();
        assert_eq!(handle, DevlinkHandle::pci("0000:01:00.0"));
        assert_eq!(handle.to_string(), "pci/0000:01:00.0");
        for text in ["", "pci", "pci/", "/0000:01:00.0", "pci/0000:01:00.0/1"] {
            assert!(text.parse::<DevlinkHandle>().is_err(), "{text:?}");
        }
    }
}

use std::fmt;
use std::time::Duration;

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::{Devlink, DevlinkHandle, of_device};
use crate::attributes::{Attributes, MalformedError};
use crate::connection::RequestError;
use crate::generic::Command;

// include/uapi/linux/devlink.h
pub(super) const CMD_ESWITCH_GET: u8 = 29;
pub(super) const CMD_ESWITCH_SET: u8 = 30;
const ATTR_ESWITCH_MODE: u16 = 25;
const ATTR_ESWITCH_INLINE_MODE: u16 = 26;
const ATTR_ESWITCH_ENCAP_MODE: u16 = 62;

/// The embedded switch of a NIC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Eswitch {
    /// Its mode.
    pub mode: EswitchMode,
    /// How much of a packet's headers a VF's driver must put into its descriptors; `None` where the driver has no
    /// such setting.
    pub inline_mode: Option<InlineMode>,
    /// Whether it can encapsulate; `None` where the driver has no such setting.
    pub encap_mode: Option<EncapMode>,
}

/// What the embedded switch works as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EswitchMode {
    /// By MAC and VLAN, without representors.
    Legacy,
    /// By rules, with a representor for each function.
    Switchdev,
    /// Switchdev with its traffic still stopped. Only the newest kernels have it.
    SwitchdevInactive,
}

/// Headers that a VF's driver puts into its descriptors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum InlineMode {
    /// None.
    None,
    /// Layer 2.
    Link,
    /// Up to layer 3.
    Network,
    /// Up to layer 4.
    Transport,
}

/// Encapsulation by the switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EncapMode {
    /// Off.
    None,
    /// On.
    Basic,
}

/// One change to an embedded switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EswitchChange {
    /// To another mode. It takes down the netdevs of the PF's VFs and representors, and can take long.
    Mode(EswitchMode),
    /// To another inline mode.
    InlineMode(InlineMode),
    /// To another encapsulation mode.
    EncapMode(EncapMode),
}

/// An embedded switch could not be read or changed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {} {handle}", change.map_or("read the eswitch of".to_owned(), |change| format!("set {change} of")))]
pub struct EswitchError {
    /// The device.
    pub handle: DevlinkHandle,
    /// What was asked for; `None` when it was read.
    pub change: Option<EswitchChange>,
    /// Why not.
    #[source]
    pub source: RequestError,
}

impl EswitchError {
    /// The kernel's errno, where it refused.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        self.source.errno()
    }
}

impl Devlink {
    /// The device's embedded switch; `None` where the driver has none to show (EOPNOTSUPP), the device does not speak
    /// devlink (ENODEV), or the kernel has no devlink.
    pub async fn eswitch(&self, handle: &DevlinkHandle) -> Result<Option<Eswitch>, EswitchError> {
        let error = |source| EswitchError { handle: handle.clone(), change: None, source };
        let command = of_device(handle, CMD_ESWITCH_GET);
        let answer = match self.generic.ask(command, self.generic.deadline).await {
            Err(RequestError::NoFamily { .. }) => return Ok(None),
            Err(refused) if matches!(refused.errno(), Some(Errno::OPNOTSUPP | Errno::NODEV)) => {
                return Ok(None);
            }
            answer => answer.map_err(error)?,
        };
        let attributes =
            answer.first().ok_or_else(|| error(MalformedError("an empty answer".to_owned()).into()))?;
        decode(attributes).map_err(|malformed| error(malformed.into()))
    }

    /// Changes the device's embedded switch.
    ///
    /// A change of mode can take minutes with many VFs, hence a deadline of its own. When it has passed, the kernel is
    /// still at it.
    pub async fn set_eswitch(
        &self,
        handle: &DevlinkHandle,
        change: EswitchChange,
        deadline: Duration,
    ) -> Result<(), EswitchError> {
        tracing::debug!(%handle, %change, "change eswitch");
        match self.generic.ask(set(handle, change), deadline).await {
            Ok(_) => Ok(()),
            Err(source) => Err(EswitchError { handle: handle.clone(), change: Some(change), source }),
        }
    }
}

pub(super) fn set(handle: &DevlinkHandle, change: EswitchChange) -> Command {
    let mut command = of_device(handle, CMD_ESWITCH_SET);
    let attributes = command.attributes();
    match change {
        EswitchChange::Mode(mode) => attributes.u16(
            ATTR_ESWITCH_MODE,
            match mode {
                EswitchMode::Legacy => 0,
                EswitchMode::Switchdev => 1,
                EswitchMode::SwitchdevInactive => 2,
            },
        ),
        EswitchChange::InlineMode(mode) => attributes.u8(
            ATTR_ESWITCH_INLINE_MODE,
            match mode {
                InlineMode::None => 0,
                InlineMode::Link => 1,
                InlineMode::Network => 2,
                InlineMode::Transport => 3,
            },
        ),
        EswitchChange::EncapMode(mode) => attributes.u8(
            ATTR_ESWITCH_ENCAP_MODE,
            match mode {
                EncapMode::None => 0,
                EncapMode::Basic => 1,
            },
        ),
    };
    command
}

/// A switch whose mode is not reported is none (`devlink_nl_eswitch_fill` leaves out what the driver does not have).
fn decode(attributes: &[u8]) -> Result<Option<Eswitch>, MalformedError> {
    let find = |kind| Attributes::new(attributes).find(kind);
    let unknown = |what: &str, value: u16| MalformedError(format!("{value} is no {what} of an eswitch"));
    let Some(mode) = find(ATTR_ESWITCH_MODE)? else { return Ok(None) };
    let mode = match mode.u16()? {
        0 => EswitchMode::Legacy,
        1 => EswitchMode::Switchdev,
        2 => EswitchMode::SwitchdevInactive,
        other => return Err(unknown("mode", other)),
    };
    let inline_mode = match find(ATTR_ESWITCH_INLINE_MODE)?.map(|mode| mode.u8()).transpose()? {
        None => None,
        Some(0) => Some(InlineMode::None),
        Some(1) => Some(InlineMode::Link),
        Some(2) => Some(InlineMode::Network),
        Some(3) => Some(InlineMode::Transport),
        Some(other) => return Err(unknown("inline mode", other.into())),
    };
    let encap_mode = match find(ATTR_ESWITCH_ENCAP_MODE)?.map(|mode| mode.u8()).transpose()? {
        None => None,
        Some(0) => Some(EncapMode::None),
        Some(1) => Some(EncapMode::Basic),
        Some(other) => return Err(unknown("encapsulation mode", other.into())),
    };
    Ok(Some(Eswitch { mode, inline_mode, encap_mode }))
}

impl fmt::Display for EswitchChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mode(mode) => write!(f, "eswitch mode {mode}"),
            Self::InlineMode(mode) => write!(f, "eswitch inline-mode {mode}"),
            Self::EncapMode(mode) => write!(f, "eswitch encap-mode {mode}"),
        }
    }
}

impl fmt::Display for EswitchMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Legacy => "legacy",
            Self::Switchdev => "switchdev",
            Self::SwitchdevInactive => "switchdev_inactive",
        })
    }
}

impl fmt::Display for InlineMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Link => "link",
            Self::Network => "network",
            Self::Transport => "transport",
        })
    }
}

impl fmt::Display for EncapMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Basic => "basic",
        })
    }
}

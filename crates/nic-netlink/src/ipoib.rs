//! What IP over InfiniBand has beyond other links.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::attributes::{Attributes, MalformedError};

/// How an IP over InfiniBand interface sends (`IPOIB_MODE_*` in `include/uapi/linux/if_link.h`).
///
/// A change of it changes the MTU (`ipoib_set_mode` in `drivers/infiniband/ulp/ipoib/ipoib_main.c`): to the largest one that
/// connected mode has, or down to the multicast group's. Above 4092 bytes an MTU is refused in datagram mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IpoibMode {
    /// Unreliable datagrams; the MTU is that of the fabric, less 4 bytes.
    Datagram,
    /// A reliable connection to each peer, with an MTU of up to 65520 bytes.
    Connected,
}

impl From<u16> for IpoibMode {
    /// The kernel answers with a bit (`ipoib_fill_info` in `drivers/infiniband/ulp/ipoib/ipoib_netlink.c`).
    fn from(mode: u16) -> Self {
        if mode == 0 { Self::Datagram } else { Self::Connected }
    }
}

impl From<IpoibMode> for u16 {
    fn from(mode: IpoibMode) -> Self {
        match mode {
            IpoibMode::Datagram => 0,
            IpoibMode::Connected => 1,
        }
    }
}

impl fmt::Display for IpoibMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Datagram => "datagram",
            Self::Connected => "connected",
        })
    }
}

/// What an administrator can set of an IP over InfiniBand interface alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ipoib {
    /// How it sends.
    pub mode: IpoibMode,
    /// Whether user space may join its multicast groups (`umcast`).
    pub user_multicast: bool,
}

pub(crate) const KIND: &str = "ipoib";
pub(crate) const IFLA_IPOIB_PKEY: u16 = 1;
pub(crate) const IFLA_IPOIB_MODE: u16 = 2;
pub(crate) const IFLA_IPOIB_UMCAST: u16 = 3;

/// From the `IFLA_INFO_DATA` of a link of this kind; `None` where the kernel tells no mode.
pub(crate) fn decode(data: Attributes<'_>) -> Result<Option<Ipoib>, MalformedError> {
    let number = |number| data.find(number)?.map(|found| found.u16()).transpose();
    let Some(mode) = number(IFLA_IPOIB_MODE)? else { return Ok(None) };
    let user_multicast = number(IFLA_IPOIB_UMCAST)?.is_some_and(|value| value != 0);
    Ok(Some(Ipoib { mode: mode.into(), user_multicast }))
}
